from typing import Any

__all__ = ("Inbound", "MAX_BODY_SIZE", "SETTLED")

ABI: int
MAX_BODY_SIZE: int
SETTLED: tuple[int, tuple[int, int], None, None]

class Inbound:
    channels: dict[int, Any]
    frame_max: int
    max_body_size: int
    frames_received: int
    @property
    def more_waits(self) -> bool: ...
    @property
    def buffer_size(self) -> int: ...
    def __init__(self, channels: dict[int, Any], frame_max: int = 131072, max_body_size: int = ...) -> None: ...
    def feed(self, data: Any) -> None: ...
    def next_event(self) -> tuple[int, tuple[int, int], Any, Any] | None: ...
