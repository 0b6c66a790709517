"""Places for resources, and lending them: who has one, who waits for one.

:class:`SlotPool` knows nothing of what the resources are.  It never makes, checks or closes one and calls none of their
methods, so nothing slow ever happens while its lock is held.  :class:`Lender` is what is done each time that one is
acquired and released, and :class:`kombu.resource.Resource` does the rest.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

__all__ = (
    "CLOSED",
    "FULL",
    "UNLIMITED",
    "VACANT",
    "Lender",
    "Lent",
    "Return",
    "SlotPool",
    "channel_is_open",
    "connection_is_open",
    "evaluated",
)


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

#: As many places as there can be.
UNLIMITED: Final = 2**21 - 1

_generation = 0


def _renew() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_renew)


class _Waiter:
    """A thread that waits for a place; the gate opens when *answer* is there."""

    __slots__ = ("answer", "gate")

    def __init__(self) -> None:
        self.answer: Any = _PENDING
        # Not imported by name: gevent and eventlet may replace it later.
        self.gate = threading.Lock()
        self.gate.acquire()


class _Reclaimer:
    """Be told when a resource that is out is gone."""

    __slots__ = ("pool",)

    def __init__(self, pool: SlotPool) -> None:
        self.pool = weakref.ref(pool)

    def __call__(self, ref: Any) -> None:
        pool = self.pool()
        if pool is not None:
            pool._reclaim(ref)


class _Strong:
    """Stand in for a weak reference to what cannot have any."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __call__(self) -> Any:
        return self.thing


class _Idle:
    """A resource that nobody uses, since when, its reference for the next use, and whether it has its release()."""

    __slots__ = ("ref", "since", "thing", "tied")

    def __init__(self, thing: Any, ref: Any = None) -> None:
        self.thing, self.ref, self.since, self.tied = thing, ref, 0.0, False


