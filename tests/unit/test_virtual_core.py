"""What an emulated broker does with each message, on both cores: its layout, its delivery, its settling."""

from __future__ import annotations

import base64
import binascii
import copy
import pickle
import threading
from collections import OrderedDict, deque
from queue import Empty
from queue import Queue as ThreadQueue
from typing import Any

import pytest

from kombu import Connection, Consumer, Producer, Queue
from kombu.transport import memory, virtual

# -- Base64


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 6, 255, 256, 257, 4096])
def test_base64_is_that_of_the_standard_library(core: Any, size: int) -> None:
    codec = core.virtual.Base64()
    data = bytes((index * 37 + size) % 256 for index in range(size))
    text = base64.b64encode(data).decode()
    assert codec.encode(data) == text
    assert codec.encode(memoryview(data)) == codec.encode(bytearray(data)) == text
    assert codec.decode(text) == codec.decode(text.encode()) == codec.decode(memoryview(text.encode())) == data


def test_base64_of_text_is_that_of_its_utf8(core: Any) -> None:
    codec = core.virtual.Base64()
    for text in "plain", "caf\xe9", "\u20ac", "\U0001f600":
        assert codec.decode(codec.encode(text)) == text.encode()
    with pytest.raises(UnicodeEncodeError):
        codec.encode("\ud800")


@pytest.mark.parametrize(
    "text",
    ["=", "==", "A", "AB", "ABC", "AB=", "AB==", "ABC=", "A===", "AB==CDEF", "AB=C", "AB\nCD", "AB CD==", "AB*D",
     "ABCD=", "\xe9BCD", "\u20acABC", "====", "ABCDEF==", "ABCDEFG=", "ABCDE", "AB\x00D", "-_-_"],
)  # fmt: skip
def test_other_base64_is_read_or_refused_as_the_standard_library_does(core: Any, text: str) -> None:
    def outcome(function: Any, given: Any) -> Any:
        try:
            return function(given)
        except binascii.Error as error:
            return str(error)

    for given in text, text.encode():
        expected = outcome(binascii.a2b_base64, given if isinstance(given, bytes) else given.encode())
        assert outcome(core.virtual.Base64().decode, given) == expected


# -- Messages


class Channel:
    """As much of a channel as a message needs."""

    no_ack_consumers = None

    def __init__(self, core: Any) -> None:
        self.acked: list[Any] = []
        codec = core.virtual.MessageChannel()
        self.encode_body, self.decode_body = codec.encode_body, codec.decode_body

    def basic_ack(self, delivery_tag: Any, multiple: bool = False) -> None:
        self.acked.append(delivery_tag)


def payload(**changes: Any) -> dict[str, Any]:
    properties = {"delivery_tag": "t1", "body_encoding": "base64", "delivery_info": {"exchange": "e"}, "priority": 3}
    laid_out = {
        "body": "Ym9keQ==", "headers": {"h": 1}, "properties": properties, "content-type": "text/plain",
        "content-encoding": "utf-8",
    }
    return {**laid_out, **changes}


def test_a_message_has_the_dicts_of_its_payload(core: Any) -> None:
    assert core.message  # which has its serializers then
    channel, raw = Channel(core), payload()
    message = core.virtual.Message(raw, channel=channel)
    assert message.body == b"body" and message.payload == "body"
    assert message._raw is raw and message.headers is raw["headers"] and message.properties is raw["properties"]
    assert message.delivery_info is raw["properties"]["delivery_info"]
    assert (message.delivery_tag, message.content_type, message.content_encoding) == ("t1", "text/plain", "utf-8")
    assert message.serializable() == raw
    message.ack()
    assert message.acknowledged and channel.acked == ["t1"]


def test_a_message_may_lack_all_but_a_delivery_tag(core: Any) -> None:
    message = core.virtual.Message({"properties": {"delivery_tag": 1}}, channel=None)
    assert (message.body, message.headers, message.delivery_info, message.errors) == (None, {}, {}, [])
    with pytest.raises(KeyError, match="delivery_tag"):
        core.virtual.Message(payload(properties={}), channel=Channel(core))


