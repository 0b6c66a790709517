"""Which resources a pool has, and where each is: out, idle, or between.

Who may have one is the subject of :mod:`kombu._pure.places`.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from kombu._locks import new_reentrant_lock

__all__ = ("VACANT", "Stock")


class Answer:
    """What is returned instead of a resource."""

    __slots__ = ("_name", "thing")

    def __init__(self, name: str) -> None:
        self._name = name
        #: What it is instead of: see :class:`Place`.
        self.thing = self

    def __repr__(self) -> str:
        return self._name


#: A place, and no resource in it yet.
VACANT: Final = Answer("VACANT")


class Place:
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


class _Reference(weakref.ref[Any]):
    """Refer to a resource that is out, and know by what it is filed."""

    __slots__ = ("identity",)

    identity: int


class _Strong:
    """Stand in for a weak reference to what cannot have any."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __call__(self) -> Any:
        return self.thing


class Stock:
    """The resources of a pool, and where each of them is.

    None of their methods is called here, so nothing slow ever happens while the lock is held.
    """

    __slots__ = ("__weakref__", "_free", "_lock", "_made", "_out", "_places", "_reclaimer", "_replaced")

    #: Called with the weak reference to a resource that is gone while it was out.
    _reclaimer: Callable[[Any], Any]

    def __init__(self) -> None:
        #: The places that may be taken, the next one last; those without a resource stand first.
        self._free: deque[Place] = deque()
        #: The places of resources that are out, by identity of those.
        self._out: dict[int, Place] = {}
        # All places that there are; they are made when they are needed first.
        self._places: list[Place] = []
        self._made = self._replaced = 0
        # Reentrant, because a finalizer may run at any moment, and may give a resource back.
        self._lock = new_reentrant_lock()

    # -- places and what is in them

    def _lay_down(self, place: Place) -> None:
        """Let *place* be free, with what is in it."""
        if place.thing is VACANT:
            place.empty()
            self._free.appendleft(place)
        else:
            place.since = monotonic()
            self._free.append(place)

    def _send_out(self, place: Place, resource: Any) -> None:
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

    def _seize_gone(self, ref: Any) -> Place | None:
        """Return the place of the resource that *ref* referred to, if it was out; it is so no more."""
        place = self._out.get(ref.identity)
        if place is None or place.ref is not ref or self._out.pop(ref.identity, None) is None:
            return None
        return place

    def _drop(self, place: Place) -> None:
        """Forget what is in *place*, which is reserved."""
        place.empty()
        with self._lock:
            self._replaced += 1

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
