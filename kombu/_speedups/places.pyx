"""Places for resources: who may have one; the compiled twin of :mod:`kombu._pure.places`.

Taking a place with the warmest idle resource and giving both back are two compare-and-exchange operations each: see
slots.h.  A lock is taken only where somebody has to wait, and to resize or clear.
"""

import weakref
from time import monotonic

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from kombu._speedups.slots cimport (
    SLOTS_ALERT, SLOTS_CLOSED, SLOTS_FULL, SLOTS_NONE, SLOTS_QUEUE, SLOTS_SHUT, SLOTS_YES, SLOT_HELD, SLOT_OUT,
    slot_move, slot_t, slots_add, slots_at, slots_close, slots_count_idle, slots_drop_place, slots_find_parked,
    slots_lay_down, slots_leave, slots_limit_of, slots_load, slots_park, slots_put, slots_reserve_or_queue,
    slots_set_limit, slots_surplus, slots_take, slots_take_for_waiter, slots_take_surplus, slots_taken_of,
    slots_unqueue, slots_waiting_of,
)
from kombu._speedups.stock cimport Answer, Stock, cell_at, now
from kombu._speedups.waiters cimport Waiter, Waiters

from kombu._speedups.stock import VACANT

__all__ = ("CLOSED", "FULL", "UNLIMITED", "VACANT", "SlotPool")

#: See kombu._core.ABI.
ABI = 1

FULL = Answer("FULL")
CLOSED = Answer("CLOSED")

cdef object _VACANT = VACANT
cdef object _FULL = FULL
cdef object _CLOSED = CLOSED

#: As many places as there can be.
UNLIMITED = 2**21 - 1


@cython.final
cdef class _Reclaimer:
    """Be told when a resource that is out is gone."""

    cdef object pool

    def __cinit__(self, pool):
        self.pool = weakref.ref(pool)

    def __call__(self, ref):
        cdef SlotPool pool = self.pool()
        if pool is not None:
            pool._reclaim(ref)


cdef inline object answer_of(SlotPool pool, int said, uint32_t index):
    """Return what :meth:`SlotPool.acquire` does for what slots.h said."""
    if said == SLOTS_YES:
        return _VACANT if index == SLOTS_NONE else cell_at(pool, index).thing
    return _CLOSED if said == SLOTS_SHUT else _FULL


