"""Places for resources, and lending them; the compiled twin of :mod:`kombu._pure.pool`.

Taking a place with the warmest idle resource and giving both back are two compare-and-exchange operations each: see
slots.h.  A lock is taken only where somebody has to wait, and to resize or clear.
"""

import os
import threading
import weakref
from collections import deque
from time import monotonic

cimport cython
from cpython.weakref cimport PyWeakref_NewRef
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

__all__ = (
    "CLOSED",
    "FULL",
    "UNLIMITED",
    "VACANT",
    "Hashed",
    "Lender",
    "Lent",
    "PoolMap",
    "ProducerLender",
    "Return",
    "SlotPool",
    "channel_is_open",
    "connection_is_open",
    "evaluated",
    "evaluated_channel",
    "identity",
    "rejoin",
    "verify_connection",
)

#: See kombu._core.ABI.
ABI = 1


cdef extern from "slots.h" nogil:
    ctypedef uint64_t slots_word
    ctypedef struct slot_t:
        slots_word state
        slots_word key
        slots_word next
        void *cell
        double since
        double stamp
        int tied
    ctypedef struct slots_list:
        slots_word head
    ctypedef struct slots_t:
        slots_word gate
        slots_list *idle
        slots_word created
        slots_word made
        slots_word replaced
    int SLOT_HELD, SLOT_OUT, SLOT_IDLE, SLOT_FREE
    int SLOTS_LISTS
    uint64_t SLOT_STATE, SLOTS_MOST, SLOTS_CLOSED
    uint32_t SLOTS_NONE
    int SLOTS_YES, SLOTS_FULL, SLOTS_SHUT, SLOTS_QUEUE, SLOTS_ALERT, SLOTS_GONE
    uint64_t slots_load(slots_word *word)
    void slots_store(slots_word *word, uint64_t value)
    uint64_t slots_add(slots_word *word, uint64_t value)
    uint64_t slots_limit_of(uint64_t gate)
    uint64_t slots_taken_of(uint64_t gate)
    uint64_t slots_waiting_of(uint64_t gate)
    bint slots_surplus(uint64_t gate)
    void slots_init(slots_t *slots, int64_t limit)
    void slots_destroy(slots_t *slots)
    slot_t *slots_at(slots_t *slots, uint32_t index)
    bint slot_latch(slot_t *slot, int state)
    void slot_unlatch(slot_t *slot)
    bint slot_move(slot_t *slot, int before, int after)
    void slot_move_latched(slot_t *slot, int after)
    uint32_t slots_seize(slots_t *slots, uint64_t key, int before, int after)
    uint32_t slots_find(slots_t *slots, uint64_t key)
    uint32_t slots_take_spare(slots_t *slots)
    void slots_give_spare(slots_t *slots, uint32_t index)
    void slots_send_out(slots_t *slots, uint32_t index)
    void slots_lay_down(slots_t *slots, uint32_t index, uint32_t list)
    uint32_t slots_take_up(slots_t *slots, uint32_t list)
    uint32_t slots_find_parked(slots_t *slots)
    int slots_take(slots_t *slots, uint32_t *index)
    int slots_park(slots_t *slots, uint32_t index)
    int slots_leave(slots_t *slots)
    uint32_t slots_count_idle(slots_t *slots)
    int slots_reserve_or_queue(slots_t *slots)
    int slots_take_for_waiter(slots_t *slots, uint32_t *index)
    uint32_t slots_take_surplus(slots_t *slots)
    void slots_unqueue(slots_t *slots)
    void slots_drop_place(slots_t *slots)
    void slots_close(slots_t *slots, bint closed)
    void slots_set_limit(slots_t *slots, int64_t limit)
    bint slots_put(slots_t *slots, uint32_t index)


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


cdef double _FOREVER = float("inf")

#: Seconds that somebody waits before a search for places that were lost, and between two.
cdef double _SEARCH_AFTER = 0.2


cdef double _now() except? -1.0:
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

#: As many places as there can be.
UNLIMITED = 2**21 - 1

cdef long _generation = 0


def _renew():
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@cython.final
cdef class _Waiter:
    """A thread that waits for a place; the gate opens when *answer* is there."""

    cdef object answer
    cdef object gate
    cdef uint32_t index

    def __cinit__(self):
        self.answer = _PENDING
        self.index = SLOTS_NONE
        # Not imported by name: gevent and eventlet may replace it later.
        self.gate = threading.Lock()
        self.gate.acquire()


