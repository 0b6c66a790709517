"""What every transport is made of.

A transport derives from :class:`Transport` and its channels from :class:`StdChannel`; both say what a
:class:`~kombu.Connection` may ask of them, and refuse with :exc:`NotImplementedError` what a transport has to
bring along itself.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from functools import cached_property
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from amqp.exceptions import RecoverableConnectionError

from kombu._core import pool as _pool
from kombu._lazy import LazyModule
from kombu.exceptions import ChannelError, ConnectionError
from kombu.message import Message
from kombu.utils.time import maybe_s_to_ms

if TYPE_CHECKING:
    from kombu import messaging
else:
    # With all that it needs; who only connects does not.
    messaging = LazyModule("kombu.messaging")

__all__ = ("Message", "StdChannel", "Management", "Transport")

_ChannelT = TypeVar("_ChannelT", bound="StdChannel")

#: Option of a queue -> (its x-argument in RabbitMQ, what converts the value). Times are seconds here and
#: whole milliseconds there.
RABBITMQ_QUEUE_ARGUMENTS: Mapping[str, tuple[str, Callable[[Any], int | None]]] = {
    "max_priority": ("x-max-priority", int),
    "max_length": ("x-max-length", int),
    "max_length_bytes": ("x-max-length-bytes", int),
    "message_ttl": ("x-message-ttl", maybe_s_to_ms),
    "expires": ("x-expires", maybe_s_to_ms),
}


def to_rabbitmq_queue_arguments(arguments: Mapping[str, Any], **options: Any) -> Mapping[str, Any]:
    """Return queue *arguments* together with *options*, written as RabbitMQ's x-arguments.

    This is ``Channel.prepare_queue_arguments`` for transports that speak AMQP.

    Arguments:
        arguments: Arguments that the user gave (``Queue.queue_arguments``). Never changed: with nothing to
            add it is returned as it is, otherwise a new dict is.
        expires (float): Seconds after which an unused queue is deleted (``x-expires``).
        message_ttl (float): Seconds that a message may wait in the queue (``x-message-ttl``).
        max_length (int): Most ready messages in the queue (``x-max-length``).
        max_length_bytes (int): Most bytes in the ready bodies (``x-max-length-bytes``).
        max_priority (int): Highest priority that the queue keeps apart (``x-max-priority``).

    Raises:
        KeyError: An option has another name than these.
    """
    extra = {}
    for option, value in options.items():
        name, convert = RABBITMQ_QUEUE_ARGUMENTS[option]
        if value is not None:
            extra[name] = convert(value)
    return {**arguments, **extra} if extra else arguments


def _missing(obj: object, method: str) -> NotImplementedError:
    cls = type(obj)
    return NotImplementedError(f"Transport {cls.__module__}.{cls.__name__} does not implement {method}")


class StdChannel:
    """Base of the channels of every transport."""

    #: Tags of the consumers that need no acknowledgement; None where the transport does not keep them.
    no_ack_consumers: set[str] | None = None

    def Consumer(self, *args: Any, **kwargs: Any) -> messaging.Consumer:
        """Make a :class:`~kombu.Consumer` on this channel."""
        return messaging.Consumer(self, *args, **kwargs)

    def Producer(self, *args: Any, **kwargs: Any) -> messaging.Producer:
        """Make a :class:`~kombu.Producer` on this channel."""
        return messaging.Producer(self, *args, **kwargs)

    def get_bindings(self) -> Any:
        """List the bindings, where the transport can."""
        raise _missing(self, "get_bindings")

    def after_reply_message_received(self, queue: str) -> None:
        """Do what the transport needs once the reply to a remote call has come through *queue*.

        A transport whose reply queues do not expire deletes the queue here.
        """

    def prepare_queue_arguments(self, arguments: Any, **kwargs: Any) -> Any:
        """Return the arguments to declare a queue with, made from the user's and the queue's options."""
        return arguments

    def close(self) -> None:
        """Close the channel."""
        raise _missing(self, "close")

    def __enter__(self: _ChannelT) -> _ChannelT:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()


class Management:
    """Base of a transport's access to its broker's management interface."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def get_bindings(self) -> Any:
        """List the bindings of the broker."""
        raise _missing(self, "get_bindings")


class Implements(dict[str, Any]):
    """What a transport is able to do, as a dict whose keys are attributes too."""

    def __getattr__(self, key: str) -> Any:
        if key in self:
            return self[key]
        raise AttributeError(key)

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def extend(self, **kwargs: Any) -> Implements:
        """Return a copy with *kwargs* changed or added."""
        return type(self)(self, **kwargs)


#: What a transport is taken to be able to do unless it says otherwise.
default_transport_capabilities = Implements(
    asynchronous=False,
    batch_publish=False,
    exchange_type=frozenset({"direct", "topic", "fanout", "headers"}),
    heartbeats=False,
)


