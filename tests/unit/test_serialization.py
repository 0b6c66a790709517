"""Serializers: which there are, what is refused, and what becomes of their errors."""

from __future__ import annotations

import pickle
import textwrap

import pytest

import interpreter
from kombu import exceptions, serialization
from kombu.serialization import SerializerRegistry


class Refuses(Exception):
    pass


@pytest.fixture
def registry(monkeypatch):
    made = SerializerRegistry()
    monkeypatch.setattr(serialization, "registry", made)
    serialization.register_json()
    made._set_default_serializer("json")
    return made


@pytest.fixture(autouse=True)
def disabled_again(monkeypatch):
    registry = serialization.registry
    monkeypatch.setattr(registry, "_disabled_content_types", set(registry._disabled_content_types))


INSECURE = [
    ("pickle", "application/x-python-serialize", pickle.dumps([1])),
    ("yaml", "application/x-yaml", b"[1]"),
    ("msgpack", "application/x-msgpack", b"\x91\x01"),
]


@pytest.mark.parametrize(("name", "content_type", "body"), INSECURE)
class TestInsecureSerializers:
    def test_is_refused_at_first(self, name, content_type, body):
        with pytest.raises(exceptions.ContentDisallowed) as caught:
            serialization.loads(body, content_type, "binary")
        assert str(caught.value) == f"Refusing to deserialize disabled content of type {name} ({content_type})"

    @pytest.mark.parametrize("by_content_type", [False, True])
    def test_is_decoded_once_enabled_and_refused_once_disabled(self, name, content_type, body, by_content_type):
        pytest.importorskip(name)
        choice = content_type if by_content_type else name
        serialization.enable_insecure_serializers([choice])
        assert serialization.loads(body, content_type, "binary") == [1]
        serialization.disable_insecure_serializers(["json"])
        with pytest.raises(exceptions.ContentDisallowed):
            serialization.loads(body, content_type, "binary")

    def test_is_decoded_by_force(self, name, content_type, body):
        pytest.importorskip(name)
        assert serialization.loads(body, content_type, "binary", force=True) == [1]

    def test_is_decoded_where_it_is_accepted(self, name, content_type, body):
        pytest.importorskip(name)
        accept = serialization.prepare_accept_content([name])
        assert serialization.loads(body, content_type, "binary", accept=accept) == [1]

    def test_is_refused_where_it_is_not_accepted_even_by_force(self, name, content_type, body):
        with pytest.raises(exceptions.ContentDisallowed) as caught:
            serialization.loads(body, content_type, "binary", accept={"application/json"}, force=True)
        assert str(caught.value) == f"Refusing to deserialize untrusted content of type {name} ({content_type})"


def test_a_type_nobody_knows_is_named_once():
    with pytest.raises(exceptions.ContentDisallowed, match=r"of type application/x-none \(application/x-none\)$"):
        serialization.loads(b"x", "application/x-none", None, accept=set())


def test_all_are_enabled_together():
    serialization.enable_insecure_serializers()
    assert not {kind for _, kind, _ in INSECURE} & serialization.registry._disabled_content_types


def test_nothing_changes_for_no_choices():
    before = set(serialization.registry._disabled_content_types)
    serialization.enable_insecure_serializers(None)
    serialization.enable_insecure_serializers(["no-such-serializer"])
    assert serialization.registry._disabled_content_types == before


def test_json_too_is_disabled_where_nothing_is_allowed():
    serialization.disable_insecure_serializers(None)
    with pytest.raises(exceptions.ContentDisallowed):
        serialization.loads(b"[]", "application/json", "utf-8")


def test_an_unknown_name_cannot_be_allowed():
    with pytest.raises(KeyError, match="no-such-serializer"):
        serialization.disable_insecure_serializers(["no-such-serializer"])


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
def test_a_falsy_value_comes_back(value):
    content_type, encoding, body = serialization.dumps(value, "json")
    assert serialization.loads(body, content_type, encoding) == value


def test_what_a_decoder_raises_is_the_cause(registry):
    def decode(body):
        raise Refuses("so")

    registry.register("refuses", None, decode, "text/refuses")
    with pytest.raises(exceptions.DecodeError, match="so") as caught:
        registry.loads(b"x", "text/refuses", "utf-8")
    assert isinstance(caught.value.__cause__, Refuses)
    assert caught.value.args == (caught.value.__cause__,)


