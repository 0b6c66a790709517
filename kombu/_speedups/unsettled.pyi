from typing import Any

__all__ = ("Delivered", "Unsettled")

ABI: int

class Delivered(dict[Any, Any]):
    restored: bool
    def __init__(self) -> None: ...

class Unsettled:
    prefetch_count: int
    _delivered: Any
    _dirty: Any
    def can_consume(self) -> bool: ...
    def append(self, message: Any, delivery_tag: Any) -> None: ...
    def _flush(self) -> None: ...
    def ack(self, delivery_tag: Any) -> None: ...