@cython.final
cdef class _Cell:
    """What is in a slot: a resource, or while it is out a weak reference to it, if it can have any."""

    cdef object thing
    cdef object ref
    #: Identity of what *ref* refers to.
    cdef uint64_t target


@cython.final
cdef class _Reclaimer:
    """Be told when a resource that is out is gone."""

    cdef object pool

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

    cdef slots_t _slots
    cdef Py_ssize_t _limit
    cdef object _waiters
    cdef readonly object _lock
    cdef list _cells
    cdef _Reclaimer _reclaimer
    cdef Py_ssize_t _waits
    cdef double _waited
    cdef object __weakref__
    #: Called without arguments after a resource was lost.
    cdef public object lost
    #: Called with a resource that is to be closed, where no caller can be told.
    cdef public object unwanted
    #: Called without arguments, and without a lock, to free places that were lost; returns whether it did.
    cdef public object search

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

    cdef inline _Cell _cell(self, uint32_t index):
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

    cdef inline int _send_out(self, uint32_t index, resource) except -1:
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

    cdef inline uint32_t _seize(self, resource) except? 0xffffffff:
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
            slot.since = slot.stamp = _now()
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
        slots_at(&self._slots, index).stamp = _now()
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
        return _now() - slots_at(&self._slots, index).since

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


def channel_is_open(channel):
    """Return whether *channel* can be used, as far as it says so; asks nobody."""
    return _channel_is_open(channel)


cdef inline bint _channel_is_open(channel) except -1:
    # The connection is looked at last: it is what threads share, and a look at it is counted.
    is_open, closed = getattr(channel, "is_open", None), getattr(channel, "closed", None)
    if is_open is False or closed is True:
        return False
    return is_open is True or closed is False or getattr(channel, "connection", True) is not None


def verify_connection(self, connection):
    """Return whether *connection* is usable still, as far as is known without asking the broker."""
    return True


def connection_is_open(connection):
    """Return whether *connection* was not lost, or was never made; the transport says what it knows already."""
    return _connection_is_open(connection)


cdef inline bint _connection_is_open(connection) except -1:
    if connection._closed:
        return False
    raw, transport = connection._connection, connection._transport
    if raw is None or transport is None:
        return connection._pid is None
    return bool(transport.verify_connection(raw))


def evaluated(self, resource):
    """Return *resource*, ready for use; what is lazy is made now.  (To be the method ``prepare`` of a pool.)"""
    return resource() if callable(resource) else resource


def evaluated_channel(self, channel):
    """Return *channel*, ready for use: :func:`evaluated` under the name that channel pools give its argument."""
    return channel() if callable(channel) else channel


cdef extern from *:
    """
    /* Changes whenever a class or one of its bases does; 0 while nobody has looked anything up since. */
    #define pool_version_of(thing) (Py_TYPE(thing)->tp_version_tag)
    #define pool_lends(thing, lender) PyObject_TypeCheck((PyObject *)(thing), (PyTypeObject *)(lender))
    #ifdef Py_GIL_DISABLED
    /* Make a function immortal, which it is anyway: what every thread calls is counted by all of them, in one word. */
    #define pool_keep(thing) Py_SET_REFCNT(thing, PY_SSIZE_T_MAX)
    #else
    #define pool_keep(thing) ((void)(thing))
    #endif
    #if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    /* What all threads use is not counted by each of them then; the garbage collector finds out when nobody does. */
    #define pool_share(thing) PyUnstable_Object_EnableDeferredRefcount(thing)
    #else
    #define pool_share(thing) ((void)(thing))
    #endif
    #define pool_delattr(thing, name) PyObject_GenericSetAttr(thing, name, NULL)
    #define hashed_compare(a, b, op) PyList_Type.tp_richcompare(a, b, op)
    """
    object hashed_compare(object a, object b, int op)
    unsigned int pool_version_of(object thing)
    bint pool_lends(void *thing, void *lender)
    void pool_keep(object thing)
    void pool_share(object thing)
    int pool_delattr(object thing, object name) except -1
    int PyObject_GenericSetAttr(object thing, object name, object value) except -1


#: Which methods of a pool are those defined here, so that there is no need to call them as Python does.
cdef enum:
    OWN_ACQUIRE = 1
    OWN_RELEASE = 2
    OWN_USABLE = 4
    OWN_PREPARE = 8
    OWN_EVALUATED = 16
    OWN_RELEASE_RESOURCE = 32

