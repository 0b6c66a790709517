"""AMQP 0-9-1 frames ready to be sent, and the codec of what stands in frames (section 4.2), compiled.

:mod:`kombu._pure.frames` is the reference and says the same in plain Python.
"""

from __future__ import annotations

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from kombu._speedups.decoding cimport as_bytes
from kombu._speedups.encoding cimport (
    LONG_MAX,
    LONGLONG_MAX,
    SHORT_MAX,
    Writer,
    as_unsigned,
    begin,
    finish,
    room,
    write_short_text,
)
from kombu._speedups.wire cimport store16, store32, store64

from kombu._lazy import amqp_errors

from kombu._speedups.decoding import (
    MAX_DEPTH,
    check_properties,
    decode_arguments,
    decode_properties,
    decode_table,
)
from kombu._speedups.encoding import encode_arguments, encode_properties, encode_table

__all__ = (
    "FRAME_BODY",
    "FRAME_END",
    "FRAME_HEADER",
    "FRAME_HEARTBEAT",
    "FRAME_METHOD",
    "HEARTBEAT",
    "MAX_DEPTH",
    "check_properties",
    "decode_arguments",
    "decode_properties",
    "decode_table",
    "encode_ack",
    "encode_arguments",
    "encode_content",
    "encode_method",
    "encode_nack",
    "encode_properties",
    "encode_publish",
    "encode_reject",
    "encode_table",
)

cdef extern from "Python.h":
    Py_buffer *PyMemoryView_GET_BUFFER(object view)
    bint PyBuffer_IsContiguous(Py_buffer *buffer, char order) noexcept

#: Which build this is; kombu._core wants the number that it knows.
ABI = 1

FRAME_METHOD = 1
FRAME_HEADER = 2
FRAME_BODY = 3
FRAME_HEARTBEAT = 8
FRAME_END = 0xCE
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"

cdef enum:
    METHOD_FRAME = 1
    HEADER_FRAME = 2
    BODY_FRAME = 3
    END_OCTET = 0xCE
    FRAME_OVERHEAD = 8
    #: A body up to this size is copied into the one buffer of its message.
    COPIED_BODY = 16 * 1024
    BASIC = 60
    BASIC_PUBLISH = 40
    BASIC_ACK = 80
    BASIC_REJECT = 90
    BASIC_NACK = 120


def encode_method(channel_id, class_id, method_id, arguments):
    """Encode one method frame (section 4.2.4).

    Raises :exc:`struct.error` for an id above 65535.
    """
    cdef bytes raw = as_bytes(arguments)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(raw)
    cdef uint16_t channel = <uint16_t>as_unsigned("channel id", channel_id, SHORT_MAX)
    cdef uint16_t class_ = <uint16_t>as_unsigned("class id", class_id, SHORT_MAX)
    cdef uint16_t method = <uint16_t>as_unsigned("method id", method_id, SHORT_MAX)
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, size + 4 + FRAME_OVERHEAD)
    put_method(<unsigned char *>PyBytes_AS_STRING(frame), channel, class_, method, PyBytes_AS_STRING(raw), size)
    return frame


def encode_content(channel_id, class_id, method_id, arguments, properties, body, frame_max):
    """Encode a method that carries content: method, header and body frames, as buffers to be sent in order.

    A body up to 16 KiB is copied and there is one buffer; of a larger one the buffers are slices between framing
    bytes, so that it must not change until it is sent.  A frame has at most *frame_max* bytes (0: no limit).
    Raises :exc:`~amqp.exceptions.FrameError` where method or header would need more, :exc:`ValueError` for a
    *frame_max* that leaves no room for a payload (section 4.2.6).
    """
    cdef bytes raw = as_bytes(arguments)
    return encode_message(
        channel_id,
        class_id,
        method_id,
        PyBytes_AS_STRING(raw),
        PyBytes_GET_SIZE(raw),
        as_bytes(properties),
        body,
        frame_max,
    )


def encode_publish(channel_id, exchange, routing_key, mandatory, immediate, properties, body, frame_max):
    """Encode basic.publish with its content; see :func:`encode_content` for the buffers and *frame_max*.

    Raises :exc:`struct.error` for an exchange or a routing key of more than 255 bytes.
    """
    cdef Writer out
    begin(&out)
    try:
        store16(room(&out, 2), 0)
        write_short_text(&out, exchange)
        write_short_text(&out, routing_key)
        room(&out, 1)[0] = (1 if mandatory else 0) | (2 if immediate else 0)
        return encode_message(
            channel_id, BASIC, BASIC_PUBLISH, <const char *>out.data, out.size, as_bytes(properties), body, frame_max
        )
    finally:
        finish(&out)


def encode_ack(channel_id, delivery_tag, multiple=False):
    """Encode a basic.ack frame."""
    return settlement(channel_id, BASIC_ACK, delivery_tag, 1 if multiple else 0)


def encode_reject(channel_id, delivery_tag, requeue):
    """Encode a basic.reject frame."""
    return settlement(channel_id, BASIC_REJECT, delivery_tag, 1 if requeue else 0)


def encode_nack(channel_id, delivery_tag, multiple, requeue):
    """Encode a basic.nack frame, RabbitMQ's extension of the class."""
    return settlement(channel_id, BASIC_NACK, delivery_tag, (1 if multiple else 0) | (2 if requeue else 0))


cdef bytes settlement(channel_id, uint16_t method_id, delivery_tag, int bits):
    cdef uint16_t channel = <uint16_t>as_unsigned("channel id", channel_id, SHORT_MAX)
    cdef uint64_t tag = as_unsigned("delivery tag", delivery_tag, LONGLONG_MAX)
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, SETTLEMENT_SIZE)
    fill_settlement(<unsigned char *>PyBytes_AS_STRING(frame), channel, method_id, tag, bits)
    return frame


