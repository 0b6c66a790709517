"""Schedule of callbacks, for an event loop or a thread to apply when they are due."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from datetime import datetime, timezone, tzinfo
from functools import total_ordering
from time import monotonic
from time import time as wall_clock
from types import TracebackType
from typing import Any, NamedTuple, TypeVar
from weakref import proxy, ref

from kombu.log import get_logger

__all__ = ("Entry", "Timer", "to_timestamp")

logger = get_logger(__name__)

_TimerT = TypeVar("_TimerT", bound="Timer")

#: Longest that :meth:`Timer.__iter__` says to wait, in seconds, unless a timer is given another limit.
DEFAULT_MAX_INTERVAL = 2


class scheduled(NamedTuple):
    """An entry in the heap of a timer; the first due comes first."""

    eta: float
    priority: int
    entry: Any


def to_timestamp(
    d: datetime | float, default_timezone: tzinfo = timezone.utc, time: Callable[[], float] | None = None
) -> float:
    """Return *d* on the clock *time* (the monotonic one unless given), in seconds; a number is on it already.

    A datetime without a time zone is in *default_timezone*; one in the past of that clock gives 0.
    """
    if not isinstance(d, datetime):
        return d
    if d.tzinfo is None:
        d = d.replace(tzinfo=default_timezone)
    return max(0, d.timestamp() - (wall_clock() - (time or monotonic)()))


@total_ordering
class Entry:
    """A callback with its arguments, as it is scheduled.

    Arguments:
        fun: What to call.
        args: With which arguments.
        kwargs: With which keyword arguments.
    """

    __slots__ = ("fun", "args", "kwargs", "tref", "canceled", "_last_run", "__weakref__")

    def __init__(self, fun: Callable[..., Any], args: Any = None, kwargs: Any = None) -> None:
        self.canceled = False
        self.fun = fun
        self.args = args or []
        self.kwargs = kwargs or {}
        #: A weak proxy of the entry itself.
        self.tref = proxy(self)
        self._last_run: float | None = None

    def __call__(self) -> Any:
        return self.fun(*self.args, **self.kwargs)

    def cancel(self) -> None:
        """Have it not called any more."""
        self.canceled = True

    @property
    def cancelled(self) -> bool:
        """Whether it has been cancelled; the same as ``canceled``."""
        return self.canceled

    @cancelled.setter
    def cancelled(self, value: bool) -> None:
        self.canceled = value

    def __repr__(self) -> str:
        name = getattr(self.fun, "__name__", None) or repr(self.fun)
        return f"<TimerEntry: {name}(*{self.args!r}, **{self.kwargs!r})"

    # Entries due at the same time are in any order, but in one.  By identity, and never equal to another: they are
    # kept in sets by who has to cancel them.
    def __lt__(self, other: object) -> bool:
        return id(self) < id(other)


class _Repetition:
    """What a repeated entry calls: the callback, and then the timer to be called again."""

    __slots__ = ("timer", "entry", "fun", "secs", "priority")

    def __init__(self, timer: Timer, entry: Any, fun: Callable[..., Any], secs: float, priority: int) -> None:
        self.timer = timer
        # Weakly: the entry holds this, and the heap of the timer, or whoever calls it, holds the entry.
        self.entry = ref(entry)
        self.fun = fun
        self.secs = secs
        self.priority = priority

    @property
    def __name__(self) -> str:
        return getattr(self.fun, "__name__", None) or repr(self.fun)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.fun

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        entry, now = self.entry(), monotonic()
        try:
            if entry._last_run is None or now - entry._last_run >= self.secs:
                entry._last_run = now
                return self.fun(*args, **kwargs)
        finally:
            if not entry.canceled:
                early = 0 if entry._last_run is None else now - entry._last_run
                self.timer.enter_after(self.secs - early, entry, self.priority)


class Timer:
    """Keep callbacks in the order in which they are due.

    Iterating over a timer gives them as they become due; see :meth:`__iter__`. It calls nothing by itself.

    Arguments:
        max_interval: Longest to say to wait, in seconds.
        on_error: Called with the exception that a callback has raised.
    """

    Entry = Entry

    on_error: Callable[[BaseException], Any] | None = None

    def __init__(
        self, max_interval: float | None = None, on_error: Callable[[BaseException], Any] | None = None, **kwargs: Any
    ) -> None:
        self._queue: list[scheduled] = []
        self.on_error = on_error or self.on_error
        self.max_interval = float(max_interval or DEFAULT_MAX_INTERVAL)

    def __enter__(self: _TimerT) -> _TimerT:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.stop()

    # -- Scheduling.

    def call_at(
        self, eta: Any, fun: Callable[..., Any], args: Any = (), kwargs: Any = None, priority: int = 0
    ) -> Any:
        """Have *fun* called at *eta*: a datetime, or seconds of the monotonic clock.

        Returns:
            The :class:`Entry`, whose ``cancel()`` undoes it.
        """
        return self.enter_at(self.Entry(fun, args, kwargs or {}), eta, priority)

    def call_after(
        self, secs: float, fun: Callable[..., Any], args: Any = (), kwargs: Any = None, priority: int = 0
    ) -> Any:
        """Have *fun* called in *secs* seconds; returns the entry."""
        return self.enter_after(secs, self.Entry(fun, args, kwargs or {}), priority)

    def call_repeatedly(
        self, secs: float, fun: Callable[..., Any], args: Any = (), kwargs: Any = None, priority: int = 0
    ) -> Any:
        """Have *fun* called every *secs* seconds, until the entry returned is cancelled."""
        entry = self.Entry(fun, args, kwargs or {})
        entry.fun = _Repetition(self, entry, fun, secs, priority)
        return self.enter_after(secs, entry, priority)

    def enter_at(
        self, entry: Any, eta: Any = None, priority: int = 0, time: Callable[[], float] | None = None
    ) -> Any:
        """Schedule *entry* at *eta*: a datetime, or seconds of the clock *time*; now if None.

        Returns:
            The entry; None if *eta* is out of range and :attr:`on_error` has been told.
        """
        if eta is None:
            eta = (time or monotonic)()
        elif isinstance(eta, datetime):
            try:
                eta = to_timestamp(eta)
            except Exception as exc:
                if self.handle_error(exc):
                    return None
                raise
        return self._enter(eta, priority, entry)

    def enter_after(
        self, secs: float, entry: Any, priority: int = 0, time: Callable[[], float] | None = None
    ) -> Any:
        """Schedule *entry* in *secs* seconds."""
        return self.enter_at(entry, (time or monotonic)() + float(secs), priority)

    def _enter(self, eta: float, priority: int, entry: Any) -> Any:
        heapq.heappush(self._queue, scheduled(eta, priority, entry))
        return entry

    def cancel(self, tref: Any) -> None:
        """Cancel an entry."""
        tref.cancel()

    def clear(self) -> None:
        """Forget all entries."""
        # In place: whoever iterates holds on to the list.
        self._queue.clear()

    def stop(self) -> None:
        """Do nothing: there is no thread here; for subclasses that have one."""

    # -- Applying.

    def __iter__(
        self, nowfun: Callable[[], float] | None = None, **unused: Any
    ) -> Iterator[tuple[float | None, Any]]:
        """Iterate, without an end, over pairs of what to wait and what to call.

        ``(None, entry)``: *entry* is due. ``(seconds, None)``: nothing is due before; ask again then.
        ``(None, None)``: nothing is scheduled.

        Arguments:
            nowfun: The clock; the monotonic one unless given.
            unused: Functions that kombu 5.7 let be replaced here.
        """
        queue = self._queue
        while True:
            if not queue:
                yield None, None
                continue
            first = queue[0]
            wait = first.eta - (nowfun or monotonic)()
            if wait > 0:
                yield min(wait, self.max_interval), None
                continue
            taken = heapq.heappop(queue)
            if taken is not first:
                # Another thread has scheduled one that is due before; it may be one that is not due yet.
                heapq.heappush(queue, taken)
            elif not taken.entry.canceled:
                yield None, taken.entry

    def apply_entry(self, entry: Any) -> None:
        """Call *entry*; an exception goes to :attr:`on_error`, or else to the log."""
        try:
            entry()
        except Exception as exc:
            if not self.handle_error(exc):
                logger.error("Error in timer: %r", exc, exc_info=True)

    def handle_error(self, exc_info: BaseException) -> bool | None:
        """Tell :attr:`on_error` of an exception; returns True if there is one to tell."""
        if self.on_error is None:
            return None
        self.on_error(exc_info)
        return True

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def queue(self) -> list[scheduled]:
        """The entries in the order in which they are due, as a new list."""
        return sorted(self._queue)

    @property
    def schedule(self) -> Timer:
        """The timer itself: timers that run in a thread have their schedule here."""
        return self