def test_text_that_is_no_base64_is_encoded(core: Any) -> None:
    raw = payload(body="caf\xe9")
    raw["properties"]["body_encoding"] = None
    assert core.virtual.Message(raw, channel=Channel(core)).body == "caf\xe9".encode()
    raw["body"] = "\ud800"
    message = core.virtual.Message(raw, channel=Channel(core))
    assert [kind for kind, _, _ in message.errors] == [UnicodeEncodeError]


def test_messages_are_known_by_their_public_name(core: Any) -> None:
    for kind in core.virtual.Message, core.virtual.Base64:
        assert kind.__module__ == "kombu.transport.virtual.message"
    assert core.memory.MessageQueue.__module__ == "kombu.transport.memory"


def test_a_message_survives_pickling() -> None:
    message = virtual.Message(payload(), channel=virtual.Channel.__new__(virtual.Channel))
    message.channel = None
    again = pickle.loads(pickle.dumps(message))
    assert type(again) is virtual.Message
    assert (again.body, again.headers, again._raw) == (b"body", {"h": 1}, payload())


# -- What is unsettled


def test_the_limit_counts_what_is_neither_settled_nor_swept(core: Any) -> None:
    class QoS(core.unsettled.Unsettled):
        def __init__(self) -> None:
            self._delivered, self._dirty = OrderedDict(), set()
            self._quick_append, self._quick_ack = self._delivered.__setitem__, self._dirty.add

    qos = QoS()
    assert qos.can_consume()
    qos.prefetch_count = 2
    for tag in "ab":
        assert qos.can_consume()
        qos.append(f"message {tag}", tag)
    assert not qos.can_consume()
    qos.ack("a")
    assert qos.can_consume() and list(qos._delivered) == ["a", "b"]
    qos.append("message c", "c")
    assert list(qos._delivered) == ["b", "c"] and not qos._dirty


# -- The queue in memory


def test_a_queue_in_memory(core: Any) -> None:
    queue = core.memory.MessageQueue()
    assert queue.take() is None and queue.max_priority == 0
    with pytest.raises(Empty):
        queue.get()
    for number in range(3):
        queue.put(number, priority=number)
    assert queue.queue is queue.levels[0] and queue.queue == deque([0, 1, 2])
    assert (queue.take(), queue.get(block=False), queue.qsize(), queue.empty()) == (0, 1, 1, False)
    assert queue.clear() == 1 and queue.empty()


def test_a_queue_in_memory_with_priorities(core: Any) -> None:
    queue = core.memory.MessageQueue(max_priority=2)
    for message, priority in (("a", 0), ("b", 7), ("c", -3), ("d", 1)):
        queue.put(message, priority)
    assert (queue.qsize(), list(queue.queue)) == (4, ["b", "d", "a", "c"])
    assert [queue.take() for _ in range(5)] == ["b", "d", "a", "c", None]


def test_delivery_tags_are_all_different(core: Any) -> None:
    channel, found = core.memory.MemoryChannel(), []

    def take() -> None:
        found.extend([channel._next_delivery_tag() for _ in range(2000)])

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8000
    assert all(tag.startswith("memory-") and len(tag) == 31 for tag in found)


# -- What a transport of one's own may replace, and is then asked for each message


@pytest.fixture(autouse=True)
def empty_broker() -> Any:
    yield
    memory.Channel.queues.clear()
    memory.Transport.global_state.clear()


def through(channel_class: type, transport_class: type = memory.Transport) -> Any:
    """Send one message through a queue of such a channel, and return the channel and what was consumed."""
    got: list[Any] = []
    made = type("Transport", (transport_class,), {"Channel": channel_class})
    with Connection(transport=made) as connection:
        channel = connection.channel()
        with Consumer(channel, [Queue("q")], callbacks=[lambda body, message: (got.append(body), message.ack())]):
            Producer(channel).publish({"n": 1}, routing_key="q")
            assert connection.drain_events(timeout=5) == 1
    return channel, got


