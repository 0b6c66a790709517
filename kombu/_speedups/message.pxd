"""The message's fields and its constructor, for the receive loop."""

from kombu._speedups.deliveries cimport Deliveries


cdef class PropertyBlock:
    """Properties as they came over the wire; the messages that have the same may share it."""

    cdef bytes raw
    # What decides about the body, once somebody has asked: all else is decoded for each message anew.
    cdef bint is_peeked
    cdef object content_type
    cdef object content_encoding
    cdef object compression
    # Whether the encoding is a codec that the body is to be decoded with, and whether it is "binary".
    cdef bint has_codec
    cdef bint is_binary


cdef class Message:
    cdef dict __dict__
    cdef object __weakref__

    cdef public object accept
    cdef object channel_
    cdef public object delivery_tag
    cdef public object _state

    # What came over the wire, None once it has been decoded.
    cdef PropertyBlock block
    cdef bytes raw_body
    # Those of the channel that it came on for a consumer; None once it has been given to another.
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
    PropertyBlock block,
    bytes body,
    object message_count,
)


cdef bint is_fresh(Message self) except -1
cdef object decoded_fresh(Message self)
cdef object decoded(Message self)
cdef bint has_errors(Message self) except -1
cdef PropertyBlock make_block(bytes raw)

#: ``basic_ack`` of our channels, and what a call of it comes to.
ctypedef int (*Acknowledge)(object channel, Deliveries deliveries, object delivery_tag, bint multiple) except -1
cdef void recognize_ack(object basic_ack, Acknowledge acknowledge) noexcept
