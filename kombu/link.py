"""Make, watch and drop the connection that stands behind a :class:`kombu.Connection`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from time import monotonic

from . import exceptions, forks
from ._core import draining
from ._core import pool as _pool
from ._lazy import TYPE_CHECKING, LazyLogger, LazyModule, amqp_errors
from .parameters import ConnectionParameters
from .retry import LibraryErrors, operation_of
from .utils.functional import retry_over_time
from .utils.objects import cached_property

if TYPE_CHECKING:
    from typing import Any, TypeVar

    from .utils import debug

    _Self = TypeVar("_Self", bound="Link")
else:
    debug = LazyModule("kombu.utils.debug")

__all__ = ("Link",)

logger = LazyLogger("kombu.connection")

_log_connection = bool(os.environ.get("KOMBU_LOG_CONNECTION"))
_log_channel = bool(os.environ.get("KOMBU_LOG_CHANNEL"))

#: Transports of a parent process that cannot let go of a socket without using it: kept, so that nothing finalizes them.
_inherited: list[Any] = []

#: What depends on the class of the transport and is remembered.
_ERROR_TUPLES = ("connection_errors", "channel_errors", "recoverable_connection_errors", "recoverable_channel_errors")


class Link(draining.Drains, ConnectionParameters):
    """Know whether there is a connection, and make one when it is asked for.

    There are four states.  *New*: no connection was made yet; whatever needs one makes it.  *Connected*.  *Lost*: one
    was made, and is gone; only what asks for a connection or a channel by name makes another, since everything else
    would go on with one that has no consumers.  *Released*: like lost, but on purpose.
    """

    #: What was declared on the present connection, so that it is not declared again.
    declared_entities: Any = None

    _closed: bool | None = None
    _connection: Any = None
    _default_channel: Any = None
    _logger = False

    #: The process in which the connection was last made.
    _pid: int | None = None

    #: The process in which the connection may be drained without a further look at it; 0 where there is none.
    _usable_in = 0

    #: What drains the connection then, if it need not be asked through the transport.
    _tap: draining.Tap | None = None

    #: Why the connection was lost, if that is known.
    _loss: str | None = None

    def _start(self) -> None:
        if _log_connection:
            self._logger = True
        self.declared_entities = set()
        self._establishing = forks.ProcessLock()

    # -- hosts ---------------------------------------------------------------------------------------------------

    def switch(self, conn_str: str) -> None:
        """Close the connection and take the parameters of another URL or host name; does not connect.

        Raises:
            ValueError: if the scheme is not the plain name of a transport.
        """
        self.close()
        self._closed = False
        self._take_url(conn_str)
        for name in _ERROR_TUPLES:
            self.__dict__.pop(name, None)

    def maybe_switch_next(self) -> None:
        """Switch to the next URL of the failover strategy, if there are several."""
        if self.cycle:
            self.switch(next(self.cycle))

    def completes_cycle(self, retries: int) -> bool:
        """Return whether all hosts have been tried after *retries* + 1 attempts."""
        return not (retries + 1) % len(self.alt) if self.alt else True

    # -- connecting ----------------------------------------------------------------------------------------------

    def connect(self) -> Any:
        """Connect now, unless connected, and return the transport's connection object.

        All hosts are tried, and there is one retry.

        Raises:
            Exception: one of :attr:`recoverable_connection_errors` if no host can be reached, and any other that the
                transport raises.
        """
        return self._ensure_connection(max_retries=1, reraise_as_library_errors=False)

    if TYPE_CHECKING:

        def ensure_connection(
            self: _Self,
            errback: Callable[[Any, float], Any] | None = None,
            max_retries: int | None = None,
            interval_start: float = 2,
            interval_step: float = 2,
            interval_max: float = 30,
            callback: Callable[[], Any] | None = None,
            reraise_as_library_errors: bool = True,
            timeout: float | None = None,
        ) -> _Self: ...

    def ensure_connection(self: _Self, *args: Any, **kwargs: Any) -> _Self:  # type: ignore[no-redef]
        """Connect unless connected; retry where that fails. Return self.

        Arguments:
            errback: Called with the exception and the seconds until the next attempt, after each that failed.
            max_retries: Attempts after the first, None for no limit. All hosts are tried at least once.
            interval_start, interval_step, interval_max: Seconds to sleep once all hosts have failed: the first time,
                more each time, at most. Between hosts there is no sleep.
            callback: Called after each failure, and about once a second while sleeping. It may raise to end it all.
            reraise_as_library_errors: Whether to raise :exc:`~kombu.exceptions.OperationalError` for the transport's
                own errors.
            timeout: Seconds after which no further attempt is made, but that all hosts are tried; None for no limit.

        Raises:
            kombu.exceptions.OperationalError: if no host could be reached; ``errors`` has what each raised, and
                ``__cause__`` the last.
        """
        self._ensure_connection(*args, **kwargs)
        return self

    def _ensure_connection(
        self,
        errback: Callable[[Any, float], Any] | None = None,
        max_retries: int | None = None,
        interval_start: float = 2,
        interval_step: float = 2,
        interval_max: float = 30,
        callback: Callable[[], Any] | None = None,
        reraise_as_library_errors: bool = True,
        timeout: float | None = None,
    ) -> Any:
        """Do what :meth:`ensure_connection` says, and return the transport's connection object."""
        if self.connected:
            return self._connection
        hosts = max(len(self.alt), 1)
        failures: deque[BaseException] = deque(maxlen=hosts - 1)
        deadline = monotonic() + timeout if timeout else None

        def on_error(exc: BaseException, intervals: Iterator[float], retries: int) -> float:
            interval = next(intervals) if self.completes_cycle(retries) else 0.0
            if deadline is not None:
                remaining = deadline - monotonic()
                if remaining <= 0 and retries >= hosts - 1:
                    raise exc
                interval = min(interval, max(remaining, 0.0))
            self._host_failed(exc, failures, errback, interval)
            return interval

        with LibraryErrors(self) if reraise_as_library_errors else nullcontext():
            try:
                return retry_over_time(
                    self._connection_factory,
                    self.recoverable_connection_errors,
                    errback=on_error,
                    max_retries=None if max_retries is None else max(max_retries, hosts - 1),
                    interval_start=interval_start,
                    interval_step=interval_step,
                    interval_max=interval_max,
                    callback=callback,
                )
            except self.recoverable_connection_errors as exc:
                self._keep_errors(exc, failures)
                raise

    def _connect_cycle(self, errback: Callable[[Any, float], Any] | None = None) -> Any:
        """Try all hosts once, without sleeping; raise the error of the last."""
        hosts = max(len(self.alt), 1)
        failures: deque[BaseException] = deque(maxlen=hosts - 1)
        for remaining in reversed(range(hosts)):
            try:
                return self._connection_factory()
            except self.recoverable_connection_errors as exc:
                if not remaining:
                    self._keep_errors(exc, failures)
                    raise
                self._host_failed(exc, failures, errback, 0.0)

    def _host_failed(
        self,
        exc: Any,
        failures: deque[BaseException],
        errback: Callable[[Any, float], Any] | None,
        interval: float,
    ) -> None:
        """Report that connecting failed, and go to the next host; *errback* may look at the one that failed."""
        exc.broker = self.as_uri()
        failures.append(exc)
        try:
            if errback is not None:
                errback(exc, interval)
        finally:
            self.maybe_switch_next()

    def _keep_errors(self, exc: Any, failures: Iterable[BaseException]) -> None:
        """Attach to the final error those of the other hosts in the same cycle."""
        exc.broker = self.as_uri()
        exc.earlier_errors = tuple(failures)

    def _connection_factory(self) -> Any:
        """Make the connection, in one attempt on the present host."""
        with self._establishing.current():
            if self.connected:  # another thread was faster
                return self._connection
            self._discard_connection()
            self.declared_entities.clear()
            self._default_channel = None
            self._connection = self._establish_connection()
            self._closed = False
            self._loss = None
            self._pid = forks.pid
            self._trust()
            return self._connection

    def _trust(self) -> None:
        """Spare the look at the connection before it is drained, where the transport makes it superfluous.

        One that has ``refuses_lost_connections`` promises that its ``drain_events`` raises a recoverable error for a
        connection that is lost, or that a parent process made.  Others might connect anew without a word.
        """
        if getattr(self._transport, "refuses_lost_connections", False):
            drainer = getattr(self._transport, "drainer", None)
            drain = drainer(self._connection) if drainer is not None else None
            self._tap = None if drain is None else draining.Tap(drain)
            self._usable_in = forks.pid

    def _distrust(self) -> None:
        self._usable_in = 0
        self._tap = None

    def _establish_connection(self) -> Any:
        self._debug("connecting")
        connection = self.transport.establish_connection()
        self._debug("connected: %r", self)
        return connection

    def _discard_connection(self) -> None:
        """Let go of a connection that cannot be used any more, without talking to the broker."""
        self._distrust()
        connection, self._connection = self._connection, None
        if self._is_inherited():
            self._abandon_transport(connection)
        elif connection is not None and hasattr(self._transport, "_collect"):
            self._transport._collect(connection)

    def _is_inherited(self) -> bool:
        """Whether the connection was made by the parent of this process."""
        return self._pid is not None and self._pid != forks.pid

    def _abandon_transport(self, connection: Any) -> None:
        """Leave the parent's connection alone, in a child."""
        transport, self._transport = self._transport, None
        self._default_channel = None
        self._loss = "it was made by another process, of which this one is a fork"
        if transport is None:
            return
        collect = getattr(transport, "_collect", None)
        if collect is None:
            _inherited.append((transport, connection))
        else:
            collect(connection)
            transport.client = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection that, as far as the transport knows, can be used."""
        return bool(
            not self._closed
            and self._connection is not None
            and (self._pid is None or self._pid == forks.pid)
            and self.transport.verify_connection(self._connection)
        )

    @property
    def connection(self) -> Any:
        """The transport's connection object; None once released.

        Connects if that was never done. A connection that was lost is not made again here, but by :meth:`connect`,
        :meth:`ensure_connection`, :meth:`channel` and :attr:`default_channel`.

        Raises:
            Exception: one of :attr:`recoverable_connection_errors` if the connection was lost.
        """
        return None if self._closed else self._usable_connection()

    def _usable_connection(self) -> Any:
        """Return the transport's connection object, made now if it never was; raise if it was lost."""
        if self.connected:
            self._trust()
            return self._connection
        if self._pid is None and not self._closed:
            return self._connect_for_use()
        raise self._lost()

    def _lost(self) -> BaseException:
        """Return the exception that says that there is no connection any more."""
        if self._closed:
            reason = "it was released"
        elif self._is_inherited():
            reason = "it was made by another process, of which this one is a fork"
        else:
            reason = self._loss or "it was closed"
        message = f"Not connected to {self.as_uri()}: {reason}. Reconnect, and consume again"
        errors = self.recoverable_connection_errors
        if not errors or issubclass(amqp_errors.RecoverableConnectionError, errors):
            errors = (amqp_errors.RecoverableConnectionError,)
        lost: BaseException = errors[0](message)
        return lost

    def _connect_for_use(self) -> Any:
        """Connect because something needs it; in a retried operation a failure is one of its failures."""
        operation = operation_of(self)
        if operation is not None and operation.bounded:
            return self._connect_cycle(operation.policy.errback)
        return self.connect()

    def _note(self, exc: BaseException) -> None:
        """Remember that the connection is lost, if that is what *exc* means."""
        connection, transport = self._connection, self._transport
        if connection is None or transport is None or not transport.verify_connection(connection):
            self._distrust()
            self._loss = str(exc) or type(exc).__name__

    def _still_there(self) -> bool:
        """Return whether the peer is there, as far as what it has sent already tells; waits for nothing."""
        look = getattr(self._connection, "check_alive", None)
        if look is not None:
            try:
                look()
            except self.connection_errors + self.channel_errors as exc:
                self._debug("looking at an idle connection: %r", exc)
        return self.connected

    def channel(self) -> Any:
        """Open a new channel, after connecting if need be."""
        self._debug("create channel")
        connection = self._connection if self.connected else self._connect_for_use()
        channel = self.transport.create_channel(connection)
        if _log_channel:
            return debug.Logwrapped(channel, "kombu.channel", "[Kombu channel:{0.channel_id}] ")
        return channel

    @property
    def default_channel(self) -> Any:
        """The channel that is used where a connection is given instead of a channel.

        Connects and opens it when needed: at first, after the connection was lost, and after the channel was closed.
        Connecting is bounded by ``transport_options`` (``max_retries``, ``connect_retries_timeout`` ...), and by
        ``connect_timeout`` where they set no limit in time; within :meth:`ensure` a failure counts as one of its
        retries.

        Raises:
            kombu.exceptions.OperationalError: if no host could be reached.
        """
        if not self.connected:
            operation = operation_of(self)
            if operation is not None and operation.bounded:
                self._connect_cycle(operation.policy.errback)
            else:
                self._ensure_connection(**self._extract_failover_opts())
        channel = self._default_channel
        if channel is not None and not self._default_channel_is_dead():
            return channel
        # No lock is held while the channel is opened: a thread that waits for it might be the one that reads the reply.
        opened = self.channel()
        with self._establishing.current():
            if self._default_channel is channel:
                self._default_channel = opened
                return opened
        self.maybe_close_channel(opened)
        return self._default_channel

    def _default_channel_is_dead(self) -> bool:
        return self._default_channel is None or not _pool.channel_is_open(self._default_channel)

    def _extract_failover_opts(self) -> dict[str, Any]:
        """Return the arguments for :meth:`ensure_connection` that the transport options contain."""
        options = self.transport_options or {}
        arguments: dict[str, Any] = {"timeout": options.get("connect_retries_timeout", self.connect_timeout)}
        for name in ("max_retries", "interval_start", "interval_step", "interval_max", "errback", "callback"):
            if name in options:
                arguments[name] = options[name]
        return arguments

    def maybe_close_channel(self, channel: Any) -> None:
        """Close *channel*; errors of the connection and of the channel are of no interest then."""
        try:
            channel.close()
        except self.connection_errors + self.channel_errors as exc:
            self._debug("closing a channel: %r", exc)

    # -- closing -------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Close the connection, if there is one; one that came from a pool goes back to it."""
        self._close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._close()

    def _close(self) -> None:
        """Close the connection, even if it belongs to a pool."""
        self._do_close_self()
        self._do_close_transport()
        self._debug("closed")
        self._closed = True

    def _do_close_self(self) -> None:
        """Close the channel and the connection, but keep the transport."""
        self._distrust()
        self.declared_entities.clear()
        connection, channel = self._connection, self._default_channel
        self._default_channel = None
        if self._is_inherited():
            self._discard_connection()
            return
        if channel:
            self.maybe_close_channel(channel)
        if connection:
            try:
                self.transport.close_connection(connection)
            except self.connection_errors + (AttributeError, OSError) as exc:
                # Whatever goes wrong while closing, nobody wants the connection any more.
                self._debug("closing: %r", exc)
            self._connection = None

    def _do_close_transport(self) -> None:
        if self._transport:
            self._transport.client = None
            self._transport = None

    def collect(self, socket_timeout: float | None = None) -> None:
        """Let go of sockets and channels without telling the broker, where the transport can do that.

        *socket_timeout* has no effect: it would have to be set for the whole process.
        """
        if self._is_inherited() or hasattr(self._transport, "_collect"):
            self._discard_connection()
        else:
            try:
                self._do_close_self()
            except TimeoutError as exc:
                self._debug("collecting: %r", exc)
        self._default_channel = None
        self._do_close_transport()
        self.declared_entities.clear()
        self._connection = None

    # -- errors --------------------------------------------------------------------------------------------------

    @cached_property
    def connection_errors(self) -> tuple[type[Exception], ...]:
        """Exceptions that mean that something is wrong with the connection."""
        return tuple(self.get_transport_cls().connection_errors)

    @cached_property
    def channel_errors(self) -> tuple[type[Exception], ...]:
        """Exceptions that mean that something is wrong with a channel."""
        return tuple(self.get_transport_cls().channel_errors)

    @cached_property
    def recoverable_connection_errors(self) -> tuple[type[Exception], ...]:
        """Exceptions after which it helps to connect again.

        A transport that does not say which they are may recover from any.
        """
        if self._tells_recoverable_errors:
            return tuple(self.get_transport_cls().recoverable_connection_errors)
        return self.connection_errors + self.channel_errors

    @cached_property
    def recoverable_channel_errors(self) -> tuple[type[Exception], ...]:
        """Exceptions after which it helps to try again on the same connection."""
        return tuple(getattr(self.get_transport_cls(), "recoverable_channel_errors", ()))

    @property
    def _tells_recoverable_errors(self) -> bool:
        return hasattr(self.get_transport_cls(), "recoverable_connection_errors")

    def _reraise_as_library_errors(
        self,
        ConnectionError: type[Exception] = exceptions.OperationalError,
        ChannelError: type[Exception] = exceptions.OperationalError,
    ) -> LibraryErrors:
        return LibraryErrors(self, ConnectionError, ChannelError)

    def _debug(self, message: str, *args: Any, **kwargs: Any) -> None:
        if self._logger:
            logger.debug(f"[Kombu connection:{id(self):#x}] {message}", *args, **kwargs)
