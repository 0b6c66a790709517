"""Decode AMQP 0-9-1 arguments, tables and content properties.

The bytes are hostile: each length is compared with what remains before it is used, and whatever does not hold raises
:exc:`amqp.exceptions.FrameSyntaxError`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kombu._lazy import LazyModule, amqp_errors

if TYPE_CHECKING:
    import datetime
    import decimal
else:
    # What few messages need.
    datetime, decimal = LazyModule("datetime"), LazyModule("decimal")

__all__ = (
    "MAX_DEPTH",
    "check_properties",
    "decode_arguments",
    "decode_properties",
    "decode_table",
)

#: Tables and arrays may stand in each other this deep, the outermost counted.
MAX_DEPTH = 64

#: Flag bit, name and argument letter of each property of class basic, in wire order (its XML definition, class 60).
PROPERTIES = (
    (0x8000, "content_type", "s"),
    (0x4000, "content_encoding", "s"),
    (0x2000, "application_headers", "F"),
    (0x1000, "delivery_mode", "o"),
    (0x0800, "priority", "o"),
    (0x0400, "correlation_id", "s"),
    (0x0200, "reply_to", "s"),
    (0x0100, "expiration", "s"),
    (0x0080, "message_id", "s"),
    (0x0040, "timestamp", "L"),
    (0x0020, "type", "s"),
    (0x0010, "user_id", "s"),
    (0x0008, "app_id", "s"),
    (0x0004, "cluster_id", "s"),
)

#: 9999-12-31T23:59:59, the last second that a datetime can hold.
_LAST_SECOND = 253_402_300_799

_UNSIGNED_SHORT = struct.Struct(">H")
_UNSIGNED_LONG = struct.Struct(">I")
_UNSIGNED_LONGLONG = struct.Struct(">Q")
_DECIMAL = struct.Struct(">Bi")


def _fixed(what: str, code: str) -> tuple[str, int, Callable[[bytes, int], tuple[Any, ...]]]:
    """Return what it takes to decode a value of a fixed size: its name, its size and how it is unpacked."""
    layout = struct.Struct(f">{code}")
    return what, layout.size, layout.unpack_from


#: Table values of a fixed size, by the letter in front of them (section 4.2.1, as RabbitMQ reads it).
_FIXED = {
    ord("b"): _fixed("octet", "b"),
    ord("B"): _fixed("octet", "B"),
    ord("t"): _fixed("boolean", "?"),
    ord("s"): _fixed("short", "h"),
    ord("U"): _fixed("short", "h"),
    ord("u"): _fixed("short", "H"),
    ord("I"): _fixed("long", "i"),
    ord("i"): _fixed("long", "I"),
    ord("L"): _fixed("long long", "q"),
    ord("l"): _fixed("long long", "q"),
    ord("f"): _fixed("float", "f"),
    ord("d"): _fixed("double", "d"),
}

#: Arguments of a fixed size, by their letter.
_FIXED_ARGUMENTS = {
    "o": _fixed("octet", "B"),
    "B": _fixed("short", "H"),
    "l": _fixed("long", "I"),
    "L": _fixed("long long", "Q"),
    "f": _fixed("float", "f"),
}


def decode_table(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[dict[str | bytes, Any], int]:
    """Decode a field table that starts with its length at *offset* of *data*.

    Returns the table and the offset behind it.  Keys and strings that are not UTF-8 come back as bytes, timestamps
    as naive UTC datetimes.  Raises :exc:`~amqp.exceptions.FrameSyntaxError` for anything malformed or nested deeper
    than :data:`MAX_DEPTH` (section 4.2.5.5).
    """
    data, offset = _start(data, offset)
    return _read_table(data, offset, len(data), 1)


def decode_arguments(format: str, data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[list[Any], int]:
    """Decode the arguments that *format* names, one letter each, from *data* at *offset*.

    Letters: ``b`` bit, ``o`` octet, ``B`` short, ``l`` long, ``L`` long long, ``f`` float, ``s`` short string,
    ``S`` long string, ``x`` byte array, ``F`` table, ``A`` array, ``T`` timestamp.  Returns the values and the
    offset behind the last.  Raises :exc:`~amqp.exceptions.FrameSyntaxError`.
    """
    data, offset = _start(data, offset)
    limit = len(data)
    values: list[Any] = []
    bits = bits_left = 0
    for letter in format:
        if letter == "b":
            if not bits_left:
                if offset >= limit:
                    raise _beyond("bits", 1, offset, limit)
                bits, bits_left = data[offset], 8
                offset += 1
            values.append(bits & 1 == 1)
            bits >>= 1
            bits_left -= 1
        else:
            bits_left = 0
            value, offset = _read_argument(letter, data, offset, limit)
            values.append(value)
    return values, offset


def decode_properties(data: bytes | bytearray | memoryview, offset: int = 0) -> dict[str, Any]:
    """Decode the property flags and list of a content header of class basic; they end where *data* ends.

    Keys are ``content_type``, ``content_encoding``, ``application_headers``, ``delivery_mode``, ``priority``,
    ``correlation_id``, ``reply_to``, ``expiration``, ``message_id``, ``timestamp`` (an int), ``type``, ``user_id``,
    ``app_id`` and ``cluster_id``, as far as present.  Raises :exc:`~amqp.exceptions.FrameSyntaxError`, also for
    flags that class basic does not have and for bytes left over (section 4.2.6.1).
    """
    data, offset = _start(data, offset)
    limit = len(data)
    if limit - offset < 2:
        raise _beyond("property flags", 2, offset, limit)
    (flags,) = _UNSIGNED_SHORT.unpack_from(data, offset)
    offset += 2
    if flags & 3:
        raise amqp_errors.FrameSyntaxError(
            f"property flags 0x{flags:04x} name properties that class basic does not have"
        )
    properties: dict[str, Any] = {}
    for flag, name, letter in PROPERTIES:
        if flags & flag:
            properties[name], offset = _read_argument(letter, data, offset, limit)
    if offset != limit:
        raise amqp_errors.FrameSyntaxError(
            f"{limit - offset} bytes are left over behind the properties at offset {offset}"
        )
    return properties


def check_properties(data: bytes | bytearray | memoryview, offset: int = 0) -> None:
    """Raise what :func:`decode_properties` would raise for the same *data*, if anything."""
    decode_properties(data, offset)


def _start(data: bytes | bytearray | memoryview, offset: int) -> tuple[bytes, int]:
    """Return *data* as bytes and *offset* once it is known to lie within."""
    if not isinstance(data, bytes):
        data = bytes(memoryview(data))
    if not 0 <= offset <= len(data):
        raise amqp_errors.FrameSyntaxError(f"offset {offset} is outside the {len(data)} bytes of data")
    return data, offset


def _beyond(what: str, size: int, offset: int, limit: int) -> Exception:
    error: Exception = amqp_errors.FrameSyntaxError(
        f"{what} of {size} bytes at offset {offset} exceeds the {limit - offset} bytes that remain"
    )
    return error


def _read_argument(letter: str, data: bytes, offset: int, limit: int) -> tuple[Any, int]:
    if letter == "s":
        if offset >= limit:
            raise _beyond("short string length", 1, offset, limit)
        start = offset + 1
        end = start + data[offset]
        if end > limit:
            raise _beyond("short string", end - start, start, limit)
        return _text("short string", data[start:end], start), end
    fixed = _FIXED_ARGUMENTS.get(letter)
    if fixed is not None:
        what, size, unpack_from = fixed
        if size > limit - offset:
            raise _beyond(what, size, offset, limit)
        return unpack_from(data, offset)[0], offset + size
    if letter == "F":
        return _read_table(data, offset, limit, 1)
    if letter == "S":
        start, end = _read_extent("long string", data, offset, limit)
        return _text("long string", data[start:end], start), end
    if letter == "x":
        start, end = _read_extent("byte array", data, offset, limit)
        return data[start:end], end
    if letter == "A":
        return _read_array(data, offset, limit, 1)
    if letter == "T":
        return _read_timestamp(data, offset, limit)
    raise amqp_errors.FrameSyntaxError(f"argument type {letter!r} is unknown")


def _read_extent(what: str, data: bytes, offset: int, limit: int) -> tuple[int, int]:
    """Return where that which a 4-byte length at *offset* announces begins and ends."""
    if limit - offset < 4:
        raise _beyond(f"{what} length", 4, offset, limit)
    start = offset + 4
    end = start + _UNSIGNED_LONG.unpack_from(data, offset)[0]
    if end > limit:
        raise _beyond(what, end - start, start, limit)
    return start, end


def _text(what: str, raw: bytes, offset: int) -> str:
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise amqp_errors.FrameSyntaxError(f"{what} of {len(raw)} bytes at offset {offset} is not UTF-8") from None


def _text_or_bytes(raw: bytes) -> str | bytes:
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return raw


def _read_timestamp(data: bytes, offset: int, limit: int) -> tuple[datetime.datetime, int]:
    if limit - offset < 8:
        raise _beyond("timestamp", 8, offset, limit)
    (seconds,) = _UNSIGNED_LONGLONG.unpack_from(data, offset)
    if seconds > _LAST_SECOND:
        raise amqp_errors.FrameSyntaxError(f"timestamp {seconds} at offset {offset} is later than the year 9999")
    # Not datetime.fromtimestamp(): its range is the platform's.
    return datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds), offset + 8


def _read_table(data: bytes, offset: int, limit: int, depth: int) -> tuple[dict[str | bytes, Any], int]:
    if depth > MAX_DEPTH:
        raise amqp_errors.FrameSyntaxError(f"table at offset {offset} is nested deeper than {MAX_DEPTH} levels")
    offset, end = _read_extent("table", data, offset, limit)
    table: dict[str | bytes, Any] = {}
    while offset < end:
        start = offset + 1
        offset = start + data[offset]
        if offset > end:
            raise _beyond("table key", offset - start, start, end)
        key = _text_or_bytes(data[start:offset])
        if offset < end and data[offset] == 0x53:  # S, as most values are
            start, offset = _read_extent("long string", data, offset + 1, end)
            table[key] = _text_or_bytes(data[start:offset])
        else:
            table[key], offset = _read_value(data, offset, end, depth)
    return table, end


def _read_array(data: bytes, offset: int, limit: int, depth: int) -> tuple[list[Any], int]:
    if depth > MAX_DEPTH:
        raise amqp_errors.FrameSyntaxError(f"array at offset {offset} is nested deeper than {MAX_DEPTH} levels")
    offset, end = _read_extent("array", data, offset, limit)
    items: list[Any] = []
    while offset < end:
        value, offset = _read_value(data, offset, end, depth)
        items.append(value)
    return items, end


def _read_value(data: bytes, offset: int, limit: int, depth: int) -> tuple[Any, int]:
    """Decode one value of a table or an array: its type letter at *offset*, then what the letter says."""
    if offset >= limit:
        raise _beyond("value type", 1, offset, limit)
    letter = data[offset]
    offset += 1
    if letter == 0x53:  # S
        start, end = _read_extent("long string", data, offset, limit)
        return _text_or_bytes(data[start:end]), end
    if letter == 0x56:  # V
        return None, offset
    fixed = _FIXED.get(letter)
    if fixed is not None:
        what, size, unpack_from = fixed
        if size > limit - offset:
            raise _beyond(what, size, offset, limit)
        return unpack_from(data, offset)[0], offset + size
    if letter == 0x46:  # F
        return _read_table(data, offset, limit, depth + 1)
    if letter == 0x41:  # A
        return _read_array(data, offset, limit, depth + 1)
    if letter == 0x54:  # T
        return _read_timestamp(data, offset, limit)
    if letter == 0x78:  # x
        start, end = _read_extent("byte array", data, offset, limit)
        return data[start:end], end
    if letter == 0x44:  # D
        if limit - offset < 5:
            raise _beyond("decimal", 5, offset, limit)
        places, unscaled = _DECIMAL.unpack_from(data, offset)
        return decimal.Decimal(unscaled) / decimal.Decimal(10**places), offset + 5
    raise amqp_errors.FrameSyntaxError(f"value type 0x{letter:02x} at offset {offset - 1} is unknown")