#: What *_quick_check* is.
cdef enum:
    CHECK_NONE = 0
    CHECK_CONNECTION = 1
    CHECK_CHANNEL = 2
    CHECK_OTHER = 3

cdef frozenset _HOOKS = frozenset(["acquire", "release", "is_usable", "prepare", "release_resource"])


@cython.auto_pickle(False)
cdef class Lender:
    """Lend resources: :meth:`acquire` and :meth:`release` of :class:`kombu.resource.Resource`, which has the rest."""

    cdef SlotPool _places
    cdef object _check
    cdef int _check_kind
    cdef public double _look_after
    cdef bint _unlimited
    cdef long _generation
    #: Version of the class for which *_own* is true.
    cdef unsigned int _version
    cdef int _own
    #: Whether a method was replaced in this instance.
    cdef bint _replaced_hook

    def __cinit__(self):
        pool_share(self)

    @property
    def _slots(self):
        return self._places

    @property
    def _quick_check(self):
        """Tells whether a resource is usable that came back a moment ago; instead of :meth:`is_usable`."""
        return self._check

    @_quick_check.setter
    def _quick_check(self, check):
        self._check = check
        if check is None:
            self._check_kind = CHECK_NONE
        elif check is connection_is_open:
            self._check_kind = CHECK_CONNECTION
        else:
            self._check_kind = CHECK_CHANNEL if check is channel_is_open else CHECK_OTHER

    def __setattr__(self, name, value):
        if name in _HOOKS:
            self._replaced_hook = True
        PyObject_GenericSetAttr(self, name, value)

    def __delattr__(self, name):
        pool_delattr(self, name)

    def _open(self, SlotPool slots, bint unlimited):
        """Lend from *slots*; without a limit nothing is kept."""
        self._places = slots
        self._unlimited = unlimited
        self._generation = _generation

    def _is_inherited(self):
        """Return whether this process was forked since the pool was opened."""
        return self._generation != _generation

    def prepare(self, resource):
        """Return *resource*, ready for use."""
        return resource

    def is_usable(self, resource):
        """Return whether *resource* is alive, as far as can be told without asking anybody."""
        return True

    def release_resource(self, resource):
        """Do what is to be done when *resource* comes back."""

    def acquire(self, bint block=False, timeout=None):
        """Return a resource; its method ``release()``, or :meth:`release`, gives it back.

        Arguments:
            block: Whether to wait where all are in use. Who waits is served in order.
            timeout: Seconds to wait at most, None for ever.

        Raises:
            kombu.exceptions.LimitExceeded: if all are in use and none came back in time; it has the attributes
                ``limit`` and ``in_use``.
            RuntimeError: if the pool is closed.
        """
        return self._lend(block, timeout)

    def release(self, resource):
        """Take *resource* back; harmless where that was done before.

        Raises:
            ValueError: if it belongs to another pool.
        """
        self._take_back(resource)

    cdef inline int _hooks(self) except -1:
        """Return which methods are those of this module."""
        cdef unsigned int version = pool_version_of(self)
        if version == self._version and version != 0 and not self._replaced_hook:
            return self._own
        return self._look_at_hooks()

    cdef int _look_at_hooks(self) except -1:
        cdef int own = self._own_hooks()
        if not self._replaced_hook:
            # In this order: who finds the version finds what belongs to it.
            self._own = own
            self._version = pool_version_of(self)
            return own
        for name, bits in (
            ("acquire", OWN_ACQUIRE),
            ("release", OWN_RELEASE),
            ("is_usable", OWN_USABLE),
            ("prepare", OWN_PREPARE | OWN_EVALUATED),
            ("release_resource", OWN_RELEASE_RESOURCE),
        ):
            if name in self.__dict__:
                own &= ~bits
        return own

    cdef int _own_hooks(self) except -1:
        """Return which methods the class of this object has from here."""
        cls = type(self)
        return (
            (OWN_ACQUIRE if cls.acquire is Lender.acquire else 0)
            | (OWN_RELEASE if cls.release is Lender.release else 0)
            | (OWN_USABLE if cls.is_usable is Lender.is_usable else 0)
            | (OWN_PREPARE if cls.prepare is Lender.prepare else 0)
            | (OWN_EVALUATED if cls.prepare is evaluated or cls.prepare is evaluated_channel else 0)
            | (OWN_RELEASE_RESOURCE if cls.release_resource is Lender.release_resource else 0)
        )

    cdef bint _is_alive(self, item, slot_t *slot, int own) except -1:
        """Return whether *item*, which was idle, may go out."""
        # Looked at closely only after a while: see ConnectionPool.
        if self._check_kind and slot.since and (self._look_after == _FOREVER or _now() - slot.since < self._look_after):
            if self._check_kind == CHECK_CONNECTION:
                return _connection_is_open(item)
            if self._check_kind == CHECK_CHANNEL:
                return _channel_is_open(item)
            return bool(self._check(item))
        return True if own & OWN_USABLE else bool(self.is_usable(item))

    cdef object _ready(self, item, int own, bint block, timeout, double since):
        """Return what the user gets for *item*; see :meth:`ProducerLender._ready` for the other arguments."""
        if own & OWN_PREPARE:
            return item
        if own & OWN_EVALUATED:
            return item() if callable(item) else item
        return self.prepare(item)

    cdef object _make(self, bint block, timeout, double since):
        """Return a new resource."""
        return self.new()

    cdef object _lend(self, bint block, timeout):
        if self._generation != _generation:
            self._after_fork()
        # The pool keeps its places alive.  A reference of its own would be counted, by all threads, in one word.
        cdef void *places = <void *>self._places
        return self._lend_from(<SlotPool>places, block, timeout)

    cdef object _lend_from(self, SlotPool places, bint block, timeout):
        cdef uint32_t index, spare = SLOTS_NONE
        cdef slot_t *slot
        cdef double since = 0.0
        cdef int own = self._hooks()
        if timeout is not None:
            since = monotonic()
        item = places._take(block, timeout, &index)
        if index == SLOTS_NONE and (item is _FULL or item is _CLOSED):
            self._refuse(item, places)
        try:
            if index != SLOTS_NONE:
                if not self._is_alive(item, slots_at(&places._slots, index), own):
                    dead, item = item, _VACANT
                    slots_add(&places._slots.replaced, 1)
                    places._empty(index)
                    index = SLOTS_NONE
                    self._let_go(dead)
            if index == SLOTS_NONE:
                item = self._make(block, timeout, since)
            resource = self._ready(item, own, block, timeout, since)
            if index == SLOTS_NONE:
                index = spare = places._spare()
            slot = slots_at(&places._slots, index)
            if resource is not item or not slot.tied:
                self._tie(resource)
            places._send_out(index, resource)
        except BaseException:
            if spare != SLOTS_NONE:
                places._empty(spare)
                index = SLOTS_NONE
            self._abandon(places, index, item)
            raise
        return resource

    cdef int _abandon(self, SlotPool places, uint32_t index, item) except -1:
        """Give back a place that could not be filled, for which *item* was meant; *index* is its slot, if it has one."""
        cdef bint keep = False
        try:
            keep = self._give_up(item)
        finally:
            if keep and index == SLOTS_NONE:
                index = places._spare()
                places._fill(index, item)
            elif not keep and index != SLOTS_NONE:
                slots_add(&places._slots.replaced, 1)
            self._discard(places._leave(index, keep))
        return 0

    cdef int _take_back(self, resource) except -1:
        if self._generation != _generation:
            self._after_fork()
        cdef void *places = <void *>self._places
        return self._take_back_to(<SlotPool>places, resource)

    cdef int _take_back_to(self, SlotPool places, resource) except -1:
        cdef uint32_t index
        cdef bint keep = False
        cdef int own
        index = places._seize(resource)
        if index == SLOTS_NONE:
            self._release_stray(resource)
            return 0
        if self._unlimited:
            try:
                self._part_with(resource, self.close_resource)
            finally:
                self._discard(places._leave(index, False))
            return 0
        own = self._hooks()
        try:
            self._welcome_back(resource, own)
            # Where there is a quick check, the next acquire is soon enough for it.
            keep = self._check_kind or own & OWN_USABLE or self.is_usable(resource)
        finally:
            if not keep:
                try:
                    self._let_go(resource)
                finally:
                    slots_add(&places._slots.replaced, 1)
                    self._discard(places._leave(index, False))
        if keep:
            surplus = places._leave(index, True)
            if surplus is not _VACANT:
                self._discard(surplus)
        return 0

    cdef int _welcome_back(self, resource, int own) except -1:
        """Do what is to be done when *resource* comes back."""
        if not own & OWN_RELEASE_RESOURCE:
            self.release_resource(resource)
        return 0

    cdef int _discard(self, surplus) except -1:
        """Close what a place that was given back left over, if that is anything."""
        if surplus is not _VACANT:
            self._close_surplus(surplus)
        return 0


