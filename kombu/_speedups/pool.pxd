"""What the other compiled modules may use of the pools."""

from libc.stdint cimport uint32_t

from kombu._speedups.places cimport SlotPool
from kombu._speedups.slots cimport slot_t

#: How often this process, or one that it was forked from, was forked.
cdef long generation

cdef bint _channel_is_open(channel) except -1

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

cdef class Lender:
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

    cdef int _hooks(self) except -1
    cdef int _look_at_hooks(self) except -1
    cdef int _own_hooks(self) except -1
    cdef bint _is_alive(self, item, slot_t *slot, int own) except -1
    cdef object _ready(self, item, int own, bint block, timeout, double since)
    cdef object _make(self, bint block, timeout, double since)
    cdef object _lend(self, bint block, timeout)
    cdef object _lend_from(self, SlotPool places, bint block, timeout)
    cdef int _abandon(self, SlotPool places, uint32_t index, item) except -1
    cdef int _take_back(self, resource) except -1
    cdef int _take_back_to(self, SlotPool places, resource) except -1
    cdef int _welcome_back(self, resource, int own) except -1
    cdef int _discard(self, surplus) except -1

cdef class Lent:
    #: The pool that it belongs to, if it does to one.
    cdef public object _pool
