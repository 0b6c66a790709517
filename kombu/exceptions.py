"""Exceptions raised by the library, and the ``amqp`` exceptions that belong to its interface.

Everything of our own derives from :class:`KombuError`, except what stands for an error of the broker
(:class:`InconsistencyError` is a recoverable connection error) or of an HTTP peer (:class:`HttpError`).
This module imports nothing else of the package, so that every other module, the compiled core included, may use it.
What is of ``amqp``, or derives from it, is in a module of its own, which is imported when it is first asked for.
"""

from __future__ import annotations

from builtins import TimeoutError
from collections.abc import Sequence
from types import TracebackType

from ._lazy import TYPE_CHECKING, forwarding

if TYPE_CHECKING:
    from typing import Any, NoReturn

    from kombu.asynchronous.http import Response

    from ._amqp_exceptions import ChannelError, ConnectionError, InconsistencyError, ResourceError
else:
    __getattr__, __dir__ = forwarding(
        __name__,
        dict.fromkeys(
            ("ChannelError", "ConnectionError", "InconsistencyError", "ResourceError"), "kombu._amqp_exceptions"
        ),
    )

__all__ = (
    "BatchPublishError",
    "ChannelError",
    "ChannelLimitExceeded",
    "ConfirmError",
    "ConnectionError",
    "ConnectionLimitExceeded",
    "ContentDisallowed",
    "DecodeError",
    "EncodeError",
    "HttpError",
    "InconsistencyError",
    "KombuError",
    "LimitExceeded",
    "MessageStateError",
    "NotBoundError",
    "OperationalError",
    "ResourceError",
    "SerializationError",
    "SerializerNotInstalled",
    "TimeoutError",
    "VersionMismatch",
    "reraise",
)


class KombuError(Exception):
    """Be the base of the errors that this library itself finds."""


class OperationalError(KombuError):
    """Say that the connection to the broker was lost or could not be made; the operation may be tried again."""


class BatchPublishError(KombuError):
    """Say that a batch failed on its way, so that nobody knows which of its messages have arrived."""


class ConfirmError(KombuError):
    """Say that the broker did not confirm publishes; raised by ``flush()``, from the first one's reason.

    Arguments:
        failures: The promises that failed; each has ``reason``, ``exchange``, ``routing_key`` and ``delivery_tag``.
        count: How many failed; more than *failures*, if there were too many to keep them all.
    """

    def __init__(self, failures: Sequence[Any], count: int | None = None) -> None:
        self.failures = list(failures)
        self.count = len(self.failures) if count is None else count
        super().__init__(self.failures, self.count)

    def __str__(self) -> str:
        first = self.failures[0]
        return (
            f"{self.count} publish(es) were not confirmed, the first to exchange {first.exchange!r} with routing key "
            f"{first.routing_key!r}: {first.reason!r}"
        )


class SerializationError(KombuError):
    """Be the base of the errors met while a body is encoded or decoded."""


class EncodeError(SerializationError):
    """Say that an object cannot be turned into a message body."""


class DecodeError(SerializationError):
    """Say that a message body cannot be turned into an object."""


class NotBoundError(KombuError):
    """Say that an entity was used for something that needs a channel before it was bound to one."""


class MessageStateError(KombuError):
    """Say that a message was acknowledged, rejected or requeued before."""


class LimitExceeded(KombuError):
    """Say that a pool has all of its resources out."""


class ConnectionLimitExceeded(LimitExceeded):
    """Say that a pool of connections has all of them out."""


class ChannelLimitExceeded(LimitExceeded):
    """Say that a pool of channels has all of them out."""


class VersionMismatch(KombuError):
    """Say that a library this one depends on has an unsuitable version."""


class SerializerNotInstalled(KombuError):
    """Say that there is no serializer of that name or content type."""


class ContentDisallowed(SerializerNotInstalled):
    """Say that a body was not decoded because its content type is not among those accepted."""


class HttpError(Exception):
    """Say that an HTTP request failed.

    ``code`` is the status code, ``message`` the text that belongs to it and ``response`` the answer, if one came.
    """

    def __init__(self, code: int, message: str | None = None, response: Response | None = None) -> None:
        # All three are given to the base, because that is what a pickle is remade from.
        super().__init__(code, message, response)
        self.code = code
        self.message = message
        self.response = response

    def __str__(self) -> str:
        return f"HTTP {self.code}: {self.message}"


def reraise(tp: Any, value: BaseException, tb: TracebackType | None = None) -> NoReturn:
    """Raise *value* with the traceback *tb*; *tp*, its class, is not looked at."""
    raise value if value.__traceback__ is tb else value.with_traceback(tb)