class SlotPool:
    """Give out at most *limit* places; keep the resources that nobody uses.

    A place is taken before its resource is made, so there are never more than *limit* resources, idle ones included.
    The resource that was returned last goes out first, as it is the most likely to be alive.  Who waits is served in
    order, and gets the place itself: nobody who comes later can be faster.

    A place goes round like this::

        acquire() -> reserved -> occupy() -> out -> withdraw() -> reserved -> vacate() -> free, its resource idle

    While a place is reserved, its resource is between: whoever has reserved it may do something slow to the resource,
    and all others can see by :meth:`knows` that it is being looked after.

    A resource that is out is not kept alive.  When it is gone without having come back, its place is free again, and
    *lost* is called, if it is there.

    All methods may be called from any thread, and from finalizers.
    """

    __slots__ = (
        "__weakref__", "_between", "_idle", "_limit", "_lock", "_made", "_out", "_reclaimer", "_replaced", "_taken",
        "_waited", "_waiters", "_waits", "closed", "lost",
    )  # fmt: skip

    def __init__(self, limit: int = 0) -> None:
        self._limit = limit
        #: Whether no more places are given out.
        self.closed = False
        #: Called without arguments after a resource was lost.
        self.lost: Callable[[], Any] | None = None
        self._idle: list[_Idle] = []
        # By identity of the resource; what is out is referred to weakly.
        self._between: dict[int, _Idle] = {}
        self._out: dict[int, _Idle] = {}
        self._taken = 0
        self._made = self._replaced = self._waits = 0
        self._waited = 0.0
        self._waiters: deque[_Waiter] = deque()
        # Reentrant, because a finalizer may run at any moment, and may give a resource back.
        self._lock = threading.RLock()
        self._reclaimer = _Reclaimer(self)

    @property
    def limit(self) -> int:
        """The number of places."""
        return self._limit

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
            if self._taken < self._limit:
                self._taken += 1
                return self._pick()
            if not block or timeout == 0:
                return FULL
        return self._wait(timeout)

    def _wait(self, timeout: float | None) -> Any:
        waiter = _Waiter()
        before = monotonic()
        try:
            with self._lock:
                if self.closed or self._taken < self._limit:
                    # Changed in the same moment, so there is no need to wait.
                    waiter.answer = CLOSED if self.closed else VACANT
                    if waiter.answer is VACANT:
                        self._taken += 1
                        waiter.answer = self._pick()
                    return waiter.answer
                self._waiters.append(waiter)
            waiter.gate.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        except BaseException:
            self._stop_waiting(waiter, before, interrupted=True)
            raise
        self._stop_waiting(waiter, before)
        return waiter.answer

    def _pick(self) -> Any:
        """Return the idle resource that is to go out next, which is between then."""
        if not self._idle:
            return VACANT
        idle = self._idle.pop()
        self._between[id(idle.thing)] = idle
        return idle.thing

    def _stop_waiting(self, waiter: _Waiter, since: float, interrupted: bool = False) -> None:
        """Wait no more; a place that was given in the same moment is kept, or returned if *interrupted*."""
        with self._lock:
            self._waits += 1
            self._waited += monotonic() - since
            if waiter.answer is _PENDING:
                waiter.answer = FULL
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
            elif interrupted and waiter.answer is not CLOSED:
                self.vacate(waiter.answer)

    def occupy(self, resource: Any, item: Any = VACANT) -> None:
        """Note that *resource* fills a reserved place and is out; *item* is what :meth:`acquire` returned for it."""
        with self._lock:
            self._send_out(resource, resource if item is VACANT else item)

    def _send_out(self, resource: Any, item: Any) -> _Idle:
        idle = self._between.pop(id(item), None)
        if idle is None or idle.thing is not resource or idle.ref is None:
            self._made += 1
            try:
                idle = _Idle(None, weakref.ref(resource, self._reclaimer))
            except TypeError:
                # It cannot be referred to weakly, so it is kept until it comes back.
                idle = _Idle(None, _Strong(resource))
        else:
            idle.thing = None
        self._out[id(resource)] = idle
        return idle

    def withdraw(self, resource: Any) -> bool:
        """Note that *resource* is not out any more, but keep its place reserved; return False if it was not out."""
        with self._lock:
            idle = self._out.pop(id(resource), None)
            if idle is None:
                return False
            idle.thing = resource
            self._between[id(resource)] = idle
            return True

    def forget(self, resource: Any) -> None:
        """Note that *resource* will never be seen again, but keep its place reserved."""
        with self._lock:
            if self._between.pop(id(resource), None) is not None:
                self._replaced += 1

    def vacate(self, resource: Any = VACANT, keep: bool = True) -> bool:
        """Give a reserved place back.

        Arguments:
            resource: What was in it, if anything was.
            keep: Whether the resource can be used again.

        Returns:
            False if *resource* was not kept, though it could have been: there are more places than the limit by now.
        """
        with self._lock:
            idle = self._between.pop(id(resource), None)
            if not keep or resource is VACANT:
                self._replaced += idle is not None
                idle = None
            elif idle is None:
                idle = _Idle(resource)
            if self._taken > self._limit or self.closed:
                self._taken -= 1
                return idle is None
            if idle is not None:
                idle.since = monotonic()
            if self._waiters:
                self._serve(idle)
                return True
            self._taken -= 1
            if idle is not None:
                self._idle.append(idle)
            return True

    def _serve(self, idle: _Idle | None = None) -> None:
        """Pass a place, which stays taken, to the first who waits."""
        waiter = self._waiters.popleft()
        if idle is None:
            waiter.answer = self._pick()
        else:
            self._between[id(idle.thing)] = idle
            waiter.answer = idle.thing
        waiter.gate.release()

    def _reclaim(self, ref: Any) -> None:
        """Free the place of a resource that is gone."""
        with self._lock:
            for identity, idle in self._out.items():  # noqa: B007 (used after the loop)
                if idle.ref is ref:
                    break
            else:
                return
            del self._out[identity]
            self._replaced += 1
            self.vacate()
        if self.lost is not None:
            self.lost()

    def put(self, resource: Any) -> bool:
        """Add an idle resource that was made in advance; return False if there is no place for it."""
        with self._lock:
            if self.closed or self._taken + len(self._idle) >= self._limit:
                return False
            self._idle.append(_Idle(resource))
            return True

    def take(self) -> Any:
        """Remove and return the idle resource that would go out next, :data:`VACANT` if there is none."""
        with self._lock:
            return self._idle.pop().thing if self._idle else VACANT

    def resize(self, limit: int) -> list[Any]:
        """Change the number of places; return the idle resources for which there is none any more.

        Resources that are out are not touched: if there are too many, they are not kept when they come back.
        """
        with self._lock:
            self._limit = limit
            self._serve_free_places()
            surplus = max(min(self._taken + len(self._idle) - limit, len(self._idle)), 0)
            dropped, self._idle = self._idle[:surplus], self._idle[surplus:]
            return [idle.thing for idle in dropped]

    def _serve_free_places(self) -> None:
        while self._waiters and self._taken < self._limit:
            self._taken += 1
            self._serve()

    def clear(self, close: bool = False) -> tuple[list[Any], list[Any]]:
        """Forget all resources; return those that were out, and the idle ones.

        Places that are reserved stay so. With *close* nobody gets a place from then on, and who waits is told.
        """
        with self._lock:
            places, self._out = self._out, {}
            idle, self._idle = self._idle, []
            self._taken -= len(places)
            if close:
                self.closed = True
                while self._waiters:
                    waiter = self._waiters.popleft()
                    waiter.answer = CLOSED
                    waiter.gate.release()
            else:
                self._serve_free_places()
        out = [place.ref() for place in places.values()]
        return [thing for thing in out if thing is not None], [each.thing for each in idle]

    def inherited(self) -> tuple[list[Any], list[Any]]:
        """Return the resources that were out or between, and those that were idle, when this process was forked.

        For use in the child, on a pool that nobody uses there any more: its lock may be held for ever.
        """
        out = [idle.ref() for idle in self._out.values()]
        between = [idle.thing for idle in self._between.values()]
        return [thing for thing in out + between if thing is not None], [idle.thing for idle in self._idle]

    def out_resources(self) -> list[Any]:
        """Return the resources that are out, in no particular order."""
        with self._lock:
            out = [idle.ref() for idle in self._out.values()]
        return [thing for thing in out if thing is not None]

    def idle_resources(self) -> list[Any]:
        """Return the idle resources; the last goes out next."""
        with self._lock:
            return [idle.thing for idle in self._idle]

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
            return any(kept.thing is resource for kept in self._idle)

    def idle_seconds(self, resource: Any) -> float:
        """Return for how many seconds *resource*, which the caller holds, was idle before; infinity if it is new."""
        idle = self._between.get(id(resource))
        return monotonic() - idle.since if idle is not None and idle.since else float("inf")

    def stats(self) -> dict[str, Any]:
        """Return the numbers of places and resources as a dict.

        ``limit``, ``idle``, ``in_use`` and ``waiting`` are of this moment; ``made``, ``replaced``, ``waits`` and
        ``waited`` (seconds, all waits together) count from the beginning.
        """
        with self._lock:
            return {
                "limit": self._limit,
                "idle": len(self._idle),
                "in_use": self._taken,
                "waiting": len(self._waiters),
                "made": self._made,
                "replaced": self._replaced,
                "waits": self._waits,
                "waited": self._waited,
            }


