"""Encode AMQP 0-9-1 arguments, tables and content properties.

What is encoded comes from our own side: a value that does not fit raises what the ``amqp`` package raises for it
(:exc:`struct.error`, :exc:`TypeError`, ...), with a text that says which it was.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from operator import index
from typing import TYPE_CHECKING, Any

from kombu._lazy import LazyModule, amqp_errors
from kombu._pure.decoding import MAX_DEPTH, PROPERTIES

if TYPE_CHECKING:
    import calendar
    import datetime
    import decimal
else:
    # What few messages need.
    calendar, datetime, decimal = LazyModule("calendar"), LazyModule("datetime"), LazyModule("decimal")

__all__ = ("encode_arguments", "encode_properties", "encode_table")

OCTET_MAX = 0xFF
SHORT_MAX = 0xFFFF
LONG_MAX = 0xFFFF_FFFF
LONGLONG_MAX = 0xFFFF_FFFF_FFFF_FFFF

_UNSIGNED_SHORT = struct.Struct(">H")
_UNSIGNED_LONG = struct.Struct(">I")
_UNSIGNED_LONGLONG = struct.Struct(">Q")


def encode_table(table: dict[str, Any] | None) -> bytes:
    """Encode *table* as a field table, its 4-byte length included.

    Values may be str, bytes, bool, int (64 bit), float, Decimal, datetime, dict, list, tuple and None.  Raises
    :exc:`~amqp.exceptions.FrameSyntaxError` for a value of another type or nested deeper than :data:`MAX_DEPTH`,
    :exc:`struct.error` for one out of range, :exc:`TypeError` for a key that is not a string (section 4.2.5.5).
    """
    out = bytearray()
    _write_table(table or {}, out, 1)
    return bytes(out)


def encode_arguments(format: str, values: Iterable[Any]) -> bytes:
    """Encode *values* by the letters of *format*, those of :func:`decode_arguments`.

    Consecutive bits share octets.  Where there are fewer values than letters the rest is left out; a value too many
    raises :exc:`IndexError`.  Otherwise raises as :func:`encode_table` does.
    """
    out = bytearray()
    bit = 0
    for position, value in enumerate(values):
        letter = format[position]
        if letter == "b":
            if bit % 8 == 0:
                out.append(0)
            if value:
                out[-1] |= 1 << bit % 8
            bit += 1
        else:
            bit = 0
            write_argument(letter, value, out)
    return bytes(out)


def encode_properties(properties: dict[str, Any]) -> bytes:
    """Encode *properties* as property flags and list of a content header of class basic.

    Keys are those of :func:`decode_properties`; a value of None is left out, other keys are not looked at.
    Raises :exc:`struct.error`, :exc:`TypeError` or :exc:`~amqp.exceptions.FrameSyntaxError` for a value of the wrong
    type or size (section 4.2.6.1).
    """
    flags = 0
    out = bytearray(2)
    for flag, name, letter in PROPERTIES:
        value = properties.get(name)
        if value is not None:
            flags |= flag
            write_argument(letter, value, out)
    _UNSIGNED_SHORT.pack_into(out, 0, flags)
    return bytes(out)


def integer(what: str, value: Any, low: int, high: int) -> int:
    """Return *value* as an int, or raise :exc:`struct.error` if it is none or not between *low* and *high*."""
    try:
        number = index(value)
    except TypeError:
        raise struct.error(f"{what} has to be an integer, not {type(value).__name__}") from None
    if not low <= number <= high:
        # Python refuses to print an int of very many digits.
        shown = str(number) if number.bit_length() <= 128 else f"of {number.bit_length()} bits"
        raise struct.error(f"{what} {shown} is not between {low} and {high}")
    return number


def write_argument(letter: str, value: Any, out: bytearray) -> None:
    """Append one argument other than a bit to *out*."""
    if letter == "s":
        raw = _string("short string", value or "")
        if len(raw) > OCTET_MAX:
            raise struct.error(f"short string of {len(raw)} bytes is longer than {OCTET_MAX}")
        out.append(len(raw))
        out += raw
    elif letter == "o":
        out.append(integer("octet", value, 0, OCTET_MAX))
    elif letter == "B":
        # Whatever int() takes is taken, as amqp does.
        out += _UNSIGNED_SHORT.pack(integer("short", int(value), 0, SHORT_MAX))
    elif letter == "l":
        out += _UNSIGNED_LONG.pack(integer("long", value, 0, LONG_MAX))
    elif letter == "L":
        out += _UNSIGNED_LONGLONG.pack(integer("long long", value, 0, LONGLONG_MAX))
    elif letter == "f":
        out += struct.pack(">f", value)
    elif letter in "Sx":
        raw = _string("long string" if letter == "S" else "byte array", value or "")
        out += _UNSIGNED_LONG.pack(len(raw))
        out += raw
    elif letter == "F":
        _write_table(value or {}, out, 1)
    elif letter == "A":
        _write_array(value or [], out, 1)
    elif letter == "T":
        out += _UNSIGNED_LONGLONG.pack(_timestamp(value))
    else:
        raise amqp_errors.FrameSyntaxError(f"argument type {letter!r} is unknown")


def _string(what: str, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"{what} has to be str or bytes, not {type(value).__name__}")


def _timestamp(value: datetime.datetime) -> int:
    return integer("timestamp", calendar.timegm(value.utctimetuple()), 0, LONGLONG_MAX)


def _write_table(table: dict[Any, Any], out: bytearray, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise amqp_errors.FrameSyntaxError(f"table is nested deeper than {MAX_DEPTH} levels")
    start = _reserve_length(out)
    for key, value in table.items():
        raw = _string("table key", key)
        if len(raw) > OCTET_MAX:
            raise struct.error(f"table key of {len(raw)} bytes is longer than {OCTET_MAX}")
        out.append(len(raw))
        out += raw
        if not _write_value(value, out, depth):
            raise amqp_errors.FrameSyntaxError(
                f"value {value!r} of type {type(value).__name__} for key {key!r} cannot stand in a table"
            )
    _fill_length(out, start)


def _write_array(items: Iterable[Any], out: bytearray, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise amqp_errors.FrameSyntaxError(f"array is nested deeper than {MAX_DEPTH} levels")
    start = _reserve_length(out)
    for value in items:
        if not _write_value(value, out, depth):
            raise amqp_errors.FrameSyntaxError(
                f"value {value!r} of type {type(value).__name__} cannot stand in an array"
            )
    _fill_length(out, start)


def _reserve_length(out: bytearray) -> int:
    out += bytes(4)
    return len(out)


def _fill_length(out: bytearray, start: int) -> None:
    _UNSIGNED_LONG.pack_into(out, start - 4, len(out) - start)


def _write_value(value: Any, out: bytearray, depth: int) -> bool:
    """Append one value of a table or array, its type letter first; return whether there is a type for it."""
    if isinstance(value, (str, bytes)):
        raw = _string("long string", value)
        out += b"S"
        out += _UNSIGNED_LONG.pack(len(raw))
        out += raw
    elif isinstance(value, bool):
        out += b"t\x01" if value else b"t\x00"
    elif isinstance(value, float):
        out += struct.pack(">cd", b"d", value)
    elif isinstance(value, int):
        # -2**31 would fit a long, but amqp sends it as a long long.
        if -0x7FFF_FFFF <= value <= 0x7FFF_FFFF:
            out += struct.pack(">ci", b"I", value)
        else:
            out += struct.pack(">cq", b"L", integer("long long", value, -(2**63), 2**63 - 1))
    elif isinstance(value, dict):
        out += b"F"
        _write_table(value, out, depth + 1)
    elif isinstance(value, (list, tuple)):
        out += b"A"
        _write_array(value, out, depth + 1)
    elif value is None:
        out += b"V"
    elif isinstance(value, decimal.Decimal):
        _write_decimal(value, out)
    elif isinstance(value, datetime.datetime):
        out += b"T"
        out += _UNSIGNED_LONGLONG.pack(_timestamp(value))
    else:
        return False
    return True


def _write_decimal(value: decimal.Decimal, out: bytearray) -> None:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise TypeError(f"decimal {value} is not a finite number")
    unscaled = 0
    for digit in digits:
        unscaled = unscaled * 10 + digit
    out += struct.pack(
        ">cBi",
        b"D",
        integer("decimal places", -exponent, 0, OCTET_MAX),
        integer("unscaled decimal", -unscaled if sign else unscaled, -(2**31), 2**31 - 1),
    )
