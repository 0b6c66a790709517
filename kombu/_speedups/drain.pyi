from collections.abc import Callable
from typing import Any

from .reading import Reader

__all__ = ("Receiver", "MAX_BODY_SIZE")

ABI: int
MAX_BODY_SIZE: int

class Receiver(Reader):
    on_method: Callable[[int, tuple[int, int], Any, Any], Any]
    on_drain: Callable[[], Any] | None
    def __init__(
        self,
        link: Any,
        channels: dict[int, Any],
        on_method: Callable[[int, tuple[int, int], Any, Any], Any],
        output: Any = None,
        frame_max: int = 131072,
        max_body_size: int = ...,
    ) -> None: ...
    @property
    def buffered(self) -> bool: ...
    def reset_locks(self) -> None: ...
    def drain_events(self, timeout: float | None = None, max_events: int = 1) -> int: ...
    def call_at_rest(self, function: Callable[[], Any]) -> None: ...
    def wait_for(self, ready: Callable[[], bool], timeout: float | None = None) -> None: ...
    def serve_waiting(self) -> None: ...
