"""The fields of what was received, for the message and the receive loop."""

from kombu._speedups.deliveries cimport Deliveries


cdef class Received:
    cdef object channel_
    cdef public object delivery_tag
    cdef public object _state

    # Those of the channel that it came on for a consumer; None once it has been given to another.
    cdef Deliveries deliveries
    # What delivery_info will be made of.
    cdef object consumer_tag_
    cdef object redelivered_
    cdef object exchange_
    cdef object routing_key_
    cdef object message_count_
    cdef object delivery_info_


#: ``basic_ack`` of our channels, and what a call of it comes to.
ctypedef int (*Acknowledge)(object channel, Deliveries deliveries, object delivery_tag, bint multiple) except -1
cdef void recognize_ack(object basic_ack, Acknowledge acknowledge) noexcept
