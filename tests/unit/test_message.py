"""The message: what it shows of a delivery, how it is settled, deserialized and pickled, on both cores."""

from __future__ import annotations

import copy
import gc
import io
import logging
import os
import pickle
import re
import subprocess
import sys
import threading
import weakref
import zlib
from typing import Any
from unittest.mock import Mock, patch

import pytest
from amqp import serialization as amqp_serialization
from amqp.exceptions import RecoverableConnectionError

import kombu
from kombu import _core, compression, serialization
from kombu.exceptions import ContentDisallowed, DecodeError, MessageStateError
from kombu.message import Message as PublicMessage

PROPERTIES = {
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "application_headers": {"task": "add", "retries": 0},
    "priority": 3,
    "correlation_id": "c-1",
    "type": "call",
}


#: For a new process that shall find the same modules.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class Channel:
    """Records what is settled; raises *error* instead, if there is one."""

    def __init__(self, no_ack_consumers: Any = None) -> None:
        self.no_ack_consumers = no_ack_consumers
        self.calls: list[tuple[Any, ...]] = []
        self.error: BaseException | None = None

    def basic_ack(self, delivery_tag: Any, multiple: bool = False) -> None:
        self.record("ack", delivery_tag, multiple)

    def basic_reject(self, delivery_tag: Any, requeue: bool = True) -> None:
        self.record("reject", delivery_tag, requeue)

    def record(self, *call: Any) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error


@pytest.fixture
def channel() -> Channel:
    return Channel()


def deliver(core, properties=PROPERTIES, body=b'{"x": 1}', channel=None, cls=None, **kwargs):
    """Make a message as the receive loop does."""
    raw = core.frames.encode_properties(properties)
    return (cls or core.message.Message).from_delivery(channel, "ctag", 7, False, "ex", "key", raw, body, **kwargs)


# -- the class


def test_the_public_class_is_the_live_cores():
    assert PublicMessage is _core.Message is kombu.Message
    assert _core.Message is _core.message.Message


def test_the_class_is_named_where_it_is_public(core):
    assert (core.message.Message.__module__, core.message.Message.__qualname__) == ("kombu.message", "Message")


@pytest.mark.parametrize("where", ["message", "virtual"])
@pytest.mark.parametrize("name", ["ack", "reject", "requeue", "decode"])
def test_a_method_of_the_class_can_be_replaced_for_a_while(core, where, name):
    cls = getattr(core, where).Message
    message = cls.__new__(cls)
    # Looked up before, so that whoever remembers what was found has it.
    getattr(message, name)
    for patched in (cls, core.message.Message):
        with patch.object(patched, name) as method:
            getattr(message, name)("argument")
        method.assert_called_once_with("argument")
    assert not isinstance(getattr(message, name), Mock)


def test_one_function_of_a_message_goes_through_another_that_was_replaced(core, channel):
    message = deliver(core, channel=channel)
    with patch.object(core.message.Message, "ack") as ack, patch.object(core.message.Message, "reject") as reject:
        message.ack_log_error(logging.getLogger("test"), (OSError,), True)
        message.reject_log_error(logging.getLogger("test"), (OSError,), True)
    ack.assert_called_once_with(multiple=True)
    reject.assert_called_once_with(requeue=True)
    assert channel.calls == []


def test_a_message_made_by_hand_shows_what_it_was_given(core, channel):
    message = core.message.Message(
        b"body",
        3,
        "a/b",
        "binary",
        {"exchange": "e"},
        {"priority": 1},
        {"h": 1},
        None,
        {"a/b"},
        channel,
        something="else",
    )
    assert message.body == b"body"
    assert message.delivery_tag == 3
    assert (message.content_type, message.content_encoding) == ("a/b", "binary")
    assert message.delivery_info == {"exchange": "e"}
    assert message.properties == {"priority": 1}
    assert message.headers == {"h": 1}
    assert message.accept == {"a/b"}
    assert message.channel is channel
    assert message.errors == []
    assert message._state == "RECEIVED"
    assert not message.acknowledged
    assert not hasattr(message, "something")


