from collections.abc import Callable
from typing import Any

from .inbound import Inbound

__all__ = ("NOTHING", "Reader")

ABI: int
NOTHING: tuple[()]

class Reader(Inbound):
    link: Any
    output: Any
    on_failure: Callable[[BaseException], Any] | None
    send_heartbeat: Callable[[], Any] | None
    frames_sent: Callable[[], int] | None
    read_timeout: float | None
    failure: BaseException | None
    heartbeat: float
    def __init__(
        self,
        link: Any,
        channels: dict[int, Any],
        output: Any = None,
        frame_max: int = 131072,
        max_body_size: int = ...,
    ) -> None: ...
    def tick(self) -> None: ...
    def fail(self, error: BaseException) -> None: ...
    def raise_failure(self) -> None: ...