@cython.final
@cython.embedsignature(False)
cdef class SlotPool(Stock):
    """SlotPool(limit=0)
--

    Give out at most *limit* places; keep the resources that nobody uses.

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
        slots_set_limit(&self._slots, limit)
        self._limit = limit
        self._waiters = Waiters(self._lock)
        self._reclaimer = _Reclaimer(self)

    def __init__(self, Py_ssize_t limit=0):
        # All is done by now.
        pass

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
        cdef Py_ssize_t taken = slots_taken_of(slots_load(&self._slots.gate))
        return max(taken - <Py_ssize_t>slots_count_idle(&self._slots), 0)

    @property
    def waiting(self):
        """The number of threads that wait for a place."""
        return slots_waiting_of(slots_load(&self._slots.gate))

    # -- taking a place

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
        """Do what :meth:`acquire` does; *index* becomes that of the slot that goes with the place, if one does."""
        cdef int said
        if block and timeout is not None and timeout < 0:
            raise ValueError(f"timeout must not be negative: {timeout!r}")
        said = slots_take(&self._slots, index)
        if said != SLOTS_FULL:
            return answer_of(self, said, index[0])
        if block and timeout != 0:
            said = self._wait(timeout, index)
        else:
            # Parked slots are not on their lists for a moment while a pool is resized, which takes the lock.
            with self._lock:
                said = slots_take(&self._slots, index)
            if said == SLOTS_FULL and self.search is not None and self.search():
                said = slots_take(&self._slots, index)
        return answer_of(self, said, index[0])

    cdef int _wait(self, timeout, uint32_t *index) except -1:
        """Wait for a place; return what slots.h says."""
        cdef Waiter waiter
        cdef double since
        cdef int said = SLOTS_FULL
        with self._lock:
            # In line before it is counted: who sees the count finds the waiter.
            waiter = self._waiters.join()
            said = slots_reserve_or_queue(&self._slots)
            if said == SLOTS_QUEUE:
                # Counted before this look at what is parked: who parks after it sees the count.
                self._serve()
            else:
                self._waiters.remove(waiter)
        if said != SLOTS_QUEUE:
            return said
        since = monotonic()
        try:
            self._waiters.wait(waiter, since, timeout, self.search)
        except BaseException:
            self._stop_waiting(waiter, since)
            if waiter.said == SLOTS_YES:
                # Given in the same moment.
                self._report(self._leave(waiter.index, True))
            raise
        self._stop_waiting(waiter, since)
        index[0] = waiter.index
        return waiter.said

    cdef int _stop_waiting(self, Waiter waiter, double since) except -1:
        with self._lock:
            if self._waiters.stop(waiter, since):
                slots_unqueue(&self._slots)
        return 0

    def occupy(self, resource, item=VACANT):
        """Note that *resource* fills a reserved place and is out; *item* is what :meth:`acquire` returned for it."""
        cdef uint32_t index = self._held(item)
        if index == SLOTS_NONE:
            index = self._held(resource)
        if index == SLOTS_NONE:
            index = self._spare()
        self._send_out(index, resource)

    # -- giving it back

    def withdraw(self, resource):
        """Note that *resource* is not out any more, but keep its place reserved; return False if it was not out."""
        return self._seize(resource) != SLOTS_NONE

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
        cdef int said
        cdef slot_t *slot
        if index != SLOTS_NONE and keep:
            slot = slots_at(&self._slots, index)
            slot.since = slot.stamp = now()
            said = slots_park(&self._slots, index)
            if said == SLOTS_YES:
                return _VACANT
            return self._settle(index if said != SLOTS_ALERT else SLOTS_NONE)
        if index != SLOTS_NONE:
            self._empty(index)
        if slots_leave(&self._slots) != SLOTS_YES:
            with self._lock:
                if slots_leave(&self._slots) != SLOTS_YES:
                    self._answer_first(SLOTS_YES, SLOTS_NONE)
        return _VACANT

    cdef object _settle(self, uint32_t index):
        """See to those who wait, and to what is too many; *index* is a held slot that comes back, if it is not parked.

        Returns:
            What is to be closed, or VACANT.
        """
        cdef uint64_t gate
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
                    self._answer_first(SLOTS_YES, index)
                else:
                    # As the count of those who wait, the limit and the rest change under the lock only.
                    slots_park(&self._slots, index)
            self._serve()
        return surplus

    cdef int _answer_first(self, int said, uint32_t index) except -1:
        """Answer the first who waits: with a place, and its slot if it has one, or that none comes; the lock is held."""
        slots_unqueue(&self._slots)
        return self._waiters.answer_first(said, index)

    cdef int _serve(self) except -1:
        """Give the places that are free to those who wait; the lock is held."""
        cdef uint32_t index
        while slots_take_for_waiter(&self._slots, &index) == SLOTS_YES:
            self._answer_first(SLOTS_YES, index)
        return 0

    cdef int _reclaim(self, ref) except -1:
        """Free the place of a resource that is gone."""
        cdef uint32_t index = self._seize_gone(ref)
        if index == SLOTS_NONE:
            return 0
        slots_add(&self._slots.replaced, 1)
        surplus = self._leave(index, False)
        if self.lost is not None:
            self.lost()
        return self._report(surplus)

    cdef int _report(self, surplus) except -1:
        """Have closed what no caller can be told of."""
        if surplus is not _VACANT and self.unwanted is not None:
            self.unwanted(surplus)
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
                for number, index in self._take_up_all():
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
            for number, index in self._take_up_all():
                idle.append(self._empty(index))
                slots_drop_place(&self._slots)
            while close and len(self._waiters):
                self._answer_first(SLOTS_SHUT, SLOTS_NONE)
            self._serve()
        return out, idle

    def stats(self):
        """Return the numbers of places and resources as a dict.

        ``limit``, ``idle``, ``in_use`` and ``waiting`` are of this moment; ``made``, ``replaced``, ``waits`` and
        ``waited`` (seconds, all waits together) count from the beginning.
        """
        return {
            "limit": self.limit,
            "idle": len(self.idle_resources()),
            "in_use": self.in_use,
            "waiting": self.waiting,
            "made": slots_load(&self._slots.made),
            "replaced": slots_load(&self._slots.replaced),
            "waits": self._waiters.waits,
            "waited": self._waiters.waited,
        }
