"""The message's fields and its constructor, for the receive loop."""

from kombu._speedups.bodies cimport PropertyBlock
from kombu._speedups.deliveries cimport Deliveries
from kombu._speedups.received cimport Received


cdef class Message(Received):
    cdef dict __dict__
    cdef object __weakref__

    cdef public object accept

    # What came over the wire, None once it has been decoded.
    cdef PropertyBlock block
    cdef bytes raw_body

    # What has been decoded; the first three are there when is_peeked, or when there are no raw properties.
    cdef object content_type_
    cdef object content_encoding_
    cdef object compression_
    cdef object properties_
    cdef object headers_
    cdef object body_
    cdef object errors_
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
