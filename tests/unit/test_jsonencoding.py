"""To JSON text, on both cores: what the standard library's encoder makes of it."""

from __future__ import annotations

import json
import os
import sys
from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from math import inf, nan
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st


class Thing:
    """Something that no core writes without the encoder that it is given."""

    def __repr__(self) -> str:
        return "Thing()"


class Mapping(dict[Any, Any]):
    def items(self) -> Any:
        return [("kept", "by itself")]


class Words(str):
    pass


class Level(IntEnum):
    LOW = 1


@pytest.mark.parametrize("pieces", [(), ("whole",), ("in ", "many ", "pieces"), ["a", "list"]])
def test_pieces_are_put_together(core, pieces):
    thing = Thing()
    encode = core.jsonencoding.make_encoder(lambda o, indent: pieces if (o, indent) == (thing, 0) else None, None)
    assert encode(thing) == "".join(pieces)


def test_what_is_nested_too_deep_is_encoded_otherwise(core):
    def chunks(o: Any, indent: int) -> Any:
        raise RecursionError("too deep")

    assert core.jsonencoding.make_encoder(chunks, lambda o: f"otherwise {o}")(Thing()) == "otherwise Thing()"


def test_other_errors_of_the_encoder_come_out(core):
    def chunks(o: Any, indent: int) -> Any:
        raise TypeError(f"not {o}")

    with pytest.raises(TypeError, match=r"not Thing\(\)"):
        core.jsonencoding.make_encoder(chunks, None)(Thing())


def default(o: Any) -> Any:
    if isinstance(o, Thing):
        return {"thing": [1, "é"]}
    raise TypeError(f"nobody knows {type(o).__name__}")


STANDARD = json.JSONEncoder(default=default)


def make_encode(core: Any, default: Callable[[Any], Any] = default) -> Callable[[Any], str]:
    chunks = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
        None, default, json.encoder.encode_basestring_ascii, None, ": ", ", ", False, False, True
    )
    return cast("Callable[[Any], str]", core.jsonencoding.make_encoder(chunks, STANDARD.encode))


def outcome(encode: Callable[[Any], str], value: Any) -> Any:
    try:
        return encode(value)
    except (TypeError, ValueError) as error:
        return type(error), str(error)


LEAVES = [
    *(None, True, False, 0, 1, -1, 2**31, -(2**31), 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**40),
    *(0.0, -0.0, 1.0, 0.1, 1e16, 1e-7, 1e300, 5e-324, inf, -inf, nan, 123456789.125),
    *("", "plain", "a" * 5000, '"', "\\", "/", "\n\r\t\b\f", "\0\x1f", "~\x7f\x80", "é", "€", "\U0001f600", "\ud800"),
    *("x" * 1022, "x" * 1023, "x" * 1024, "\n" * 1024, "é" * 1024),
    *([], {}, (), b"octets", Thing(), Words("words"), Level.LOW, Mapping(a=1), OrderedDict(a=1), {1, 2}, object),
    *({1: "a"}, {None: "a"}, {True: "a"}, {1.5: "a"}, {nan: 1}, {(1, 2): "a"}, {Words("w"): 1}, {"é": {"\n": ()}}),
]


WRAPS = [lambda o: o, lambda o: [1, o, "x"], lambda o: {"a": (o, o), "b": o}, lambda o: ("é", [o])]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: repr(leaf)[:20])
def test_the_text_is_that_of_the_standard_encoder(core, leaf, wrap):
    assert outcome(make_encode(core), wrap(leaf)) == outcome(STANDARD.encode, wrap(leaf))


@given(
    st.recursive(
        st.sampled_from(LEAVES) | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.dictionaries(st.text(max_size=8), inner, max_size=5)
            | st.tuples(inner, inner)
        ),
        max_leaves=20,
    )
)
def test_the_text_of_any_tree_is_that_of_the_standard_encoder(core, value):
    assert outcome(make_encode(core), value) == outcome(STANDARD.encode, value)


@pytest.mark.parametrize("depth", [*range(47, 54), 500])
@pytest.mark.parametrize("nest", [lambda o: [o], lambda o: {"a": o}, lambda o: (o,)])
def test_however_deep_a_tree_is_its_text_is_that_of_the_standard_encoder(core, depth, nest):
    value: Any = "leaf"
    for _ in range(depth):
        value = nest(value)
    assert make_encode(core)(value) == STANDARD.encode(value)


@pytest.mark.parametrize("circle", [[], {}])
def test_what_contains_itself_is_refused_as_the_standard_encoder_does(core, circle):
    if isinstance(circle, list):
        circle.append([circle])
    else:
        circle["again"] = [circle]
    assert outcome(make_encode(core), circle) == (ValueError, "Circular reference detected")


def test_no_code_of_a_value_runs_twice(core):
    ran: list[Any] = []

    def note(o: Any) -> str:
        ran.append(o)
        return "made"

    things = [Thing(), Thing()]
    assert make_encode(core, note)(["x" * 3000, *things]) == f'["{"x" * 3000}", "made", "made"]'
    assert ran == things


def test_the_references_of_what_is_encoded_stay_as_they_were(core):
    encode = make_encode(core)
    text, number = f"a text of its own {os.getpid()}", 10**12 + os.getpid()
    value = {text: [number, (text, number)], "b": {"c": number, "d": text}}
    encode(value)
    before = sys.getrefcount(text), sys.getrefcount(number), sys.getrefcount(value)
    for _ in range(100):
        encode(value)
    assert (sys.getrefcount(text), sys.getrefcount(number), sys.getrefcount(value)) == before
