"""The codec: what it encodes, what it decodes, and what it refuses, on both cores."""

from __future__ import annotations

import gc
import struct
import sys
from array import array
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum

import pytest
from amqp.exceptions import FrameError, FrameSyntaxError

PROPERTIES = {
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "application_headers": {"a": 1, "b": {"c": [True, None]}},
    "delivery_mode": 2,
    "priority": 9,
    "correlation_id": "c-1",
    "reply_to": "replies",
    "expiration": "60000",
    "message_id": "m-1",
    "timestamp": 2**64 - 1,
    "type": "t",
    "user_id": "guest",
    "app_id": "app",
    "cluster_id": "",
}


def long(number: int) -> bytes:
    return struct.pack(">I", number)


def table(content: bytes) -> bytes:
    return long(len(content)) + content


def nested(core, kind: str, levels: int) -> bytes:
    """Return an encoded table of *levels* levels, made by hand."""
    data = table(b"")
    for _ in range(levels - 1):
        data = table(b"\x01k" + b"F" + data) if kind == "table" else table(b"\x01k" + b"A" + table(b"F" + data))
    return data


def split_frames(data: bytes) -> list[tuple[int, int, bytes]]:
    """Cut *data* into frames and check their form."""
    frames = []
    while data:
        kind, channel, size = struct.unpack_from(">BHI", data)
        assert data[7 + size] == 0xCE
        frames.append((kind, channel, data[7 : 7 + size]))
        data = data[8 + size :]
    return frames


# -- tables


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        (b"t\x00", False),
        (b"t\x07", True),
        (b"b\xff", -1),
        (b"B\xff", 255),
        (b"s\xff\xfe", -2),
        (b"U\xff\xfe", -2),
        (b"u\xff\xfe", 65534),
        (b"I\xff\xff\xff\xff", -1),
        (b"i\xff\xff\xff\xff", 2**32 - 1),
        (b"L\xff\xff\xff\xff\xff\xff\xff\xff", -1),
        (b"l\x80\x00\x00\x00\x00\x00\x00\x00", -(2**63)),
        (b"f\x3f\x80\x00\x00", 1.0),
        (b"d\x3f\xf0\x00\x00\x00\x00\x00\x00", 1.0),
        (b"D\x02\x00\x00\x00\x96", Decimal("1.5")),
        (b"D\x00\xff\xff\xff\xff", Decimal("-1")),
        (b"S\x00\x00\x00\x03\xe2\x82\xac", "\u20ac"),
        (b"S\x00\x00\x00\x03\xed\xa0\x80", "\ud800"),
        (b"S\x00\x00\x00\x02\xc3\x28", b"\xc3("),
        (b"S\x00\x00\x00\x00", ""),
        (b"x\x00\x00\x00\x02\x00\x01", b"\x00\x01"),
        (b"V", None),
        (b"T\x00\x00\x00\x00\x00\x00\x00\x01", datetime(1970, 1, 1, 0, 0, 1)),
        (b"T" + struct.pack(">Q", 253402300799), datetime(9999, 12, 31, 23, 59, 59)),
        (b"F\x00\x00\x00\x00", {}),
        (b"A\x00\x00\x00\x03Vt\x01", [None, True]),
    ],
)
def test_each_type_of_value_is_decoded(core, encoded, value):
    data = table(b"\x03key" + encoded)
    decoded, after = core.frames.decode_table(data)
    assert decoded == {"key": value}
    assert type(decoded["key"]) is type(value)
    assert after == len(data)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("\u20ac", b"S\x00\x00\x00\x03\xe2\x82\xac"),
        ("\udfff", b"S\x00\x00\x00\x03\xed\xbf\xbf"),
        (b"\x00\xff", b"S\x00\x00\x00\x02\x00\xff"),
        (True, b"t\x01"),
        (False, b"t\x00"),
        (0, b"I\x00\x00\x00\x00"),
        (2**31 - 1, b"I\x7f\xff\xff\xff"),
        (2**31, b"L\x00\x00\x00\x00\x80\x00\x00\x00"),
        (-(2**31) + 1, b"I\x80\x00\x00\x01"),
        (-(2**31), b"L\xff\xff\xff\xff\x80\x00\x00\x00"),
        (-(2**63), b"L\x80\x00\x00\x00\x00\x00\x00\x00"),
        (IntEnum("Colour", "red").red, b"I\x00\x00\x00\x01"),
        (1.5, b"d\x3f\xf8\x00\x00\x00\x00\x00\x00"),
        (Decimal("-1.50"), b"D\x02\xff\xff\xff\x6a"),
        (datetime(1970, 1, 1, 0, 1), b"T\x00\x00\x00\x00\x00\x00\x00\x3c"),
        (datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), b"T" + bytes(8)),
        (None, b"V"),
        ({}, b"F\x00\x00\x00\x00"),
        ({"a": {"b": 1}}, b"F" + table(b"\x01aF" + table(b"\x01bI\x00\x00\x00\x01"))),
        ([1, (2,)], b"A\x00\x00\x00\x0fI\x00\x00\x00\x01A\x00\x00\x00\x05I\x00\x00\x00\x02"),
    ],
)
def test_each_type_of_value_is_encoded(core, value, encoded):
    assert core.frames.encode_table({"key": value}) == table(b"\x03key" + encoded)


