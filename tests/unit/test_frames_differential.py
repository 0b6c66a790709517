"""The codec against the installed ``amqp`` package and the two cores against each other, on generated data."""

from __future__ import annotations

import math
import struct
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from amqp import serialization
from amqp.basic_message import Message as AmqpMessage
from amqp.exceptions import AMQPError, FrameSyntaxError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kombu._pure import frames as pure

try:
    from kombu._speedups import frames as compiled
except ImportError:
    # The tests below are deselected, or fail where the compiled core was meant to be there.
    compiled = None  # type: ignore[assignment]

pytestmark = pytest.mark.c_extensions

#: On a busy machine generating tables takes its time; that is no fault of theirs.
patient = settings(suppress_health_check=[HealthCheck.too_slow])

texts = st.text(st.characters(exclude_categories=()), max_size=20)
keys = st.text(max_size=12) | st.binary(max_size=12)
scalars = (
    texts
    | st.binary(max_size=20)
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.decimals(-(10**4), 10**4, places=3)
    | st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31, 23, 59, 59))
    | st.none()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
tables = st.dictionaries(keys, values, max_size=6)

#: What each argument letter takes.
arguments = {
    "b": st.booleans(),
    "o": st.integers(0, 255),
    "B": st.integers(0, 65535),
    "l": st.integers(0, 2**32 - 1),
    "L": st.integers(0, 2**64 - 1),
    "f": st.floats(width=32, allow_nan=False),
    "s": texts,
    "S": texts,
    "x": st.binary(max_size=20),
    "F": tables,
    "A": st.lists(values, max_size=4),
    "T": st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)),
}
argument_lists = st.lists(
    st.sampled_from(sorted(arguments)).flatmap(lambda letter: st.tuples(st.just(letter), arguments[letter])),
    max_size=10,
)

property_types = dict(AmqpMessage.PROPERTIES)
properties = st.fixed_dictionaries({}, optional={name: arguments[kind] for name, kind in property_types.items()})

#: Anything a caller might hand to an encoder by mistake.
mistakes = (
    values
    | st.integers()
    | st.decimals()
    | st.datetimes()
    | st.complex_numbers()
    | st.dictionaries(st.integers() | st.none() | st.text(min_size=200), st.none(), max_size=2)
    | st.text(min_size=80, max_size=300)
)


@st.composite
def mutated(draw: st.DrawFn, encoded: st.SearchStrategy[bytes]) -> bytes:
    """Draw encoded data and do some damage: bytes changed, cut out, doubled, put in, the end cut off."""
    data = bytearray(draw(encoded))
    for _ in range(draw(st.integers(0, 4))):
        position = draw(st.integers(0, len(data)))
        damage = draw(st.integers(0, 3))
        if damage == 0 and position < len(data):
            data[position] = draw(st.integers(0, 255))
        elif damage == 1:
            del data[position : position + draw(st.integers(1, 4))]
        elif damage == 2:
            data[position:position] = draw(
                st.binary(min_size=1, max_size=4) | st.sampled_from([b"\xff" * 4, b"F", b"A"])
            )
        else:
            data[position:] = b""
    return bytes(data)


def outcome(function: Any, *args: Any) -> tuple[Any, ...]:
    """Return what a call gives, in a form in which equal means equal: types, exceptions and their texts included."""
    try:
        return "returned", exact(function(*args))
    except AMQPError as error:
        return "raised", type(error), error.reply_text
    except Exception as error:
        return "raised", type(error), str(error)


