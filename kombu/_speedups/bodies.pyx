"""From a body's octets to what the user gets, compiled; :mod:`kombu._pure.bodies` is the reference."""

from __future__ import annotations

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint16_t

from kombu._speedups.decoding cimport decode_text, read_common_text, read_flags, read_header
from kombu._speedups.jsondecoding cimport Decoder
from kombu._speedups.wire cimport Cursor

from sys import exc_info

from kombu.exceptions import DecodeError, SerializerNotInstalled

__all__ = ("configure",)

#: Which build this is; kombu._core wants the number that it knows.
ABI = 1

#: Content encodings that say that the body is bytes; looking for a codec of that name would be slow and vain.
cdef frozenset NOT_A_CODEC = frozenset(("binary", "ascii-8bit", ""))


def _not_configured(*args, **kwargs):
    raise RuntimeError("the message core has no serializers yet: import kombu.message first")


# Set once, while kombu.message is imported.
cdef object loads_body = _not_configured
cdef object decompress_body = _not_configured
cdef dict body_decoders = None
cdef object disabled_types = None
cdef object trusted_types = None


def configure(loads, decompress, decoders=None, disabled=frozenset(), trusted=frozenset()):
    """Set the functions that messages are deserialized and decompressed with; see :mod:`kombu._pure.bodies`.

    With *decoders*, what they are given is decoded without a call of *loads*, which decides as we do here.
    """
    global loads_body, decompress_body, body_decoders, disabled_types, trusted_types
    loads_body, decompress_body = loads, decompress
    body_decoders, disabled_types, trusted_types = decoders, disabled, trusted


@cython.freelist(64)
cdef class PropertyBlock:
    """Properties as they came over the wire."""


cdef object deserialized(body, content_type, content_encoding, accept):
    """Return *body* deserialized: by its decoder where that is all there is to it, otherwise by ``loads``."""
    cdef object kind = "application/data" if content_type is None else content_type
    if body_decoders is None or type(kind) is not str or not len(<str>kind):
        return loads_body(body, content_type, content_encoding, accept=accept)
    if accept is None:
        if kind in disabled_types:
            return loads_body(body, content_type, content_encoding, accept=accept)
    elif kind not in accept and kind not in trusted_types:
        return loads_body(body, content_type, content_encoding, accept=accept)
    if is_empty(body):
        return body
    decode = body_decoders.get(kind)
    if decode is None:
        if type(body) is str or content_encoding == "binary":
            return body
        return loads_body(body, content_type, content_encoding, accept=accept)
    try:
        if type(decode) is Decoder:
            return (<Decoder>decode).decode(body)
        return decode(body)
    except SerializerNotInstalled:
        raise
    except Exception as error:
        raise DecodeError(error) from error


cdef inline bint is_empty(body) except -1:
    if type(body) is bytes:
        return not len(<bytes>body)
    if type(body) is str:
        return not len(<str>body)
    return not body


cdef PropertyBlock make_block(bytes raw):
    cdef PropertyBlock block = PropertyBlock.__new__(PropertyBlock)
    block.raw = raw
    return block


cdef int look_at(PropertyBlock block) except -1:
    """Decode what decides about the body, unless that has been done: content type and encoding, compression."""
    cdef Cursor cursor
    cdef uint16_t flags
    cdef bint done
    with cython.critical_section(block):
        done = block.is_peeked
    if done:
        return 0
    content_type = content_encoding = compression = None
    cursor.data = <const unsigned char *>PyBytes_AS_STRING(block.raw)
    cursor.offset = 0
    cursor.limit = PyBytes_GET_SIZE(block.raw)
    flags = read_flags(&cursor)
    if flags & 0x8000:
        content_type = read_common_text(&cursor)
    if flags & 0x4000:
        content_encoding = read_common_text(&cursor)
    if flags & 0x2000:
        compression = read_header(&cursor, "compression", 11)
    with cython.critical_section(block):
        # What another thread has found first is what others may hold without a lock by now.
        if not block.is_peeked:
            block.content_type = content_type
            block.content_encoding = content_encoding
            block.compression = compression
            block.has_codec = content_encoding is not None and content_encoding not in NOT_A_CODEC
            block.is_peeked = True
    return 0


cdef object decompressed(body, compression, list errors):
    """Return *body* decompressed, or as it is after a failure, which goes to *errors*."""
    try:
        return decompress_body(body, compression)
    except Exception:
        errors.append(exc_info())
        return body


cdef object text_where_encoded(bytes raw, content_encoding):
    """Return *raw* decoded by *content_encoding* where that is possible, otherwise as it is; empty it is a str."""
    if not raw:
        return ""
    if content_encoding is None or content_encoding in NOT_A_CODEC:
        return raw
    if content_encoding == "utf-8":
        text = decode_text(<const unsigned char *>PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw), NULL)
        return raw if text is None else text
    try:
        return raw.decode(content_encoding)
    except Exception:
        # Not text, or not by a codec we have: whoever deserializes the bytes will say so.
        return raw
