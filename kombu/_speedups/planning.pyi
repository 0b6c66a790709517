from collections.abc import Callable
from typing import Any, TypeVar

from .pool import Lent

__all__ = ("LOOK_AFTER", "MOST_PLANS", "UNPLANNED", "Planned", "Plans", "quicken")

_F = TypeVar("_F", bound=Callable[..., Any])

ABI: int
LOOK_AFTER: float
MOST_PLANS: int
UNPLANNED: object

class Planned(Lent):
    def __init__(self) -> None: ...
    @property
    def _plans(self) -> Plans | None: ...
    @_plans.setter
    def _plans(self, value: Plans | None) -> None: ...

class Plans:
    channel: Any
    exchange: Any
    methods: dict[str, Callable[..., Any]]
    dumps: Callable[..., tuple[str, str, Any]]
    known: dict[Any, Any]
    windows: tuple[Any, ...]
    def __init__(
        self,
        channel: Any,
        exchange: Any,
        declares: bool,
        methods: dict[str, Callable[..., Any]],
        dumps: Callable[..., tuple[str, str, Any]],
        settings: dict[str, Any],
    ) -> None: ...
    def fits(self, producer: Any) -> bool: ...
    def publish(
        self,
        producer: Any,
        body: Any,
        routing_key: str | None,
        delivery_mode: int | str | None,
        mandatory: bool,
        immediate: bool,
        priority: int,
        content_type: str | None,
        content_encoding: str | None,
        serializer: str | None,
        exchange: Any,
        timeout: float | None,
        confirm_timeout: float | None,
    ) -> Any: ...

def quicken(function: _F) -> _F: ...
