"""What the other compiled modules may use of the places."""

from libc.stdint cimport uint32_t

from kombu._speedups.stock cimport Stock
from kombu._speedups.waiters cimport Waiter, Waiters

cdef class SlotPool(Stock):
    cdef Py_ssize_t _limit
    cdef Waiters _waiters
    #: Called without arguments after a resource was lost.
    cdef public object lost
    #: Called with a resource that is to be closed, where no caller can be told.
    cdef public object unwanted
    #: Called without arguments, and without a lock, to free places that were lost; returns whether it did.
    cdef public object search

    cdef object _take(self, bint block, timeout, uint32_t *index)
    cdef int _wait(self, timeout, uint32_t *index) except -1
    cdef int _stop_waiting(self, Waiter waiter, double since) except -1
    cdef object _leave(self, uint32_t index, bint keep)
    cdef object _settle(self, uint32_t index)
    cdef int _answer_first(self, int said, uint32_t index) except -1
    cdef int _serve(self) except -1
    cdef int _reclaim(self, ref) except -1
    cdef int _report(self, surplus) except -1
