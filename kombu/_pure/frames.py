"""AMQP 0-9-1 frames ready to be sent, and the codec of what stands in frames (section 4.2)."""

from __future__ import annotations

import struct

from kombu._lazy import amqp_errors
from kombu._pure.decoding import (
    MAX_DEPTH,
    check_properties,
    decode_arguments,
    decode_properties,
    decode_table,
)
from kombu._pure.encoding import (
    LONG_MAX,
    LONGLONG_MAX,
    SHORT_MAX,
    encode_arguments,
    encode_properties,
    encode_table,
    integer,
    write_argument,
)

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

FRAME_METHOD = 1
FRAME_HEADER = 2
FRAME_BODY = 3
FRAME_HEARTBEAT = 8
FRAME_END = 0xCE

#: One whole heartbeat frame (section 4.2.7).
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"

#: A body up to this size is copied into the one buffer of its message; a larger one is sent from where it stands.
_COPIED_BODY = 16 * 1024

#: Bytes of a frame that are not its payload: type, channel, size, end octet.
_FRAME_OVERHEAD = 8

_BASIC = 60
_BASIC_PUBLISH = 40
_BASIC_ACK = 80
_BASIC_REJECT = 90
_BASIC_NACK = 120

_FRAME_HEAD = struct.Struct(">BHI")
_METHOD_HEAD = struct.Struct(">BHIHH")
_CONTENT_HEAD = struct.Struct(">BHIHHQ")
_SETTLEMENT = struct.Struct(">BHIHHQBB")


def encode_method(channel_id: int, class_id: int, method_id: int, arguments: bytes) -> bytes:
    """Encode one method frame (section 4.2.4).

    Raises :exc:`struct.error` for an id above 65535.
    """
    return b"%b%b\xce" % (
        _METHOD_HEAD.pack(
            FRAME_METHOD,
            integer("channel id", channel_id, 0, SHORT_MAX),
            len(arguments) + 4,
            integer("class id", class_id, 0, SHORT_MAX),
            integer("method id", method_id, 0, SHORT_MAX),
        ),
        arguments,
    )


def encode_content(
    channel_id: int,
    class_id: int,
    method_id: int,
    arguments: bytes,
    properties: bytes,
    body: bytes | bytearray | memoryview,
    frame_max: int,
) -> list[bytes | memoryview]:
    """Encode a method that carries content: method, header and body frames, as buffers to be sent in order.

    A body up to 16 KiB is copied and there is one buffer; of a larger one the buffers are slices between framing
    bytes, so that it must not change until it is sent.  A frame has at most *frame_max* bytes (0: no limit).
    Raises :exc:`~amqp.exceptions.FrameError` where method or header would need more, :exc:`ValueError` for a
    *frame_max* that leaves no room for a payload (section 4.2.6).
    """
    view = memoryview(body)
    if not view.c_contiguous:
        raise BufferError("body has to be one run of bytes, not a view with gaps")
    if view.format != "B" or view.ndim != 1:
        view = view.cast("B")
    size = view.nbytes
    room = _payload_room(frame_max)
    _fits("arguments", len(arguments), 4, room)
    _fits("properties", len(properties), 12, room)
    out = bytearray(encode_method(channel_id, class_id, method_id, arguments))
    out += _CONTENT_HEAD.pack(FRAME_HEADER, channel_id, len(properties) + 12, class_id, 0, size)
    out += properties
    out.append(FRAME_END)
    if size <= _COPIED_BODY:
        for start in range(0, size, room):
            chunk = view[start : start + room]
            out += _FRAME_HEAD.pack(FRAME_BODY, channel_id, len(chunk))
            out += chunk
            out.append(FRAME_END)
        return [bytes(out)]
    buffers: list[bytes | memoryview] = []
    for start in range(0, size, room):
        chunk = view[start : start + room]
        out += _FRAME_HEAD.pack(FRAME_BODY, channel_id, len(chunk))
        buffers += (bytes(out), chunk)
        out = bytearray((FRAME_END,))
    buffers.append(bytes(out))
    return buffers


def encode_publish(
    channel_id: int,
    exchange: str,
    routing_key: str,
    mandatory: bool,
    immediate: bool,
    properties: bytes,
    body: bytes | bytearray | memoryview,
    frame_max: int,
) -> list[bytes | memoryview]:
    """Encode basic.publish with its content; see :func:`encode_content` for the buffers and *frame_max*.

    Raises :exc:`struct.error` for an exchange or a routing key of more than 255 bytes.
    """
    arguments = bytearray(2)
    write_argument("s", exchange, arguments)
    write_argument("s", routing_key, arguments)
    arguments.append((1 if mandatory else 0) | (2 if immediate else 0))
    return encode_content(channel_id, _BASIC, _BASIC_PUBLISH, bytes(arguments), properties, body, frame_max)


def encode_ack(channel_id: int, delivery_tag: int, multiple: bool = False) -> bytes:
    """Encode a basic.ack frame."""
    return _encode_settlement(channel_id, _BASIC_ACK, delivery_tag, 1 if multiple else 0)


def encode_reject(channel_id: int, delivery_tag: int, requeue: bool) -> bytes:
    """Encode a basic.reject frame."""
    return _encode_settlement(channel_id, _BASIC_REJECT, delivery_tag, 1 if requeue else 0)


def encode_nack(channel_id: int, delivery_tag: int, multiple: bool, requeue: bool) -> bytes:
    """Encode a basic.nack frame, RabbitMQ's extension of the class."""
    return _encode_settlement(channel_id, _BASIC_NACK, delivery_tag, (1 if multiple else 0) | (2 if requeue else 0))


def _encode_settlement(channel_id: int, method_id: int, delivery_tag: int, bits: int) -> bytes:
    return _SETTLEMENT.pack(
        FRAME_METHOD,
        integer("channel id", channel_id, 0, SHORT_MAX),
        13,
        _BASIC,
        method_id,
        integer("delivery tag", delivery_tag, 0, LONGLONG_MAX),
        bits,
        FRAME_END,
    )


def _payload_room(frame_max: int) -> int:
    """Return how many payload bytes a frame may carry."""
    if frame_max == 0:
        return LONG_MAX
    if not _FRAME_OVERHEAD < frame_max <= LONG_MAX:
        raise ValueError(f"frame_max {frame_max} is neither 0 nor between 9 and {LONG_MAX}")
    return frame_max - _FRAME_OVERHEAD


def _fits(what: str, size: int, more: int, room: int) -> None:
    if size + more > room:
        raise amqp_errors.FrameError(f"{what} of {size} bytes do not fit in a frame with {room} bytes of payload")