def test_keys_may_be_bytes_and_come_back_as_text_where_they_are(core):
    data = core.frames.encode_table({b"text": 1, b"\xff\xfe": 2, "": 3})
    assert core.frames.decode_table(data)[0] == {"text": 1, b"\xff\xfe": 2, "": 3}


def test_the_last_of_equal_keys_counts(core):
    assert core.frames.decode_table(table(b"\x01at\x00\x01at\x01"))[0] == {"a": True}


def test_nothing_is_an_empty_table(core):
    assert core.frames.encode_table(None) == core.frames.encode_table({}) == bytes(4)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda data: memoryview(bytes(data))[::1]])
def test_a_table_is_decoded_from_any_buffer_at_any_offset(core, wrap):
    data = b"\xaa\xbb" + core.frames.encode_table({"k": "v"}) + b"\xcc"
    assert core.frames.decode_table(wrap(data), 2) == ({"k": "v"}, len(data) - 1)


def test_a_slice_with_gaps_is_decoded_too(core):
    data = core.frames.encode_table({"k": "v"})
    spread = b"".join(bytes((octet, 0)) for octet in data)
    assert core.frames.decode_table(memoryview(spread)[::2]) == ({"k": "v"}, len(data))


@pytest.mark.parametrize("offset", [-1, 5, 2**40])
def test_an_offset_outside_the_data_is_refused(core, offset):
    with pytest.raises(FrameSyntaxError, match=f"offset {offset} is outside the 4 bytes of data"):
        core.frames.decode_table(bytes(4), offset)
    with pytest.raises(FrameSyntaxError, match="outside"):
        core.frames.decode_arguments("o", bytes(4), offset)
    with pytest.raises(FrameSyntaxError, match="outside"):
        core.frames.check_properties(bytes(4), offset)


