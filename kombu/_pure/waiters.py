"""Who waits for a place of a pool: first come, first served.

Each waits before a gate of its own, which opens when there is an answer.  So a place goes to the one who is first, and
nobody who comes later can be faster.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

__all__ = ()

#: Seconds that somebody waits before a search for places that were lost, and between two.
_SEARCH_AFTER: Final = 0.2


class Waiter:
    """A thread that waits; its gate opens when there is an *answer*: a place, or what says that there will be none."""

    __slots__ = ("answer", "gate")

    def __init__(self) -> None:
        self.answer: Any = None
        # Not imported by name: gevent and eventlet may replace it later.
        self.gate = threading.Lock()
        self.gate.acquire()


class Waiters:
    """The threads that wait for a place, in the order in which they came.

    *lock* is the pool's.  Whoever calls a method holds it, but for :meth:`wait`.
    """

    __slots__ = ("_line", "_lock", "waited", "waits")

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._line: deque[Waiter] = deque()
        #: How often somebody waited, and for how many seconds, all waits together.
        self.waits = 0
        self.waited = 0.0

    def __len__(self) -> int:
        return len(self._line)

    def join(self, waiter: Waiter) -> None:
        """Stand in line."""
        self._line.append(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Take a waiter out of the line, if it is still there."""
        if waiter in self._line:
            self._line.remove(waiter)

    def stop(self, waiter: Waiter, since: float) -> None:
        """Count the wait that began at *since*, and let *waiter* be in line no more."""
        self.waits += 1
        self.waited += monotonic() - since
        self.remove(waiter)

    def answer_first(self, answer: Any) -> None:
        """Let the first one go, with an answer."""
        waiter = self._line.popleft()
        waiter.answer = answer
        waiter.gate.release()

    def wait(self, waiter: Waiter, since: float, timeout: float | None, search: Callable[[], bool] | None) -> None:
        """Wait for an answer, *timeout* seconds at most since *since*; without the lock.

        Search for lost places now and then, if there is a *search*, and once more at the end.
        """
        if search is None:
            waiter.gate.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
            return
        while True:
            left = _SEARCH_AFTER if timeout is None else min(since + timeout - monotonic(), _SEARCH_AFTER)
            if waiter.gate.acquire(timeout=max(left, 0.0)):
                return
            with self._lock:
                # The first in line does it for all.
                first = bool(self._line) and self._line[0] is waiter
            if first:
                search()
            if timeout is not None and since + timeout <= monotonic():
                return
