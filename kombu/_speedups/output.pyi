from collections.abc import Callable
from typing import Any

from .deliveries import Deliveries

__all__ = ("Writer", "ACK_WRITES", "WINDOW_WRITES")

ABI: int
ACK_WRITES: tuple[str, ...]
WINDOW_WRITES: tuple[str, ...]

class Writer:
    link: Any
    coalesces: bool
    gathers: bool
    corks: bool
    write_timeout: float | None
    unpushed: float
    frames_sent: int
    failure: BaseException | None
    on_failure: Callable[[BaseException], Any] | None
    lock: Any
    def __init__(
        self, link: Any, ack_writes: str = "corked", write_timeout: float | None = None, window_writes: str = "corked"
    ) -> None: ...
    def count(self) -> int: ...
    def write(
        self, buffers: list[Any], timeout: float | None = None, channel: Any = None, closings: int = 0,
        windowed: bool = False,
    ) -> None: ...
    def write_ack(self, deliveries: Deliveries, delivery_tag: int, multiple: bool, more: bool) -> bool: ...
    def push(self) -> None: ...
    def write_heartbeat(self) -> None: ...
    def reset_lock(self) -> None: ...
    def __call__(
        self, frame_type: int, channel_id: int, method: tuple[int, int] | None, arguments: Any, content: Any
    ) -> None: ...