HOOKS = (
    "_put", "_get", "_inplace_augment_message", "_next_delivery_tag", "_take_delivery",
    "basic_ack", "basic_publish", "decode_body", "drain_events", "encode_body", "message_to_python", "prepare_message",
)  # fmt: skip


@pytest.mark.parametrize("name", HOOKS)
def test_a_method_that_a_channel_replaces_is_called(name: str) -> None:
    called: list[str] = []

    def replaced(self: Any, *args: Any, **kwargs: Any) -> Any:
        called.append(name)
        return getattr(memory.Channel, name)(self, *args, **kwargs)

    _, got = through(type("Replacing", (memory.Channel,), {name: replaced}))
    assert got == [{"n": 1}] and called


@pytest.mark.parametrize("name", ["_deliver", "_drain_channel", "drain_events"])
def test_a_method_that_a_transport_replaces_is_called(name: str) -> None:
    called: list[str] = []

    def replaced(self: Any, *args: Any, **kwargs: Any) -> Any:
        called.append(name)
        return getattr(memory.Transport, name)(self, *args, **kwargs)

    _, got = through(memory.Channel, type("Replacing", (memory.Transport,), {name: replaced}))
    assert got == [{"n": 1}] and called


@pytest.mark.parametrize("name", ["append", "ack", "can_consume"])
def test_a_method_that_a_qos_replaces_is_called(name: str) -> None:
    called: list[str] = []

    def replaced(self: Any, *args: Any, **kwargs: Any) -> Any:
        called.append(name)
        return getattr(virtual.QoS, name)(self, *args, **kwargs)

    qos = type("Replacing", (virtual.QoS,), {name: replaced})
    _, got = through(type("Own", (memory.Channel,), {"QoS": qos}))
    assert got == [{"n": 1}] and called


class Line:
    """A queue, a producer and a consumer of it on one channel, through which a number goes at each call."""

    def __init__(self, connection: Any, channel_class: Any = memory.Channel) -> None:
        self.connection = connection
        self.transport = connection.transport
        self.transport.Channel = channel_class
        self.channel = connection.channel()
        self.got: list[Any] = []
        self.consumer = Consumer(self.channel, [Queue("q")], callbacks=[self.take])
        self.consumer.consume()
        self.producer = Producer(self.channel, routing_key="q")
        for number in range(3):
            assert self.send(number) == number

    def take(self, body: Any, message: Any) -> None:
        self.got.append(body)
        message.ack()

    def send(self, body: Any) -> Any:
        self.producer.publish(body)
        assert self.connection.drain_events(timeout=5) == 1
        return self.got[-1]


@pytest.fixture
def line() -> Any:
    # Of classes of its own, as some tests change them.
    channel_class = type("Channel", (memory.Channel,), {})
    made = type("Transport", (memory.Transport,), {})
    with Connection(transport=made) as connection:
        yield Line(connection, channel_class)


#: Whose the methods are that may be replaced in use. A producer looks for ``prepare_message`` as it begins.
OWNERS = {
    **dict.fromkeys((name for name in HOOKS if name != "prepare_message"), lambda line: line.channel),
    **dict.fromkeys(("append", "can_consume", "_flush"), lambda line: line.channel.qos),
    "ack": lambda line: line.channel.qos,
    "_deliver": lambda line: line.transport,
}


@pytest.mark.parametrize("name", OWNERS)
def test_a_method_that_is_replaced_in_use_is_called_until_it_is_back(line: Any, name: str) -> None:
    owner = OWNERS[name](line)
    original, called = getattr(owner, name), []

    def replaced(*args: Any, **kwargs: Any) -> Any:
        called.append(name)
        return original(*args, **kwargs)

    setattr(owner, name, replaced)
    assert line.send("a") == "a" and called
    delattr(owner, name)
    del called[:]
    assert line.send("b") == "b" and not called