class Lent:
    """A resource that knows its pool; to be derived from."""

    #: The pool that it belongs to, if it does to one.
    _pool: Any = None

    def release(self) -> None:
        """Give this back to the pool that it came from, if it came from one; harmless where that was done before."""
        pool = self._pool
        if pool is not None:
            pool.release(self)


class Return:
    """Return one resource to its pool; this is the ``release`` of resources whose class has none that does.

    The two refer to each other, since ``pool.acquire().release()`` and a ``release`` passed on have to work.  So one is
    made for each resource, not for each use, and the pool unties them when it lets the resource go.
    """

    __slots__ = ("pool", "resource")

    def __init__(self, pool: Any, resource: Any) -> None:
        self.pool = pool
        self.resource = resource

    def __call__(self) -> None:
        """Return the resource to its pool; harmless where that was done before."""
        self.pool.release(self.resource)


def channel_is_open(channel: Any) -> bool:
    """Return whether *channel* can be used, as far as it says so; asks nobody."""
    return (
        getattr(channel, "connection", True) is not None
        and getattr(channel, "is_open", True) is not False
        and getattr(channel, "closed", False) is not True
    )


def connection_is_open(connection: Any) -> bool:
    """Return whether *connection* was not lost, or was never made; the transport says what it knows already."""
    if connection._closed:
        return False
    if connection._pid is None:
        return True
    raw, transport = connection._connection, connection._transport
    return raw is not None and transport is not None and bool(transport.verify_connection(raw))


