"""JSON: the same results as the standard module with a hook, sooner; and types of one's own."""

from __future__ import annotations

import json as stdlib
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu.utils import json

KEYS = st.sampled_from(["__type__", "__value__", "a", "__type", "type__", "\\", "é", ""]) | st.text(max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just("bytes"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def spelled_with_escapes(text: str, every: int) -> str:
    """Write every so-manieth letter of the key that is looked for as an escape."""
    letters = (f"\\u{ord(char):04x}" if n % every == 0 else char for n, char in enumerate("__type__"))
    return text.replace("__type__", "".join(letters))


def result_of(function: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return repr(function(*args, **kwargs))
    except ValueError as exc:
        return type(exc), exc.args
    except (TypeError, AttributeError) as exc:
        return type(exc)


@given(VALUES, st.booleans(), st.sampled_from([0, 1, 2, 3, 8]), st.sampled_from(["", " ", "\n"]))
def test_loads_gives_what_the_standard_module_with_the_hook_gives(value, ascii_only, escaped, space):
    text = space + stdlib.dumps(value, ensure_ascii=ascii_only) + space
    if escaped:
        text = spelled_with_escapes(text, escaped)
    assert result_of(json.loads, text) == result_of(stdlib.loads, text, object_hook=json.object_hook)


@given(st.text(alphabet='{}[]",:\\u0123 \n\ufeffabe-.tf_yp', max_size=30))
def test_whatever_is_no_json_is_refused_as_the_standard_module_refuses_it(text):
    assert result_of(json.loads, text) == result_of(stdlib.loads, text, object_hook=json.object_hook)


@given(VALUES)
def test_dumps_gives_what_the_standard_module_with_the_encoder_gives(value):
    assert json.dumps(value) == stdlib.dumps(value, cls=json.JSONEncoder)


@pytest.mark.parametrize("letter", range(8))
@pytest.mark.parametrize("number", ["{:04x}", "{:04X}"])
def test_a_marker_is_found_however_one_of_its_letters_is_spelled(letter, number):
    key = "__type__"
    spelled = f"{key[:letter]}\\u{number.format(ord(key[letter]))}{key[letter + 1 :]}"
    assert json.loads(f'[{{"{spelled}": "bytes", "__value__": "x"}}]') == [b"x"]


@pytest.mark.parametrize("key", ["__type__", "__t\\u0079pe__"])
def test_a_typed_object_is_found_in_a_long_text(key):
    text = f'["{"x" * 5000}", {{"{key}": "bytes", "__value__": "x"}}]'
    assert json.loads(text)[1] == b"x"


def test_a_decoder_is_called_once_whatever_space_is_around(monkeypatch):
    calls = []
    monkeypatch.setitem(json._decoders, "counted", calls.append)
    for space in ("", " ", "\n", "\t\r\n"):
        json.loads('{"__type__": "counted", "__value__": 1}' + space)
    assert calls == [1] * 4


def test_what_contains_itself_is_refused_as_the_standard_encoder_does():
    circle: list = []
    circle.append({"in": circle})
    for _ in range(2):
        with pytest.raises(ValueError, match="Circular reference detected"):
            json.dumps(circle)
        # Nothing is remembered of the failure.
        assert json.dumps([circle[:0], circle[:0]]) == "[[], []]"


def test_an_object_that_stands_for_itself_is_refused():
    class Selfish:
        def __json__(self) -> object:
            return self

    with pytest.raises(ValueError, match="Circular reference detected"):
        json.dumps(Selfish())


@pytest.mark.parametrize(
    "value", ["text", "caf\xe9\u2028", 1, 1.5, float("inf"), None, True, [], {}, (1, 2), {1: {None: 2}}]
)
def test_values_of_every_kind_are_written_as_the_standard_encoder_writes_them(value):
    assert json.dumps(value) == stdlib.dumps(value)


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview, lambda data: memoryview(b"x" + data + b"y")[1:-1]])
def test_every_kind_of_buffer_is_read(form):
    assert json.loads(form('{"a": "日本"}'.encode())) == {"a": "日本"}


def test_a_memoryview_with_gaps_is_read():
    assert json.loads(memoryview(b"[.1.].")[::2]) == [1]


def test_bytes_that_are_not_utf_8_are_refused_unless_left_to_the_standard_module():
    data = "[1]".encode("utf-16")
    with pytest.raises(UnicodeDecodeError):
        json.loads(data)
    assert json.loads(data, decode_bytes=False) == [1]


def test_a_hook_of_the_callers_own_is_called():
    assert json.loads('{"a": {}}', object_hook=len) == 1


def test_keywords_reach_the_encoder():
    assert json.dumps({"b": 1, "a": 2}, sort_keys=True, separators=(",", ":")) == '{"a":2,"b":1}'
    assert json.dumps({1}, default=list, cls=None) == "[1]"
    defaults = {"indent": 1}
    assert json.dumps([1], default_kwargs=defaults, indent=None) == "[1]"
    assert defaults == {"indent": 1}


def test_another_encoder_class_is_used():
    class Encoder(json.JSONEncoder):
        def default(self, o: Any) -> Any:
            return "mine"

    assert json.dumps([object()], cls=Encoder) == '["mine"]'


def test_an_object_says_itself_what_json_it_is():
    @dataclass
    class Point:
        x: int

        def __json__(self) -> dict[str, int]:
            return {"x": self.x}

    assert json.dumps([Point(1)]) == '[{"x": 1}]'


def test_a_lazy_text_is_written_as_text(monkeypatch):
    class Promise:
        def __str__(self) -> str:
            return "translated"

    monkeypatch.setattr(json, "textual_types", (Promise,))
    assert json.dumps([Promise()]) == '["translated"]'


@pytest.fixture
def own_types(monkeypatch):
    monkeypatch.setattr(json, "_encoders", dict(json._encoders))
    monkeypatch.setattr(json, "_decoders", dict(json._decoders))


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


class Euro(Money):
    pass


@pytest.mark.usefixtures("own_types")
def test_a_registered_type_comes_back():
    json.register_type(Money, "money", lambda money: money.cents, Money)
    text = json.dumps({"price": Money(999)})
    assert text == '{"price": {"__type__": "money", "__value__": 999}}'
    assert json.loads(text)["price"].cents == 999


@pytest.mark.usefixtures("own_types")
def test_of_two_registered_types_the_first_counts_for_a_subclass():
    json.register_type(Money, "money", lambda money: money.cents, Money)
    json.register_type(Euro, "euro", lambda money: money.cents, Euro)
    assert '"money"' in json.dumps(Euro(1))


@pytest.mark.usefixtures("own_types")
def test_a_type_without_a_marker_is_only_converted():
    json.register_type(Money, None, lambda money: money.cents)
    assert json.dumps([Money(5)]) == "[5]"


@pytest.mark.usefixtures("own_types")
def test_a_built_in_type_can_be_replaced():
    json.register_type(datetime, "datetime", lambda o: o.year, lambda year: datetime(year, 1, 1))
    assert json.loads(json.dumps(datetime(2024, 5, 6))) == datetime(2024, 1, 1)


@pytest.mark.usefixtures("own_types")
def test_a_type_may_be_registered_while_another_is_encoded():
    def encode(money: Money) -> int:
        json.register_type(type("Another", (), {}), "another", repr)
        return money.cents

    json.register_type(Money, "money", encode, Money)
    json.register_type(Euro, "euro", encode, Euro)
    assert json.dumps([Money(1), {1: Decimal(1)}]).startswith("[{")


def test_an_unknown_marker_is_named_in_the_error():
    with pytest.raises(ValueError) as caught:
        json.loads('{"__type__": "martian", "__value__": 1}')
    assert caught.value.args == ("Unsupported type", "martian", {"__type__": "martian", "__value__": 1})


def test_a_decoder_may_itself_load_json():
    def nested(text: str) -> Any:
        return json.loads(text)

    json._decoders["nested"] = nested
    try:
        text = json.dumps([{"__type__": "nested", "__value__": '{"a": 1, "b": 2}'}, {"a": 1}])
        assert json.loads(text) == [{"a": 1, "b": 2}, {"a": 1}]
    finally:
        del json._decoders["nested"]
