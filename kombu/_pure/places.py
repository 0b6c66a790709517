"""Places for resources: who has one, who waits for one.

:class:`SlotPool` knows nothing of what the resources are.  It never makes, checks or closes one and calls none of their
methods, so nothing slow ever happens while its lock is held.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

__all__ = ("CLOSED", "FULL", "UNLIMITED", "VACANT", "SlotPool")


class _Answer:
    """What :meth:`SlotPool.acquire` returns instead of a resource."""

    __slots__ = ("_name", "thing")

    def __init__(self, name: str) -> None:
        self._name = name
        #: What it is instead of: see :class:`_Place`.
        self.thing = self

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

#: Seconds that somebody waits before a search for places that were lost, and between two.
_SEARCH_AFTER: Final = 0.2


class _Place:
    """A place, what is in it while nobody uses that, and what is known of it.

    While its resource is out, *thing* is :data:`VACANT` and *ref* refers to it.  *since* is when it came back last, 0
    for never; *tied* is whether the resource has its release(), and *ref*.
    """

    __slots__ = ("ref", "since", "thing", "tied")

    def __init__(self) -> None:
        self.empty()

    def empty(self) -> None:
        """Forget what is in it."""
        self.thing: Any = VACANT
        self.ref: Any = None
        self.since = 0.0
        self.tied = False

    def holds(self, resource: Any) -> bool:
        """Return whether *resource* is in it, or came from it and is out."""
        return self.thing is resource or (self.ref is not None and self.ref() is resource)


class _Waiter:
    """A thread that waits for a place; the gate opens when *answer* is there."""

    __slots__ = ("answer", "gate")

    def __init__(self) -> None:
        self.answer: Any = _PENDING
        # Not imported by name: gevent and eventlet may replace it later.
        self.gate = threading.Lock()
        self.gate.acquire()


class _Reference(weakref.ref[Any]):
    """Refer to a resource that is out, and know by what it is filed."""

    __slots__ = ("identity",)

    identity: int


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


class SlotPool:
    """Give out at most *limit* places; keep the resources that nobody uses.

    A place is taken before its resource is made, so there are never more than *limit* resources, idle ones included.
    The resource that was returned last goes out first, as it is the most likely to be alive; the compiled twin prefers
    the one that the same thread returned last.  Who waits is served in order, and gets the place itself: nobody who
    comes later can be faster.

    A place goes round like this::

        acquire() -> reserved -> occupy() -> out -> withdraw() -> reserved -> vacate() -> free, its resource idle

    While a place is reserved, its resource is between: whoever has reserved it may do something slow to the resource,
    and all others can see by :meth:`knows` that it is being looked after.

    A resource that is out is not kept alive.  When it is gone without having come back, its place is free again, and
    *lost* is called, if it is there.  *unwanted* is called, if it is there, with what is to be closed because the limit
    became smaller while whoever got it was interrupted.  *search* is called, if it is there, when there is no place: it
    frees those of resources that are dropped and yet not gone, and returns whether there were any.

    All methods may be called from any thread, and from finalizers.

    A place is taken by taking it out of *_free*, and given back by putting it there, which are one operation each of a
    deque: no lock is needed as long as there is no *alert*.  Who raises it looks into *_free* afterwards; who has put
    something there looks for the alert afterwards.  So one of the two sees the other.
    """

    __slots__ = (
        "__weakref__", "_alert", "_closed", "_free", "_limit", "_lock", "_made", "_out", "_places", "_reclaimer",
        "_replaced", "_reserved", "_waited", "_waiters", "_waits", "lost", "search", "unwanted",
    )  # fmt: skip

    def __init__(self, limit: int = 0) -> None:
        self._limit = limit
        self._closed = False
        #: Whether the pool is closed, somebody waits, or there are more places than the limit.
        self._alert = False
        #: The places that may be taken, the next one last; those without a resource stand first.
        self._free: deque[_Place] = deque()
        #: The places of resources that are out, by identity of those.
        self._out: dict[int, _Place] = {}
        #: Called without arguments after a resource was lost.
        self.lost: Callable[[], Any] | None = None
        #: Called with a resource that is to be closed, where no caller can be told.
        self.unwanted: Callable[[Any], Any] | None = None
        #: Called without arguments, and without a lock, to free places that were lost; returns whether it did.
        self.search: Callable[[], bool] | None = None
        # All places that there are; they are made when they are needed first.
        self._places: list[_Place] = []
        # Those that the methods of this class have reserved and not given back yet.
        self._reserved: list[_Place] = []
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
    def closed(self) -> bool:
        """Whether no more places are given out."""
        return self._closed

    @closed.setter
    def closed(self, closed: bool) -> None:
        with self._lock:
            self._closed = closed
            self._set_alert()

    @property
    def in_use(self) -> int:
        """The number of places taken, those included whose resource is being made or closed."""
        with self._lock:
            return max(len(self._places) - len(self._free), 0)

    @property
    def waiting(self) -> int:
        """The number of threads that wait for a place."""
        return len(self._waiters)

    def _set_alert(self) -> None:
        self._alert = self._closed or bool(self._waiters) or len(self._places) > max(self._limit, 0)

    # -- places, for Lender

    def _enter(self, block: bool, timeout: float | None) -> Any:
        """Take a place, waiting if need be; return it, :data:`FULL` or :data:`CLOSED`.

        Raises:
            ValueError: if *timeout* is negative.
        """
        if block and timeout is not None and timeout < 0:
            raise ValueError(f"timeout must not be negative: {timeout!r}")
        place = self._take_in_turn()
        if place is FULL:
            if block and timeout != 0:
                return self._wait(timeout)
            if self.search is not None and self.search():
                return self._take_in_turn()
        return place

    def _take_in_turn(self) -> Any:
        with self._lock:
            # Who waits comes first.
            return CLOSED if self._closed else FULL if self._waiters else self._take()

    def _take(self) -> Any:
        """Take a free place, or a new one within the limit; FULL if there is neither.  The lock is held."""
        if len(self._places) > self._limit:
            return FULL
        try:
            return self._free.pop()
        except IndexError:
            if len(self._places) >= self._limit:
                return FULL
        place = _Place()
        self._places.append(place)
        return place

    def _wait(self, timeout: float | None) -> Any:
        waiter = _Waiter()
        before = monotonic()
        try:
            with self._lock:
                self._waiters.append(waiter)
                self._alert = True
                if self._closed or len(self._waiters) == 1:
                    # Changed in the same moment, so there may be no need to wait.
                    answer = CLOSED if self._closed else self._take()
                    if answer is not FULL:
                        waiter.answer = answer
                        self._waiters.remove(waiter)
                        self._set_alert()
                        return answer
            if self.search is None:
                waiter.gate.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
            else:
                self._wait_and_search(waiter, before, timeout)
        except BaseException:
            self._stop_waiting(waiter, before, interrupted=True)
            raise
        self._stop_waiting(waiter, before)
        return waiter.answer

    def _wait_and_search(self, waiter: _Waiter, since: float, timeout: float | None) -> None:
        """Wait, and search for lost places now and then, and once more at the end."""
        while True:
            left = _SEARCH_AFTER if timeout is None else min(since + timeout - monotonic(), _SEARCH_AFTER)
            if waiter.gate.acquire(timeout=max(left, 0.0)):
                return
            with self._lock:
                # The first in the queue does it for all.
                first = bool(self._waiters) and self._waiters[0] is waiter
            if first and self.search is not None:
                self.search()
            if timeout is not None and since + timeout <= monotonic():
                return

    def _stop_waiting(self, waiter: _Waiter, since: float, interrupted: bool = False) -> None:
        """Wait no more; a place that was given in the same moment is kept, or returned if *interrupted*."""
        with self._lock:
            self._waits += 1
            self._waited += monotonic() - since
            if waiter.answer is _PENDING:
                waiter.answer = FULL
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._set_alert()
        if interrupted and isinstance(waiter.answer, _Place):
            self._report(self._leave(waiter.answer))

    def _send_out(self, place: _Place, resource: Any) -> None:
        """Let *resource*, which is another than before, be out of *place*."""
        try:
            place.ref = _Reference(resource, self._reclaimer)
            place.ref.identity = id(resource)
        except TypeError:
            # It cannot be referred to weakly, so it is kept until it comes back.
            place.ref = _Strong(resource)
        place.tied = True
        with self._lock:
            self._made += 1
        place.thing = VACANT
        self._out[id(resource)] = place

    def _leave(self, place: _Place) -> Any:
        """Give *place* back, with what is in it; return what is to be closed, as :meth:`vacate` does."""
        if self._alert:
            return self._settle(place)
        if place.thing is VACANT:
            place.empty()
            self._free.appendleft(place)
        else:
            place.since = monotonic()
            self._free.append(place)
        return self._settle() if self._alert else VACANT

    def _drop(self, place: _Place) -> None:
        """Forget what is in *place*, which is reserved."""
        place.empty()
        with self._lock:
            self._replaced += 1

    def _settle(self, place: _Place | None = None) -> Any:
        """Do what the alert is for: with *place*, which comes back, or, without, with one that is free since just now.

        Returns:
            What is to be closed, or :data:`VACANT`.
        """
        surplus: Any = VACANT
        with self._lock:
            if self._closed or len(self._places) > self._limit:
                if place is None and self._free:
                    place = self._free.popleft()
                if place is not None:
                    surplus = place.thing
                    place.empty()
                    self._places.remove(place)
            elif place is not None:
                if place.thing is VACANT:
                    place.empty()
                    self._free.appendleft(place)
                else:
                    place.since = monotonic()
                    self._free.append(place)
            self._serve()
            self._set_alert()
        return surplus

    def _serve(self) -> None:
        """Pass free places, which are taken then, to the first who wait.  The lock is held."""
        while self._waiters and not self._closed:
            place = self._take()
            if place is FULL:
                return
            waiter = self._waiters.popleft()
            waiter.answer = place
            waiter.gate.release()

    def _reclaim(self, ref: Any) -> None:
        """Free the place of a resource that is gone."""
        place = self._out.get(ref.identity)
        if place is None or place.ref is not ref or self._out.pop(ref.identity, None) is None:
            return
        self._drop(place)
        surplus = self._leave(place)
        if self.lost is not None:
            self.lost()
        self._report(surplus)

    def _report(self, surplus: Any) -> None:
        if surplus is not VACANT and self.unwanted is not None:
            self.unwanted(surplus)

    # -- places, by what is in them

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
        place = self._enter(block, timeout)
        if not isinstance(place, _Place):
            return place
        with self._lock:
            self._reserved.append(place)
        return place.thing

    def _claim(self, *things: Any) -> _Place | None:
        """Return the reserved place with one of *things* in it, the first that there is; reserved no more."""
        with self._lock:
            for thing in things:
                for place in self._reserved:
                    if place.thing is thing:
                        self._reserved.remove(place)
                        return place
        return None

    def occupy(self, resource: Any, item: Any = VACANT) -> None:
        """Note that *resource* fills a reserved place and is out; *item* is what :meth:`acquire` returned for it."""
        place = self._claim(resource if item is VACANT else item, resource, VACANT)
        if place is None:
            raise ValueError(f"there is no place reserved for {resource!r}: acquire() one first")
        if place.tied and place.holds(resource):
            place.thing = VACANT
            self._out[id(resource)] = place
        else:
            self._send_out(place, resource)

    def withdraw(self, resource: Any) -> bool:
        """Note that *resource* is not out any more, but keep its place reserved; return False if it was not out."""
        place = self._out.pop(id(resource), None)
        if place is None:
            return False
        place.thing = resource
        with self._lock:
            self._reserved.append(place)
        return True

    def forget(self, resource: Any) -> None:
        """Note that *resource* will never be seen again, but keep its place reserved."""
        with self._lock:
            for place in self._reserved:
                if place.thing is resource:
                    self._drop(place)

    def vacate(self, resource: Any = VACANT, keep: bool = True) -> Any:
        """Give a reserved place back.

        Arguments:
            resource: What was in it, if anything was.
            keep: Whether the resource can be used again.

        Returns:
            The resource that is to be closed, as there are more than the limit by now: *resource*, or one that was
            idle; :data:`VACANT` if there is none.
        """
        place = self._claim(resource, VACANT)
        if place is None:
            raise ValueError(f"there is no place reserved for {resource!r}: acquire() one first")
        if not keep and place.thing is not VACANT:
            self._drop(place)
        elif keep and place.thing is not resource:
            place.thing = resource
        return self._leave(place)

    # -- all at once

    def put(self, resource: Any) -> bool:
        """Add an idle resource that was made in advance; return False if there is no place for it."""
        with self._lock:
            if self._closed or len(self._places) > self._limit:
                return False
            if len(self._places) < self._limit:
                place = _Place()
                self._places.append(place)
            else:
                try:
                    place = self._free.popleft()
                except IndexError:
                    return False
                if place.thing is not VACANT:
                    self._free.appendleft(place)
                    return False
            place.thing = resource
            self._free.append(place)
            return True

    def take(self) -> Any:
        """Remove and return the idle resource that would go out next, :data:`VACANT` if there is none."""
        with self._lock:
            try:
                place = self._free.pop()
            except IndexError:
                return VACANT
            thing = place.thing
            place.empty()
            self._free.appendleft(place)
            return thing

    def resize(self, limit: int) -> list[Any]:
        """Change the number of places; return the idle resources for which there is none any more.

        Resources that are out are not touched: if there are too many, they are not kept when they come back.
        """
        dropped = []
        with self._lock:
            self._limit = limit
            # Raised before a look at what is free: who comes back after that look finds it.
            self._set_alert()
            while len(self._places) > max(limit, 0):
                try:
                    place = self._free.popleft()
                except IndexError:
                    break
                self._places.remove(place)
                if place.thing is not VACANT:
                    dropped.append(place.thing)
            self._serve()
            self._set_alert()
        return dropped

    def clear(self, close: bool = False) -> tuple[list[Any], list[Any]]:
        """Forget all resources; return those that were out, and the idle ones.

        Places that are reserved stay so. With *close* nobody gets a place from then on, and who waits is told.
        """
        out, idle, places = [], [], []
        with self._lock:
            if close:
                self._closed = self._alert = True
            # One by one: others take and give back meanwhile.
            while self._out:
                try:
                    _identity, place = self._out.popitem()
                except KeyError:
                    break
                thing = place.ref()
                if thing is not None:
                    out.append(thing)
                places.append(place)
            while self._free:
                try:
                    place = self._free.popleft()
                except IndexError:
                    break
                if place.thing is not VACANT:
                    idle.append(place.thing)
                places.append(place)
            for place in places:
                place.empty()
                if close or len(self._places) > self._limit:
                    self._places.remove(place)
                else:
                    self._free.appendleft(place)
            while close and self._waiters:
                waiter = self._waiters.popleft()
                waiter.answer = CLOSED
                waiter.gate.release()
            self._serve()
            self._set_alert()
        return out, idle

    # -- looking

    def inherited(self) -> tuple[list[Any], list[Any]]:
        """Return the resources that were out or between, and those that were idle, when this process was forked.

        For use in the child, on a pool that nobody uses there any more: its lock may be held for ever.
        """
        idle = [place for place in self._free if place.thing is not VACANT]
        out = [place.ref() for place in self._out.values()]
        between = [place.thing for place in self._places if place.thing is not VACANT and place not in idle]
        return [thing for thing in out + between if thing is not None], [place.thing for place in idle]

    def out_resources(self) -> list[Any]:
        """Return the resources that are out, in no particular order."""
        out = [place.ref() for place in self._out.copy().values()]
        return [thing for thing in out if thing is not None]

    def idle_resources(self) -> list[Any]:
        """Return the idle resources, those that came back last at the end."""
        things = [place.thing for place in self._free.copy()]
        return [thing for thing in things if thing is not VACANT]

    def is_out(self, resource: Any) -> bool:
        """Return whether *resource* is out."""
        return id(resource) in self._out

    def knows(self, resource: Any) -> bool:
        """Return whether *resource* is here: out, between or idle."""
        with self._lock:
            return any(place.holds(resource) for place in self._places)

    def idle_seconds(self, resource: Any) -> float:
        """Return for how many seconds *resource*, which the caller holds, was idle before; infinity if it is new."""
        with self._lock:
            for place in self._places:
                if place.thing is resource and place.since:
                    return monotonic() - place.since
        return float("inf")

    def stats(self) -> dict[str, Any]:
        """Return the numbers of places and resources as a dict.

        ``limit``, ``idle``, ``in_use`` and ``waiting`` are of this moment; ``made``, ``replaced``, ``waits`` and
        ``waited`` (seconds, all waits together) count from the beginning.
        """
        with self._lock:
            return {
                "limit": self._limit,
                "idle": len(self.idle_resources()),
                "in_use": self.in_use,
                "waiting": len(self._waiters),
                "made": self._made,
                "replaced": self._replaced,
                "waits": self._waits,
                "waited": self._waited,
            }
