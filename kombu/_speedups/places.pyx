"""Places for resources, and who waits for one; the compiled twin of :mod:`kombu._pure.places`.

Taking a place with the warmest idle resource and giving both back are two compare-and-exchange operations each: see
slots.h.  A lock is taken only where somebody has to wait, and to resize or clear.
"""

import threading
import weakref
from collections import deque
from time import monotonic

cimport cython
from cpython.weakref cimport PyWeakref_NewRef
from libc.stdint cimport uint32_t, uint64_t, uintptr_t

from kombu._speedups.objects cimport pool_keep
from kombu._speedups.slots cimport (
    SLOTS_ALERT, SLOTS_CLOSED, SLOTS_FULL, SLOTS_LISTS, SLOTS_NONE, SLOTS_QUEUE, SLOTS_SHUT, SLOTS_YES, SLOT_FREE,
    SLOT_HELD, SLOT_IDLE, SLOT_OUT, SLOT_STATE, slot_latch, slot_move, slot_move_latched, slot_t, slot_unlatch,
    slots_add, slots_at, slots_close, slots_count_idle, slots_destroy, slots_drop_place, slots_find,
    slots_find_parked, slots_give_spare, slots_init, slots_lay_down, slots_leave, slots_limit_of, slots_load,
    slots_park, slots_put, slots_reserve_or_queue, slots_seize, slots_send_out, slots_set_limit, slots_store,
    slots_surplus, slots_take, slots_take_for_waiter, slots_take_spare, slots_take_surplus, slots_take_up,
    slots_taken_of, slots_unqueue, slots_waiting_of,
)

__all__ = ("CLOSED", "FULL", "UNLIMITED", "VACANT", "SlotPool")

#: See kombu._core.ABI.
ABI = 1


cdef extern from *:
    """
    #include <time.h>
    #if defined(CLOCK_MONOTONIC_COARSE)
    /* To the tick of the kernel, a few milliseconds: enough to tell a moment from a while, and much cheaper. */
    static double pool_clock(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return (double)now.tv_sec + now.tv_nsec * 1e-9;
    }
    #define POOL_CLOCK 1
    #else
    static double pool_clock(void) { return 0.0; }
    #define POOL_CLOCK 0
    #endif
    """
    double pool_clock() nogil
    bint POOL_CLOCK


#: Seconds that somebody waits before a search for places that were lost, and between two.
cdef double _SEARCH_AFTER = 0.2


cdef double now() except? -1.0:
    """Return the seconds of a clock that nobody sets, to a few milliseconds."""
    if POOL_CLOCK:
        return pool_clock()
    return monotonic()


@cython.final
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

for _answer in (VACANT, FULL, CLOSED, _PENDING):
    pool_keep(_answer)

#: As many places as there can be.
UNLIMITED = 2**21 - 1


@cython.final
cdef class _Waiter:
    """A thread that waits for a place; the gate opens when *answer* is there."""

    def __cinit__(self):
        self.answer = _PENDING
        self.index = SLOTS_NONE
        # Not imported by name: gevent and eventlet may replace it later.
        self.gate = threading.Lock()
        self.gate.acquire()


@cython.final
cdef class _Cell:
    """What is in a slot: a resource, or while it is out a weak reference to it, if it can have any."""


@cython.final
cdef class _Reclaimer:
    """Be told when a resource that is out is gone."""

    def __call__(self, ref):
        cdef SlotPool pool = self.pool()
        if pool is not None:
            pool._reclaim(ref)


def _first(entry):
    return entry[0]


cdef inline uint64_t _key(object resource) noexcept:
    return <uint64_t><uintptr_t><void *>resource


