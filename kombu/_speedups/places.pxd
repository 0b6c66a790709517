"""What the other compiled modules may use of the places."""

from libc.stdint cimport uint32_t, uint64_t

from kombu._speedups.slots cimport slots_t

cdef double now() except? -1.0

cdef class _Waiter:
    cdef object answer
    cdef object gate
    cdef uint32_t index

cdef class _Cell:
    cdef object thing
    cdef object ref
    #: Identity of what *ref* refers to.
    cdef uint64_t target

cdef class _Reclaimer:
    cdef object pool

cdef class SlotPool:
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

    cdef _Cell _cell(self, uint32_t index)
    cdef Py_ssize_t _in_use(self)
    cdef uint32_t _spare(self) except? 0xffffffff
    cdef object _empty(self, uint32_t index)
    cdef int _fill(self, uint32_t index, resource) except -1
    cdef int _send_out(self, uint32_t index, resource) except -1
    cdef uint32_t _seize(self, resource) except? 0xffffffff
    cdef uint32_t _held(self, resource)
    cdef object _take(self, bint block, timeout, uint32_t *index)
    cdef object _wait(self, timeout, uint32_t *index)
    cdef int _wait_and_search(self, _Waiter waiter, double since, timeout) except -1
    cdef int _stop_waiting(self, _Waiter waiter, double since, bint interrupted) except -1
    cdef int _occupy(self, uint32_t index, resource) except -1
    cdef object _leave(self, uint32_t index, bint keep)
    cdef object _settle(self, uint32_t index)
    cdef int _pass_on(self, uint32_t index) except -1
    cdef int _serve(self) except -1
    cdef list _take_all(self)
    cdef int _reclaim(self, ref) except -1
