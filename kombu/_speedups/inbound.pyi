from typing import Any

from kombu._speedups.buffer import ReceiveBuffer

__all__ = ("Inbound", "MAX_BODY_SIZE", "SETTLED")

ABI: int
MAX_BODY_SIZE: int
SETTLED: tuple[int, tuple[int, int], None, None]

class Inbound(ReceiveBuffer):
    channels: dict[int, Any]
    frame_max: int
    max_body_size: int
    frames_received: int
    @property
    def more_waits(self) -> bool: ...
    def __init__(self, channels: dict[int, Any], frame_max: int = 131072, max_body_size: int = ...) -> None: ...
    def next_event(self) -> tuple[int, tuple[int, int], Any, Any] | None: ...
