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