def test_what_is_no_buffer_is_refused(core):
    with pytest.raises(TypeError):
        core.frames.decode_table("text")
    with pytest.raises(TypeError):
        core.frames.decode_table(4)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "table length of 4 bytes at offset 0 exceeds the 0 bytes that remain"),
        (b"\x00\x00\x00", "table length of 4 bytes at offset 0 exceeds the 3 bytes that remain"),
        (b"\x00\x00\x00\x01", "table of 1 bytes at offset 4 exceeds the 0 bytes that remain"),
        (b"\xff\xff\xff\xff\x00", "table of 4294967295 bytes at offset 4 exceeds the 1 bytes that remain"),
        (table(b"\x05ab"), "table key of 5 bytes at offset 5 exceeds the 2 bytes that remain"),
        (table(b"\x02ab") + b"t\x01", "value type of 1 bytes at offset 7 exceeds the 0 bytes that remain"),
        (table(b"\x01at") + b"\x01", "boolean of 1 bytes at offset 7 exceeds the 0 bytes that remain"),
        (table(b"\x01ad\x00"), "double of 8 bytes at offset 7 exceeds the 1 bytes that remain"),
        (table(b"\x01aD\x00"), "decimal of 5 bytes at offset 7 exceeds the 1 bytes that remain"),
        (table(b"\x01aT\x00"), "timestamp of 8 bytes at offset 7 exceeds the 1 bytes that remain"),
        (table(b"\x01aS\x00"), "long string length of 4 bytes at offset 7 exceeds the 1 bytes that remain"),
        (
            table(b"\x01aS\x00\x00\x00\x02a") + b"b",
            "long string of 2 bytes at offset 11 exceeds the 1 bytes that remain",
        ),
        (
            table(b"\x01ax\xff\xff\xff\xff"),
            "byte array of 4294967295 bytes at offset 11 exceeds the 0 bytes that remain",
        ),
        (table(b"\x01aF\x00\x00\x00\x01"), "table of 1 bytes at offset 11 exceeds the 0 bytes that remain"),
        (table(b"\x01aA\x00\x00\x00\x01I"), "long of 4 bytes at offset 12 exceeds the 0 bytes that remain"),
        (
            table(b"\x01aA\x00\x00\x00\x02I\x00\x00\x00\x00"),
            "long of 4 bytes at offset 12 exceeds the 1 bytes that remain",
        ),
        (table(b"\x01aZ"), "value type 0x5a at offset 6 is unknown"),
        (table(b"\x01a\xff"), "value type 0xff at offset 6 is unknown"),
        (
            table(b"\x01aT" + struct.pack(">Q", 253402300800)),
            "timestamp 253402300800 at offset 7 is later than the year 9999",
        ),
    ],
)
def test_a_malformed_table_is_refused(core, data, problem):
    with pytest.raises(FrameSyntaxError) as caught:
        core.frames.decode_table(data)
    assert caught.value.reply_text == problem
    with pytest.raises(FrameSyntaxError):
        core.frames.check_properties(b"\x20\x00" + data)


