"""The messages of an emulated broker and who delivers them, for the broker in memory."""

from kombu._speedups.message cimport Message as CoreMessage


cdef class Message(CoreMessage):
    pass


cdef class Delivery:
    cdef readonly object channel
    cdef readonly object queue
    cdef readonly object no_ack
    cdef readonly object callback


cdef object make_message(object channel, object payload)

cdef int augment_message(object channel, object message, object exchange, object routing_key) except -1

#: Whether a bound method is that of *function*.
cdef bint is_function(object method, object function) noexcept
