"""Places for resources: who has one, who waits for one.

This module knows nothing of what the resources are.  It never makes, checks or closes one, and calls none of their
methods, so nothing slow ever happens while its lock is held.  :class:`kombu.resource.Resource` does the rest.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Final

__all__ = ("CLOSED", "FULL", "VACANT", "SlotPool")


class _Answer:
    """What :meth:`SlotPool.acquire` returns instead of a resource."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


#: A place, and no resource in it yet.
VACANT: Final = _Answer("VACANT")

#: No place, within the time allowed.
FULL: Final = _Answer("FULL")

#: No place, since the pool is closed.
CLOSED: Final = _Answer("CLOSED")

_PENDING: Final = _Answer("PENDING")


class _Waiter:
    """A thread that waits for a place; the gate opens when *answer* is there."""

    __slots__ = ("answer", "gate")

    def __init__(self) -> None:
        self.answer: Any = _PENDING
        # Not imported by name: gevent and eventlet may replace it later.
        self.gate = threading.Lock()
        self.gate.acquire()


class SlotPool:
    """Give out at most *limit* places; keep the resources that nobody uses.

    A place is taken before its resource is made, so there are never more than *limit* resources, idle ones included.
    The resource that was returned last goes out first, as it is the most likely to be alive.  Who waits is served in
    order, and gets the place itself: nobody who comes later can be faster.

    A place goes round like this::

        acquire() -> reserved -> occupy() -> out -> withdraw() -> reserved -> vacate() -> free, its resource idle

    While a place is reserved, its resource is between: whoever has reserved it may do something slow to the resource,
    and all others can see by :meth:`knows` that it is being looked after.

    All methods may be called from any thread, and from finalizers.
    """

    __slots__ = ("_between", "_idle", "_lock", "_out", "_taken", "_waiters", "closed", "limit")

    def __init__(self, limit: int = 0) -> None:
        #: The number of places.
        self.limit = limit
        #: Whether no more places are given out.
        self.closed = False
        self._idle: list[Any] = []
        self._between: dict[int, Any] = {}
        self._out: dict[int, Any] = {}
        self._taken = 0
        self._waiters: deque[_Waiter] = deque()
        # Reentrant, because a finalizer may run at any moment, and may give a resource back.
        self._lock = threading.RLock()

    @property
    def in_use(self) -> int:
        """The number of places taken, those included whose resource is being made or closed."""
        return self._taken

    @property
    def waiting(self) -> int:
        """The number of threads that wait for a place."""
        return len(self._waiters)

    def acquire(self, block: bool = False, timeout: float | None = None) -> Any:
        """Take a place.

        Arguments:
            block: Whether to wait for one.
            timeout: Seconds to wait at most, None for ever; of no effect where *block* is false.

        Returns:
            An idle resource, :data:`VACANT` where one has to be made, :data:`FULL` or :data:`CLOSED`.

        Raises:
            ValueError: if *timeout* is negative.
        """
        if block and timeout is not None and timeout < 0:
            raise ValueError(f"timeout must not be negative: {timeout!r}")
        with self._lock:
            if self.closed:
                return CLOSED
            if self._taken < self.limit:
                self._taken += 1
                return self._pick()
            if not block or timeout == 0:
                return FULL
            waiter = _Waiter()
            self._waiters.append(waiter)
        try:
            waiter.gate.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        except BaseException:
            self._give_up(waiter, interrupted=True)
            raise
        if waiter.answer is _PENDING:
            self._give_up(waiter)
        return waiter.answer

    def _pick(self) -> Any:
        """Return the idle resource that is to go out next, which is between then."""
        if not self._idle:
            return VACANT
        resource = self._idle.pop()
        self._between[id(resource)] = resource
        return resource

    def _give_up(self, waiter: _Waiter, interrupted: bool = False) -> None:
        """Stop waiting; a place that was given in the same moment is kept, or returned if *interrupted*."""
        with self._lock:
            if waiter.answer is _PENDING:
                waiter.answer = FULL
                self._waiters.remove(waiter)
            elif interrupted and waiter.answer is not CLOSED:
                self.vacate(waiter.answer)

    def occupy(self, resource: Any, item: Any = VACANT) -> None:
        """Note that *resource* fills a reserved place and is out; *item* is what :meth:`acquire` returned for it."""
        with self._lock:
            self._between.pop(id(item), None)
            self._out[id(resource)] = resource

    def withdraw(self, resource: Any) -> bool:
        """Note that *resource* is not out any more, but keep its place reserved; return False if it was not out."""
        with self._lock:
            if self._out.pop(id(resource), VACANT) is VACANT:
                return False
            self._between[id(resource)] = resource
            return True

    def forget(self, resource: Any) -> None:
        """Note that *resource* will never be seen again, but keep its place reserved."""
        with self._lock:
            self._between.pop(id(resource), None)

    def vacate(self, resource: Any = VACANT, keep: bool = True) -> bool:
        """Give a reserved place back.

        Arguments:
            resource: What was in it, if anything was.
            keep: Whether the resource can be used again.

        Returns:
            False if *resource* was not kept, though it could have been: there are more places than the limit by now.
        """
        with self._lock:
            self._between.pop(id(resource), None)
            if not keep:
                resource = VACANT
            if self._taken > self.limit or self.closed:
                self._taken -= 1
                return resource is VACANT
            if self._waiters:
                self._serve(resource)
                return True
            self._taken -= 1
            if resource is not VACANT:
                self._idle.append(resource)
            return True

    def _serve(self, resource: Any) -> None:
        """Pass a place, which stays taken, to the first who waits."""
        waiter = self._waiters.popleft()
        if resource is not VACANT and resource is not CLOSED:
            self._between[id(resource)] = resource
        waiter.answer = resource
        waiter.gate.release()

    def put(self, resource: Any) -> bool:
        """Add an idle resource that was made in advance; return False if there is no place for it."""
        with self._lock:
            if self.closed or self._taken + len(self._idle) >= self.limit:
                return False
            self._idle.append(resource)
            return True

    def take(self) -> Any:
        """Remove and return the idle resource that would go out next, :data:`VACANT` if there is none."""
        with self._lock:
            return self._idle.pop() if self._idle else VACANT

    def resize(self, limit: int) -> list[Any]:
        """Change the number of places; return the idle resources for which there is none any more.

        Resources that are out are not touched: if there are too many, they are not kept when they come back.
        """
        with self._lock:
            self.limit = limit
            self._serve_free_places()
            surplus = max(min(self._taken + len(self._idle) - limit, len(self._idle)), 0)
            dropped, self._idle = self._idle[:surplus], self._idle[surplus:]
            return dropped

    def _serve_free_places(self) -> None:
        while self._waiters and self._taken < self.limit:
            self._taken += 1
            self._serve(VACANT)

    def clear(self, close: bool = False) -> tuple[list[Any], list[Any]]:
        """Forget all resources; return those that were out, and the idle ones.

        Places that are reserved stay so. With *close* nobody gets a place from then on, and who waits is told.
        """
        with self._lock:
            out, self._out = list(self._out.values()), {}
            idle, self._idle = self._idle, []
            self._taken -= len(out)
            if close:
                self.closed = True
                while self._waiters:
                    self._serve(CLOSED)
            else:
                self._serve_free_places()
            return out, idle

    def inherited(self) -> tuple[list[Any], list[Any]]:
        """Return the resources that were out or between, and those that were idle, when this process was forked.

        For use in the child, on a pool that nobody uses there any more: its lock may be held for ever.
        """
        return [*self._out.values(), *self._between.values()], list(self._idle)

    def out_resources(self) -> list[Any]:
        """Return the resources that are out."""
        with self._lock:
            return list(self._out.values())

    def idle_resources(self) -> list[Any]:
        """Return the idle resources; the last goes out next."""
        with self._lock:
            return list(self._idle)

    def is_out(self, resource: Any) -> bool:
        """Return whether *resource* is out."""
        with self._lock:
            return id(resource) in self._out

    def knows(self, resource: Any) -> bool:
        """Return whether *resource* is here: out, between or idle."""
        identity = id(resource)
        with self._lock:
            if identity in self._out or identity in self._between:
                return True
            return any(kept is resource for kept in self._idle)