@pytest.mark.parametrize("kind", ["table", "array"])
def test_depth_is_limited_in_both_directions(core, kind):
    levels = core.frames.MAX_DEPTH if kind == "table" else core.frames.MAX_DEPTH - 1
    step = 1 if kind == "table" else 2
    deepest = nested(core, kind, 1 + (levels - 1) // step)
    value, _ = core.frames.decode_table(deepest)
    assert core.frames.encode_table(value) == deepest
    core.frames.check_properties(b"\x20\x00" + deepest)

    too_deep = nested(core, kind, 2 + (levels - 1) // step)
    with pytest.raises(FrameSyntaxError, match="nested deeper than 64 levels"):
        core.frames.decode_table(too_deep)
    with pytest.raises(FrameSyntaxError, match="nested deeper than 64 levels"):
        core.frames.check_properties(b"\x20\x00" + too_deep)


def test_a_million_levels_do_not_exhaust_the_stack(core):
    with pytest.raises(FrameSyntaxError, match="nested deeper than 64 levels"):
        core.frames.decode_table(
            table(b"\x01k" + b"".join(b"A" + long(5 * level) for level in range(1_000_000, -1, -1)))
        )


@pytest.mark.parametrize("kind", [dict, list])
def test_a_value_that_contains_itself_is_refused(core, kind):
    cycle = kind()
    if kind is dict:
        cycle["self"] = cycle
    else:
        cycle.append(cycle)
    with pytest.raises(FrameSyntaxError, match="nested deeper than 64 levels"):
        core.frames.encode_table({"cycle": cycle})


@pytest.mark.parametrize(
    ("content", "error", "problem"),
    [
        ({"k": object}, FrameSyntaxError, "value <class 'object'> of type type for key 'k' cannot stand in a table"),
        ({"k": [1j]}, FrameSyntaxError, "value 1j of type complex cannot stand in an array"),
        ({"k": date(2020, 1, 1)}, FrameSyntaxError, "of type date for key 'k'"),
        ({"k": bytearray(b"x")}, FrameSyntaxError, "of type bytearray for key 'k'"),
        ({"k" * 256: 1}, struct.error, "table key of 256 bytes is longer than 255"),
        ({1: 1}, TypeError, "table key has to be str or bytes, not int"),
        ({"k": 2**63}, struct.error, "long long 9223372036854775808 is not between"),
        ({"k": -(2**63) - 1}, struct.error, "long long -9223372036854775809 is not between"),
        ({"k": 10**5000}, struct.error, "long long of 16610 bits is not between"),
        ({"k": datetime(1969, 12, 31)}, struct.error, "timestamp -86400 is not between"),
        ({"k": Decimal("NaN")}, TypeError, "decimal NaN is not a finite number"),
        ({"k": Decimal("-Infinity")}, TypeError, "decimal -Infinity is not a finite number"),
        ({"k": Decimal("1e3")}, struct.error, "decimal places -3 is not between 0 and 255"),
        ({"k": Decimal("1e-256")}, struct.error, "decimal places 256 is not between 0 and 255"),
        ({"k": Decimal(2**31)}, struct.error, "unscaled decimal 2147483648 is not between"),
    ],
)
def test_what_a_table_cannot_hold_is_refused(core, content, error, problem):
    with pytest.raises(error) as caught:
        core.frames.encode_table(content)
    assert problem in str(caught.value)


# -- arguments


def test_bits_share_octets_until_something_else_comes(core):
    encoded = core.frames.encode_arguments("bbbbbbbbbob", [1, 0, 1, 1, 1, 1, 1, 1, 1, 7, "yes"])
    assert encoded == b"\xfd\x01\x07\x01"
    values, after = core.frames.decode_arguments("bbbbbbbbbob", encoded)
    assert values == [True, False, *[True] * 7, 7, True]
    assert after == 4


def test_all_letters_survive_the_round_trip(core):
    values = [5, 6, 7, 2**64 - 1, 1.5, "short", "long", b"\x00", {"k": [1]}, [1, "x"], datetime(2020, 5, 17, 1, 2, 3)]
    encoded = core.frames.encode_arguments("oBlLfsSxFAT", values)
    assert core.frames.decode_arguments("oBlLfsSxFAT", b"\xff" + encoded, 1) == (values, len(encoded) + 1)


@pytest.mark.parametrize(
    ("letter", "value", "encoded"),
    [
        ("s", None, b"\x00"),
        ("s", 0, b"\x00"),
        ("s", b"raw", b"\x03raw"),
        ("s", bytearray(b"raw"), b"\x03raw"),
        ("s", memoryview(b"raw"), b"\x03raw"),
        ("s", "\ud83d", b"\x03\xed\xa0\xbd"),
        ("S", None, bytes(4)),
        ("x", "text", b"\x00\x00\x00\x04text"),
        ("F", None, bytes(4)),
        ("A", None, bytes(4)),
        ("A", range(1, 2), b"\x00\x00\x00\x05I\x00\x00\x00\x01"),
        ("B", "12", b"\x00\x0c"),
        ("B", 12.9, b"\x00\x0c"),
        ("o", True, b"\x01"),
        ("l", 2**32 - 1, b"\xff\xff\xff\xff"),
    ],
)
def test_arguments_are_taken_as_amqp_takes_them(core, letter, value, encoded):
    assert core.frames.encode_arguments(letter, [value]) == encoded


def test_missing_values_are_left_out_and_surplus_ones_refused(core):
    assert core.frames.encode_arguments("oo", [1]) == b"\x01"
    with pytest.raises(IndexError):
        core.frames.encode_arguments("o", [1, 2])


@pytest.mark.parametrize(
    ("letter", "value", "error", "problem"),
    [
        ("o", 256, struct.error, "octet 256 is not between 0 and 255"),
        ("o", -1, struct.error, "octet -1 is not between 0 and 255"),
        ("o", "1", struct.error, "octet has to be an integer, not str"),
        ("o", 1.0, struct.error, "octet has to be an integer, not float"),
        ("B", 65536, struct.error, "short 65536 is not between 0 and 65535"),
        ("B", "x", ValueError, "invalid literal"),
        ("B", None, TypeError, "int()"),
        ("l", 2**32, struct.error, "long 4294967296 is not between 0 and 4294967295"),
        ("L", 2**64, struct.error, "long long 18446744073709551616 is not between 0 and"),
        ("L", None, struct.error, "long long has to be an integer, not NoneType"),
        ("f", "x", struct.error, "float"),
        ("f", 1e300, OverflowError, "float"),
        ("s", "\u20ac" * 86, struct.error, "short string of 258 bytes is longer than 255"),
        ("s", 5, TypeError, "short string has to be str or bytes, not int"),
        ("s", array("B", b"x"), TypeError, "short string has to be str or bytes, not array"),
        ("S", 5, TypeError, "long string has to be str or bytes, not int"),
        ("x", [1], TypeError, "byte array has to be str or bytes, not list"),
        ("F", [1], AttributeError, "items"),
        ("A", 5, TypeError, "not iterable"),
        ("T", 5, AttributeError, "utctimetuple"),
        ("q", 5, FrameSyntaxError, "argument type 'q' is unknown"),
    ],
)
def test_a_wrong_argument_is_refused(core, letter, value, error, problem):
    with pytest.raises(error) as caught:
        core.frames.encode_arguments(letter, [value])
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("letter", "data", "problem"),
    [
        ("b", b"", "bits of 1 bytes at offset 0 exceeds the 0 bytes that remain"),
        ("o", b"", "octet of 1 bytes at offset 0 exceeds the 0 bytes that remain"),
        ("B", b"\x00", "short of 2 bytes at offset 0 exceeds the 1 bytes that remain"),
        ("l", b"\x00", "long of 4 bytes at offset 0 exceeds the 1 bytes that remain"),
        ("L", b"\x00", "long long of 8 bytes at offset 0 exceeds the 1 bytes that remain"),
        ("f", b"\x00", "float of 4 bytes at offset 0 exceeds the 1 bytes that remain"),
        ("s", b"", "short string length of 1 bytes at offset 0 exceeds the 0 bytes that remain"),
        ("s", b"\x0cabcde", "short string of 12 bytes at offset 1 exceeds the 5 bytes that remain"),
        ("s", b"\x02\xc3(", "short string of 2 bytes at offset 1 is not UTF-8"),
        ("S", b"\x00\x00\x00\x01\xff", "long string of 1 bytes at offset 4 is not UTF-8"),
        ("x", b"\xff\xff\xff\xff", "byte array of 4294967295 bytes at offset 4 exceeds the 0 bytes that remain"),
        ("A", b"\x00\x00\x00\x01", "array of 1 bytes at offset 4 exceeds the 0 bytes that remain"),
        ("T", b"\xff" * 8, "timestamp 18446744073709551615 at offset 0 is later than the year 9999"),
        ("?", b"\x00", "argument type '?' is unknown"),
    ],
)
def test_malformed_arguments_are_refused(core, letter, data, problem):
    with pytest.raises(FrameSyntaxError) as caught:
        core.frames.decode_arguments(letter, data)
    assert caught.value.reply_text == problem


# -- properties


def test_all_properties_survive_the_round_trip(core):
    encoded = core.frames.encode_properties(PROPERTIES)
    assert encoded[:2] == b"\xff\xfc"
    assert core.frames.decode_properties(encoded) == PROPERTIES
    assert list(core.frames.decode_properties(b"\x00" + encoded, 1)) == list(PROPERTIES)
    assert core.frames.check_properties(b"\x00" + encoded, 1) is None


@pytest.mark.parametrize("name", PROPERTIES)
def test_each_property_stands_alone(core, name):
    one = {name: PROPERTIES[name]}
    assert core.frames.decode_properties(core.frames.encode_properties(one)) == one


def test_properties_of_none_and_unknown_ones_are_left_out(core):
    assert core.frames.encode_properties({"content_type": None, "unheard_of": 1}) == b"\x00\x00"
    assert core.frames.decode_properties(b"\x00\x00") == {}


def test_an_empty_string_and_an_empty_table_are_present(core):
    encoded = core.frames.encode_properties({"content_type": "", "application_headers": {}})
    assert core.frames.decode_properties(encoded) == {"content_type": "", "application_headers": {}}


@pytest.mark.parametrize(
    ("properties", "error"),
    [
        ({"priority": 256}, struct.error),
        ({"delivery_mode": "persistent"}, struct.error),
        ({"timestamp": datetime(2020, 1, 1)}, struct.error),
        ({"timestamp": -1}, struct.error),
        ({"message_id": 5}, TypeError),
        ({"expiration": "1" * 256}, struct.error),
        ({"application_headers": [1]}, AttributeError),
        ({"application_headers": {"k": object()}}, FrameSyntaxError),
    ],
)
def test_a_wrong_property_is_refused(core, properties, error):
    with pytest.raises(error):
        core.frames.encode_properties(properties)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "property flags of 2 bytes at offset 0 exceeds the 0 bytes that remain"),
        (b"\x80", "property flags of 2 bytes at offset 0 exceeds the 1 bytes that remain"),
        (b"\x00\x01", "property flags 0x0001 name properties that class basic does not have"),
        (b"\x80\x02\x00", "property flags 0x8002 name properties that class basic does not have"),
        (b"\x80\x00", "short string length of 1 bytes at offset 2 exceeds the 0 bytes that remain"),
        (b"\x80\x00\x05ab", "short string of 5 bytes at offset 3 exceeds the 2 bytes that remain"),
        (b"\x80\x00\x02\xff\xff", "short string of 2 bytes at offset 3 is not UTF-8"),
        (b"\x10\x00", "octet of 1 bytes at offset 2 exceeds the 0 bytes that remain"),
        (b"\x00\x40\x00", "long long of 8 bytes at offset 2 exceeds the 1 bytes that remain"),
        (b"\x20\x00\x00", "table length of 4 bytes at offset 2 exceeds the 1 bytes that remain"),
        (b"\x00\x00\x00", "1 bytes are left over behind the properties at offset 2"),
    ],
)
def test_malformed_properties_are_refused(core, data, problem):
    for refuse in core.frames.decode_properties, core.frames.check_properties:
        with pytest.raises(FrameSyntaxError) as caught:
            refuse(data)
        assert caught.value.reply_text == problem