@cython.auto_pickle(False)
cdef class Lent:
    """A resource that knows its pool; to be derived from."""

    #: The pool that it belongs to, if it does to one.
    cdef public object _pool

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_val, exc_tb):
        if exc_val is None or not self._replaced_after(exc_val):
            self.release()

    def _replaced_after(self, exc):
        """Let the pool replace what *exc*, which ended a use of this, has spoilt; return whether this was it itself."""
        return False

    def release(self):
        """Give this back to the pool that it came from, if it came from one; harmless where that was done before."""
        # Not held here: the pool is kept by whoever made this its resource.
        cdef void *pool = <void *>self._pool
        if not pool_lends(pool, <void *>Lender):
            if self._pool is not None:
                self._pool.release(self)
        elif (<Lender>pool)._hooks() & OWN_RELEASE:
            (<Lender>pool)._take_back(self)
        else:
            self._pool.release(self)


@cython.final
cdef class Return:
    """Return one resource to its pool; this is the ``release`` of resources whose class has none that does.

    The two refer to each other, since ``pool.acquire().release()`` and a ``release`` passed on have to work.  So one is
    made for each resource, not for each use, and the pool unties them when it lets the resource go.
    """

    cdef readonly object pool
    cdef readonly object resource

    def __init__(self, pool, resource):
        self.pool = pool
        self.resource = resource

    def __call__(self):
        """Return the resource to its pool; harmless where that was done before."""
        cdef void *pool = <void *>self.pool
        if pool_lends(pool, <void *>Lender) and (<Lender>pool)._hooks() & OWN_RELEASE:
            (<Lender>pool)._take_back(<object><void *>self.resource)
        else:
            self.pool.release(self.resource)