cdef void fill_settlement(
    unsigned char *frame, uint16_t channel_id, uint16_t method_id, uint64_t delivery_tag, int bits
) noexcept nogil:
    """Write a basic.ack, basic.reject or basic.nack frame into the SETTLEMENT_SIZE bytes at *frame*."""
    put_head(frame, METHOD_FRAME, channel_id, 13)
    store16(frame + 7, BASIC)
    store16(frame + 9, method_id)
    store64(frame + 11, delivery_tag)
    frame[19] = <unsigned char>bits
    frame[20] = END_OCTET


cdef inline unsigned char *put_head(unsigned char *to, uint8_t kind, uint16_t channel, uint32_t size) noexcept nogil:
    to[0] = kind
    store16(to + 1, channel)
    store32(to + 3, size)
    return to + 7


cdef unsigned char *put_method(
    unsigned char *to, uint16_t channel, uint16_t class_, uint16_t method, const char *arguments, Py_ssize_t size
) noexcept nogil:
    to = put_head(to, METHOD_FRAME, channel, <uint32_t>(size + 4))
    store16(to, class_)
    store16(to + 2, method)
    memcpy(to + 4, arguments, size)
    to[4 + size] = END_OCTET
    return to + 5 + size


cdef list encode_message(
    channel_id, class_id, method_id, const char *arguments, Py_ssize_t arguments_size, bytes properties, body, frame_max
):
    cdef Py_ssize_t properties_size = PyBytes_GET_SIZE(properties)
    cdef Py_ssize_t body_size, head_size, total, at, chunk
    cdef const unsigned char *body_data
    cdef uint64_t payload
    cdef uint16_t channel, class_, method
    cdef unsigned char *to
    cdef bytes first
    cdef list buffers
    view = None
    if type(body) is bytes:
        body_data = <const unsigned char *>PyBytes_AS_STRING(body)
        body_size = PyBytes_GET_SIZE(body)
    else:
        view = memoryview(body)
        if not PyBuffer_IsContiguous(PyMemoryView_GET_BUFFER(view), c"C"):
            raise BufferError("body has to be one run of bytes, not a view with gaps")
        body_data = <const unsigned char *>PyMemoryView_GET_BUFFER(view).buf
        body_size = PyMemoryView_GET_BUFFER(view).len
    payload = payload_room(frame_max)
    if <uint64_t>arguments_size + 4 > payload:
        raise_too_large("arguments", arguments_size, payload)
    if <uint64_t>properties_size + 12 > payload:
        raise_too_large("properties", properties_size, payload)
    channel = <uint16_t>as_unsigned("channel id", channel_id, SHORT_MAX)
    class_ = <uint16_t>as_unsigned("class id", class_id, SHORT_MAX)
    method = <uint16_t>as_unsigned("method id", method_id, SHORT_MAX)

    head_size = arguments_size + 4 + FRAME_OVERHEAD + properties_size + 12 + FRAME_OVERHEAD
    if body_size <= COPIED_BODY:
        total = head_size + body_size + FRAME_OVERHEAD * <Py_ssize_t>((<uint64_t>body_size + payload - 1) // payload)
    else:
        total = head_size + 7
    first = PyBytes_FromStringAndSize(NULL, total)
    to = put_method(
        <unsigned char *>PyBytes_AS_STRING(first), channel, class_, method, arguments, arguments_size
    )
    to = put_head(to, HEADER_FRAME, channel, <uint32_t>(properties_size + 12))
    store16(to, class_)
    store16(to + 2, 0)
    store64(to + 4, <uint64_t>body_size)
    memcpy(to + 12, PyBytes_AS_STRING(properties), properties_size)
    to[12 + properties_size] = END_OCTET
    to += 13 + properties_size

    at = 0
    if body_size <= COPIED_BODY:
        while at < body_size:
            chunk = chunk_size(payload, body_size - at)
            to = put_head(to, BODY_FRAME, channel, <uint32_t>chunk)
            memcpy(to, body_data + at, chunk)
            to[chunk] = END_OCTET
            to += chunk + 1
            at += chunk
        return [first]

    view = memoryview(body) if view is None else view
    if view.format != "B" or view.ndim != 1:
        view = view.cast("B")
    chunk = chunk_size(payload, body_size)
    put_head(to, BODY_FRAME, channel, <uint32_t>chunk)
    buffers = [first, view[:chunk]]
    at = chunk
    while at < body_size:
        chunk = chunk_size(payload, body_size - at)
        first = PyBytes_FromStringAndSize(NULL, FRAME_OVERHEAD)
        to = <unsigned char *>PyBytes_AS_STRING(first)
        to[0] = END_OCTET
        put_head(to + 1, BODY_FRAME, channel, <uint32_t>chunk)
        buffers.append(first)
        buffers.append(view[at : at + chunk])
        at += chunk
    buffers.append(b"\xce")
    return buffers


cdef inline Py_ssize_t chunk_size(uint64_t payload, Py_ssize_t left) noexcept nogil:
    return <Py_ssize_t>payload if payload < <uint64_t>left else left


cdef uint64_t payload_room(frame_max) except 0:
    """Return how many payload bytes a frame may carry."""
    if frame_max == 0:
        return LONG_MAX
    if not FRAME_OVERHEAD < frame_max <= LONG_MAX:
        raise ValueError(f"frame_max {frame_max} is neither 0 nor between 9 and {LONG_MAX}")
    return <uint64_t>frame_max - FRAME_OVERHEAD


cdef int raise_too_large(str what, Py_ssize_t size, uint64_t payload) except -1:
    raise amqp_errors.FrameError(f"{what} of {size} bytes do not fit in a frame with {payload} bytes of payload")
