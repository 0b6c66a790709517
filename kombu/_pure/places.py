"""Places for resources: who may have one, and what becomes of it when it comes back.

:class:`SlotPool` knows nothing of what the resources are.  It never makes, checks or closes one and calls none of their
methods, so nothing slow ever happens while its lock is held.  What resources it has and where each is, is the subject
of :mod:`kombu._pure.stock`; who waits for one, that of :mod:`kombu._pure.waiters`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from .stock import VACANT, Answer, Place, Stock
from .waiters import Waiter, Waiters

__all__ = ("CLOSED", "FULL", "UNLIMITED", "VACANT", "SlotPool")

#: No place, within the time allowed.
FULL: Final = Answer("FULL")

#: No place, since the pool is closed.
CLOSED: Final = Answer("CLOSED")

#: As many places as there can be.
UNLIMITED: Final = 2**21 - 1


class _Reclaimer:
    """Be told when a resource that is out is gone."""

    __slots__ = ("pool",)

    def __init__(self, pool: SlotPool) -> None:
        self.pool = weakref.ref(pool)

    def __call__(self, ref: Any) -> None:
        pool = self.pool()
        if pool is not None:
            pool._reclaim(ref)


class SlotPool(Stock):
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

    __slots__ = ("_alert", "_closed", "_limit", "_reserved", "_waiters", "lost", "search", "unwanted")

    def __init__(self, limit: int = 0) -> None:
        super().__init__()
        self._limit = limit
        self._closed = False
        #: Whether the pool is closed, somebody waits, or there are more places than the limit.
        self._alert = False
        #: Called without arguments after a resource was lost.
        self.lost: Callable[[], Any] | None = None
        #: Called with a resource that is to be closed, where no caller can be told.
        self.unwanted: Callable[[Any], Any] | None = None
        #: Called without arguments, and without a lock, to free places that were lost; returns whether it did.
        self.search: Callable[[], bool] | None = None
        # Those that the methods of this class have reserved and not given back yet.
        self._reserved: list[Place] = []
        self._waiters = Waiters(self._lock)
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
        place = Place()
        self._places.append(place)
        return place

    def _wait(self, timeout: float | None) -> Any:
        """Wait for a place; return it, :data:`FULL` or :data:`CLOSED`."""
        waiter = Waiter()
        since = monotonic()
        try:
            with self._lock:
                self._waiters.join(waiter)
                self._alert = True
                if self._closed or len(self._waiters) == 1:
                    # Changed in the same moment, so there may be no need to wait.
                    answer = CLOSED if self._closed else self._take()
                    if answer is not FULL:
                        waiter.answer = answer
                        self._waiters.remove(waiter)
                        self._set_alert()
                        return answer
            self._waiters.wait(waiter, since, timeout, self.search)
        except BaseException:
            self._stop_waiting(waiter, since)
            if isinstance(waiter.answer, Place):
                # Given in the same moment.
                self._report(self._leave(waiter.answer))
            raise
        self._stop_waiting(waiter, since)
        return FULL if waiter.answer is None else waiter.answer

    def _stop_waiting(self, waiter: Waiter, since: float) -> None:
        with self._lock:
            self._waiters.stop(waiter, since)
            self._set_alert()

    def _leave(self, place: Place) -> Any:
        """Give *place* back, with what is in it; return what is to be closed, as :meth:`vacate` does."""
        if self._alert:
            return self._settle(place)
        self._lay_down(place)
        return self._settle() if self._alert else VACANT

    def _settle(self, place: Place | None = None) -> Any:
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
                self._lay_down(place)
            self._serve()
            self._set_alert()
        return surplus

    def _serve(self) -> None:
        """Pass free places, which are taken then, to the first who wait.  The lock is held."""
        while self._waiters and not self._closed:
            place = self._take()
            if place is FULL:
                return
            self._waiters.answer_first(place)

    def _reclaim(self, ref: Any) -> None:
        """Free the place of a resource that is gone."""
        place = self._seize_gone(ref)
        if place is None:
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
        if not isinstance(place, Place):
            return place
        with self._lock:
            self._reserved.append(place)
        return place.thing

    def _claim(self, *things: Any) -> Place | None:
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
                place = Place()
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
                self._waiters.answer_first(CLOSED)
            self._serve()
            self._set_alert()
        return out, idle

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
                "waits": self._waiters.waits,
                "waited": self._waiters.waited,
            }
