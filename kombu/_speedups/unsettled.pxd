"""What is known of who keeps the unsettled messages, for the broker in memory."""

from kombu._speedups.known cimport Known


cdef class KnownUnsettled(Known):
    cdef Py_ssize_t limit
    cdef dict delivered
    cdef set dirty


cdef bint has_room(KnownUnsettled known) except -1
cdef int add_delivered(KnownUnsettled known, object message, object delivery_tag) except -1
