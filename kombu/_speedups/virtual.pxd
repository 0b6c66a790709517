"""The messages of an emulated broker, and who delivers them, for the broker in memory."""

from kombu._speedups.message cimport Message as CoreMessage


cdef class Message(CoreMessage):
    #: The payload that it was made of, and the queue that it came out of where the broker is in memory.
    cdef public object _raw
    cdef public object _queue


cdef class Delivery:
    cdef readonly object channel
    cdef readonly object queue
    cdef readonly object no_ack
    cdef readonly object callback

    cdef int hand_over(self, object message) except -1


cdef object to_base64(s)
cdef bint is_base64(dict codecs) except -1

cdef object make_message(object channel, object payload, dict codecs)

cdef int lay_route(
    object message, object body, object encoding, object delivery_tag, object exchange, object routing_key
) except -1