@pytest.mark.parametrize(
    "text",
    [
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\x80",
        b"\xe2\x82",
        b"\xed\xa0",
        b"\xf0\x9f\x98",
        b"a\xe2\x28\xa1",
        b"ok\xff",
    ],
)
def test_short_strings_that_are_not_utf_8_are_refused(core, text):
    data = b"\x80\x00" + bytes((len(text),)) + text
    for refuse in core.frames.decode_properties, core.frames.check_properties:
        with pytest.raises(FrameSyntaxError, match="is not UTF-8"):
            refuse(data)


@pytest.mark.parametrize("text", ["\x00", "\x7f\x80", "\u07ff\u0800", "\ud800\udfff", "\uffff\U00010000\U0010ffff"])
def test_every_utf_8_short_string_is_accepted(core, text):
    raw = text.encode("utf-8", "surrogatepass")
    data = b"\x80\x00" + bytes((len(raw),)) + raw
    core.frames.check_properties(data)
    assert core.frames.decode_properties(data) == {"content_type": text}


# -- frames


def test_a_heartbeat_is_an_empty_frame_on_channel_0(core):
    assert split_frames(core.frames.HEARTBEAT) == [(core.frames.FRAME_HEARTBEAT, 0, b"")]


def test_a_method_is_one_frame(core):
    data = core.frames.encode_method(65535, 10, 40, b"args")
    assert split_frames(data) == [(1, 65535, b"\x00\x0a\x00\x28args")]


