"""Connections to a broker, and pools of connections and channels."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import TracebackType

from . import exceptions, forks
from ._core import draining
from ._core import places as _places
from ._core import pool as _pool
from ._dropped import find_dropped
from ._lazy import TYPE_CHECKING, LazyModule, forwarding
from .channels import is_connection, maybe_channel
from .failover import check_url_transport, failover_strategies, roundrobin_failover
from .link import Link, _log_connection
from .link import logger as logger
from .parameters import resolve_aliases
from .resource import Resource
from .retry import Operation, RetryPolicy, Revival, operation_of
from .transport import get_transport_cls, supports_librabbitmq
from .utils.functional import lazy
from .utils.limits import check_max_events
from .utils.objects import cached_property
from .utils.url import parse_url, ssl_available

if TYPE_CHECKING:
    import inspect
    from typing import Any, ParamSpec, TypeVar
    from urllib.parse import urlparse

    from . import messaging, simple

    _Self = TypeVar("_Self", bound="Connection")
    _Parameters = ParamSpec("_Parameters")
    _Result = TypeVar("_Result")
else:
    # With all that they need they take longest to import, and who only connects never does.
    messaging, simple = LazyModule("kombu.messaging"), LazyModule("kombu.simple")
    inspect = LazyModule("inspect")
    __getattr__, __dir__ = forwarding(__name__, {"urlparse": "urllib.parse"})

__all__ = (
    "BrokerConnection",
    "ChannelPool",
    "Connection",
    "ConnectionPool",
    "PooledConnection",
    "Resource",
    "failover_strategies",
    "get_transport_cls",
    "is_connection",
    "maybe_channel",
    "parse_url",
    "resolve_aliases",
    "roundrobin_failover",
    "ssl_available",
    "supports_librabbitmq",
    "urlparse",
)

_check_url_transport = check_url_transport

#: Seconds after which a connection that comes out of a pool is looked at, without asking the broker.
LOOK_AFTER = 0.02


@lru_cache(maxsize=64)
def _takes_max_events(transport_class: type) -> bool:
    """Return whether ``drain_events`` of the transport names the argument; one that takes any may not know it."""
    try:
        return "max_events" in inspect.signature(transport_class.drain_events).parameters  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        return False


class Connection(Link):
    """A connection to a broker, made when it is first needed.

    Arguments:
        hostname: Host name, URL, list of URLs, or URLs with ``;`` between them. What a URL says wins over the other
            arguments. Further URLs are the hosts to fail over to.
        userid, password, virtual_host, port: What the URL does not say. The password may be a callable that returns it;
            it is called each time the connection is made.
        insist: Passed to the transport.
        ssl: Whether to use TLS, or a dict of options for it.
        transport: Name, path (``module:Class``) or class of the transport.
        connect_timeout: Seconds that making the connection may take.
        transport_options: Dict of options that the transport understands. ``max_retries``, ``interval_start``,
            ``interval_step``, ``interval_max``, ``connect_retries_timeout``, ``errback`` and ``callback`` say how
            :attr:`default_channel` connects.
        login_method: SASL mechanism, for transports that have a choice.
        uri_prefix: The part before the ``+`` of a URL like ``sqla+mysql://``.
        heartbeat: Seconds between heartbeats, 0 for none. :meth:`heartbeat_check` has to be called twice as often.
        failover_strategy: ``"round-robin"``, ``"shuffle"``, or a callable that takes the list of URLs and returns an
            iterator without end.
        alternates: URLs to fail over to, besides those in *hostname*. The list is left as it is.
        credential_provider: Passed to transports that know of it.

    After a fork the child has to connect anew; nothing it does reaches the sockets of its parent.

    Example:
        >>> with Connection("amqp://guest:guest@localhost:5672//") as connection:
        ...     connection.SimpleQueue("tasks").put({"n": 1})
    """

    # -- using ---------------------------------------------------------------------------------------------------

    def _drain_by_transport(self, timeout: float | None, max_events: int, kwargs: dict[str, Any]) -> Any:
        check_max_events(max_events)
        connection, transport = self._connection, self._transport
        if self._usable_in != forks.pid or connection is None or transport is None:
            connection, transport = self._usable_connection(), self.transport
        if max_events != 1 and _takes_max_events(type(transport)):
            kwargs["max_events"] = max_events
        try:
            # Arguments that were not given are not passed on: their defaults are the transport's.
            if timeout is not draining.UNSET:
                kwargs["timeout"] = timeout
            count = transport.drain_events(connection, **kwargs)
        except Exception as exc:
            self._note(exc)
            raise
        # Transports that know of one event at a time have nothing to tell.
        return 1 if count is None else count

    def heartbeat_check(self, rate: int = 2) -> Any:
        """Let the transport send and check heartbeats; to be called about once a second.

        Arguments:
            rate: How many times this is called in one interval.
        """
        connection = self._usable_connection()
        try:
            return self.transport.heartbeat_check(connection, rate=rate)
        except Exception as exc:
            self._note(exc)
            raise

    def get_heartbeat_interval(self) -> float:
        """Return the negotiated seconds between heartbeats, 0 for none."""
        interval: float = self.transport.get_heartbeat_interval(self._usable_connection())
        return interval

    def register_with_event_loop(self, loop: Any) -> None:
        """Let *loop* call the transport when there is something to read."""
        self.transport.register_with_event_loop(self._usable_connection(), loop)

    def revive(self, new_channel: Any) -> None:
        """Close the default channel if it is not *new_channel*."""
        if self._default_channel and new_channel is not self._default_channel:
            self.maybe_close_channel(self._default_channel)
            self._default_channel = None

    # -- retrying ------------------------------------------------------------------------------------------------

    def ensure(
        self,
        obj: Any,
        fun: Callable[_Parameters, _Result],
        errback: Callable[[Any, float], Any] | None = None,
        max_retries: int | None = None,
        interval_start: float = 1,
        interval_step: float = 1,
        interval_max: float = 1,
        on_revive: Callable[[Any], Any] | None = None,
        retry_errors: Iterable[type[BaseException]] | None = None,
    ) -> Callable[_Parameters, _Result]:
        """Return a function that calls *fun*, and calls it again after connection and channel errors.

        Arguments:
            obj: Has a method ``revive(channel)``, which is called with a new channel before the next call of *fun*.
            fun: The operation.
            errback: Called with the exception and the seconds until the next attempt, after each that failed.
            max_retries: Attempts after the first, None for no limit.
            interval_start, interval_step, interval_max: Seconds to sleep before the first retry, more before each
                further one, at most.
            on_revive: Called with the new channel after ``obj.revive``.
            retry_errors: Further exceptions to retry after.

        One budget holds for the operation, whatever it does: reconnecting (which tries each host once), and calls of
        :meth:`ensure` and :attr:`default_channel` on this connection inside *fun*. With *max_retries* = n:

        =====================================================  ========  ==========  ========  ====================
        *fun* or reconnecting keeps raising                    attempts  reconnects  sleeps    raised in the end
        =====================================================  ========  ==========  ========  ====================
        one of :attr:`recoverable_connection_errors`           n + 1     n           n         ``OperationalError``
        one of :attr:`recoverable_channel_errors`              n + 1     0 [1]_      n         ``OperationalError``
        one of *retry_errors* that is neither                  n + 1     0           n         the error itself
        anything else                                          1         0           0         the error itself
        =====================================================  ========  ==========  ========  ====================

        The k-th sleep is ``min(interval_start + (k - 1) * interval_step, interval_max)`` seconds.

        .. [1] A default channel that the broker closed is opened again, and *obj* revived with it.

        Raises:
            kombu.exceptions.OperationalError: see the table; the cause is the last error.

        Example:
            >>> publish = connection.ensure(producer, producer.publish, max_retries=3)
            >>> publish({"hello": "world"}, routing_key="dest")
        """
        policy = RetryPolicy(errback, max_retries, interval_start, interval_step, interval_max)
        errors = tuple(retry_errors or ())

        def ensured(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Any:
            if operation_of(self) is not None:
                return fun(*args, **kwargs)
            return Operation(self, obj, fun, policy, on_revive, errors, args, kwargs).run()

        name = getattr(fun, "__name__", None) or repr(fun)
        ensured.__name__ = f"{name}(ensured)"
        ensured.__doc__ = getattr(fun, "__doc__", None)
        ensured.__module__ = getattr(fun, "__module__", None) or __name__
        return ensured

    def autoretry(self, fun: Callable[..., Any], channel: Any = None, **ensure_options: Any) -> Callable[..., Any]:
        """Return a function that calls *fun* with a ``channel``, with the retries of :meth:`ensure`.

        It returns the result of *fun* and the channel last used, as a tuple. Without *channel* the default channel is
        used; connecting for it is part of the operation.

        Example:
            >>> result, channel = connection.autoretry(publish_messages, max_retries=3)()
        """
        revival = Revival(self, fun, channel)
        return self.ensure(revival, revival, **ensure_options)

    # -- making things -------------------------------------------------------------------------------------------

    def Pool(self, limit: int | None = None, **kwargs: Any) -> ConnectionPool:
        """Return a :class:`ConnectionPool` of at most *limit* connections like this one; None sets no limit.

        Example:
            >>> pool = connection.Pool(2)
            >>> with pool.acquire(block=True, timeout=3) as pooled:
            ...     pooled.default_channel
        """
        return ConnectionPool(self, limit, **kwargs)

    def ChannelPool(self, limit: int | None = None, **kwargs: Any) -> ChannelPool:
        """Return a :class:`ChannelPool` of at most *limit* channels of this connection; None sets no limit."""
        return ChannelPool(self, limit, **kwargs)

    def Producer(self, channel: Any = None, *args: Any, **kwargs: Any) -> messaging.Producer:
        """Return a :class:`kombu.Producer` on *channel*, or on this connection."""
        return messaging.Producer(channel or self, *args, **kwargs)

    def Consumer(
        self,
        queues: messaging.Queue | Iterable[messaging.Queue] | None = None,
        channel: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> messaging.Consumer:
        """Return a :class:`kombu.Consumer` of *queues* on *channel*, or on this connection."""
        return messaging.Consumer(channel or self, queues, *args, **kwargs)

    def SimpleQueue(
        self,
        name: str | messaging.Queue,
        no_ack: bool | None = None,
        queue_opts: Mapping[str, Any] | None = None,
        queue_args: Mapping[str, Any] | None = None,
        exchange_opts: Mapping[str, Any] | None = None,
        channel: Any = None,
        **kwargs: Any,
    ) -> simple.SimpleQueue:
        """Return a :class:`kombu.simple.SimpleQueue`: a persistent queue with ``put`` and ``get``.

        Arguments:
            name: Name of the queue, of its exchange and of the routing key; or a :class:`kombu.Queue`.
            no_ack: Whether messages need no acknowledgement; they do by default.
            queue_opts, queue_args: Arguments of the queue's constructor, and its arguments for the broker.
            exchange_opts: Arguments of the exchange's constructor.
            channel: Used instead of the default channel.
        """
        return simple.SimpleQueue(channel or self, name, no_ack, queue_opts, queue_args, exchange_opts, **kwargs)

    def SimpleBuffer(
        self,
        name: str | messaging.Queue,
        no_ack: bool | None = None,
        queue_opts: Mapping[str, Any] | None = None,
        queue_args: Mapping[str, Any] | None = None,
        exchange_opts: Mapping[str, Any] | None = None,
        channel: Any = None,
        **kwargs: Any,
    ) -> simple.SimpleBuffer:
        """Return a :class:`kombu.simple.SimpleBuffer`: as :meth:`SimpleQueue`, but transient, and nothing is acked."""
        return simple.SimpleBuffer(channel or self, name, no_ack, queue_opts, queue_args, exchange_opts, **kwargs)

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.release()

    # -- what the transport can do -------------------------------------------------------------------------------

    def supports_exchange_type(self, exchange_type: str) -> bool:
        """Return whether the transport knows exchanges of that type."""
        return exchange_type in self.transport.implements.exchange_type

    @property
    def supports_heartbeats(self) -> bool:
        """Whether the transport knows heartbeats."""
        return bool(self.transport.implements.heartbeats)

    @property
    def is_evented(self) -> bool:
        """Whether the transport can be driven by an event loop."""
        return bool(self.transport.implements.asynchronous)

    @property
    def qos_semantics_matches_spec(self) -> bool:
        """Whether ``basic.qos`` with the global flag means what AMQP 0-9-1 says (RabbitMQ 3.3 to 3.x: it does not)."""
        return bool(self.transport.qos_semantics_matches_spec(self._usable_connection()))

    @cached_property
    def manager(self) -> Any:
        """The broker's management interface, where the transport has one."""
        return self.transport.manager

    def get_manager(self, *args: Any, **kwargs: Any) -> Any:
        """Return a new client of the broker's management interface."""
        return self.transport.get_manager(*args, **kwargs)


