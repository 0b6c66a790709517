"""The channel's fields, for the receive loop and the acknowledgements."""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from kombu._speedups.window cimport Window


cdef class Deliveries:
    #: -1 for none.
    cdef int number
    #: Whether there is a close_error.
    cdef bint is_closed
    cdef object close_error_
    cdef public dict callbacks
    #: Whether there are batches that are held back.
    cdef bint holds_back
    cdef tuple held_back_
    cdef public set no_ack_consumers
    cdef set unacked_
    #: Where a single delivery awaits an acknowledgement, as most of the time, its tag stands here and not in the set.
    cdef bint has_single
    cdef uint64_t single
    cdef public object delivered_as
    #: The publishes that await the broker's answer, or None.
    cdef public Window window
    cdef public object writer
    cdef public object receiver
    cdef public object connection
    cdef public double last_look
    #: The consumer tag that was looked up last, and what stands under it (borrowed) in that version of callbacks.
    cdef str last_tag
    cdef uint64_t callbacks_version
    cdef PyObject *last_callback
    #: The channel's class and attributes when its basic_ack was found to be the core's; 0 for none.
    cdef unsigned int class_version
    cdef uint64_t attributes_version

    cdef object callback_of(self, consumer_tag)
    cdef int expect(self, uint64_t delivery_tag) except -1
    cdef int settle_one(self, uint64_t delivery_tag) except -1
