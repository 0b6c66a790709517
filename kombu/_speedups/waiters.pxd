"""What the other compiled modules may use of those who wait."""

from libc.stdint cimport uint32_t

cdef class Waiter:
    #: What slots.h says: SLOTS_QUEUE until there is an answer.
    cdef int said
    #: The slot of the place, if it has one.
    cdef uint32_t index
    cdef object gate

cdef class Waiters:
    #: How often somebody waited, and for how many seconds, all waits together.
    cdef Py_ssize_t waits
    cdef double waited
    cdef object _line
    cdef object _lock

    cdef Waiter join(self)
    cdef int remove(self, Waiter waiter) except -1
    cdef bint stop(self, Waiter waiter, double since) except -1
    cdef int answer_first(self, int said, uint32_t index) except -1
    cdef int wait(self, Waiter waiter, double since, timeout, search) except -1