def test_a_message_of_nothing_has_its_own_empty_dicts(core):
    one, other = core.message.Message(), core.message.Message()
    assert one.body is one.delivery_tag is one.channel is one.accept is one.content_type is one.content_encoding is None
    assert one.headers == one.properties == one.delivery_info == {}
    one.headers["h"] = one.properties["p"] = one.delivery_info["d"] = 1
    one.errors.append("e")
    assert (other.headers, other.properties, other.delivery_info, other.errors) == ({}, {}, {}, [])


def test_dicts_given_are_not_copied(core):
    headers, properties, info = {"h": 1}, {"p": 1}, {"d": 1}
    message = core.message.Message(headers=headers, properties=properties, delivery_info=info)
    assert message.headers is headers
    assert message.properties is properties
    assert message.delivery_info is info


@pytest.mark.parametrize("made", ["by hand", "from a delivery"])
@pytest.mark.parametrize(
    "name",
    [
        "accept",
        "body",
        "channel",
        "content_encoding",
        "content_type",
        "delivery_info",
        "delivery_tag",
        "errors",
        "headers",
        "properties",
        "_state",
        "_decoded_cache",
        "anything_else",
    ],
)
def test_attributes_are_readable_and_settable(core, made, name):
    message = core.message.Message(b"x") if made == "by hand" else deliver(core)
    value = {"new": "value"}
    setattr(message, name, value)
    assert getattr(message, name) is value


def test_a_message_can_be_referred_to_weakly_and_collected(core):
    message = core.message.Message()
    message.itself = message
    reference = weakref.ref(message)
    assert reference() is message
    del message
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("made", ["by hand", "from a delivery"])
def test_attributes_of_ones_own_are_kept_and_collected(core, made):
    class Plain(core.message.Message):
        pass

    for cls in (core.message.Message, Plain):
        message = cls(b"x") if made == "by hand" else deliver(core, cls=cls)
        assert vars(message) == {}
        with pytest.raises(AttributeError):
            message.task  # noqa: B018
        message.task = "add"
        message.itself = message
        assert vars(message) == {"task": "add", "itself": message}
        del message.task
        assert set(vars(message)) == {"itself"}
        reference = weakref.ref(message)
        del message
        gc.collect()
        assert reference() is None


def test_a_delivery_is_made_by_the_new_of_its_class(core):
    class Noted(core.message.Message):
        def __new__(cls, *args, **kwargs):
            self = super().__new__(cls)
            self.noted = True
            return self

    message = deliver(core, cls=Noted)
    assert (type(message), message.noted, message.payload) == (Noted, True, {"x": 1})


def test_messages_are_equal_to_themselves_only(core):
    one, other = core.message.Message(b"x"), core.message.Message(b"x")
    assert one == one
    assert one != other
    assert len({one, other, one}) == 2


def test_a_subclass_may_have_an_init_of_its_own(core, channel):
    class TransportMessage(core.message.Message):
        def __init__(self, payload, channel=None, **kwargs):
            self.raw = payload
            super().__init__(payload["body"], channel=channel, delivery_tag=payload["tag"], **kwargs)

    message = TransportMessage({"body": b"x", "tag": 9}, channel=channel, accept={"json"})
    assert (message.body, message.delivery_tag, message.accept, message.raw["tag"]) == (b"x", 9, {"json"}, 9)
    message.ack()
    assert channel.calls == [("ack", 9, False)]


def test_a_subclass_without_an_init_takes_the_same_arguments(core):
    class Plain(core.message.Message):
        pass

    assert Plain(b"x", 4).delivery_tag == 4
    assert isinstance(deliver(core, cls=Plain), Plain)


def test_a_delivery_does_not_call_init(core):
    class Strict(core.message.Message):
        def __init__(self):
            raise AssertionError("called")

    message = deliver(core, cls=Strict)
    assert type(message) is Strict
    assert message.payload == {"x": 1}


