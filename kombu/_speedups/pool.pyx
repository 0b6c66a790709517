"""Places for resources: who has one, who waits for one; the compiled twin of :mod:`kombu._pure.pool`."""

import threading
from collections import deque

__all__ = ("CLOSED", "FULL", "VACANT", "SlotPool")

#: See kombu._core.ABI.
ABI = 1


cdef class _Answer:
    """What :meth:`SlotPool.acquire` returns instead of a resource."""

    cdef str _name

    def __cinit__(self, str name):
        self._name = name

    def __repr__(self):
        return self._name


cdef object _VACANT = _Answer("VACANT")
cdef object _FULL = _Answer("FULL")
cdef object _CLOSED = _Answer("CLOSED")
cdef object _PENDING = _Answer("PENDING")

VACANT, FULL, CLOSED = _VACANT, _FULL, _CLOSED


cdef class _Waiter:
    """A thread that waits for a place; the gate opens when *answer* is there."""

    cdef object answer
    cdef object gate

    def __cinit__(self):
        self.answer = _PENDING
        # Not imported by name: gevent and eventlet may replace it later.
        self.gate = threading.Lock()
        self.gate.acquire()


cdef class SlotPool:
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

    #: The number of places.
    cdef public Py_ssize_t limit
    #: Whether no more places are given out.
    cdef public bint closed
    cdef list _idle
    cdef dict _between
    cdef dict _out
    cdef Py_ssize_t _taken
    cdef object _waiters
    cdef object _lock

    def __init__(self, Py_ssize_t limit=0):
        self.limit = limit
        self.closed = False
        self._idle = []
        self._between = {}
        self._out = {}
        self._taken = 0
        self._waiters = deque()
        # Reentrant, because a finalizer may run at any moment, and may give a resource back.
        self._lock = threading.RLock()

    @property
    def in_use(self):
        """The number of places taken, those included whose resource is being made or closed."""
        return self._taken

    @property
    def waiting(self):
        """The number of threads that wait for a place."""
        return len(self._waiters)

    def acquire(self, bint block=False, timeout=None):
        """Take a place.

        Arguments:
            block: Whether to wait for one.
            timeout: Seconds to wait at most, None for ever; of no effect where *block* is false.

        Returns:
            An idle resource, :data:`VACANT` where one has to be made, :data:`FULL` or :data:`CLOSED`.

        Raises:
            ValueError: if *timeout* is negative.
        """
        cdef _Waiter waiter
        if block and timeout is not None and timeout < 0:
            raise ValueError(f"timeout must not be negative: {timeout!r}")
        with self._lock:
            if self.closed:
                return _CLOSED
            if self._taken < self.limit:
                self._taken += 1
                return self._pick()
            if not block or timeout == 0:
                return _FULL
            waiter = _Waiter()
            self._waiters.append(waiter)
        try:
            waiter.gate.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        except BaseException:
            self._give_up(waiter, True)
            raise
        if waiter.answer is _PENDING:
            self._give_up(waiter, False)
        return waiter.answer

    cdef object _pick(self):
        """Return the idle resource that is to go out next, which is between then."""
        if not self._idle:
            return _VACANT
        resource = self._idle.pop()
        self._between[id(resource)] = resource
        return resource

    cdef int _give_up(self, _Waiter waiter, bint interrupted) except -1:
        """Stop waiting; a place that was given in the same moment is kept, or returned if *interrupted*."""
        with self._lock:
            if waiter.answer is _PENDING:
                waiter.answer = _FULL
                self._waiters.remove(waiter)
            elif interrupted and waiter.answer is not _CLOSED:
                self._vacate(waiter.answer, True)
        return 0

    def occupy(self, resource, item=VACANT):
        """Note that *resource* fills a reserved place and is out; *item* is what :meth:`acquire` returned for it."""
        with self._lock:
            self._between.pop(id(item), None)
            self._out[id(resource)] = resource

    def withdraw(self, resource):
        """Note that *resource* is not out any more, but keep its place reserved; return False if it was not out."""
        with self._lock:
            if self._out.pop(id(resource), _VACANT) is _VACANT:
                return False
            self._between[id(resource)] = resource
            return True

    def forget(self, resource):
        """Note that *resource* will never be seen again, but keep its place reserved."""
        with self._lock:
            self._between.pop(id(resource), None)

    def vacate(self, resource=VACANT, bint keep=True):
        """Give a reserved place back.

        Arguments:
            resource: What was in it, if anything was.
            keep: Whether the resource can be used again.

        Returns:
            False if *resource* was not kept, though it could have been: there are more places than the limit by now.
        """
        with self._lock:
            return self._vacate(resource, keep)

    cdef bint _vacate(self, resource, bint keep) except -1:
        self._between.pop(id(resource), None)
        if not keep:
            resource = _VACANT
        if self._taken > self.limit or self.closed:
            self._taken -= 1
            return resource is _VACANT
        if self._waiters:
            self._serve(resource)
            return True
        self._taken -= 1
        if resource is not _VACANT:
            self._idle.append(resource)
        return True

    cdef int _serve(self, resource) except -1:
        """Pass a place, which stays taken, to the first who waits."""
        cdef _Waiter waiter = self._waiters.popleft()
        if resource is not _VACANT and resource is not _CLOSED:
            self._between[id(resource)] = resource
        waiter.answer = resource
        waiter.gate.release()
        return 0

    def put(self, resource):
        """Add an idle resource that was made in advance; return False if there is no place for it."""
        with self._lock:
            if self.closed or self._taken + len(self._idle) >= self.limit:
                return False
            self._idle.append(resource)
            return True

    def take(self):
        """Remove and return the idle resource that would go out next, :data:`VACANT` if there is none."""
        with self._lock:
            return self._idle.pop() if self._idle else _VACANT

    def resize(self, Py_ssize_t limit):
        """Change the number of places; return the idle resources for which there is none any more.

        Resources that are out are not touched: if there are too many, they are not kept when they come back.
        """
        cdef Py_ssize_t surplus
        cdef list dropped
        with self._lock:
            self.limit = limit
            self._serve_free_places()
            surplus = max(min(self._taken + len(self._idle) - limit, <Py_ssize_t>len(self._idle)), 0)
            dropped = self._idle[:surplus]
            self._idle = self._idle[surplus:]
            return dropped

    cdef int _serve_free_places(self) except -1:
        while self._waiters and self._taken < self.limit:
            self._taken += 1
            self._serve(_VACANT)
        return 0

    def clear(self, bint close=False):
        """Forget all resources; return those that were out, and the idle ones.

        Places that are reserved stay so. With *close* nobody gets a place from then on, and who waits is told.
        """
        cdef list out, idle
        with self._lock:
            out = list(self._out.values())
            self._out = {}
            idle = self._idle
            self._idle = []
            self._taken -= len(out)
            if close:
                self.closed = True
                while self._waiters:
                    self._serve(_CLOSED)
            else:
                self._serve_free_places()
            return out, idle

    def inherited(self):
        """Return the resources that were out or between, and those that were idle, when this process was forked.

        For use in the child, on a pool that nobody uses there any more: its lock may be held for ever.
        """
        return [*self._out.values(), *self._between.values()], list(self._idle)

    def out_resources(self):
        """Return the resources that are out."""
        with self._lock:
            return list(self._out.values())

    def idle_resources(self):
        """Return the idle resources; the last goes out next."""
        with self._lock:
            return list(self._idle)

    def is_out(self, resource):
        """Return whether *resource* is out."""
        with self._lock:
            return id(resource) in self._out

    def knows(self, resource):
        """Return whether *resource* is here: out, between or idle."""
        cdef object identity = id(resource)
        with self._lock:
            if identity in self._out or identity in self._between:
                return True
            for kept in self._idle:
                if kept is resource:
                    return True
            return False
