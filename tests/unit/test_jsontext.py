"""JSON text, on both cores: decoded with the hook wherever a typed object may be, as the standard library does."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

HOOKED = {"__type__": "t", "__value__": 1}


def hook(found: dict[str, Any]) -> Any:
    if "__type__" not in found:
        return found
    if found["__type__"] == "unknown":
        raise ValueError("nobody knows it")
    return ("made", found.get("__value__"))


class Decoder:
    """A decoder of a core, and which of the scanners it has used for each text."""

    def __init__(self, core: Any) -> None:
        self.used: list[str] = []
        self.decode = core.jsontext.make_decoder(
            self.noted("plain", json.JSONDecoder().scan_once),
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
    assert decoder.used == ["plain"]


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


@pytest.mark.parametrize("pieces", [(), ("whole",), ("in ", "many ", "pieces"), ["a", "list"]])
def test_pieces_are_put_together(core, pieces):
    encode = core.jsontext.make_encoder(lambda o, indent: pieces if (o, indent) == ("o", 0) else None, None)
    assert encode("o") == "".join(pieces)


def test_what_is_nested_too_deep_is_encoded_otherwise(core):
    def chunks(o: Any, indent: int) -> Any:
        raise RecursionError("too deep")

    assert core.jsontext.make_encoder(chunks, lambda o: f"otherwise {o}")(1) == "otherwise 1"


def test_other_errors_of_the_encoder_come_out(core):
    def chunks(o: Any, indent: int) -> Any:
        raise TypeError(f"not {o}")

    with pytest.raises(TypeError, match="not 1"):
        core.jsontext.make_encoder(chunks, None)(1)