@pytest.mark.parametrize("name", OWNERS)
def test_a_method_that_a_class_gets_in_use_is_called(line: Any, monkeypatch: Any, name: str) -> None:
    owner = OWNERS[name](line)
    kind = type(owner)
    original, called = getattr(kind, name), []

    def replaced(self: Any, *args: Any, **kwargs: Any) -> Any:
        called.append(name)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(kind, name, replaced)
    assert line.send("a") == "a" and called


def test_a_method_that_a_base_class_gets_in_use_is_called(line: Any, monkeypatch: Any) -> None:
    called = []
    for kind, name in (virtual.Channel, "encode_body"), (virtual.QoS, "append"), (virtual.Transport, "_deliver"):
        original = getattr(kind, name)

        def replaced(self: Any, *args: Any, _as: tuple[Any, ...] = (name, original), **kwargs: Any) -> Any:
            called.append(_as[0])
            return _as[1](self, *args, **kwargs)

        monkeypatch.setattr(kind, name, replaced)
    assert line.send("a") == "a" and called == ["encode_body", "_deliver", "append"]


def test_what_a_channel_is_given_in_use_is_used(line: Any) -> None:
    line.channel.body_encoding = None
    line.producer.publish("plain")
    assert line.channel.queues["q"].queue[0]["body"] in ("plain", b"plain")
    line.channel.body_encoding = "base64"
    line.producer.publish("coded")
    assert line.channel.queues["q"].queue[1]["body"] == "Y29kZWQ="
    shared, line.channel.queues = line.channel.queues, {}
    assert line.send("apart") == "apart"
    line.channel.queues = shared
    assert [line.send("c"), line.send("d"), line.send("e")] == ["plain", "coded", "c"]


def test_a_codec_that_replaces_ours_in_use_is_used(line: Any) -> None:
    class Hex:
        def encode(self, body: Any) -> str:
            return str((body.encode() if isinstance(body, str) else body).hex())

        def decode(self, body: str) -> bytes:
            return bytes.fromhex(body)

    line.channel.codecs = dict(line.channel.codecs)
    assert line.send("a") == "a"
    line.channel.codecs["base64"] = Hex()
    line.producer.publish("az")
    assert line.channel.queues["q"].queue[0]["body"] == "617a"
    line.connection.drain_events(timeout=5)
    assert line.got[-1] == "az"


def test_a_limit_holds_as_soon_as_it_is_set(line: Any) -> None:
    held: list[Any] = []
    line.consumer.callbacks[:] = [lambda body, message: held.append(message)]
    for number in range(4):
        line.producer.publish(number)
    line.channel.qos.prefetch_count = 2
    for _ in range(2):
        line.connection.drain_events(timeout=5)
    with pytest.raises(TimeoutError):
        line.connection.drain_events(timeout=0.01)
    held[0].ack()
    line.connection.drain_events(timeout=5)
    with pytest.raises(TimeoutError):
        line.connection.drain_events(timeout=0.01)
    line.channel.qos.prefetch_count = None
    line.connection.drain_events(timeout=5)
    assert [message.payload for message in held] == [0, 1, 2, 3]


def test_what_keeps_messages_may_be_replaced_in_use(line: Any) -> None:
    qos = line.channel.qos
    qos._delivered, qos._dirty = OrderedDict(), set()
    qos._quick_append, qos._quick_ack = qos._delivered.__setitem__, qos._dirty.add
    line.consumer.callbacks[:] = []
    held: list[Any] = []
    line.consumer.on_message = held.append
    line.producer.publish("a")
    line.connection.drain_events(timeout=5)
    assert list(qos._delivered) == [held[0].delivery_tag] and not qos._dirty
    held[0].ack()
    assert qos._dirty == {held[0].delivery_tag}
    other = line.channel._qos = virtual.QoS(line.channel)
    line.producer.publish("b")
    line.connection.drain_events(timeout=5)
    assert list(other._delivered) == [held[1].delivery_tag] and len(qos._delivered) == 1


