"""The window's fields, for the receive loop and the publishes."""

from libc.stdint cimport uint64_t

cdef enum:
    #: How many slots a promise has that are of interest here.
    STATE_SIZE = 12


cdef extern from "promise_slots.h":
    ctypedef struct Guard "kombu_guard":
        pass


cdef class Window:
    cdef readonly object promises
    cdef public Py_ssize_t size
    cdef readonly Py_ssize_t count
    cdef public bint held
    cdef public bint live
    #: The tag of the latest publish.
    cdef uint64_t last
    #: The outstanding ones in the order of their tags, from *head* to *end*; settled ones leave None behind.
    cdef list entries
    cdef uint64_t *tags
    cdef Py_ssize_t head
    cdef Py_ssize_t end
    cdef Py_ssize_t capacity
    #: Those that may be returned, by tag.
    cdef dict mandatory
    #: Where a promise has its slots, in the order of STATE.
    cdef Py_ssize_t slots[STATE_SIZE]
    cdef Guard guard
    cdef object __weakref__

    cdef object make(self, object exchange, object routing_key, object callback)
    cdef int append(self, object confirmation, bint mandatory) except -1
    cdef int make_room(self) except -1
    cdef Py_ssize_t find(self, uint64_t tag) noexcept
    cdef int drop(self, Py_ssize_t index) noexcept
    cdef Py_ssize_t end_of(self, uint64_t tag) noexcept
    cdef bint confirm_quietly(self, uint64_t tag, bint multiple) except -1
    cdef int settle_quietly(self, uint64_t tag, bint multiple, list done) except -1
    cdef bint take_back(self, object confirmation) except -1
    cdef object state(self, object confirmation, int which)
    cdef int change(self, object confirmation, int which, object value) except -1