@cython.final
cdef class SlotPool:
    """Give out at most *limit* places; keep the resources that nobody uses.

    A place is taken before its resource is made, so there are never more than *limit* resources, idle ones included.
    The resource that this thread returned last goes out first, as it is the most likely to be alive and in this
    processor's caches; then any.  Who waits is served in order, and gets the place itself: nobody who comes later can
    be faster.

    A place goes round like this::

        acquire() -> reserved -> occupy() -> out -> withdraw() -> reserved -> vacate() -> free, its resource idle

    While a place is reserved, its resource is between: whoever has reserved it may do something slow to the resource,
    and all others can see by :meth:`knows` that it is being looked after.

    A resource that is out is not kept alive.  When it is gone without having come back, its place is free again, and
    *lost* is called, if it is there.  *unwanted* is called, if it is there, with what is to be closed because the limit
    became smaller while whoever got it was interrupted.  *search* is called, if it is there, when there is no place: it
    frees those of resources that are dropped and yet not gone, and returns whether there were any.

    All methods may be called from any thread, and from finalizers.
    """

    def __cinit__(self, Py_ssize_t limit=0):
        slots_init(&self._slots, limit)
        self._limit = limit
        self._cells = []
        self._waiters = deque()
        # Reentrant, because a finalizer may run at any moment, and may give a resource back.
        self._lock = threading.RLock()
        self._reclaimer = _Reclaimer()
        self._reclaimer.pool = weakref.ref(self)

    def __init__(self, Py_ssize_t limit=0):
        pass

    def __dealloc__(self):
        slots_destroy(&self._slots)

    @property
    def limit(self):
        """The number of places."""
        return self._limit

    @property
    def closed(self):
        """Whether no more places are given out."""
        return (slots_load(&self._slots.gate) & SLOTS_CLOSED) != 0

    @closed.setter
    def closed(self, bint closed):
        with self._lock:
            slots_close(&self._slots, closed)

    @property
    def in_use(self):
        """The number of places taken, those included whose resource is being made or closed."""
        return self._in_use()

    cdef Py_ssize_t _in_use(self):
        """Return the number of places that are taken, and not parked with their resource."""
        cdef Py_ssize_t taken = slots_taken_of(slots_load(&self._slots.gate))
        return max(taken - <Py_ssize_t>slots_count_idle(&self._slots), 0)

    @property
    def waiting(self):
        """The number of threads that wait for a place."""
        return slots_waiting_of(slots_load(&self._slots.gate))

    # -- slots

    cdef _Cell _cell(self, uint32_t index):
        return <_Cell>slots_at(&self._slots, index).cell

    cdef uint32_t _spare(self) except? 0xffffffff:
        """Return a slot without a resource, held."""
        cdef uint32_t index = slots_take_spare(&self._slots)
        cdef slot_t *slot
        cdef _Cell cell
        if index == SLOTS_NONE:
            raise MemoryError("no room for another slot")
        slot = slots_at(&self._slots, index)
        if slot.cell == NULL:
            cell = _Cell()
            with self._lock:
                self._cells.append(cell)
            slot.cell = <void *>cell
        return index

    cdef object _empty(self, uint32_t index):
        """Give a held slot back; return what was in it."""
        cdef _Cell cell = self._cell(index)
        thing = cell.thing
        ref = cell.ref
        cell.thing = cell.ref = None
        cell.target = 0
        slots_give_spare(&self._slots, index)
        if thing is None and ref is not None:
            thing = ref()
        return thing

    cdef int _fill(self, uint32_t index, resource) except -1:
        cdef _Cell cell = self._cell(index)
        slots_store(&slots_at(&self._slots, index).key, _key(resource))
        cell.thing = resource
        return 0

    cdef int _send_out(self, uint32_t index, resource) except -1:
        """Let *resource*, of a held slot, be out."""
        cdef slot_t *slot = slots_at(&self._slots, index)
        cdef _Cell cell = <_Cell>slot.cell
        cdef uint64_t key = _key(resource)
        if cell.target != key:
            slots_store(&slot.key, key)
            slots_add(&self._slots.made, 1)
            cell.target = key
            try:
                cell.ref = PyWeakref_NewRef(resource, self._reclaimer)
            except TypeError:
                # It cannot be referred to weakly, so it is kept until it comes back.
                cell.ref = None
                cell.thing = resource
        if cell.ref is not None:
            cell.thing = None
        slot.tied = 1
        slots_send_out(&self._slots, index)
        return 0

    cdef uint32_t _seize(self, resource) except? 0xffffffff:
        """Return the slot of *resource*, held, if it is out."""
        cdef uint32_t index = slots_seize(&self._slots, _key(resource), SLOT_OUT, SLOT_HELD)
        if index != SLOTS_NONE:
            self._cell(index).thing = resource
        return index

    cdef uint32_t _held(self, resource):
        """Return the slot of *resource*, which the caller holds."""
        if resource is _VACANT:
            return SLOTS_NONE
        cdef uint32_t index = slots_find(&self._slots, _key(resource))
        if index != SLOTS_NONE and (slots_load(&slots_at(&self._slots, index).state) & SLOT_STATE) != SLOT_HELD:
            return SLOTS_NONE
        return index

    # -- places

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
        cdef uint32_t index
        return self._take(block, timeout, &index)

    cdef object _take(self, bint block, timeout, uint32_t *index):
        cdef int answer
        if block and timeout is not None and timeout < 0:
            raise ValueError(f"timeout must not be negative: {timeout!r}")
        answer = slots_take(&self._slots, index)
        if answer == SLOTS_YES:
            return _VACANT if index[0] == SLOTS_NONE else self._cell(index[0]).thing
        if answer == SLOTS_SHUT:
            return _CLOSED
        if not block or timeout == 0:
            # Parked slots are not on their lists for a moment while a pool is resized, which takes the lock.
            with self._lock:
                answer = slots_take(&self._slots, index)
            if answer == SLOTS_FULL and self.search is not None and self.search():
                answer = slots_take(&self._slots, index)
            if answer == SLOTS_YES:
                return _VACANT if index[0] == SLOTS_NONE else self._cell(index[0]).thing
            return _CLOSED if answer == SLOTS_SHUT else _FULL
        return self._wait(timeout, index)

    cdef object _wait(self, timeout, uint32_t *index):
        cdef _Waiter waiter = _Waiter()
        cdef int answer = SLOTS_FULL
        with self._lock:
            # In the queue before it is counted: who sees the count finds the waiter.
            self._waiters.append(waiter)
            answer = slots_reserve_or_queue(&self._slots)
            if answer == SLOTS_QUEUE:
                # Counted before this look at what is parked: who parks after it sees the count.
                self._serve()
            else:
                self._waiters.remove(waiter)
        if answer == SLOTS_YES:
            return _VACANT
        if answer != SLOTS_QUEUE:
            return _CLOSED if answer == SLOTS_SHUT else _FULL
        before = monotonic()
        try:
            if self.search is None:
                waiter.gate.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
            else:
                self._wait_and_search(waiter, before, timeout)
        except BaseException:
            self._stop_waiting(waiter, before, True)
            raise
        self._stop_waiting(waiter, before, False)
        index[0] = waiter.index
        return waiter.answer

    cdef int _wait_and_search(self, _Waiter waiter, double since, timeout) except -1:
        """Wait, and search for lost places now and then, and once more at the end."""
        cdef double left
        cdef bint first
        while True:
            left = _SEARCH_AFTER if timeout is None else min(since + <double>timeout - <double>monotonic(), _SEARCH_AFTER)
            if waiter.gate.acquire(timeout=max(left, 0.0)):
                return 0
            with self._lock:
                # The first in the queue does it for all.
                first = bool(self._waiters) and self._waiters[0] is waiter
            if first and self.search is not None:
                self.search()
            if timeout is not None and since + <double>timeout <= <double>monotonic():
                return 0

    cdef int _stop_waiting(self, _Waiter waiter, double since, bint interrupted) except -1:
        """Wait no more; a place that was given in the same moment is kept, or returned if *interrupted*."""
        with self._lock:
            self._waits += 1
            self._waited += <double>monotonic() - since
            if waiter.answer is _PENDING:
                waiter.answer = _FULL
                self._waiters.remove(waiter)
                slots_unqueue(&self._slots)
                return 0
        if interrupted and waiter.answer is not _CLOSED:
            surplus = self._leave(waiter.index, True)
            if surplus is not _VACANT and self.unwanted is not None:
                self.unwanted(surplus)
        return 0

    def occupy(self, resource, item=VACANT):
        """Note that *resource* fills a reserved place and is out; *item* is what :meth:`acquire` returned for it."""
        cdef uint32_t index = self._held(item)
        if index == SLOTS_NONE:
            # As SlotPool.acquire() returns a resource without its slot, so may what is occupied be of the same slot.
            index = self._held(resource)
        self._occupy(index, resource)

    cdef int _occupy(self, uint32_t index, resource) except -1:
        if index == SLOTS_NONE:
            index = self._spare()
        self._send_out(index, resource)
        return 0

    def withdraw(self, resource):
        """Note that *resource* is not out any more, but keep its place reserved; return False if it was not out."""
        return self._seize(resource) != SLOTS_NONE

    def forget(self, resource):
        """Note that *resource* will never be seen again, but keep its place reserved."""
        cdef uint32_t index = self._held(resource)
        if index != SLOTS_NONE:
            slots_add(&self._slots.replaced, 1)
            self._empty(index)

    def vacate(self, resource=VACANT, bint keep=True):
        """Give a reserved place back.

        Arguments:
            resource: What was in it, if anything was.
            keep: Whether the resource can be used again.

        Returns:
            The resource that is to be closed, as there are more than the limit by now: *resource*, or one that was
            idle; :data:`VACANT` if there is none.
        """
        cdef uint32_t index = self._held(resource)
        if index == SLOTS_NONE and keep and resource is not _VACANT:
            index = self._spare()
            self._fill(index, resource)
        if index != SLOTS_NONE and not keep:
            slots_add(&self._slots.replaced, 1)
        return self._leave(index, keep)

    cdef object _leave(self, uint32_t index, bint keep):
        """Give back the place of a held slot, and the slot; return what is to be closed, or VACANT."""
        cdef int answer
        cdef slot_t *slot
        if index != SLOTS_NONE and keep:
            slot = slots_at(&self._slots, index)
            slot.since = slot.stamp = now()
            answer = slots_park(&self._slots, index)
            if answer == SLOTS_YES:
                return _VACANT
            return self._settle(index if answer != SLOTS_ALERT else SLOTS_NONE)
        if index != SLOTS_NONE:
            self._empty(index)
        if slots_leave(&self._slots) != SLOTS_YES:
            with self._lock:
                if slots_leave(&self._slots) != SLOTS_YES:
                    self._pass_on(SLOTS_NONE)
        return _VACANT

    cdef object _settle(self, uint32_t index):
        """See to those who wait, and to what is too many; *index* is a held slot that comes back, if it is not parked.

        Returns:
            What is to be closed, or VACANT.
        """
        cdef uint64_t gate
        cdef int answer
        surplus = _VACANT
        with self._lock:
            if index == SLOTS_NONE:
                index = slots_take_surplus(&self._slots)
                if index != SLOTS_NONE:
                    surplus = self._empty(index)
                    slots_drop_place(&self._slots)
            else:
                gate = slots_load(&self._slots.gate)
                if slots_surplus(gate):
                    surplus = self._empty(index)
                    slots_drop_place(&self._slots)
                elif slots_waiting_of(gate):
                    self._pass_on(index)
                else:
                    # As the count of those who wait, the limit and the rest change under the lock only.
                    slots_park(&self._slots, index)
            self._serve()
        return surplus

    cdef int _pass_on(self, uint32_t index) except -1:
        """Give a place, and its slot if it has one, to the first who waits; the lock is held."""
        cdef _Waiter waiter = self._waiters.popleft()
        slots_unqueue(&self._slots)
        waiter.index = index
        waiter.answer = _VACANT if index == SLOTS_NONE else self._cell(index).thing
        waiter.gate.release()
        return 0

    cdef int _serve(self) except -1:
        """Give the places that are free to those who wait; the lock is held."""
        cdef uint32_t index
        while slots_take_for_waiter(&self._slots, &index) == SLOTS_YES:
            self._pass_on(index)
        return 0

    cdef list _take_all(self):
        """Take up all parked slots; return them as (list, index), those parked first first; the lock is held."""
        cdef uint32_t index
        cdef int number
        cdef list found = [], here
        for number in range(SLOTS_LISTS):
            here = []
            while True:
                index = slots_take_up(&self._slots, number)
                if index == SLOTS_NONE:
                    break
                here.append((slots_at(&self._slots, index).stamp, number, index))
            here.reverse()
            found += here
        # What stands in one list keeps its order.
        found.sort(key=_first)
        return [(number, index) for _stamp, number, index in found]

    cdef int _reclaim(self, ref) except -1:
        """Free the place of a resource that is gone."""
        cdef uint32_t index
        cdef slot_t *slot
        for index in range(<uint32_t>slots_load(&self._slots.created)):
            slot = slots_at(&self._slots, index)
            if not slot_latch(slot, SLOT_OUT):
                continue
            if (<_Cell>slot.cell).ref is not ref:
                slot_unlatch(slot)
                continue
            slot_move_latched(slot, SLOT_HELD)
            slots_add(&self._slots.replaced, 1)
            surplus = self._leave(index, False)
            if self.lost is not None:
                self.lost()
            if surplus is not _VACANT and self.unwanted is not None:
                self.unwanted(surplus)
            break
        return 0

    # -- all at once

    def put(self, resource):
        """Add an idle resource that was made in advance; return False if there is no place for it."""
        cdef uint32_t index = self._spare()
        self._fill(index, resource)
        slots_at(&self._slots, index).stamp = now()
        if not slots_put(&self._slots, index):
            self._empty(index)
            return False
        if slots_waiting_of(slots_load(&self._slots.gate)):
            with self._lock:
                self._serve()
        return True

    def take(self):
        """Remove and return the idle resource that would go out next, :data:`VACANT` if there is none."""
        cdef uint32_t index = slots_find_parked(&self._slots)
        if index == SLOTS_NONE:
            return _VACANT
        thing = self._empty(index)
        self._leave(SLOTS_NONE, False)
        return thing

    def resize(self, Py_ssize_t limit):
        """Change the number of places; return the idle resources for which there is none any more.

        Resources that are out are not touched: if there are too many, they are not kept when they come back.
        """
        cdef uint32_t index
        cdef uint64_t gate
        cdef int number
        cdef list dropped = []
        with self._lock:
            self._limit = limit
            slots_set_limit(&self._slots, limit)
            if slots_surplus(slots_load(&self._slots.gate)):
                for number, index in self._take_all():
                    gate = slots_load(&self._slots.gate)
                    if slots_taken_of(gate) > slots_limit_of(gate):
                        dropped.append(self._empty(index))
                        slots_drop_place(&self._slots)
                    else:
                        slots_lay_down(&self._slots, index, number)
            self._serve()
        return dropped

    def clear(self, bint close=False):
        """Forget all resources; return those that were out, and the idle ones.

        Places that are reserved stay so. With *close* nobody gets a place from then on, and who waits is told.
        """
        cdef uint32_t index
        cdef int number
        cdef list out = [], idle = []
        with self._lock:
            if close:
                slots_close(&self._slots, True)
            for index in range(<uint32_t>slots_load(&self._slots.created)):
                if slot_move(slots_at(&self._slots, index), SLOT_OUT, SLOT_HELD):
                    thing = self._empty(index)
                    if thing is not None:
                        out.append(thing)
                    slots_drop_place(&self._slots)
            for number, index in self._take_all():
                idle.append(self._empty(index))
                slots_drop_place(&self._slots)
            while close and self._waiters:
                waiter = <_Waiter>self._waiters.popleft()
                slots_unqueue(&self._slots)
                (<_Waiter>waiter).answer = _CLOSED
                (<_Waiter>waiter).gate.release()
            self._serve()
        return out, idle

    # -- looking

    def inherited(self):
        """Return the resources that were out or between, and those that were idle, when this process was forked.

        For use in the child, on a pool that nobody uses there any more: its lock may be held for ever.
        """
        cdef uint32_t index
        cdef uint64_t state
        cdef slot_t *slot
        cdef list busy = [], idle = []
        # No latches: a thread that has not come along may have left one.
        for index in range(<uint32_t>slots_load(&self._slots.created)):
            slot = slots_at(&self._slots, index)
            state = slots_load(&slot.state) & SLOT_STATE
            if slot.cell == NULL or state == SLOT_FREE:
                continue
            thing = (<_Cell>slot.cell).thing
            if thing is None and (<_Cell>slot.cell).ref is not None:
                thing = (<_Cell>slot.cell).ref()
            if thing is not None:
                (idle if state == SLOT_IDLE else busy).append(thing)
        return busy, idle

    def out_resources(self):
        """Return the resources that are out, in no particular order."""
        cdef uint32_t index
        cdef slot_t *slot
        cdef list found = []
        for index in range(<uint32_t>slots_load(&self._slots.created)):
            slot = slots_at(&self._slots, index)
            if not slot_latch(slot, SLOT_OUT):
                continue
            thing, ref = (<_Cell>slot.cell).thing, (<_Cell>slot.cell).ref
            slot_unlatch(slot)
            if thing is None and ref is not None:
                thing = ref()
            if thing is not None:
                found.append(thing)
        return found

    def idle_resources(self):
        """Return the idle resources, those that came back last at the end."""
        cdef uint64_t head = 0, below
        cdef slot_t *slot
        cdef list found = [], here
        cdef int attempt, number
        for number in range(SLOTS_LISTS):
            for attempt in range(100):
                here = []
                head = slots_load(&self._slots.idle[number].head)
                below = head & 0xFFFFFFFF
                while below:
                    slot = slots_at(&self._slots, <uint32_t>below - 1)
                    if not slot_latch(slot, SLOT_IDLE):
                        break
                    thing, stamp, below = (<_Cell>slot.cell).thing, slot.stamp, slots_load(&slot.next)
                    slot_unlatch(slot)
                    here.append((stamp, thing))
                # Otherwise somebody was there meanwhile.
                if slots_load(&self._slots.idle[number].head) == head:
                    break
            here.reverse()
            found += here
        found.sort(key=_first)
        return [thing for _stamp, thing in found]

    def is_out(self, resource):
        """Return whether *resource* is out."""
        cdef uint32_t index = slots_find(&self._slots, _key(resource))
        if index == SLOTS_NONE:
            return False
        return (slots_load(&slots_at(&self._slots, index).state) & SLOT_STATE) == SLOT_OUT

    def knows(self, resource):
        """Return whether *resource* is here: out, between or idle."""
        return slots_find(&self._slots, _key(resource)) != SLOTS_NONE

    def idle_seconds(self, resource):
        """Return for how many seconds *resource*, which the caller holds, was idle before; infinity if it is new."""
        cdef uint32_t index = slots_find(&self._slots, _key(resource))
        if index == SLOTS_NONE or not slots_at(&self._slots, index).since:
            return float("inf")
        return now() - slots_at(&self._slots, index).since

    def stats(self):
        """Return the numbers of places and resources as a dict.

        ``limit``, ``idle``, ``in_use`` and ``waiting`` are of this moment; ``made``, ``replaced``, ``waits`` and
        ``waited`` (seconds, all waits together) count from the beginning.
        """
        cdef uint64_t gate = slots_load(&self._slots.gate)
        return {
            "limit": self._limit,
            "idle": len(self.idle_resources()),
            "in_use": self._in_use(),
            "waiting": slots_waiting_of(gate),
            "made": slots_load(&self._slots.made),
            "replaced": slots_load(&self._slots.replaced),
            "waits": self._waits,
            "waited": self._waited,
        }