@pytest.mark.parametrize("bad", [-1, 65536, "1", None])
def test_a_wrong_channel_is_refused(core, bad):
    frames = core.frames
    for encode in (
        lambda: frames.encode_method(bad, 10, 40, b""),
        lambda: frames.encode_content(bad, 60, 40, b"", b"", b"", 4096),
        lambda: frames.encode_publish(bad, "", "", False, False, b"\0\0", b"", 4096),
        lambda: frames.encode_ack(bad, 1),
        lambda: frames.encode_reject(bad, 1, True),
        lambda: frames.encode_nack(bad, 1, True, True),
    ):
        with pytest.raises(struct.error, match="channel id"):
            encode()


def test_settlements_say_what_is_settled(core):
    frames = core.frames
    tag = struct.pack(">Q", 2**64 - 1)
    for data, payload in (
        (frames.encode_ack(7, 2**64 - 1), b"\x00\x3c\x00\x50" + tag + b"\x00"),
        (frames.encode_ack(7, 2**64 - 1, multiple=True), b"\x00\x3c\x00\x50" + tag + b"\x01"),
        (frames.encode_reject(7, 2**64 - 1, False), b"\x00\x3c\x00\x5a" + tag + b"\x00"),
        (frames.encode_reject(7, 2**64 - 1, True), b"\x00\x3c\x00\x5a" + tag + b"\x01"),
        (frames.encode_nack(7, 2**64 - 1, False, False), b"\x00\x3c\x00\x78" + tag + b"\x00"),
        (frames.encode_nack(7, 2**64 - 1, True, False), b"\x00\x3c\x00\x78" + tag + b"\x01"),
        (frames.encode_nack(7, 2**64 - 1, False, True), b"\x00\x3c\x00\x78" + tag + b"\x02"),
        (frames.encode_nack(7, 2**64 - 1, "yes", 1), b"\x00\x3c\x00\x78" + tag + b"\x03"),
    ):
        assert split_frames(data) == [(1, 7, payload)]