# -- producers -------------------------------------------------------------------------------------------------------


def rejoin(producer, connection):
    """Let *producer* go on with *connection*, if it was on that last and its exchange is bound there still.

    A pooled producer mostly gets the connection that it had, and copying the exchange is most of the work otherwise.

    Returns:
        Whether it did; if not, nothing has changed.
    """
    return _rejoin(producer, connection)


cdef bint _rejoin(producer, connection) except -1:
    if producer._last_connection is not connection:
        return False
    exchange = producer.exchange
    bound_to = exchange._channel
    if bound_to is None or not exchange._is_bound:
        return False
    if bound_to is producer._last_promise:
        if "__value__" in bound_to.__dict__:
            return False
    elif bound_to is not connection._default_channel or not _channel_is_open(bound_to):
        return False
    elif producer.on_return:
        bound_to.events["basic_return"].add(producer.on_return)
    producer.__connection__ = connection
    if producer._client is not None:
        producer._client = None
    producer._channel = bound_to
    return True


@cython.auto_pickle(False)
cdef class ProducerLender(Lender):
    """Lend producers, each with a connection of *connections*; :class:`kombu.pools.ProducerPool` has the rest.

    To acquire a producer is to acquire a connection too: *block* and *timeout* hold for both together.
    """

    #: The pool of connections.
    cdef public object connections
    #: ``revive`` of the producers whose way to another connection is known here.
    cdef public object _known_revive
    #: A threading.local with the ``limits`` of this thread: block, timeout and since when.
    cdef public object _patience

    def prepare(self, p):
        """Return the producer *p*, or the one that it promises, with a connection."""
        if callable(p):
            p = p()
        if p._channel is None:
            block, timeout, since = self._patience.limits
            self._join(p, block, timeout, since)
        return p

    def release_resource(self, resource):
        """Take the connection from *resource*.

        This is before its place is free: whoever gets that finds a connection.
        """
        self._part(resource)

    def _acquire_connection(self):
        block, timeout, since = self._patience.limits
        return self._connect(block, timeout, since)

    def _take_connection(self, producer):
        """Return the connection of *producer* to its pool, once."""
        self._part(producer)

    cdef int _own_hooks(self) except -1:
        cls = type(self)
        return (
            Lender._own_hooks(self)
            | (OWN_PREPARE if cls.prepare is ProducerLender.prepare else 0)
            | (OWN_RELEASE_RESOURCE if cls.release_resource is ProducerLender.release_resource else 0)
        )

    cdef object _ready(self, item, int own, bint block, timeout, double since):
        if own & OWN_PREPARE and not callable(item):
            if item._channel is None:
                self._join(item, block, timeout, since)
            return item
        patience = self._patience
        before = patience.limits
        patience.limits = (block, timeout, since)
        try:
            return self.prepare(item)
        finally:
            patience.limits = before

    cdef object _make(self, bint block, timeout, double since):
        patience = self._patience
        before = patience.limits
        patience.limits = (block, timeout, since)
        try:
            return self.new()
        finally:
            patience.limits = before

    cdef int _welcome_back(self, resource, int own) except -1:
        if own & OWN_RELEASE_RESOURCE:
            self._part(resource)
        else:
            self.release_resource(resource)
        return 0

    cdef object _connect(self, bint block, timeout, double since):
        """Acquire a connection, within what is left of the time."""
        pool = self.connections
        if block and timeout is not None:
            timeout = max(since + timeout - <double>monotonic(), 0.0)
        if isinstance(pool, Lender) and (<Lender>pool)._hooks() & OWN_ACQUIRE:
            return (<Lender>pool)._lend(block, timeout)
        return pool.acquire(block, timeout)

    cdef int _join(self, producer, bint block, timeout, double since) except -1:
        """Give a connection to *producer*."""
        connection = self._connect(block, timeout, since)
        try:
            if type(producer).revive is not self._known_revive or not _rejoin(producer, connection):
                producer.revive(connection)
        except BaseException:
            connection.release()
            raise
        return 0

    cdef int _part(self, producer) except -1:
        connection = producer.__connection__
        if connection is not None:
            producer.__connection__ = None
        producer._channel = None
        if producer._client is not None:
            producer._client = None
        if connection:
            connection.release()
        return 0


