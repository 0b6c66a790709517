"""From JSON text, on both cores: what the standard library makes of it, with the hook where a typed object may be."""

from __future__ import annotations

import gc
import json
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st


def hook(found: dict[str, Any]) -> Any:
    if "__type__" not in found:
        return found
    if found["__type__"] == "unknown":
        raise ValueError("nobody knows it")
    return ("made", found.get("__value__"))


class Decoder:
    """A decoder of a core, and which of the functions that it was given it has used, besides the plain scanner."""

    def __init__(self, core: Any) -> None:
        self.used: list[str] = []
        self.decode = core.jsondecoding.make_decoder(
            json.JSONDecoder().scan_once,
            self.noted("typed", json.JSONDecoder(object_hook=hook).scan_once),
            re.compile(r"\\u00[567]").search,
            json.JSONDecodeError,
            self.noted("otherwise", lambda s: json.loads(s, object_hook=hook)),
        )

    def noted(self, name: str, function: Any) -> Any:
        def noting(*arguments: Any) -> Any:
            self.used.append(name)
            return function(*arguments)

        return noting


TEXTS = [
    '{"__type__": "t", "__value__": 1}',
    '[{"__type__": "t", "__value__": {"__type__": "t", "__value__": 2}}]',
    '{"a": "______", "b": {"__type__":"t"}}',
    '{"_": 1, "__": 2, "__type": 3, "type__": 4, "x": {"__type__" : "t"}}',
    '{"\\u005f_type__": "t", "__value__": 1}',
    '{"__t\\u0079pe__": "t", "__value__": 1}',
    '{"\\u005F\\u005f\\u0074\\u0079\\u0070\\u0065\\u005f\\u005f": "t"}',
    '{"é": {"__type__": "t"}}',
    '{"€": {"__type__": "t"}}',
    '{"\U0001f600": {"__type__": "t"}}',
    '{"€": {"__\\u0074ype__": "t"}}',
]
PLAIN = [
    '{"a": {"b": "\\u00e9"}, "text": "__type__ "}',
    '{"a": {"b": "\\n"}, "text": "a \\"quoted\\" one"}',
    '{"__type": {"type__": {"__Type__": {}}}}',
    '{"_____": {}, "__type_": {}}',
    '{"€": {"a": {"b": {}}}}',
    '{"\U0001f600": {}}',
    "{}",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_typed_object_is_made_however_its_key_is_written(core, text):
    decoder = Decoder(core)
    assert decoder.decode(text) == json.loads(text, object_hook=hook)
    assert decoder.used == ["typed"]


@pytest.mark.parametrize("text", PLAIN)
def test_the_hook_is_not_called_where_no_typed_object_can_be(core, text):
    decoder = Decoder(core)
    assert decoder.decode(text) == json.loads(text)
    assert decoder.used == []


@pytest.mark.parametrize("filler", ["a", "_", "é", "€", "\U0001f600", '\\"'])
def test_the_key_is_found_wherever_it_stands(core, filler):
    for length in (*range(40), 200, 1000):
        text = '{"%s": {"__type__": "t", "__value__": 5}}' % (filler * length)
        assert Decoder(core).decode(text) == json.loads(text, object_hook=hook)
        assert list(Decoder(core).decode(text).values()) == [("made", 5)]


@pytest.mark.parametrize("text", ["1", "-1.5", '"x"', '"__type__"', "null", "[]", '["__type__"]', "NaN", "1 \t\r\n"])
def test_texts_without_objects_are_decoded(core, text):
    decoder = Decoder(core)
    assert repr(decoder.decode(text)) == repr(json.loads(text))
    assert "otherwise" not in decoder.used


@pytest.mark.parametrize(
    "text", ["", " ", "{", '{"a": 1} x', " {}", "\ufeff{}", '{"a": 01}', "[1,]", '{"__type__": "t"', '"\\x"', "\0"]
)
def test_what_is_not_understood_at_once_is_left_to_the_standard_library(core, text):
    decoder = Decoder(core)
    try:
        expected = json.loads(text, object_hook=hook)
    except ValueError as error:
        with pytest.raises(type(error)) as caught:
            decoder.decode(text)
        assert str(caught.value) == str(error)
    else:
        assert decoder.decode(text) == expected
    assert decoder.used[-1] == "otherwise"


@pytest.mark.parametrize("given", [b'{"a": 1}', bytearray(b"[2]"), None, 5])
def test_what_is_no_text_is_left_to_the_other_function(core, given):
    decoder = Decoder(core)
    try:
        assert decoder.decode(given) == json.loads(given)
    except TypeError:
        assert given is None or given == 5
    assert decoder.used == ["otherwise"]


def test_a_subclass_of_text_is_left_to_the_other_function(core):
    class Text(str):
        pass

    decoder = Decoder(core)
    assert decoder.decode(Text("[1]")) == [1]
    assert decoder.used == ["otherwise"]


def test_an_error_of_the_hook_is_raised_once_as_it_is(core):
    decoder = Decoder(core)
    with pytest.raises(ValueError, match="nobody knows it") as caught:
        decoder.decode('{"__type__": "unknown"}')
    assert type(caught.value) is ValueError
    assert decoder.used == ["typed"]


def test_too_deep_a_text_is_a_recursion_error(core):
    with pytest.raises(RecursionError):
        Decoder(core).decode("[" * 100_000)


def outcome(decode: Any, text: str) -> Any:
    try:
        return repr(decode(text))
    except (ValueError, RecursionError) as error:
        return type(error), str(error)


def expected(text: str) -> Any:
    return outcome(lambda s: json.loads(s, object_hook=hook), text)


NUMBERS = [
    *(
        "0",
        "-0",
        "7",
        "-7",
        "00",
        "01",
        "-01",
        "-",
        "--1",
        "-a",
        "+1",
        ".5",
        "1.",
        "1.5",
        "-1.5e-3",
        "1e5",
        "1E+5",
        "1e",
        "1e+",
    ),
    *("0.0", "-0.0", "0e0", "1e400", "-1e400", "0x10", "1_000", "9" * 17, "9" * 18, "9" * 19, "9" * 40, "-" + "9" * 18),
    *(
        "1" + "0" * 17,
        "1" + "0" * 18,
        "-1" + "0" * 18,
        "9223372036854775807",
        "-9223372036854775808",
        "0" * 30,
        "1" * 5000,
    ),
    *("NaN", "Infinity", "-Infinity", "-Inf", "nan", "1.0.0", "1.5.", "12e3.4", "1 2", "1,", "1]", "1}"),
]
WORDS = ["null", "true", "false", "nul", "nulll", "True", "truefalse", "fals", "n", "t", "f", "none", "null null"]
STRINGS = [
    *(
        '""',
        '"a"',
        '"',
        '"a',
        '"a\\"',
        '"\\""',
        '"\\n"',
        '"\\u00e9"',
        '"\\ud83d\\ude00"',
        '"\\ud800"',
        '"\\u12"',
        '"\\x"',
    ),
    *(
        '"\n"',
        '"\0"',
        '"\x1f"',
        '"\x7f"',
        '"é"',
        '"€"',
        f'"{"long " * 400}"',
        f'"{"long " * 400}\\t"',
        "'a'",
        '"a" "b"',
        '"a""b"',
    ),
]
OBJECTS = [
    *(
        "{}",
        "{ }",
        "{",
        "}",
        "{{}}",
        '{"a"}',
        '{"a":}',
        '{"a":1',
        '{"a":1,}',
        '{"a":1,,"b":2}',
        "{,}",
        '{"a" 1}',
        '{"a"=1}',
        "{a:1}",
    ),
    *(
        "{1:1}",
        '{"a":1 "b":2}',
        '{"a":1,"a":2}',
        '{"":{"":{}}}',
        '{"\\n":1}',
        '{"a\n":1}',
        '{"\\u0061":1,"a":2}',
        '{"é":1}',
        '{"a":1}]',
    ),
    *(f'{{"{"k" * n}": 1, "{"k" * n}x": 2}}' for n in (7, 8, 9, 31, 32, 33, 500)),
    *(
        '{"__type__": "t"}',
        '{"__value__": 2, "__type__": "t"}',
        '{"__type__":"unknown"}',
        '{"a":{"__type__":"t"',
        '{"__type__"}',
    ),
    *(
        '[{"a":"\\x"},{"__type__":"t"}]',
        '[{"__type__":"unknown"},{"a":"\\x"}]',
        '{"__type_":1}',
        '{"__type___":1}',
        '["__type__"]',
    ),
]
ARRAYS = [
    "[]",
    "[ ]",
    "[",
    "]",
    "[,]",
    "[1,]",
    "[1,,2]",
    "[1 2]",
    "[1",
    "[[]]",
    "[[],[[]]]",
    "[1}",
    "[]]",
    "[\t1\r,\n2 ]",
    "[\v]",
    "[\xa0]",
]


@pytest.mark.parametrize("text", [*NUMBERS, *WORDS, *STRINGS, *OBJECTS, *ARRAYS], ids=lambda text: ascii(text)[:30])
def test_what_it_stands_for_is_what_the_standard_library_says(core, text):
    decode = Decoder(core).decode
    for around in ("%s", "%s \n", " %s", "[%s]", "[1,%s ,2]", '{"a":%s}', '{"a": %s, "b": [%s]}', "%s\0", "[%s\0]"):
        whole = around.replace("%s", text)
        assert outcome(decode, whole) == expected(whole)


@pytest.mark.parametrize("depth", [*range(47, 54), 500])
@pytest.mark.parametrize("pair", [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_however_deep_a_text_is_it_is_read_as_by_the_standard_library(core, depth, pair):
    text = pair[0] * depth + "1" + pair[1] * depth
    assert outcome(Decoder(core).decode, text) == expected(text)
    assert outcome(Decoder(core).decode, text[:-1]) == expected(text[:-1])


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["a" * 40, "é"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["__type__", "__value__", "a", "b"]) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(TREES, st.booleans(), st.sampled_from([(", ", ": "), (",", ":"), (" ,\n", "\t:\r ")]), st.data())
def test_a_text_with_something_changed_is_read_as_by_the_standard_library(core, tree, ascii_only, separators, data):
    decode = Decoder(core).decode
    text = json.dumps(tree, ensure_ascii=ascii_only, separators=separators)
    assert outcome(decode, text) == expected(text)
    for _ in range(4):
        at = data.draw(st.integers(0, len(text)))
        gone = data.draw(st.integers(0, 3))
        text = (
            text[:at]
            + data.draw(st.text(alphabet='{}[]",:\\0123456789.eE+-tfn \n\0a_é', max_size=3))
            + text[at + gone :]
        )
        assert outcome(decode, text) == expected(text)


def test_a_key_that_a_text_repeats_is_one_object(core):
    first, second = Decoder(core).decode('[{"customer": 1}, {"customer": 2}]')
    assert next(iter(first)) is next(iter(second))


def test_as_many_keys_as_there_are_come_out_as_they_are(core):
    decode = Decoder(core).decode
    for start in range(0, 5000, 50):
        made = {f"{n:x}" * (n % 9 + 1): n for n in range(start, start + 50)}
        assert decode(json.dumps(made)) == made


def test_keys_are_not_kept_for_ever(core):
    decode = Decoder(core).decode

    def read(start: int) -> None:
        for n in range(start, start + 5000):
            decode(f'{{"key {n}": {n}}}')

    read(0)
    gc.collect()
    before = sys.getallocatedblocks()
    read(5000)
    gc.collect()
    assert sys.getallocatedblocks() - before < 500
