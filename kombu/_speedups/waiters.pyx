"""Who waits for a place of a pool; the compiled twin of :mod:`kombu._pure.waiters`."""

import threading
from collections import deque
from time import monotonic

cimport cython
from libc.stdint cimport uint32_t

from kombu._speedups.slots cimport SLOTS_FULL, SLOTS_NONE, SLOTS_QUEUE

__all__ = ()

#: See kombu._core.ABI.
ABI = 1

#: Seconds that somebody waits before a search for places that were lost, and between two.
cdef double SEARCH_AFTER = 0.2


@cython.final
cdef class Waiter:
    """A thread that waits; its gate opens when there is an answer: a place, or that there will be none."""

    def __cinit__(self):
        self.said = SLOTS_QUEUE
        self.index = SLOTS_NONE
        # Not imported by name: gevent and eventlet may replace it later.
        self.gate = threading.Lock()
        self.gate.acquire()


@cython.final
cdef class Waiters:
    """The threads that wait for a place, in the order in which they came; see :class:`kombu._pure.waiters.Waiters`."""

    def __cinit__(self, lock):
        self._lock = lock
        self._line = deque()

    def __len__(self):
        return len(self._line)

    cdef Waiter join(self):
        """Stand in line."""
        cdef Waiter waiter = Waiter()
        self._line.append(waiter)
        return waiter

    cdef int remove(self, Waiter waiter) except -1:
        """Take a waiter out of the line, without an answer."""
        self._line.remove(waiter)
        return 0

    cdef bint stop(self, Waiter waiter, double since) except -1:
        """Count the wait that began at *since*; return whether *waiter* was in line still, without an answer."""
        self.waits += 1
        self.waited += <double>monotonic() - since
        if waiter.said != SLOTS_QUEUE:
            return False
        waiter.said = SLOTS_FULL
        self._line.remove(waiter)
        return True

    cdef int answer_first(self, int said, uint32_t index) except -1:
        """Let the first one go, with an answer."""
        cdef Waiter waiter = self._line.popleft()
        waiter.index = index
        waiter.said = said
        waiter.gate.release()
        return 0

    cdef int wait(self, Waiter waiter, double since, timeout, search) except -1:
        """Wait for an answer, *timeout* seconds at most since *since*; without the lock.

        Search for lost places now and then, if there is a *search*, and once more at the end.
        """
        cdef double left
        cdef bint first = False
        if search is None:
            waiter.gate.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
            return 0
        while True:
            left = SEARCH_AFTER if timeout is None else min(since + <double>timeout - <double>monotonic(), SEARCH_AFTER)
            if waiter.gate.acquire(timeout=max(left, 0.0)):
                return 0
            with self._lock:
                # The first in line does it for all.
                first = bool(self._line) and self._line[0] is waiter
            if first:
                search()
            if timeout is not None and since + <double>timeout <= <double>monotonic():
                return 0