BrokerConnection = Connection


class PooledConnection(_pool.Lent, Connection):
    """A connection that belongs to a pool; :meth:`release` returns it."""

    def __init__(self, pool: ConnectionPool, **kwargs: Any) -> None:
        self._pool = pool
        super().__init__(**kwargs)

    def _unpooled_class(self) -> type[Connection]:
        return Connection

    def _replaced_after(self, exc: BaseException) -> bool:
        # An interrupt (one that is no Exception) may have left half a frame, or a reply on its way, behind.
        if isinstance(exc, Exception) and not isinstance(exc, self.connection_errors):
            return False
        self._pool.replace(self)
        return True


class ConnectionPool(Resource):
    """Share connections like *connection*, at most *limit* of them.

    Connections are made when they are first acquired, and connect when they are first used; *preload* makes that many
    at once. One that was closed or lost is not handed out again: another takes its place, without asking the broker.
    """

    LimitExceeded = exceptions.ConnectionLimitExceeded
    close_after_fork = True

    if TYPE_CHECKING:

        def acquire(self, block: bool = False, timeout: float | None = None) -> PooledConnection: ...

    def __init__(self, connection: Connection, limit: int | None = None, **kwargs: Any) -> None:
        self.connection = connection
        if type(self).is_usable is ConnectionPool.is_usable:
            self._quick_check, self._look_after = _pool.connection_is_open, LOOK_AFTER
        super().__init__(limit=limit, **kwargs)

    def setup(self) -> None:
        self._preload()

    def new(self) -> PooledConnection:
        return PooledConnection(self, **dict(self.connection._info(resolve=False)))

    prepare = _pool.evaluated

    def is_usable(self, resource: Any) -> bool:
        if not isinstance(resource, Connection) or (resource._pid is None and not resource._closed):
            return True
        if not resource.connected:
            return False
        # A peer that left meanwhile has said so, but that is still unread. One that vanished has said nothing, and
        # after so long without a heartbeat from here it has hung up in any case.
        interval = resource.get_heartbeat_interval()
        if interval and self._idle_seconds(resource) >= interval:
            return False
        return resource._still_there()

    def _idle_seconds(self, resource: Any) -> float:
        return self._slots.idle_seconds(resource)

    if _log_connection:

        def acquire(self, block: bool = False, timeout: float | None = None) -> PooledConnection:
            resource: PooledConnection = super().acquire(block, timeout)
            resource._debug("acquired")
            return resource

        def release_resource(self, resource: Any) -> None:
            resource._debug("released")

    def close_resource(self, resource: Any) -> None:
        if not isinstance(resource, lazy):
            resource._close()

    def collect_resource(self, resource: Any, socket_timeout: float | None = 0.1) -> None:
        if not isinstance(resource, lazy):
            resource.collect(socket_timeout)

    @contextmanager
    def acquire_channel(self, block: bool = False) -> Iterator[tuple[PooledConnection, Any]]:
        """Acquire a connection; yield it and its default channel."""
        with self.acquire(block=block) as connection:
            yield connection, connection.default_channel