def evaluated(self: Any, resource: Any) -> Any:
    """Return *resource*, ready for use; what is lazy is made now.  (To be the method ``prepare`` of a pool.)"""
    return resource() if callable(resource) else resource


class Lender:
    """Lend resources: :meth:`acquire` and :meth:`release` of :class:`kombu.resource.Resource`, which has the rest."""

    #: Tells whether a resource is usable that came back a moment ago, or comes back now; instead of :meth:`is_usable`.
    _quick_check: Callable[[Any], Any] | None = None

    #: Seconds for which *_quick_check* is enough.
    _look_after = 0.0

    _slots: SlotPool

    def _open(self, slots: SlotPool, unlimited: bool) -> None:
        """Lend from *slots*; without a limit nothing is kept."""
        self._slots = slots
        self._unlimited = unlimited
        self._generation = _generation

    def _is_inherited(self) -> bool:
        """Return whether this process was forked since the pool was opened."""
        return self._generation != _generation

    def prepare(self, resource: Any) -> Any:
        """Return *resource*, ready for use."""
        return resource

    def is_usable(self, resource: Any) -> bool:
        """Return whether *resource* is alive, as far as can be told without asking anybody."""
        return True

    def release_resource(self, resource: Any) -> None:
        """Do what is to be done when *resource* comes back."""

    def acquire(self, block: bool = False, timeout: float | None = None) -> Any:
        """Return a resource; its method ``release()``, or :meth:`release`, gives it back.

        Arguments:
            block: Whether to wait where all are in use. Who waits is served in order.
            timeout: Seconds to wait at most, None for ever.

        Raises:
            kombu.exceptions.LimitExceeded: if all are in use and none came back in time; it has the attributes
                ``limit`` and ``in_use``.
            RuntimeError: if the pool is closed.
        """
        if self._generation != _generation:
            self._after_fork()  # type: ignore[attr-defined]
        slots = self._slots
        item = slots.acquire(block, timeout)
        if item is FULL or item is CLOSED:
            self._refuse(item, slots)  # type: ignore[attr-defined]
        try:
            if item is not VACANT:
                check = self._quick_check
                if check is None or slots.idle_seconds(item) >= self._look_after:
                    check = self.is_usable
                if not check(item):
                    dead, item = item, VACANT
                    slots.forget(dead)
                    self._let_go(dead)  # type: ignore[attr-defined]
            if item is VACANT:
                item = self.new()  # type: ignore[attr-defined]
            resource = self.prepare(item)
            with slots._lock:
                place = slots._send_out(resource, item)
        except BaseException:
            self._give_up(item)  # type: ignore[attr-defined]
            raise
        if not place.tied:
            self._tie(resource)  # type: ignore[attr-defined]
            place.tied = True
        return resource

    def release(self, resource: Any) -> None:
        """Take *resource* back; harmless where that was done before.

        Raises:
            ValueError: if it belongs to another pool.
        """
        if self._generation != _generation:
            self._after_fork()  # type: ignore[attr-defined]
        slots = self._slots
        if not slots.withdraw(resource):
            self._release_stray(resource)  # type: ignore[attr-defined]
            return
        if self._unlimited:
            try:
                self._part_with(resource, self.close_resource)  # type: ignore[attr-defined]
            finally:
                slots.vacate(resource, keep=False)
            return
        keep = False
        try:
            self.release_resource(resource)
            # Where there is a quick check, the next acquire is soon enough for it.
            keep = self._quick_check is not None or self.is_usable(resource)
        finally:
            if not keep:
                try:
                    self._let_go(resource)  # type: ignore[attr-defined]
                finally:
                    slots.vacate(resource, keep=False)
        if keep and not slots.vacate(resource):
            self._part_with(resource, self.close_resource)  # type: ignore[attr-defined]