def exact(value: Any) -> Any:
    if isinstance(value, dict):
        return dict, [(exact(key), exact(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [exact(item) for item in value]
    if isinstance(value, float):
        return float, "nan" if math.isnan(value) else struct.pack(">d", value)
    return type(value), str(value) if isinstance(value, Decimal) else value


def same(function: str, *args: Any) -> tuple[Any, ...]:
    """Call *function* of both cores, want the same outcome, and return it."""
    found = outcome(getattr(compiled, function), *args)
    assert found == outcome(getattr(pure, function), *args)
    return found


# -- valid data: amqp is right


@patient
@given(tables)
def test_tables_are_encoded_as_amqp_does(content: dict[Any, Any]) -> None:
    expected = serialization.dumps("F", [content])
    assert compiled.encode_table(content) == pure.encode_table(content) == expected


@patient
@given(tables, st.binary(max_size=3), st.binary(max_size=3))
def test_tables_are_decoded_as_amqp_does(content: dict[Any, Any], before: bytes, behind: bytes) -> None:
    encoded = before + serialization.dumps("F", [content]) + behind
    (expected,), after = serialization.loads("F", encoded, len(before))
    assert same("decode_table", encoded, len(before)) == ("returned", exact((expected, after)))


@patient
@given(argument_lists)
def test_arguments_are_encoded_and_decoded_as_amqp_does(pairs: list[tuple[str, Any]]) -> None:
    letters = "".join(letter for letter, _ in pairs)
    content = [value for _, value in pairs]
    encoded = serialization.dumps(letters, content)
    assert compiled.encode_arguments(letters, content) == pure.encode_arguments(letters, content) == encoded
    assert same("decode_arguments", letters, encoded) == ("returned", exact(serialization.loads(letters, encoded, 0)))


@patient
@given(properties)
def test_properties_are_encoded_and_decoded_as_amqp_does(content: dict[str, Any]) -> None:
    encoded = AmqpMessage("", **content)._serialize_properties()
    assert compiled.encode_properties(content) == pure.encode_properties(content) == encoded
    expected, _ = serialization.decode_properties_basic(encoded, 0)
    assert same("decode_properties", encoded) == ("returned", exact(expected))
    assert same("check_properties", encoded) == ("returned", exact(None))


# -- damaged data: both cores say the same, and amqp's view of what is sound holds


@patient
@given(mutated(tables.map(pure.encode_table)))
def test_damaged_tables_have_one_outcome(data: bytes) -> None:
    found = same("decode_table", data)
    assert found[0] == "returned" or found[1] is FrameSyntaxError
    if found[0] == "returned":
        (expected,), after = serialization.loads("F", data, 0)
        assert found[1] == exact((expected, after))


@patient
@given(argument_lists.map(lambda pairs: "".join(letter for letter, _ in pairs)), st.data())
def test_damaged_arguments_have_one_outcome(letters: str, data: st.DataObject) -> None:
    content = [data.draw(arguments[letter]) for letter in letters]
    found = same("decode_arguments", letters, data.draw(mutated(st.just(pure.encode_arguments(letters, content)))))
    assert found[0] == "returned" or found[1] is FrameSyntaxError


@patient
@given(mutated(properties.map(pure.encode_properties)))
def test_damaged_properties_have_one_outcome(data: bytes) -> None:
    found = same("decode_properties", data)
    checked = same("check_properties", data)
    if found[0] == "returned":
        assert checked == ("returned", exact(None))
        assert found[1] == exact(serialization.decode_properties_basic(data, 0)[0])
    else:
        assert found[1] is FrameSyntaxError
        assert checked == found


@patient
@given(st.binary(max_size=60))
def test_any_bytes_have_one_outcome(data: bytes) -> None:
    for function in "decode_table", "decode_properties", "check_properties":
        found = same(function, data)
        assert found[0] == "returned" or found[1] is FrameSyntaxError


@patient
@given(st.binary(max_size=6), st.sampled_from([0x8000, 0x0004]))
def test_any_short_string_has_one_outcome(text: bytes, flag: int) -> None:
    data = struct.pack(">HB", flag, len(text)) + text
    found = same("check_properties", data)
    try:
        text.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        assert found[:2] == ("raised", FrameSyntaxError)
    else:
        assert found[0] == "returned"


# -- wrong values: both cores say the same, and raise the class that amqp raises


@patient
@given(st.sampled_from(sorted(arguments)), mistakes)
def test_a_wrong_argument_has_one_outcome_and_the_class_of_amqp(letter: str, value: Any) -> None:
    found = same("encode_arguments", letter, [value])
    theirs = outcome(serialization.dumps, letter, [value])
    assert found[0] == theirs[0]
    assert found[1] == theirs[1]


@patient
@given(st.dictionaries(st.sampled_from(sorted(property_types)), mistakes, max_size=3))
def test_wrong_properties_have_one_outcome_and_the_class_of_amqp(content: dict[str, Any]) -> None:
    found = same("encode_properties", content)
    theirs = outcome(AmqpMessage("", **content)._serialize_properties)
    assert found[:2] == theirs[:2]


# -- frames


@patient
@given(
    st.integers(-1, 65536),
    texts,
    texts,
    st.booleans(),
    st.booleans(),
    st.binary(max_size=50),
    st.integers(0, 40_000),
    st.sampled_from([0, 9, 100, 4096, 131072]),
)
def test_a_publish_has_one_outcome(
    channel: int, exchange: str, key: str, mandatory: bool, immediate: bool, block: bytes, size: int, frame_max: int
) -> None:
    body = bytes(size)
    args = (channel, exchange, key, mandatory, immediate, block, body, frame_max)
    found = same("encode_publish", *args)
    if found[0] == "returned":
        assert b"".join(compiled.encode_publish(*args)) == b"".join(pure.encode_publish(*args))


@patient
@given(st.integers(-1, 65536), st.integers(-1, 2**64), st.booleans(), st.booleans())
def test_settlements_have_one_outcome(channel: int, tag: int, first: bool, second: bool) -> None:
    same("encode_ack", channel, tag, first)
    same("encode_reject", channel, tag, first)
    same("encode_nack", channel, tag, first, second)


@patient
@given(st.integers(-1, 65536), st.integers(-1, 65536), st.integers(-1, 65536), st.binary(max_size=40))
def test_a_method_has_one_outcome(channel: int, class_id: int, method_id: int, content: bytes) -> None:
    same("encode_method", channel, class_id, method_id, content)