class EventReader:
    """Read a connection for an event loop: called with the loop whenever the socket is readable.

    A readable socket is read once, but one read may bring many messages, and a poll sees none of those that are
    already in the connection's own buffer. So a call serves what there is until nothing is left, which is when
    ``drain_events(timeout=0)`` raises *timeout*; where that takes too long for the others of the loop, it asks to be
    called again before the loop waits.
    """

    __slots__ = ("connection", "timeout", "error", "unavailable", "__weakref__")

    #: A loop's debugging output names its callbacks.
    __name__ = "on_readable"

    #: Seconds after which the other callbacks of the loop have their turn.
    turn = 0.005

    def __init__(
        self,
        connection: Any,
        timeout: type[BaseException] | tuple[type[BaseException], ...],
        error: type[BaseException] | tuple[type[BaseException], ...],
        unavailable: tuple[int, ...],
    ) -> None:
        self.connection = connection
        self.timeout = timeout
        self.error = error
        self.unavailable = unavailable

    def __call__(self, loop: Any) -> None:
        connection = self.connection
        if not connection.connected:
            raise RecoverableConnectionError("Socket was disconnected")
        again = True
        end = monotonic() + self.turn
        try:
            while True:
                connection.drain_events(timeout=0)
                if monotonic() >= end:
                    break
        except self.timeout:
            again = False
        except self.error as exc:
            again = False
            if exc.errno not in self.unavailable:
                raise
        finally:
            # A consumer that raised leaves the others' messages in the buffer, too.
            if again and connection.connected:
                loop.call_soon(self, loop)


class Transport:
    """Base of every transport: the driver between a :class:`~kombu.Connection` and a kind of broker.

    Arguments:
        client: The :class:`~kombu.Connection` that this transport works for.
    """

    #: The :class:`~kombu.Connection` that this transport works for.
    client: Any = None

    Management = Management

    #: Whether the transport wants the URL of the connection as it is, instead of its parts.
    can_parse_url = False

    #: Port to use when the user gives none.
    default_port: int | None = None

    #: What kind of broker it drives (``"amqp"``, ``"redis"``...); the same for all drivers of one protocol.
    driver_type = "N/A"

    #: The library underneath (``"py-amqp"``, ``"redis"``...).
    driver_name = "N/A"

    #: Exceptions that mean a broken connection.
    connection_errors: tuple[type[BaseException], ...] = (ConnectionError,)

    #: Exceptions that mean a broken channel, or a method that the broker refused.
    channel_errors: tuple[type[BaseException], ...] = (ChannelError,)

    #: What the transport is able to do.
    implements = default_transport_capabilities.extend()

    #: The reader of the connection that was readable last, with that connection.
    __reader: tuple[Any, Callable[[Any], None]] | None = None

    def __init__(self, client: Any, **kwargs: Any) -> None:
        self.client = client

    # -- What a transport has to bring along.

    def establish_connection(self) -> Any:
        """Connect to the broker and return the connection."""
        raise _missing(self, "establish_connection")

    def close_connection(self, connection: Any) -> None:
        """Close *connection*."""
        raise _missing(self, "close_connection")

    def create_channel(self, connection: Any) -> Any:
        """Open a channel on *connection*."""
        raise _missing(self, "create_channel")

    def close_channel(self, connection: Any) -> None:
        """Close the channel given."""
        raise _missing(self, "close_channel")

    def drain_events(self, connection: Any, **kwargs: Any) -> Any:
        """Wait for one event and dispatch it.

        Raises:
            socket.timeout: *timeout* seconds passed without one.
        """
        raise _missing(self, "drain_events")

    # -- What it may refine.

    def driver_version(self) -> str:
        """Return the version of the library underneath."""
        return "N/A"

    # Of the core, as pools call it each time that a connection goes out.
    verify_connection = _pool.verify_connection

    def qos_semantics_matches_spec(self, connection: Any) -> bool:
        """Return whether ``basic.qos(global=True)`` applies to all channels, as the specification says."""
        return True

    def get_heartbeat_interval(self, connection: Any) -> float:
        """Return the negotiated seconds between heartbeats; 0 means none."""
        return 0

    def heartbeat_check(self, connection: Any, rate: int = 2) -> None:
        """Send or check heartbeats; called *rate* times in each interval."""

    @property
    def default_connection_params(self) -> dict[str, Any]:
        """What a connection uses for the parameters that the user left out."""
        return {}

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """Return *uri* as it may be shown: its password replaced by *mask* unless it is wanted."""
        raise NotImplementedError("this transport leaves the display of its URLs to the connection")

    # -- Event loops.

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Have *loop* watch *connection*."""

    def unregister_from_event_loop(self, connection: Any, loop: Any) -> None:
        """Have *loop* watch *connection* no more."""

    def _make_reader(
        self,
        connection: Any,
        timeout: Any = socket.timeout,
        error: Any = socket.error,
        _unavail: tuple[int, ...] = (errno.EAGAIN, errno.EINTR),
    ) -> Callable[[Any], None]:
        """Make what :meth:`on_readable` calls with the loop; it must go on until nothing is buffered."""
        return EventReader(connection, timeout, error, _unavail)

    def on_readable(self, connection: Any, loop: Any) -> None:
        """Serve *connection*, whose socket *loop* has found readable."""
        cached = self.__reader
        if cached is None or cached[0] is not connection:
            # A transport outlives its connections, and a reader reads only the one it was made for.
            cached = self.__reader = (connection, self._make_reader(connection))
        cached[1](loop)

    # -- Management and capabilities.

    def get_manager(self, *args: Any, **kwargs: Any) -> Any:
        """Make a new :attr:`Management` of this transport."""
        return self.Management(self)

    @cached_property
    def manager(self) -> Any:
        """The :attr:`Management` of this transport, made when first used."""
        return self.get_manager()

    @property
    def supports_heartbeats(self) -> bool:
        """Whether connections have heartbeats."""
        return self.implements.heartbeats  # type: ignore[no-any-return]

    @property
    def supports_ev(self) -> bool:
        """Whether connections can be watched by an event loop."""
        return self.implements.asynchronous  # type: ignore[no-any-return]