@pytest.mark.parametrize("tag", [-1, 2**64, None, 1.5])
def test_a_wrong_delivery_tag_is_refused(core, tag):
    with pytest.raises(struct.error, match="delivery tag"):
        core.frames.encode_ack(1, tag)


def test_a_publish_names_exchange_and_routing_key(core):
    (data,) = core.frames.encode_publish(3, "ex", "\u20ac", True, False, b"\x00\x00", b"", 4096)
    assert split_frames(data) == [
        (1, 3, b"\x00\x3c\x00\x28" + b"\x00\x00" + b"\x02ex" + b"\x03\xe2\x82\xac" + b"\x01"),
        (2, 3, b"\x00\x3c\x00\x00" + bytes(8) + b"\x00\x00"),
    ]
    (data,) = core.frames.encode_publish(3, None, "", False, True, b"\x00\x00", b"x", 4096)
    assert split_frames(data)[0][2][4:] == b"\x00\x00\x00\x00\x02"
    with pytest.raises(struct.error, match="short string of 256 bytes is longer than 255"):
        core.frames.encode_publish(3, "", "k" * 256, False, False, b"\x00\x00", b"", 4096)
    with pytest.raises(TypeError, match="short string has to be str or bytes, not int"):
        core.frames.encode_publish(3, 1, "", False, False, b"\x00\x00", b"", 4096)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [0, 1, 4088, 4089, 16384])
def test_a_small_body_is_copied_into_one_buffer(core, wrap, size):
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    buffers = core.frames.encode_content(5, 60, 40, b"args", b"props", wrap(body), 4096)
    assert [type(buffer) for buffer in buffers] == [bytes]
    frames = split_frames(buffers[0])
    assert frames[:2] == [
        (1, 5, b"\x00\x3c\x00\x28args"),
        (2, 5, b"\x00\x3c\x00\x00" + struct.pack(">Q", size) + b"props"),
    ]
    assert all(kind == 3 and channel == 5 and 0 < len(chunk) <= 4088 for kind, channel, chunk in frames[2:])
    assert b"".join(chunk for _, _, chunk in frames[2:]) == body


