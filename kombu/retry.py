"""Call an operation again until it succeeds or its budget is spent.

This is what :meth:`kombu.Connection.ensure` and :meth:`kombu.Connection.autoretry` are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import TracebackType

from ._lazy import TYPE_CHECKING
from .exceptions import OperationalError
from .utils.functional import retry_over_time

if TYPE_CHECKING:
    from typing import Any

    from .connection import Connection
    from .link import Link

__all__ = ("LibraryErrors", "Operation", "RetryPolicy", "Revival", "operation_of")

Errors = tuple[type[BaseException], ...]

#: The operations that are being retried in this thread or greenlet, the innermost first.
_running: ContextVar[Operation | None] = ContextVar("kombu_running_operation", default=None)


class RetryPolicy:
    """Say how often and how soon an operation is tried again; intervals are seconds."""

    __slots__ = ("errback", "interval_max", "interval_start", "interval_step", "max_retries")

    def __init__(
        self,
        errback: Callable[[Any, float], Any] | None = None,
        max_retries: int | None = None,
        interval_start: float = 1,
        interval_step: float = 1,
        interval_max: float = 1,
    ) -> None:
        self.errback = errback
        self.max_retries = max_retries
        self.interval_start = interval_start
        self.interval_step = interval_step
        self.interval_max = interval_max


class LibraryErrors:
    """Raise the recoverable errors of a connection as the exceptions of this library (a context manager).

    What is raised has the errors of all hosts that were tried in ``errors``.
    """

    __slots__ = ("_channel_error", "_connection", "_connection_error")

    def __init__(
        self,
        connection: Link,
        connection_error: type[Exception] = OperationalError,
        channel_error: type[Exception] = OperationalError,
    ) -> None:
        self._connection = connection
        self._connection_error = connection_error
        self._channel_error = channel_error

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None or isinstance(exc, (self._connection_error, self._channel_error)):
            return
        if isinstance(exc, self._connection.recoverable_connection_errors):
            kind = self._connection_error
        elif isinstance(exc, self._connection.recoverable_channel_errors):
            kind = self._channel_error
        else:
            return
        errors = (*getattr(exc, "earlier_errors", ()), exc)
        converted: Any = kind(_describe(errors))
        converted.errors = errors
        raise converted from exc


def _describe(errors: tuple[BaseException, ...]) -> str:
    """Return the message of the only error; of several, the hosts and what each raised."""
    if len(errors) == 1:
        return str(errors[0])
    return "; ".join(f"{getattr(exc, 'broker', 'broker')}: {str(exc) or type(exc).__name__}" for exc in errors)


def operation_of(connection: Link) -> Operation | None:
    """Return the operation on *connection* that is being retried around the caller, if there is one."""
    operation = _running.get()
    while operation is not None and operation.connection is not connection:
        operation = operation.outer
    return operation


class Operation:
    """One call of a function that is repeated after connection and channel errors, within one budget.

    A retry is: wait, reconnect if the connection was lost, call again.  Whatever fails in it, reconnecting or the call,
    uses up that retry, and so do operations nested in it on the same connection: they are not retried on their own, or
    each level would multiply the calls.
    """

    __slots__ = ("args", "connection", "fun", "kwargs", "lost", "obj", "on_revive", "outer", "policy", "reconnected",
                 "retry_errors")  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        obj: Any,
        fun: Callable[..., Any],
        policy: RetryPolicy,
        on_revive: Callable[[Any], Any] | None,
        retry_errors: Errors,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.connection = connection
        self.obj = obj
        self.fun = fun
        self.policy = policy
        self.on_revive = on_revive
        self.retry_errors = retry_errors
        self.args = args
        self.kwargs = kwargs
        self.outer: Operation | None = None
        #: A connection error was seen, and no connection made since.
        self.lost = False
        #: A connection was made after an error.
        self.reconnected = False

    @property
    def bounded(self) -> bool:
        """Whether the budget ends."""
        return self.policy.max_retries is not None

    def run(self) -> Any:
        """Call the function until it succeeds; return its result."""
        self.outer = _running.get()
        token = _running.set(self)
        policy, connection = self.policy, self.connection
        try:
            with LibraryErrors(connection):
                return retry_over_time(
                    self._attempt,
                    self.retry_errors
                    + connection.recoverable_connection_errors
                    + connection.recoverable_channel_errors,
                    errback=self._failed,
                    max_retries=policy.max_retries,
                    interval_start=policy.interval_start,
                    interval_step=policy.interval_step,
                    interval_max=policy.interval_max,
                )
        finally:
            _running.reset(token)

    def _attempt(self) -> Any:
        if self.lost:
            self._reconnect()
        return self.fun(*self.args, **self.kwargs)

    def _reconnect(self) -> None:
        connection = self.connection
        connection._connect_cycle(self.policy.errback)
        self.lost = False
        self.reconnected = True
        self._revive(connection.default_channel)

    def _revive(self, channel: Any) -> None:
        self.obj.revive(channel)
        if self.on_revive is not None:
            self.on_revive(channel)

    def _failed(self, exc: BaseException, intervals: Iterator[float], retries: int) -> float:
        """Clean up after *exc*, and return the seconds to wait before the next attempt."""
        connection, policy = self.connection, self.policy
        connection._debug("ensure: attempt %d failed: %r", retries + 1, exc, exc_info=True)
        interval = min(next(intervals), float(policy.interval_max))
        is_connection_error = isinstance(exc, connection.recoverable_connection_errors)
        if isinstance(exc, self.retry_errors) and not is_connection_error:
            self._report(exc, interval)
        elif is_connection_error:
            if self.reconnected and not connection._tells_recoverable_errors:
                # The transport cannot tell which errors reconnecting helps against; against this one it did not.
                raise exc
            self.lost = True
            try:
                self._report(exc, interval)
            finally:
                # Collected first, since switching would close in an orderly way, for which it is too late.
                connection.collect()
                connection.maybe_switch_next()
        else:
            self._report(exc, interval)
            if connection.connected and connection._default_channel_is_dead():
                self._revive(connection.default_channel)
        return interval

    def _report(self, exc: BaseException, interval: float) -> None:
        if self.policy.errback is not None:
            self.policy.errback(exc, interval)


class Revival:
    """Call a function with a ``channel``, and remember the channel that it was last called with.

    :meth:`kombu.Connection.autoretry` retries this.
    """

    def __init__(self, connection: Connection, fun: Callable[..., Any], channel: Any) -> None:
        self.connection = connection
        self.fun = fun
        self.channel = channel
        self.__name__ = getattr(fun, "__name__", None)
        self.__module__: Any = getattr(fun, "__module__", None)
        self.__doc__ = getattr(fun, "__doc__", None)

    def revive(self, channel: Any) -> None:
        """Use *channel* from now on."""
        self.channel = channel

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if self.channel is None:
            self.revive(self.connection.default_channel)
        return self.fun(*args, channel=self.channel, **kwargs), self.channel
