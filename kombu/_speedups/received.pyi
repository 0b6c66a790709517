import logging
from typing import Any

__all__ = ("Received",)

ABI: int

class Received:
    MessageStateError: type[Exception]

    channel: Any
    delivery_info: dict[str, Any]
    delivery_tag: Any
    _state: str

    @property
    def acknowledged(self) -> bool: ...
    def ack(self, multiple: bool = False) -> None: ...
    def ack_log_error(self, logger: logging.Logger, errors: Any, multiple: bool = False) -> None: ...
    def reject(self, requeue: bool = False) -> None: ...
    def reject_log_error(self, logger: logging.Logger, errors: Any, requeue: bool = False) -> None: ...
    def requeue(self) -> None: ...
