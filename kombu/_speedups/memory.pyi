from collections import deque
from typing import Any, final

from kombu._speedups.virtual import MessageChannel

__all__ = ("Layout", "MemoryChannel", "MemoryConnection", "MessageQueue")

ABI: int

class MessageQueue:
    @property
    def max_priority(self) -> int: ...
    @property
    def levels(self) -> tuple[deque[Any], ...]: ...
    def __init__(self, max_priority: int = 0) -> None: ...
    @property
    def queue(self) -> deque[Any]: ...
    def put(self, message: Any, priority: int = 0) -> None: ...
    def get(self, block: bool = False) -> Any: ...
    def take(self) -> Any: ...
    def qsize(self) -> int: ...
    def empty(self) -> bool: ...
    def clear(self) -> int: ...

@final
class Layout:
    channel_id: Any
    message: dict[str, Any]
    exchange: str
    routing_key: str
    mandatory: bool
    immediate: bool
    def __init__(
        self,
        channel_id: Any,
        message: dict[str, Any],
        exchange: str,
        routing_key: str,
        mandatory: bool,
        immediate: bool,
    ) -> None: ...

class MemoryChannel(MessageChannel):
    _position: int
    @property
    def plans_publishes(self) -> bool: ...
    def plan_publish(
        self,
        priority: int | None,
        content_type: str | None,
        content_encoding: str | None,
        properties: dict[str, Any],
        exchange: str,
        routing_key: str,
        mandatory: bool,
        immediate: bool,
    ) -> Layout: ...
    def publish_planned(
        self, plan: Layout, body: Any, timeout: float | None = None, confirm_timeout: float | None = None
    ) -> Any: ...
    def _put(self, queue: str, message: Any, **kwargs: Any) -> None: ...
    def _another(self, message: dict[str, Any]) -> dict[str, Any]: ...
    def _get(self, queue: str, timeout: float | None = None) -> Any: ...
    def drain_events(self, timeout: float | None = None, callback: Any = None) -> Any: ...
    def _next_message(self) -> tuple[Any, str] | None: ...

class MemoryConnection:
    _own_cycle: Any
    def _drain_now(self, timeout: float | None, max_events: int) -> int: ...
    def _deliver_next(self) -> bool: ...