class ChannelPool(Resource):
    """Share channels of *connection*, at most *limit* of them; *preload* opens that many at once.

    An open channel is kept by its connection.  One that was dropped without release is found, closed and reported when
    its place is needed: at once by whoever does not wait, within a fraction of a second by who does.  One that has
    consumers is in use, whoever holds it.
    """

    LimitExceeded = exceptions.ChannelLimitExceeded

    def __init__(self, connection: Connection, limit: int | None = None, **kwargs: Any) -> None:
        self.connection = connection
        if type(self).is_usable is ChannelPool.is_usable:
            self._quick_check, self._look_after = _pool.channel_is_open, float("inf")
        super().__init__(limit=limit, **kwargs)

    def setup(self) -> None:
        self._preload()

    def new(self) -> lazy:
        return lazy(self.connection.channel)

    prepare = _pool.evaluated_channel

    def is_usable(self, resource: Any) -> bool:
        if isinstance(resource, lazy):
            return True
        return _pool.channel_is_open(resource) and not self.connection._is_inherited()

    def _new_slots(self) -> _places.SlotPool:
        slots = super()._new_slots()
        slots.search = _Search(self)
        return slots

    def _reclaim_dropped(self) -> bool:
        """Close the channels that were dropped without release; return whether there were any."""
        slots = self._slots
        dropped = find_dropped(slots.out_resources())
        found = False
        while dropped:
            channel = dropped.pop()
            if not slots.withdraw(channel):
                continue
            found = True
            try:
                self._part_with(channel, self.connection.maybe_close_channel)
            finally:
                surplus = slots.vacate(channel, keep=False)
                if surplus is not _places.VACANT:
                    self._close_surplus(surplus)
            if slots.lost is not None:
                slots.lost()
        return found


class _Search:
    """Let a pool of channels search for those that were dropped, without keeping the pool alive."""

    __slots__ = ("_owner",)

    def __init__(self, owner: ChannelPool) -> None:
        self._owner = weakref.ref(owner)

    def __call__(self) -> bool:
        owner = self._owner()
        return owner is not None and owner._reclaim_dropped()
