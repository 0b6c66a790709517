from collections.abc import Callable
from typing import Any, TypeVar

from .received import Received

__all__ = ("Message",)

ABI: int

_MessageT = TypeVar("_MessageT", bound=Message)

class Message(Received):
    accept: Any
    body: Any
    content_encoding: str | None
    content_type: str | None
    headers: dict[str, Any]
    properties: dict[str, Any]
    _decoded_cache: Any

    def __init__(
        self,
        body: Any = None,
        delivery_tag: Any = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        delivery_info: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
        headers: dict[str, Any] | None = None,
        postencode: str | None = None,
        accept: Any = None,
        channel: Any = None,
        **kwargs: Any,
    ) -> None: ...
    @classmethod
    def from_delivery(
        cls: type[_MessageT],
        channel: Any,
        consumer_tag: str | None,
        delivery_tag: int,
        redelivered: bool,
        exchange: str,
        routing_key: str,
        raw_properties: bytes,
        body: bytes,
        message_count: int | None = None,
    ) -> _MessageT: ...
    @property
    def errors(self) -> list[tuple[Any, Any, Any]]: ...
    @errors.setter
    def errors(self, value: list[tuple[Any, Any, Any]] | None) -> None: ...
    @property
    def payload(self) -> Any: ...
    def decode(self) -> Any: ...
    def _decode(self) -> Any: ...
    def _reraise_error(self, callback: Callable[[Message, Exception], Any] | None = None) -> None: ...
    def __reduce_ex__(self, protocol: Any) -> Any: ...
    def __getstate__(self) -> tuple[dict[str, Any], dict[str, Any]]: ...
    def __setstate__(self, state: tuple[dict[str, Any], dict[str, Any]]) -> None: ...