def test_errors_that_a_subclass_notes_first_are_kept(core):
    class Broken(core.message.Message):
        def __init__(self, body):
            try:
                raise ValueError("cannot be read")
            except ValueError:
                self.errors = [sys.exc_info()]
            super().__init__(body, headers={"compression": "gzip"}, postencode="utf-8")

    message = Broken("not compressed")
    assert message.body == "not compressed"
    assert len(message.errors) == 1
    with pytest.raises(ValueError, match="cannot be read"):
        message._reraise_error()


def test_repr_names_state_and_route(core):
    message = deliver(core, body=b"1234")
    assert re.fullmatch(
        r"<Message object at 0x[0-9a-f]+ with details {'state': 'RECEIVED', 'content_type': 'application/json', "
        r"'delivery_tag': 7, 'body_length': 4, 'properties': {'correlation_id': 'c-1', 'type': 'call'}, "
        r"'delivery_info': {'exchange': 'ex', 'routing_key': 'key'}}>",
        repr(message),
    )
    assert repr(core.message.Message()).endswith("{'state': 'RECEIVED', 'properties': {}, 'delivery_info': {}}>")


# -- deliveries


def test_a_delivery_shows_everything_of_the_wire(core, channel):
    message = deliver(core, channel=channel)
    assert message.properties == PROPERTIES
    assert message.headers == PROPERTIES["application_headers"]
    assert message.headers is message.properties["application_headers"]
    assert message.content_type == "application/json"
    assert message.content_encoding == "utf-8"
    assert message.body == '{"x": 1}'
    assert message.channel is channel
    assert message.accept is None
    assert message.errors == []
    assert list(message.delivery_info.items()) == [
        ("consumer_tag", "ctag"),
        ("delivery_tag", 7),
        ("redelivered", False),
        ("exchange", "ex"),
        ("routing_key", "key"),
    ]
    assert message.delivery_info is message.delivery_info
    assert message.properties is message.properties


def test_a_message_that_was_got_counts_what_is_left(core):
    message = core.message.Message.from_delivery(None, None, 7, True, "ex", "key", b"\0\0", b"", 3)
    assert list(message.delivery_info.items()) == [
        ("delivery_tag", 7),
        ("redelivered", True),
        ("exchange", "ex"),
        ("routing_key", "key"),
        ("message_count", 3),
    ]


def test_a_delivery_without_properties_has_none(core):
    message = core.message.Message.from_delivery(None, "c", 1, False, "", "", b"\0\0", b"x")
    assert message.properties == message.headers == {}
    assert message.content_type is message.content_encoding is None
    assert message.body == b"x"


@pytest.mark.parametrize(
    ("encoding", "raw", "body"),
    [
        ("utf-8", "\u20ac".encode(), "\u20ac"),
        ("UTF-8", "\u20ac".encode(), "\u20ac"),
        ("latin-1", b"\xe4", "\xe4"),
        ("utf-16", "\u20ac".encode("utf-16"), "\u20ac"),
        ("utf-8", b"\xff\xfe", b"\xff\xfe"),
        ("utf-8", b"\xed\xa0\x80", b"\xed\xa0\x80"),
        ("ascii", b"\xff", b"\xff"),
        ("binary", b"text", b"text"),
        ("ascii-8bit", b"text", b"text"),
        ("no such codec", b"text", b"text"),
        ("base64", b"dGV4dA==", b"dGV4dA=="),
        ("a\0b", b"text", b"text"),
        ("", b"text", b"text"),
        (None, b"text", b"text"),
        ("utf-8", b"", ""),
        (None, b"", ""),
    ],
)
def test_a_body_is_text_where_its_encoding_can_be_undone(core, encoding, raw, body):
    message = deliver(core, {"content_encoding": encoding}, raw)
    assert message.body == body
    assert type(message.body) is type(body)
    assert message.errors == []


