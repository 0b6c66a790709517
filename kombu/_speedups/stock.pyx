"""Which resources a pool has, and where each is; the compiled twin of :mod:`kombu._pure.stock`.

Each stands in a slot of its own: see slots.h.
"""

import threading
from time import monotonic

cimport cython
from cpython.weakref cimport PyWeakref_NewRef
from libc.stdint cimport uint32_t, uint64_t, uintptr_t

from kombu._speedups.objects cimport pool_keep
from kombu._speedups.slots cimport (
    SLOTS_LISTS, SLOTS_NONE, SLOT_FREE, SLOT_HELD, SLOT_IDLE, SLOT_OUT, SLOT_STATE, slot_latch, slot_move_latched,
    slot_t, slot_unlatch, slots_add, slots_at, slots_destroy, slots_find, slots_give_spare, slots_init, slots_load,
    slots_seize, slots_send_out, slots_store, slots_take_spare, slots_take_up,
)

__all__ = ("VACANT", "Stock")

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


cdef double now() except? -1.0:
    """Return the seconds of a clock that nobody sets, to a few milliseconds."""
    if POOL_CLOCK:
        return pool_clock()
    return monotonic()


@cython.final
cdef class Answer:
    """What is returned instead of a resource."""

    def __cinit__(self, str name):
        self._name = name
        pool_keep(self)

    def __repr__(self):
        return self._name


VACANT = Answer("VACANT")

cdef object _VACANT = VACANT


@cython.final
cdef class Cell:
    """What is in a slot: a resource, or while it is out a weak reference to it, if it can have any."""


cdef inline object thing_of(Cell cell):
    """Return the resource of a cell; None if there is none, or none any more."""
    if cell.thing is None and cell.ref is not None:
        return cell.ref()
    return cell.thing


cdef inline uint64_t key_of(object resource) noexcept:
    return <uint64_t><uintptr_t><void *>resource


def _stamp_of(entry):
    return entry[0]


cdef class Stock:
    """Stock()
--

    The resources of a pool, and where each of them is: out, idle, or between. See :class:`kombu._pure.stock.Stock`.
    """

    def __cinit__(self):
        slots_init(&self._slots, 0)
        self._cells = []
        # Reentrant, because a finalizer may run at any moment, and may give a resource back.
        self._lock = threading.RLock()

    def __dealloc__(self):
        slots_destroy(&self._slots)

    # -- slots

    cdef uint32_t _spare(self) except? 0xffffffff:
        """Return a slot without a resource, held."""
        cdef uint32_t index = slots_take_spare(&self._slots)
        cdef slot_t *slot
        cdef Cell cell
        if index == SLOTS_NONE:
            raise MemoryError("no room for another slot")
        slot = slots_at(&self._slots, index)
        if slot.cell == NULL:
            cell = Cell()
            with self._lock:
                self._cells.append(cell)
            slot.cell = <void *>cell
        return index

    cdef int _fill(self, uint32_t index, resource) except -1:
        """Put *resource* into a held slot."""
        slots_store(&slots_at(&self._slots, index).key, key_of(resource))
        cell_at(self, index).thing = resource
        return 0

    cdef object _empty(self, uint32_t index):
        """Give a held slot back; return what was in it."""
        cdef Cell cell = cell_at(self, index)
        thing = thing_of(cell)
        cell.thing = cell.ref = None
        cell.target = 0
        slots_give_spare(&self._slots, index)
        return thing

    cdef int _send_out(self, uint32_t index, resource) except -1:
        """Let *resource*, of a held slot, be out."""
        cdef slot_t *slot = slots_at(&self._slots, index)
        cdef Cell cell = <Cell>slot.cell
        cdef uint64_t key = key_of(resource)
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
        cdef uint32_t index = slots_seize(&self._slots, key_of(resource), SLOT_OUT, SLOT_HELD)
        if index != SLOTS_NONE:
            cell_at(self, index).thing = resource
        return index

    cdef uint32_t _seize_gone(self, ref) except? 0xffffffff:
        """Return the slot, held, of the resource that *ref* referred to, if it was out."""
        cdef uint32_t index
        cdef slot_t *slot
        for index in range(<uint32_t>slots_load(&self._slots.created)):
            slot = slots_at(&self._slots, index)
            if not slot_latch(slot, SLOT_OUT):
                continue
            if (<Cell>slot.cell).ref is ref:
                slot_move_latched(slot, SLOT_HELD)
                return index
            slot_unlatch(slot)
        return SLOTS_NONE

    cdef uint32_t _held(self, resource):
        """Return the slot of *resource*, which the caller holds."""
        if resource is _VACANT:
            return SLOTS_NONE
        cdef uint32_t index = slots_find(&self._slots, key_of(resource))
        if index != SLOTS_NONE and (slots_load(&slots_at(&self._slots, index).state) & SLOT_STATE) != SLOT_HELD:
            return SLOTS_NONE
        return index

    cdef list _take_up_all(self):
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
        found.sort(key=_stamp_of)
        return [(number, index) for _stamp, number, index in found]

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
            thing = thing_of(<Cell>slot.cell)
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
            # Asked only when the latch is gone: a call may take long.
            thing, ref = (<Cell>slot.cell).thing, (<Cell>slot.cell).ref
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
                    thing, stamp, below = (<Cell>slot.cell).thing, slot.stamp, slots_load(&slot.next)
                    slot_unlatch(slot)
                    here.append((stamp, thing))
                # Otherwise somebody was there meanwhile.
                if slots_load(&self._slots.idle[number].head) == head:
                    break
            here.reverse()
            found += here
        found.sort(key=_stamp_of)
        return [thing for _stamp, thing in found]

    def is_out(self, resource):
        """Return whether *resource* is out."""
        cdef uint32_t index = slots_find(&self._slots, key_of(resource))
        if index == SLOTS_NONE:
            return False
        return (slots_load(&slots_at(&self._slots, index).state) & SLOT_STATE) == SLOT_OUT

    def knows(self, resource):
        """Return whether *resource* is here: out, between or idle."""
        return slots_find(&self._slots, key_of(resource)) != SLOTS_NONE

    def idle_seconds(self, resource):
        """Return for how many seconds *resource*, which the caller holds, was idle before; infinity if it is new."""
        cdef uint32_t index = slots_find(&self._slots, key_of(resource))
        if index == SLOTS_NONE or not slots_at(&self._slots, index).since:
            return float("inf")
        return now() - slots_at(&self._slots, index).since