@pytest.mark.parametrize("way", ["property", "__getattribute__"])
def test_attributes_that_are_computed_are_computed_for_each_message(way: str) -> None:
    asked: list[str] = []

    def asked_for(self: Any, name: str = "queues") -> Any:
        if name == "queues":
            asked.append(name)
            return memory.Channel.queues
        return super(kind, self).__getattribute__(name)  # type: ignore[misc]

    own = {"queues": property(asked_for)} if way == "property" else {way: asked_for}
    kind = type("Computed", (memory.Channel,), own)
    with Connection(transport=type("Transport", (memory.Transport,), {})) as connection:
        line = Line(connection, kind)
        del asked[:]
        assert line.send("a") == "a" and asked


def test_a_class_that_writes_attributes_in_its_own_way_is_asked_for_them_each_time() -> None:
    called: list[Any] = []

    class Written(memory.Channel):
        def __setattr__(self, name: str, value: Any) -> None:
            self.__dict__[name] = value

    with Connection(transport=type("Transport", (memory.Transport,), {})) as connection:
        line = Line(connection, Written)
        kept = line.channel._put
        line.channel._put = lambda queue, message, **kwargs: (called.append(queue), kept(queue, message, **kwargs))
        assert line.send("a") == "a" and called == ["q"]


def test_a_constructor_that_the_class_of_messages_gets_in_use_is_called(line: Any, monkeypatch: Any) -> None:
    made: list[Any] = []
    original = virtual.Message.__init__

    def replaced(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made.append(self)

    with monkeypatch.context() as patch:
        patch.setattr(virtual.Message, "__init__", replaced)
        assert line.send("a") == "a" and len(made) == 1
    assert line.send("b") == "b" and len(made) == 1


def test_a_copy_is_looked_at_by_itself(line: Any) -> None:
    """As kombu 5.7's may be copied, too."""
    channel, qos = copy.copy(line.channel), copy.copy(line.channel.qos)
    assert vars(channel) == vars(line.channel) and vars(qos) == vars(line.channel.qos)
    channel.queues = {}
    channel.queue_declare("apart")
    Producer(channel, routing_key="apart").publish("x")
    assert channel.queues["apart"].qsize() == 1 and "apart" not in line.channel.queues
    qos.prefetch_count = 1
    assert line.send("a") == "a" and not line.channel.qos.prefetch_count


def test_a_class_of_messages_of_ones_own_is_used() -> None:
    made: list[Any] = []

    class Message(virtual.Message):
        def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
            super().__init__(payload, channel=channel, **kwargs)
            made.append(self)

    _, got = through(type("Own", (memory.Channel,), {"Message": Message}))
    assert got == [{"n": 1}] and len(made) == 1 and made[0].acknowledged


def test_a_codec_of_ones_own_is_used() -> None:
    class Reversed:
        def encode(self, body: Any) -> str:
            return (body if isinstance(body, str) else body.decode())[::-1]

        def decode(self, body: str) -> str:
            return body[::-1]

    codecs = {**virtual.Channel.codecs, "reversed": Reversed()}
    _, got = through(type("Own", (memory.Channel,), {"codecs": codecs, "body_encoding": "reversed"}))
    assert got == [{"n": 1}]


def test_a_compressed_message_is_decompressed() -> None:
    got: list[Any] = []
    with Connection("memory://") as connection, connection.Consumer([Queue("q")], on_message=got.append):
        connection.Producer().publish({"n": 1}, routing_key="q", compression="zlib")
        connection.drain_events(timeout=5)
    assert got[0].payload == {"n": 1} and got[0].errors == []


def test_queues_that_a_channel_makes_of_its_own_kind_are_used() -> None:
    class Own(ThreadQueue):
        max_priority = 0

        def put(self, item: Any, block: Any = True, timeout: Any = None) -> None:
            super().put(item)

    def make(self: Any, name: str, **kwargs: Any) -> None:
        self.queues.setdefault(name, Own())

    _, got = through(type("Own", (memory.Channel,), {"queues": {}, "_new_queue": make}))
    assert got == [{"n": 1}]
