"""Logical time: order events of several processes without a common clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import takewhile
from operator import itemgetter
from typing import Any

__all__ = ("LamportClock", "timetuple")


class timetuple(tuple[Any, ...]):
    """Say when and where an event happened: (clock, timestamp, id, obj). Made to be kept in a heap.

    *clock* is the logical time, *timestamp* seconds of Unix time, *id* names the process (``host:pid``) and *obj* is
    the event itself. Events are ordered by clock, by id where the clocks are equal, and by timestamp where one of the
    two has no clock (None or 0).
    """

    __slots__ = ()

    def __new__(cls, clock: int | None, timestamp: float, id: str, obj: Any = None) -> timetuple:
        return super().__new__(cls, (clock, timestamp, id, obj))

    clock = property(itemgetter(0))
    timestamp = property(itemgetter(1))
    id = property(itemgetter(2))
    obj = property(itemgetter(3))

    def __repr__(self) -> str:
        clock, timestamp, id, obj = self
        return f"_lamport(clock={clock}, timestamp={timestamp}, id={id} {obj!r})"

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)

    def __lt__(self, other: tuple[Any, ...]) -> bool:
        try:
            mine, theirs = self[0], other[0]
            place = 1 if not mine or not theirs else 2 if mine == theirs else 0
            return bool(self[place] < other[place])
        except IndexError:
            return NotImplemented

    def __gt__(self, other: tuple[Any, ...]) -> bool:
        return other < self

    def __le__(self, other: tuple[Any, ...]) -> bool:
        return not other < self

    def __ge__(self, other: tuple[Any, ...]) -> bool:
        return not self < other


class LamportClock:
    """Count events so that an effect always has a larger number than its cause (Lamport 1978).

    Call :meth:`forward` for each event here and send its result along with every message; call :meth:`adjust` with the
    number that came with each message received. Safe for threads; *Lock* makes the lock it uses.
    """

    #: The time now: the number of the last event.
    value: int = 0

    def __init__(self, initial_value: int = 0, Lock: Callable[[], Any] = threading.Lock) -> None:
        self.value = initial_value
        self.mutex = Lock()

    def adjust(self, other: int) -> int:
        """Advance past *other*, the time of an event somewhere else, and return the time."""
        with self.mutex:
            self.value = max(self.value, other) + 1
            return self.value

    def forward(self) -> int:
        """Advance by one and return the time."""
        with self.mutex:
            self.value += 1
            return self.value

    def sort_heap(self, h: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
        """Return the first of the events *h*, which are (clock, id, ...) sorted by clock.

        Of several with the first clock it is the one with the lowest id.
        """
        clock = h[0][0]
        return min(takewhile(lambda event: event[0] == clock, h), key=itemgetter(1))

    def __str__(self) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        return f"<LamportClock: {self.value}>"
