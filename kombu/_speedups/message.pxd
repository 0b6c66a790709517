"""The message's fields and its constructor, for the receive loop."""

from kombu._speedups.deliveries cimport Deliveries


cdef class Message:
    cdef dict __dict__
    cdef object __weakref__

    cdef public object accept
    cdef public object channel
    cdef public object delivery_tag
    cdef public object _state

    # What came over the wire, None once it has been decoded.
    cdef bytes raw_properties
    cdef bytes raw_body
    # Those of the channel that it came on for a consumer.
    cdef Deliveries deliveries
    # What delivery_info will be made of.
    cdef object consumer_tag_
    cdef object redelivered_
    cdef object exchange_
    cdef object routing_key_
    cdef object message_count_

    # What has been decoded; the first three are there when is_peeked, or when there are no raw properties.
    cdef object content_type_
    cdef object content_encoding_
    cdef object compression_
    cdef object properties_
    cdef object headers_
    cdef object body_
    cdef object errors_
    cdef object delivery_info_
    cdef object payload_
    cdef bint is_peeked
    cdef bint is_decoded


cdef Message make_delivery(
    type cls,
    object channel,
    Deliveries deliveries,
    object consumer_tag,
    object delivery_tag,
    object redelivered,
    object exchange,
    object routing_key,
    bytes raw_properties,
    bytes body,
    object message_count,
)


cdef object decoded(Message self)
cdef bint has_errors(Message self) except -1
