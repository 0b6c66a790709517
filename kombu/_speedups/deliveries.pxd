"""The channel's fields, for the receive loop and the acknowledgements."""

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
    cdef public set unacked
    cdef public object delivered_as
    #: The publishes that await the broker's answer, or None.
    cdef public Window window
    cdef public object writer
    cdef public object receiver
    cdef public object connection
    cdef public double last_look
