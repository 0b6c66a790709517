"""From a delivery to the callbacks: both cores decode, refuse and hand over alike."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest

from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.serialization import register, registry, unregister
from rig import Rig
from streams import Channel, delivery, facts


class Consumer:
    """What a dispatcher looks at."""

    def __init__(self, core: Any, **attributes: Any) -> None:
        self.channel: Any = None
        self.on_message: Any = None
        self.on_decode_error: Any = None
        self.accept: Any = None
        self.got: list[Any] = []
        self.callbacks: Any = [lambda body, message: self.got.append(body)]
        type(self).receive = core.dispatch.receive
        vars(self).update(attributes)


@pytest.fixture
def rig(core) -> Iterator[Rig]:
    made = Rig(core, False)
    yield made
    made.close()


def message_of(core: Any, body: bytes = b"", cls: Any = None, **properties: Any) -> Any:
    raw = core.frames.encode_properties(properties)
    return (cls or core.message.Message).from_delivery(Channel(core), "c", 1, False, "", "", raw, body)


def dispatch(core: Any, message: Any, **attributes: Any) -> Any:
    consumer = Consumer(core, **attributes)
    core.dispatch.Dispatcher(consumer)(message)
    return consumer


BODIES = [
    (b"plain", {}),
    (b"plain", {"content_type": "application/data", "content_encoding": "binary"}),
    (b"plain", {"content_type": "", "content_encoding": "binary"}),
    (b"caf\xc3\xa9", {"content_type": "application/data", "content_encoding": "utf-8"}),
    (b"caf\xe9", {"content_type": "text/plain", "content_encoding": "latin-1"}),
    (b"caf\xe9", {"content_type": "text/plain", "content_encoding": "utf-8"}),
    (b"caf\xe9", {"content_type": "text/plain", "content_encoding": "BINARY"}),
    (b"caf\xe9", {"content_type": "text/plain", "content_encoding": "no-such-codec"}),
    (b'{"a": [1, 2]}', {"content_type": "application/json", "content_encoding": "utf-8"}),
    (b'{"a": [1, 2]}', {"content_type": "application/json", "content_encoding": "binary"}),
    (b'{"a": [1, 2', {"content_type": "application/json", "content_encoding": "utf-8"}),
    (b"", {"content_type": "application/json", "content_encoding": "utf-8"}),
    (b"x", {"content_type": "application/x-python-serialize", "content_encoding": "binary"}),
    (b"", {"content_type": "application/x-python-serialize", "content_encoding": "binary"}),
    (b"x", {"content_type": "application/unknown", "content_encoding": "binary"}),
]
ACCEPTS = [None, set(), {"application/json"}, {"application/x-python-serialize", "text/plain"}]


@pytest.mark.parametrize("accept", ACCEPTS, ids=str)
@pytest.mark.parametrize(("body", "properties"), BODIES, ids=lambda value: str(value))
def test_a_message_is_decoded_refused_or_faulty_as_the_registry_says(core, body, properties, accept):
    message = message_of(core, body, **properties)
    try:
        expected: Any = registry.loads(message.body, message.content_type, message.content_encoding, accept=accept)
    except Exception as error:
        with pytest.raises(type(error)) as caught:
            dispatch(core, message_of(core, body, **properties), accept=accept)
        assert str(caught.value) == str(error)
        assert type(caught.value.__cause__) is type(error.__cause__)
        failed: list[Any] = []
        given = message_of(core, body, **properties)
        dispatch(core, given, accept=accept, on_decode_error=lambda *arguments: failed.append(arguments))
        assert [(which, str(why)) for which, why in failed] == [(given, str(error))]
    else:
        got = dispatch(core, message_of(core, body, **properties), accept=accept).got
        assert got == [expected] and type(got[0]) is type(expected)


def test_a_dispatched_message_shows_what_one_does_that_was_decoded_by_hand(core):
    for body, properties in BODIES:
        by_hand, dispatched = message_of(core, body, **properties), message_of(core, body, **properties)
        failed: list[Any] = []
        dispatch(core, dispatched, on_decode_error=lambda *arguments, failed=failed: failed.append(arguments))
        try:
            by_hand.decode()
        except Exception as error:
            assert [str(why) for _, why in failed] == [str(error)]
        else:
            assert failed == [] and dispatched.payload == by_hand.payload
        assert facts(dispatched) == facts(by_hand)
        assert dispatched.errors is dispatched.errors and dispatched.errors == []


@pytest.mark.parametrize("looked_at", ["errors", "body", "headers", "content_type", "payload"])
def test_a_message_that_was_looked_at_before_is_decoded_alike(core, looked_at):
    message = message_of(core, b'{"a": 1}', content_type="application/json", content_encoding="utf-8")
    getattr(message, looked_at)
    assert dispatch(core, message).got == [{"a": 1}]


def test_a_body_that_was_replaced_before_is_what_is_decoded(core):
    message = message_of(core, b'{"a": 1}', content_type="application/json", content_encoding="utf-8")
    message.body = '{"b": 2}'
    assert dispatch(core, message).got == [{"b": 2}]
    assert message.body == '{"b": 2}'


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_callbacks_may_stand_in_any_iterable_and_be_added_meanwhile(core, kind):
    calls: list[Any] = []
    callbacks = kind([lambda body, message: calls.append(1), lambda body, message: calls.append(2)])
    if kind is list:
        callbacks.append(lambda body, message: len(callbacks) < 5 and callbacks.append(callbacks[0]))
    dispatch(core, message_of(core, b"x"), callbacks=callbacks)
    assert calls == ([1, 2, 1] if kind is list else [1, 2])


def test_what_is_disabled_or_enabled_later_is_noticed(core):
    properties = {"content_type": "application/x-tally", "content_encoding": "binary"}
    assert dispatch(core, message_of(core, b"||", **properties)).got == [b"||"]
    register("tally", lambda n: b"|" * n, len, "application/x-tally", "binary")
    try:
        assert dispatch(core, message_of(core, b"||", **properties)).got == [2]
        registry.disable("tally")
        with pytest.raises(ContentDisallowed, match="disabled content of type tally"):
            dispatch(core, message_of(core, b"||", **properties))
        registry.enable("tally")
        assert dispatch(core, message_of(core, b"|", **properties)).got == [1]
    finally:
        unregister("tally")


def test_a_message_is_decoded_once(core):
    calls: list[Any] = []
    register("tally", None, lambda data: calls.append(bytes(data)) or len(data), "application/x-tally", "binary")
    try:
        message = message_of(core, b"||", content_type="application/x-tally", content_encoding="binary")
        dispatch(core, message)
        assert message.payload == message.decode() == 2
        assert calls == [b"||"]
    finally:
        unregister("tally")


@pytest.mark.parametrize("name", ["decode", "_decode", "body", "content_type", "errors"])
def test_what_a_subclass_of_the_message_overrides_is_asked(core, name):
    asked: list[str] = []
    base = core.message.Message

    if name in ("decode", "_decode"):
        def method(self: Any) -> Any:
            asked.append(name)
            return "mine"

        member: Any = method
    else:
        def value(self: Any) -> Any:
            asked.append(name)
            return getattr(base, name).__get__(self)

        member = property(value)
    own = type("Own", (base,), {name: member})
    for _ in range(2):
        # The dispatcher must not take the subclass for the class that it saw before, or the other way round.
        consumer = Consumer(core)
        dispatcher = core.dispatch.Dispatcher(consumer, own)
        dispatcher(message_of(core, b"x", content_type="text/plain", content_encoding="utf-8"))
        assert asked == []
        dispatcher(message_of(core, b"x", own, content_type="text/plain", content_encoding="utf-8"))
        assert asked
        asked.clear()
        assert consumer.got == ["x", "mine" if "decode" in name else "x"]


@pytest.mark.parametrize("derived", [False, True])
@pytest.mark.parametrize("name", ["decode", "_decode"])
def test_a_method_of_the_class_that_is_replaced_meanwhile_is_the_one_called(core, name, derived):
    cls = type("Own", (core.message.Message,), {}) if derived else core.message.Message
    consumer = Consumer(core)
    dispatcher = core.dispatch.Dispatcher(consumer, cls)

    def deliver() -> None:
        dispatcher(message_of(core, b"x", cls, content_type="text/plain", content_encoding="utf-8"))

    deliver()
    for patched in (cls, core.message.Message):
        with patch.object(patched, name, return_value="mine") as method:
            deliver()
            deliver()
        assert method.call_count == 2
        deliver()
    assert consumer.got == ["x", "mine", "mine", "x", "mine", "mine", "x"]


def test_on_message_gets_the_message_undecoded_and_its_answer_is_returned(core):
    message = message_of(core, b"{", content_type="application/json", content_encoding="utf-8")
    consumer = Consumer(core, on_message=lambda given: ("mine", given))
    assert core.dispatch.Dispatcher(consumer)(message) == ("mine", message)
    assert consumer.got == []


def test_an_error_noted_in_the_message_is_raised_or_given_to_on_decode_error(core):
    properties = {"content_type": "text/plain", "content_encoding": "utf-8"}
    compressed = {**properties, "application_headers": {"compression": "application/x-gzip"}}
    with pytest.raises(zlib.error, match="incorrect header"):
        dispatch(core, message_of(core, b"not gzip", **compressed))
    failed: list[Any] = []
    dispatch(core, message_of(core, b"not gzip", **compressed), on_decode_error=lambda *pair: failed.append(pair))
    assert len(failed) == 1 and "incorrect header" in str(failed[0][1])


def test_a_consumer_without_callbacks_says_so(core):
    for nothing in ([], None):
        with pytest.raises(NotImplementedError, match="does not have any callbacks"):
            dispatch(core, message_of(core, b"x"), callbacks=nothing)


def test_every_callback_is_called_in_order_until_one_raises(core):
    seen: list[str] = []

    def failing(body: Any, message: Any) -> None:
        raise LookupError("no")

    callbacks = [lambda *_: seen.append("first"), failing, lambda *_: seen.append("never")]
    with pytest.raises(LookupError):
        dispatch(core, message_of(core, b"x"), callbacks=callbacks)
    assert seen == ["first"]


def test_an_error_of_a_callback_is_not_a_decoding_error(core):
    def failing(body: Any, message: Any) -> None:
        raise DecodeError("mine")

    failed: list[Any] = []
    with pytest.raises(DecodeError, match="mine"):
        dispatch(core, message_of(core, b"x"), callbacks=[failing], on_decode_error=lambda *_: failed.append(_))
    assert failed == []


@pytest.mark.parametrize("where", ["class", "instance"])
def test_receive_is_looked_up_for_each_delivery(core, where):
    class Own(Consumer):
        pass

    consumer = Own(core)
    dispatcher = core.dispatch.Dispatcher(consumer)
    dispatcher(message_of(core, b"1", content_encoding="binary"))
    if where == "class":
        Own.receive = lambda self, body, message: ("own", body)
    else:
        consumer.receive = lambda body, message: ("own", body)
    assert dispatcher(message_of(core, b"2", content_encoding="binary")) == ("own", b"2")
    assert consumer.got == [b"1"]


class Elsewhere(Consumer):
    """A consumer whose class has another way with deliveries."""

    callbacks: Any = ()

    def receive(self, body: Any, message: Any) -> Any:
        return "elsewhere", body


def other(*arguments: Any) -> None:
    arguments[-1].channel.unclaimed.append(arguments[0] if len(arguments) == 2 else "on_message")


CHANGES = {
    "callbacks set": lambda consumer: setattr(consumer, "callbacks", [other]),
    "callbacks of a tuple": lambda consumer: setattr(consumer, "callbacks", (other,)),
    "callbacks changed in place": lambda consumer: consumer.callbacks.append(other),
    "callbacks in vars()": lambda consumer: vars(consumer).update(callbacks=[other]),
    "callbacks of the class": lambda consumer: (
        delattr(consumer, "callbacks"), setattr(type(consumer), "callbacks", [other])
    ),
    "on_message set": lambda consumer: setattr(consumer, "on_message", other),
    "on_message of the class": lambda consumer: (
        delattr(consumer, "on_message"), setattr(type(consumer), "on_message", lambda self, message: other(message))
    ),
    "accept set": lambda consumer: setattr(consumer, "accept", {"application/json"}),
    "a new __dict__": lambda consumer: setattr(consumer, "__dict__", {**vars(consumer), "callbacks": [other]}),
    "a new class": lambda consumer: setattr(consumer, "__class__", Elsewhere),
    "a property of the class": lambda consumer: setattr(type(consumer), "callbacks", property(lambda self: [other])),
    "receive of the instance": lambda consumer: setattr(consumer, "receive", lambda body, message: ("mine", body)),
    "receive of the class": lambda consumer: setattr(
        type(consumer), "receive", lambda self, body, message: ("its", body)
    ),
    "nothing": lambda consumer: None,
}


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("change", list(CHANGES))
def test_what_a_consumer_is_made_to_do_between_deliveries_holds_for_the_next(core, change, before):
    """As a dispatcher does it that has never seen the consumer."""

    def deliver(dispatcher: Any, body: bytes) -> Any:
        message = message_of(core, body, content_type="text/plain", content_encoding="utf-8")
        try:
            answer = dispatcher(message)
        except Exception as error:
            answer = type(error)
        return answer, message.channel.unclaimed, message.accept

    Own = type("Own", (Consumer,), {})
    consumer = Own(core)
    dispatcher = core.dispatch.Dispatcher(consumer)
    for _ in range(before):
        assert deliver(dispatcher, b"before") == (None, [], None)
    CHANGES[change](consumer)
    changed = [deliver(dispatcher, b"after") for _ in range(2)]
    got = list(consumer.got)
    anew = deliver(core.dispatch.Dispatcher(consumer), b"after")
    assert changed == [anew] * 2
    if change == "nothing":
        assert got == ["before"] * before + ["after"] * 2
    elif change != "callbacks changed in place":
        assert got == ["before"] * before and anew != (None, [], None)


def test_what_a_decoder_changes_holds_for_the_message_that_it_decodes(core):
    consumer = Consumer(core)
    dispatcher = core.dispatch.Dispatcher(consumer)
    late: list[Any] = []

    def replace(data: Any) -> Any:
        consumer.callbacks = [lambda body, message: late.append(body)]
        return len(data)

    register("tally", None, replace, "application/x-tally", "binary")
    try:
        dispatcher(message_of(core, b"plain", content_encoding="binary"))
        dispatcher(message_of(core, b"||", content_type="application/x-tally", content_encoding="binary"))
    finally:
        unregister("tally")
    assert (consumer.got, late) == ([b"plain"], [2])


def test_the_channel_turns_what_is_not_finished_into_a_message(core):
    class Translating:
        def message_to_python(self, raw: Any) -> Any:
            return message_of(core, raw, content_encoding="binary")

    consumer = Consumer(core, channel=Translating())
    core.dispatch.Dispatcher(consumer)(b"raw")
    assert consumer.got == [b"raw"]

    class Own(core.message.Message):
        pass

    ready = message_of(core, b"ready", Own, content_encoding="binary")
    core.dispatch.Dispatcher(consumer, Own)(ready)
    assert consumer.got == [b"raw", b"ready"]


def test_a_tag_is_settled_alone_or_with_all_before_it(core):
    deliveries = core.deliveries.Deliveries(1, core.message.Message)
    for settle, left in [((3,), {1, 2, 4, 5}), ((3, True), {4, 5}), ((0, True), set()), ((9,), {1, 2, 3, 4, 5})]:
        deliveries.unacked = {1, 2, 3, 4, 5}
        deliveries.settle(*settle)
        assert deliveries.unacked == left


def test_what_a_channel_keeps_can_be_replaced(core):
    deliveries = core.deliveries.Deliveries(None, core.message.Message)
    assert (deliveries.channel_id, deliveries.close_error) == (None, None)
    deliveries.channel_id = 65535
    error = LookupError()
    deliveries.close_error = error
    assert (deliveries.channel_id, deliveries.close_error) == (65535, error)
    deliveries.channel_id = deliveries.close_error = None
    assert (deliveries.channel_id, deliveries.close_error) == (None, None)


@pytest.mark.parametrize("as_a_whole", [True, False])
def test_callbacks_that_are_replaced_while_deliveries_wait_are_the_ones_called(rig, as_a_whole):
    rig.send(b"".join(delivery(b"%d" % number) for number in range(1, 6)))
    rig.receiver.drain_events(timeout=10, max_events=2)
    late: list[Any] = []
    deliveries = rig.channels[1].deliveries
    if as_a_whole:
        deliveries.callbacks = {"c": lambda message: late.append(message.body)}
    else:
        deliveries.callbacks["c"] = lambda message: late.append(message.body)
    rig.receiver.drain_events(timeout=10, max_events=2)
    del deliveries.callbacks["c"]
    rig.receiver.drain_events(timeout=10)
    unclaimed = [message.body for _, message in rig.channels[1].unclaimed]
    assert (rig.bodies, late, unclaimed) == ([b"1", b"2"], [b"3", b"4"], [b"5"])