@cython.auto_pickle(False)
cdef class Hashed(list):
    """A list that is hashed by its attribute *hashvalue*; to be derived from."""

    cdef public object hashvalue

    def __hash__(self):
        return self.hashvalue

    def __richcmp__(self, other, int op):
        # What defines one of the two does not get the other from list.
        return hashed_compare(self, other, op)


# -- pools by connection ---------------------------------------------------------------------------------------------


cdef bint _same_parameters(connection, tuple known) except -1:
    """Return whether *connection* has the parameters still for which *known* was made: (key, options, their items)."""
    cdef list key = <list>known[0]
    cdef tuple items
    cdef Py_ssize_t at = 0
    if (
        connection.hostname is not key[1]
        or connection.virtual_host is not key[4]
        or connection.port is not key[5]
        or connection.userid is not key[2]
        or connection.password is not key[3]
        or connection.transport_cls is not key[0]
    ):
        return False
    options = connection.transport_options
    if options is not known[1] or known[2] is None:
        return False
    items = <tuple>known[2]
    if not options:
        return not items
    if len(options) * 2 != len(items):
        return False
    for name, value in options.items():
        if at + 1 >= len(items) or name is not items[at] or value is not items[at + 1]:
            return False
        at += 2
    return True


def identity(self):
    """Return what a connection is equal by, as a key; the same one as before if its parameters have not changed."""
    return _identity(self)


cdef object _identity(connection):
    known = connection._known_identity
    if known is not None and _same_parameters(connection, <tuple?>known):
        return (<tuple>known)[0]
    return connection._new_identity()


@cython.auto_pickle(False)
cdef class PoolMap(dict):
    """A dict of pools that files them under what their keys are equal by; see :class:`kombu.pools.PoolGroup`."""

    cdef long _generation
    #: Version of the class of keys that have :func:`identity`.
    cdef unsigned int _known_version

    def __cinit__(self):
        self._generation = _generation

    def __getitem__(self, key):
        if self._generation != _generation:
            self._after_fork()
            self._generation = _generation
        cdef unsigned int version = pool_version_of(key)
        if version == 0 or version != self._known_version:
            if getattr(type(key), "__eqhash__", None) is not identity:
                return self._get(key)
            self._known_version = pool_version_of(key)
        pool = (<dict>self).get(_identity(key))
        return self.__missing__(key) if pool is None else pool


for _hot in (
    Lender.acquire, Lender.release, Lent.release, Lent.__enter__, Lent.__exit__, Return.__call__, PoolMap.__getitem__,
):
    pool_keep(_hot)