def test_the_body_depends_on_what_came_not_on_what_was_changed(core):
    message = deliver(core, {"content_encoding": "latin-1"}, b"\xe4")
    message.content_encoding = "utf-8"
    assert message.body == "\xe4"

    message = deliver(core, {"application_headers": {"compression": "gzip"}}, zlib.compress(b"text"))
    message.headers.clear()
    message.properties["content_encoding"] = "utf-8"
    assert message.body == b"text"

    message = deliver(core, {"application_headers": {"a": 1}}, b"text")
    message.headers["compression"] = "gzip"
    assert (message.body, message.errors) == (b"text", [])

    message = deliver(core)
    message.content_type = "text/plain"
    assert message.properties["content_type"] == "application/json"
    assert message.content_type == "text/plain"


def test_a_compressed_body_is_decompressed(core):
    packed = zlib.compress(b'{"x": 2}')
    for properties in (
        {"application_headers": {"compression": "application/x-gzip", "more": [1]}, "content_type": "application/json"},
        # Every byte is text in this encoding; the body is compressed all the same.
        {
            "application_headers": {"compression": "gzip"},
            "content_type": "application/json",
            "content_encoding": "latin-1",
        },
    ):
        message = deliver(core, properties, packed)
        assert message.body == b'{"x": 2}'
        assert message.errors == []
        assert message.payload == {"x": 2}
    message = core.message.Message(packed, headers={"compression": "gzip"})
    assert message.body == b'{"x": 2}'


@pytest.mark.parametrize("first", ["errors", "body", "headers"])
@pytest.mark.parametrize("compression", ["gzip", "no such", 5, {"a": 1}])
def test_a_body_that_cannot_be_decompressed_is_an_error_to_be_raised_later(core, compression, first):
    message = deliver(core, {"application_headers": {"compression": compression}}, b"text")
    getattr(message, first)
    assert message.body == b"text"
    assert len(message.errors) == 1
    kind, error, traceback = message.errors[0]
    assert kind is type(error)
    with pytest.raises(kind):
        message._reraise_error()
    calls = []
    message._reraise_error(lambda *args: calls.append(args))
    assert calls == [(message, error)]


def test_a_body_given_as_text_is_encoded_on_demand(core):
    assert core.message.Message("\xe4", postencode="latin-1").body == b"\xe4"
    assert core.message.Message(b"\xe4", postencode="latin-1").body == b"\xe4"
    message = core.message.Message("\u20ac", postencode="latin-1")
    assert message.body == "\u20ac"
    with pytest.raises(UnicodeEncodeError):
        message._reraise_error()


def test_a_compression_header_is_found_among_others(core):
    packed = zlib.compress(b"text")
    headers = {"compressio": 1, "compression ": 2, "nested": {"compression": "bzip2"}, "compression": "gzip", "z": [3]}
    assert deliver(core, {"application_headers": headers}, packed).body == b"text"
    headers.pop("compression")
    assert deliver(core, {"application_headers": headers}, packed).body == packed


def test_delivered_messages_equal_those_of_amqp(core):
    """Compare with what amqp makes of the same header, as kombu 5.7 passes it on."""
    raw = core.frames.encode_properties(PROPERTIES)
    theirs, _ = amqp_serialization.decode_properties_basic(raw, 0)
    message = deliver(core)
    assert message.properties == theirs
    assert message.headers == theirs["application_headers"]
    assert list(message.properties) == list(theirs)


# -- deserializing


def test_a_payload_is_deserialized_once_and_decode_again_on_demand(core):
    message = deliver(core)
    assert message._decoded_cache is None
    assert message.decode() is message.payload is message.decode() is message._decoded_cache
    assert message._decode() == message.payload
    assert message._decode() is not message.payload


@pytest.mark.parametrize("body", [b"0", b"false", b"null", b"[]", b"{}", b'""'])
def test_a_falsy_payload_is_deserialized_once(core, body):
    calls = []

    class Counting(core.message.Message):
        def _decode(self):
            calls.append(1)
            return super()._decode()

    message = deliver(core, body=body, cls=Counting)
    for _ in range(3):
        assert not message.decode()
        assert not message.payload
    assert len(calls) == 1


def test_payload_goes_through_decode(core):
    class Own(core.message.Message):
        def decode(self):
            return "own"

    assert Own(b"x").payload == "own"


