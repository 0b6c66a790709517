from collections.abc import Callable
from typing import Any, final

__all__ = ("Drains", "Tap", "UNSET")

ABI: int
UNSET: Any

@final
class Tap:
    def __init__(self, drain: Callable[[float | None, int], int]) -> None: ...
    @property
    def drain(self) -> Callable[[float | None, int], int]: ...
    @property
    def process(self) -> int: ...

class Drains:
    def drain_events(self, timeout: float | None = ..., max_events: int = 1, **kwargs: Any) -> Any: ...