@pytest.mark.parametrize("frame_max", [4096, 131072, 0])
def test_a_large_body_is_sent_from_where_it_stands(core, frame_max):
    body = bytearray(i % 251 for i in range(300_000))
    buffers = core.frames.encode_content(5, 60, 40, b"args", b"props", body, frame_max)
    slices = [buffer for buffer in buffers if isinstance(buffer, memoryview)]
    assert all(buffer.obj is body for buffer in slices)
    assert sum(buffer.nbytes for buffer in slices) == len(body)
    assert sum(len(buffer) for buffer in buffers if isinstance(buffer, bytes)) < 20 * len(slices) + 100
    frames = split_frames(b"".join(buffers))
    assert b"".join(chunk for _, _, chunk in frames[2:]) == body
    assert all(len(chunk) + 8 <= (frame_max or 2**32) for _, _, chunk in frames)


def test_a_body_of_larger_items_counts_in_bytes(core):
    small, large = array("I", range(100)), array("I", range(10_000))
    for body in small, large:
        data = b"".join(core.frames.encode_content(1, 60, 40, b"", b"", memoryview(body), 4096))
        frames = split_frames(data)
        assert frames[1][2][4:] == struct.pack(">Q", len(body) * body.itemsize)
        assert b"".join(chunk for _, _, chunk in frames[2:]) == body.tobytes()


def test_a_body_that_is_no_run_of_bytes_is_refused(core):
    for body in ("text", None, 5):
        with pytest.raises(TypeError):
            core.frames.encode_content(1, 60, 40, b"", b"", body, 4096)
    for size in 10, 100_000:
        with pytest.raises(BufferError, match="body has to be one run of bytes"):
            core.frames.encode_content(1, 60, 40, b"", b"", memoryview(bytes(size))[::2], 4096)


@pytest.mark.parametrize("frame_max", [-1, 1, 8, 2**32])
def test_a_frame_max_without_room_is_refused(core, frame_max):
    with pytest.raises(ValueError, match=f"frame_max {frame_max} is neither 0 nor between 9 and 4294967295"):
        core.frames.encode_content(1, 60, 40, b"", b"", b"", frame_max)


def test_method_and_header_have_to_fit_in_a_frame(core):
    frames = core.frames
    assert frames.encode_content(1, 60, 40, bytes(4084), bytes(4076), b"", 4096)
    with pytest.raises(FrameError, match="arguments of 4085 bytes do not fit in a frame with 4088 bytes of payload"):
        frames.encode_content(1, 60, 40, bytes(4085), b"", b"", 4096)
    with pytest.raises(FrameError, match="properties of 4077 bytes do not fit in a frame with 4088 bytes of payload"):
        frames.encode_publish(1, "", "", False, False, bytes(4077), b"", 4096)


# -- memory


@pytest.mark.leak
def test_work_done_again_and_again_leaves_nothing_behind(core):
    frames = core.frames
    headers = {
        "text": "\u20ac" * 200,
        "bytes": b"\xff" * 700,
        "list": [1.5, {"deep": [None, 2**40]}],
        b"\xff": Decimal("1.5"),
    }
    content = {**PROPERTIES, "application_headers": headers}
    block = frames.encode_properties(content)
    large = bytearray(100_000)
    wrong = [block[:size] for size in range(0, len(block), 32)] + [b"\x80\x00\x01\xff", b"\x20\x00" + table(b"\x01kZ")]

    def work():
        frames.decode_properties(frames.encode_properties(content))
        frames.check_properties(block)
        frames.encode_publish(1, "ex\ud800", "key", True, False, block, large, 4096)
        frames.encode_publish(1, "ex", "key", True, False, block, b"small", 4096)
        frames.encode_ack(1, 2**60)
        for data in wrong:
            for refuse in frames.decode_properties, frames.check_properties:
                with pytest.raises(FrameSyntaxError):
                    refuse(data)
        for value in 10**300, object(), "k" * 300:
            with pytest.raises((struct.error, FrameSyntaxError)):
                frames.encode_table({"first": headers, str(value)[:260]: value, "k" * 256: 1})

    assert blocks_left_by(work) < 10


def blocks_left_by(work) -> int:
    """Return by how many blocks the memory grew that Python has allocated, once what is kept for later is there."""
    counts = []
    for _ in range(4):
        for _ in range(20):
            work()
        gc.collect()
        counts.append(sys.getallocatedblocks())
    return counts[-1] - counts[-3]