def test_a_body_that_cannot_be_deserialized_raises_every_time(core):
    message = deliver(core, body=b"{")
    for _ in range(2):
        with pytest.raises(DecodeError):
            message.decode()
        with pytest.raises(DecodeError):
            message.payload  # noqa: B018


def test_what_is_not_accepted_is_not_deserialized(core):
    message = deliver(core)
    message.accept = {"application/x-yaml"}
    with pytest.raises(ContentDisallowed):
        message.decode()
    message.accept = {"application/json"}
    assert message.decode() == {"x": 1}


def test_the_serializer_gets_body_type_encoding_and_accept(core):
    calls = []

    def loads(*args, **kwargs):
        calls.append((args, kwargs))
        return "loaded"

    core.bodies.configure(loads, lambda body, compression: body[::-1])
    try:
        message = deliver(core, {**PROPERTIES, "application_headers": {"compression": "reverse"}}, b"abc")
        message.accept = {"a"}
        assert message.payload == "loaded"
    finally:
        core.bodies.configure(serialization.loads, compression.decompress, *serialization.registry.tables)
    assert calls == [((b"cba", "application/json", "utf-8"), {"accept": {"a"}})]


def test_a_core_without_serializers_says_so(core):
    code = (
        f"from {core.package} import frames, message\n"
        "made = message.Message.from_delivery(None, 'c', 1, False, '', '', frames.encode_properties({}), b'x')\n"
        "made.payload"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
    assert "RuntimeError: the message core has no serializers yet: import kombu.message first" in done.stderr


# -- settling


@pytest.mark.parametrize("made", ["by hand", "from a delivery"])
@pytest.mark.parametrize(
    ("settle", "call", "state"),
    [
        (lambda message: message.ack(), ("ack", 7, False), "ACK"),
        (lambda message: message.ack(multiple=True), ("ack", 7, True), "ACK"),
        (lambda message: message.ack(True), ("ack", 7, True), "ACK"),
        (lambda message: message.reject(), ("reject", 7, False), "REJECTED"),
        (lambda message: message.reject(requeue=True), ("reject", 7, True), "REJECTED"),
        (lambda message: message.requeue(), ("reject", 7, True), "REQUEUED"),
        (lambda message: message.ack_log_error(None, ()), ("ack", 7, False), "ACK"),
        (lambda message: message.reject_log_error(None, (), True), ("reject", 7, True), "REJECTED"),
    ],
)
def test_a_message_is_settled_once(core, channel, made, settle, call, state):
    if made == "by hand":
        message = core.message.Message(b"x", delivery_tag=7, channel=channel)
    else:
        message = deliver(core, channel=channel)
    settle(message)
    assert channel.calls == [call]
    assert message._state == state
    assert message.acknowledged
    for again in message.ack, message.reject, message.requeue:
        with pytest.raises(MessageStateError, match=f"Message already acknowledged with state: {state}"):
            again()
    assert channel.calls == [call]


@pytest.mark.parametrize("error", [RecoverableConnectionError("gone"), OSError("gone"), KeyboardInterrupt()])
@pytest.mark.parametrize("settle", ["ack", "reject", "requeue"])
def test_a_failed_settlement_leaves_the_message_unsettled(core, channel, settle, error):
    message = deliver(core, channel=channel)
    channel.error = error
    with pytest.raises(type(error)):
        getattr(message, settle)()
    assert message._state == "RECEIVED"
    channel.error = None
    getattr(message, settle)()
    assert message.acknowledged


@pytest.mark.parametrize("settle", ["ack", "reject", "requeue"])
def test_a_message_without_channel_cannot_be_settled(core, settle):
    with pytest.raises(MessageStateError, match="does not have a receiving channel"):
        getattr(core.message.Message(b"x"), settle)()


@pytest.mark.parametrize("no_ack_consumers", [{"ctag"}, ["ctag"]])
def test_nothing_is_sent_for_a_consumer_without_acknowledgements(core, no_ack_consumers):
    channel = Channel(no_ack_consumers)
    early, late = deliver(core, channel=channel), deliver(core, channel=channel)
    late.delivery_info  # noqa: B018
    by_hand = core.message.Message(b"x", 7, delivery_info={"consumer_tag": "ctag"}, channel=channel)
    for message in early, late, by_hand:
        message.ack()
        message.ack()
        assert not message.acknowledged
    assert channel.calls == []


@pytest.mark.parametrize("no_ack_consumers", [None, set(), {"another"}])
def test_other_consumers_are_acknowledged(core, no_ack_consumers):
    channel = Channel(no_ack_consumers)
    deliver(core, channel=channel).ack()
    core.message.Message(b"x", 7, channel=channel).ack()
    core.message.Message.from_delivery(channel, None, 7, False, "", "", b"\0\0", b"", 0).ack()
    assert channel.calls == [("ack", 7, False)] * 3


def test_a_class_may_raise_a_state_error_of_its_own(core, channel):
    class Refused(Exception):
        pass

    class Own(core.message.Message):
        MessageStateError = Refused

    assert core.message.Message.MessageStateError is MessageStateError
    with pytest.raises(Refused):
        Own(b"x").ack()
    message = Own(b"x", channel=channel)
    message.ack()
    with pytest.raises(Refused):
        message.reject()


@pytest.mark.parametrize("method", ["ack_log_error", "reject_log_error"])
def test_expected_errors_are_logged_and_others_raised(core, channel, method):
    logger = Mock(spec=logging.Logger)
    message = deliver(core, channel=channel)
    channel.error = KeyError("lost")
    getattr(message, method)(logger, (KeyError,))
    logger.critical.assert_called_once()
    text, *args = logger.critical.call_args.args
    assert (text % tuple(args)).replace("reason: ", "reason:") == f"Couldn't {method[:-10]} 7, reason:KeyError('lost')"
    assert logger.critical.call_args.kwargs == {"exc_info": True}
    assert not message.acknowledged
    with pytest.raises(KeyError):
        getattr(message, method)(logger, (ValueError,))
    assert logger.critical.call_count == 1


def test_a_broken_pipe_while_acknowledging_is_logged_and_raised(core, channel):
    logger = Mock(spec=logging.Logger)
    message = deliver(core, channel=channel)
    channel.error = BrokenPipeError()
    with pytest.raises(BrokenPipeError):
        message.ack_log_error(logger, (OSError,))
    logger.critical.assert_called_once()


# -- pickling


def comparable(message: Any) -> dict[str, Any]:
    names = ("body", "content_type", "content_encoding", "delivery_info", "delivery_tag", "headers", "properties")
    more = ("accept", "channel", "errors", "_state", "_decoded_cache")
    return {name: getattr(message, name) for name in names + more}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_message_comes_back_the_same(protocol):
    message = deliver(_core)
    message.accept = {"application/json"}
    message.extra = [1]
    assert message.payload == {"x": 1}
    for back in pickle.loads(pickle.dumps(message, protocol)), copy.copy(message), copy.deepcopy(message):
        assert type(back) is type(message)
        assert comparable(back) == comparable(message)
        assert vars(back) == {"extra": [1]}
    decoded = copy.copy(message)
    decoded.body = b"changed"
    assert decoded.payload == {"x": 1}


def test_the_pickled_state_is_that_of_kombu_5_7(core):
    message = core.message.Message(
        b"x", 3, "a/b", delivery_info={"exchange": "e"}, properties={"p": 1}, headers={"h": 1}
    )
    message.extra = 5
    assert message.__reduce_ex__(2)[1:3] == (
        (core.message.Message,),
        (
            {"errors": [], "extra": 5},
            {
                "_state": "RECEIVED",
                "channel": None,
                "delivery_tag": 3,
                "content_type": "a/b",
                "content_encoding": None,
                "delivery_info": {"exchange": "e"},
                "headers": {"h": 1},
                "properties": {"p": 1},
                "body": b"x",
                "_decoded_cache": None,
                "accept": None,
            },
        ),
    )


def test_a_pickle_of_kombu_5_7_is_read(core):
    # What kombu 5.7 writes for Message(b"x", delivery_tag=3, headers={"h": 1}) with .extra = 5, .ack()ed.
    dump = (
        b"\x80\x02ckombu.message\nMessage\nq\x00)\x81q\x01}q\x02(X\x06\x00\x00\x00errorsq\x03]q\x04X\x05\x00\x00\x00extra"
        b"q\x05K\x05u}q\x06(X\x06\x00\x00\x00_stateq\x07X\x03\x00\x00\x00ACKq\x08X\x07\x00\x00\x00channelq\tNX\x0c\x00\x00"
        b"\x00delivery_tagq\nK\x03X\x0c\x00\x00\x00content_typeq\x0bNX\x10\x00\x00\x00content_encodingq\x0cNX\r\x00\x00"
        b"\x00delivery_infoq\r}q\x0eX\x07\x00\x00\x00headersq\x0f}q\x10X\x01\x00\x00\x00hq\x11K\x01sX\n\x00\x00\x00"
        b"propertiesq\x12}q\x13X\x04\x00\x00\x00bodyq\x14c_codecs\nencode\nq\x15X\x01\x00\x00\x00xq\x16X\x06\x00\x00\x00"
        b"latin1q\x17\x86q\x18Rq\x19X\x0e\x00\x00\x00_decoded_cacheq\x1aNX\x06\x00\x00\x00acceptq\x1bNu\x86q\x1cb."
    )

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            return core.message.Message if module == "kombu.message" else super().find_class(module, name)

    message = Unpickler(io.BytesIO(dump)).load()
    assert type(message) is core.message.Message
    assert (message.body, message.delivery_tag, message.headers, message.extra) == (b"x", 3, {"h": 1}, 5)
    assert message.acknowledged


# -- threads


@pytest.mark.stress
def test_threads_that_decode_one_message_see_the_same(core):
    for _ in range(200):
        message = deliver(
            core, {**PROPERTIES, "application_headers": {"compression": "gzip"}}, zlib.compress(b'{"x": 1}')
        )
        barrier = threading.Barrier(4)
        seen = []

        def look(message=message, barrier=barrier, seen=seen):
            barrier.wait(60)
            seen.append((message.body, message.payload, message.headers, message.delivery_info, message.errors))

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(seen) == 4
        assert all(one == seen[0] for one in seen)


def test_attributes_set_in_many_threads_do_no_harm(core):
    message = deliver(core)

    def change():
        for number in range(2000):
            message.delivery_tag = number
            message.channel = [number]
            message.body = bytes(3)
            message.errors = [number]
            message._decoded_cache = [number]
            assert isinstance(message.payload, list)
            assert isinstance(message.channel, list)

    threads = [threading.Thread(target=change) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert message.delivery_tag == 1999


# -- memory


@pytest.mark.leak
def test_messages_that_are_gone_leave_nothing_behind(core, channel):
    class Own(core.message.Message):
        pass

    packed = zlib.compress(b'{"x": 1}')

    def work():
        for cls in core.message.Message, Own:
            message = deliver(core, channel=channel, cls=cls)
            message.extra = message.payload, message.headers, message.delivery_info, repr(message)
            message.ack()
            with pytest.raises(MessageStateError):
                message.reject()
            deliver(core, cls=cls)
            deliver(core, {"application_headers": {"compression": "gzip"}}, packed, cls=cls).body  # noqa: B018
            deliver(core, {"application_headers": {"compression": "none"}}, packed, cls=cls).errors  # noqa: B018
            deliver(core, {"content_encoding": "utf-8"}, b"\xff", cls=cls).body  # noqa: B018
            cls(b"x", 1, headers={"h": 1}, channel=channel).requeue()
        copy.copy(deliver(_core))
        channel.calls.clear()

    counts = []
    for _ in range(8):
        for _ in range(20):
            work()
        gc.collect()
        counts.append(sys.getallocatedblocks())
    # The smallest of several: what other threads have at the time comes and goes.
    assert min(counts[5:]) - min(counts[1:4]) < 10
