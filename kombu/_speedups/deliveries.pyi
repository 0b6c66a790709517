from collections.abc import Callable
from typing import Any

from .window import Window

__all__ = ("Deliveries",)

ABI: int

class Deliveries:
    channel_id: int | None
    connection: Any
    close_error: BaseException | None
    callbacks: dict[str, Callable[[Any], Any]]
    held_back: tuple[Any, ...]
    no_ack_consumers: set[str]
    unacked: set[int]
    window: Window | None
    delivered_as: type[Any]
    writer: Any
    receiver: Any
    last_look: float
    def __init__(
        self, channel_id: int | None, delivered_as: type[Any], writer: Any = None, receiver: Any = None
    ) -> None: ...
    def settle(self, delivery_tag: int, multiple: bool = False) -> None: ...