def test_what_an_encoder_raises_is_the_cause(registry):
    def encode(value):
        raise Refuses("so")

    registry.register("refuses", encode, None, "text/refuses")
    with pytest.raises(exceptions.EncodeError, match="so") as caught:
        registry.dumps(1, "refuses")
    assert isinstance(caught.value.__cause__, Refuses)


def test_a_serializer_that_is_not_installed_says_so_itself(registry, monkeypatch):
    monkeypatch.setattr(serialization, "yaml", None)
    monkeypatch.setattr(serialization, "msgpack", None)
    serialization.register_yaml()
    serialization.register_msgpack()
    with pytest.raises(exceptions.SerializerNotInstalled, match="Install the PyYAML library"):
        registry.loads(b"x", "application/x-yaml", "utf-8")
    with pytest.raises(exceptions.SerializerNotInstalled, match="No encoder installed for yaml"):
        registry.dumps([], "yaml")
    with pytest.raises(exceptions.SerializerNotInstalled, match="install the msgpack-python library"):
        registry.loads(b"x", "application/x-msgpack", "binary")
    with pytest.raises(exceptions.SerializerNotInstalled, match="install the msgpack-python library"):
        registry.dumps([], "msgpack")


def test_a_msgpack_from_long_ago_is_not_used(registry, monkeypatch):
    class Old:
        version = (0, 3, 9)

    monkeypatch.setattr(serialization, "msgpack", Old)
    serialization.register_msgpack()
    with pytest.raises(exceptions.SerializerNotInstalled, match="0.4.0"):
        registry.dumps([], "msgpack")


def test_an_unregistered_serializer_is_gone(registry):
    registry.register("mine", str, int, "text/mine")
    registry.unregister("mine")
    with pytest.raises(exceptions.SerializerNotInstalled, match="No encoder installed for mine"):
        registry.dumps(1, "mine")
    with pytest.raises(exceptions.SerializerNotInstalled, match="No encoder/decoder installed for mine"):
        registry.unregister("mine")
    assert registry.loads(b"1", "text/mine", "utf-8") == "1"


def test_the_pickle_protocol_can_be_changed(monkeypatch):
    monkeypatch.setattr(serialization, "pickle_protocol", 2)
    assert serialization.dumps([1], "pickle")[2] == pickle.dumps([1], protocol=2)


def test_the_pickle_protocol_comes_from_the_environment():
    done = interpreter.run(
        "from kombu import serialization; print(serialization.dumps(1, 'pickle')[2])", PICKLE_PROTOCOL="0"
    )
    assert done.stdout.strip() == repr(pickle.dumps(1, 0))


def test_the_registry_tells_names_for_accept_lists(registry):
    assert serialization.prepare_accept_content(["json", "text/any"]) == {"application/json", "text/any"}
    with pytest.raises(exceptions.SerializerNotInstalled, match="No encoder/decoder installed for nope"):
        serialization.prepare_accept_content(["nope"])


def test_installed_packages_add_serializers(tmp_path):
    info = tmp_path / "shouting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kombu.serializers]\nshout = shouting:arguments\n")
    (tmp_path / "shouting.py").write_text(
        textwrap.dedent(
            """
            arguments = (lambda value: value.upper(), lambda body: bytes(body).lower().decode(), "text/shout", "utf-8")
            """
        )
    )
    done = interpreter.run(
        textwrap.dedent(
            """
            import sys
            sys.path.append(sys.argv[1])
            from kombu import serialization
            print(serialization.dumps("hey", "shout"))
            print(serialization.loads(b"HEY", "text/shout", "utf-8"))
            """
        ),
        str(tmp_path),
    )
    assert done.stdout.splitlines() == ["('text/shout', 'utf-8', 'HEY')", "hey"], done.stderr


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_pickles_and_yaml_are_read_from_every_buffer(form):
    assert serialization.unpickle(form(pickle.dumps({"a": 1}))) == {"a": 1}
    if serialization.yaml is not None:
        decode = serialization.registry._decoders["application/x-yaml"]
        assert decode(form("a: é".encode())) == {"a": "é"}
        assert decode(form("a: é".encode("utf-16"))) == {"a": "é"}


def test_an_encoding_that_is_no_text_is_a_decode_error():
    with pytest.raises(exceptions.DecodeError):
        serialization.loads(b"x", "text/plain", 5)  # type: ignore[arg-type]
