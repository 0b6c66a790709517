"""Publishes whose frames are planned: the same bytes, and no plan where somebody has put in something else."""

from __future__ import annotations

import threading
from typing import Any
from unittest import mock

import pytest
from amqp.exceptions import NotFound, RecoverableConnectionError

import kombu
from kombu import serialization
from kombu._core import planning
from patience import PATIENCE, Background, until


@pytest.fixture
def connection(peer, connect):
    return connect(peer)


@pytest.fixture
def producer(connection):
    return kombu.Producer(connection, kombu.Exchange("e"), routing_key="k", serializer="json")


def looks(session: Any, count: int) -> list[Any]:
    return [
        (method.exchange, method.routing_key, method.properties, bytes(method.body))
        for method in session.wait_for("basic.publish", count)
    ]


def test_changed_defaults_count_at_once(peer, producer):
    session = peer.session()
    for _ in range(2):
        producer.publish({"a": 1})
    producer.routing_key = "other"
    producer.publish({"a": 1})
    producer.serializer = "pickle"
    producer.publish({"a": 1})
    producer.exchange.delivery_mode = 1
    producer.publish({"a": 1})
    producer.exchange = kombu.Exchange("e2")(producer.channel)
    producer.publish({"a": 1})
    producer.compression = "zlib"
    producer.publish({"a": 1})
    seen = looks(session, 7)
    assert [each[:2] for each in seen] == [("e", "k")] * 2 + [("e", "other")] * 3 + [("e2", "other")] * 2
    content_types = ["application/json"] * 3 + ["application/x-python-serialize"] * 4
    assert [each[2]["content_type"] for each in seen] == content_types
    assert [each[2]["delivery_mode"] for each in seen] == [2] * 4 + [1, 2, 2]
    assert seen[6][2]["application_headers"] == {"compression": "application/x-gzip"}


def test_the_exchange_is_declared_again_where_it_is_forgotten(peer, connection, producer):
    session = peer.session()
    for _ in range(3):
        producer.publish(1)
    connection.declared_entities.clear()
    producer.publish(2)
    session.wait_for("basic.publish", 4)
    assert len(session.arrived("exchange.declare")) == 2


def test_plans_are_bounded(peer, producer):
    for number in range(planning.MOST_PLANS + 50):
        producer.publish(1, routing_key=f"key.{number}")
    assert 0 < len(producer._plans.known) <= planning.MOST_PLANS
    assert looks(peer.session(), planning.MOST_PLANS + 50)[-1][1] == f"key.{planning.MOST_PLANS + 49}"


def test_a_method_put_in_by_somebody_is_called(peer, connection, monkeypatch):
    for name in ("_publish", "_prepare"):
        called: list[str] = []
        plain = getattr(kombu.Producer, name)

        def wrapped(self, *args, plain=plain, called=called, name=name, **kw):
            called.append(name)
            return plain(self, *args, **kw)

        with monkeypatch.context() as patch:
            patch.setattr(kombu.Producer, name, wrapped)
            producer = kombu.Producer(connection, routing_key="k")
            for _ in range(3):
                producer.publish("x")
        assert called == [name] * 3


@pytest.mark.parametrize("name", ["basic_publish", "prepare_message"])
def test_a_channel_that_somebody_has_changed_is_asked(peer, connection, name):
    channel = connection.channel()
    plain = getattr(channel, name)
    called: list[str] = []

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        called.append(name)
        return plain(*args, **kwargs)

    setattr(channel, name, wrapped)
    producer = kombu.Producer(channel, routing_key="k")
    for _ in range(3):
        producer.publish("x")
    assert called == [name] * 3


def test_a_channel_that_opened_again_has_another_number(peer, connection, producer):
    session = peer.session()
    for _ in range(2):
        producer.publish(1)
    other = connection.channel()
    session.send_method("channel.close", producer.channel.channel_id, reply_code=404, reply_text="NOT_FOUND")
    with pytest.raises(NotFound):
        connection.drain_events(timeout=PATIENCE)
    # Somebody else has taken the number meanwhile.
    another = connection.channel()
    producer.publish(2)
    seen = session.wait_for("basic.publish", 3)
    assert seen[2].channel == producer.channel.channel_id
    assert len({producer.channel.channel_id, other.channel_id, another.channel_id}) == 3


@pytest.mark.parametrize("routing_key", ["k", "never planned"])
def test_a_channel_that_is_gone_is_a_recoverable_error(connection, producer, routing_key):
    for _ in range(2):
        producer.publish(1)
    producer.channel.close()
    with pytest.raises(RecoverableConnectionError):
        producer.publish(1, routing_key=routing_key)


def test_bodies_of_all_kinds(peer, producer):
    session = peer.session()
    for body in (b"bytes", bytearray(b"array"), memoryview(b"view"), "text", None):
        for _ in range(2):
            producer.publish(body, content_type="x/y")
    seen = looks(session, 10)
    assert [each[3] for each in seen] == [b"bytes"] * 2 + [b"array"] * 2 + [b"view"] * 2 + [b"text"] * 2 + [b""] * 2
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        assert first == second


@pytest.mark.parametrize("size", [1_000, 9_001])
def test_publishes_are_whole_whatever_the_socket_takes_at_once(peer, connection, producer, size):
    """While the peer does not read, a message is cut where the kernel's buffer ends; the rest of it has to follow."""
    session = peer.session()
    producer.publish(b"first", content_type="x/y")
    session.pause_reading()
    stuck = threading.Event()
    bodies = []

    def publish() -> None:
        while not stuck.is_set():
            bodies.append(f"{len(bodies):08}".encode() + bytes(size))
            producer.publish(bodies[-1], content_type="x/y")

    with Background(publish, timeout=60):
        # Taken by who waits for room in the kernel's buffer, and for nothing shorter.
        until(connection.connection._writer.lock.locked, timeout=60)
        stuck.set()
        session.resume_reading()
    seen = session.wait_for("basic.publish", 1 + len(bodies), timeout=60)
    assert [bytes(method.body) for method in seen[1:]] == bodies


def test_of_two_producers_on_a_channel_each_has_its_own(peer, connection):
    channel = connection.channel()
    producers = [kombu.Producer(channel, routing_key=key) for key in "ab"]
    for number in range(6):
        producers[number % 2].publish(str(number))
    seen = looks(peer.session(), 6)
    assert [each[1] for each in seen] == ["a", "b"] * 3
    assert [each[3] for each in seen] == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_a_publish_can_be_replaced_as_any_method(peer, connection):
    with mock.patch.object(kombu.Producer, "publish", autospec=True) as publish:
        producer = kombu.Producer(connection)
        producer.publish("x", routing_key="k")
    publish.assert_called_once_with(producer, "x", routing_key="k")
    assert not peer.session().arrived("basic.publish")


class Passing:
    """A wrapper as tracing tools make them: it passes for the function that it calls."""

    def __init__(self, wrapped: Any, called: list[Any]) -> None:
        self.__wrapped__ = wrapped
        self._called = called

    def __get__(self, instance: Any, owner: Any) -> Any:
        return Passing(self.__wrapped__.__get__(instance, owner), self._called)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._called.append(args)
        return self.__wrapped__(*args, **kwargs)


@pytest.mark.parametrize("name", ["publish", "_publish", "_prepare"])
def test_a_wrapper_that_passes_for_the_method_is_called(peer, connection, monkeypatch, name):
    called: list[Any] = []
    producer = kombu.Producer(connection, routing_key="k")
    for _ in range(2):
        producer.publish("x")
    with monkeypatch.context() as patch:
        patch.setattr(kombu.Producer, name, Passing(kombu.Producer.__dict__[name], called))
        for _ in range(3):
            producer.publish("x")
    assert len(called) == 3
    producer.publish("x")
    assert len(called) == 3
    assert len(looks(peer.session(), 6)) == 6


@pytest.mark.parametrize("name", ["_publish", "_prepare"])
def test_a_method_of_one_producer_is_replaced_and_put_back(peer, producer, name):
    called: list[Any] = []
    plain = getattr(producer, name)
    for _ in range(2):
        producer.publish(1)
    setattr(producer, name, lambda *args: called.append(args) or plain(*args))
    producer.publish(2)
    assert len(called) == 1
    delattr(producer, name)
    producer.publish(3)
    assert len(called) == 1
    assert [each[3] for each in looks(peer.session(), 4)] == [b"1", b"1", b"2", b"3"]


def test_defaults_of_the_class_count_at_once(peer, connection):
    class Own(kombu.Producer):
        serializer = "pickle"

    producer = Own(connection)
    del producer.routing_key, producer.serializer
    for _ in range(2):
        producer.publish({})
    Own.routing_key = "of the class"
    producer.publish({})
    Own.serializer = "json"
    producer.publish({})
    producer.serializer = "pickle"
    producer.publish({})
    del producer.serializer
    producer.publish({})
    seen = looks(peer.session(), 6)
    assert [each[1] for each in seen] == ["", "", *["of the class"] * 4]
    assert [each[2]["content_type"].rpartition("/")[2] for each in seen] == [
        "x-python-serialize", "x-python-serialize", "x-python-serialize", "json", "x-python-serialize", "json"
    ]


def test_attributes_that_are_made_up_are_asked_for_each_time(peer, connection):
    class Counting(kombu.Producer):
        count = 0

        @property
        def routing_key(self):
            self.count += 1
            return f"key {self.count}"

        @routing_key.setter
        def routing_key(self, value):
            pass

    class Asking(kombu.Producer):
        count = 0

        def __getattribute__(self, name):
            if name == "routing_key":
                self.count += 1
                return f"key {self.count}"
            return super().__getattribute__(name)

    for kind in (Counting, Asking):
        producer = kind(connection)
        for _ in range(4):
            producer.publish("x")
    keys = [each[1] for each in looks(peer.session(), 8)]
    for half in (keys[:4], keys[4:]):
        assert len(set(half)) == 4


def test_a_producer_that_keeps_its_attributes_elsewhere(peer, connection):
    class Own(kombu.Producer):
        def __setattr__(self, name, value):
            self.__dict__[name] = value

    producer = Own(connection.channel(), routing_key="k")
    for key in ("a", "b", "c"):
        for _ in range(2):
            producer.publish("x")
        producer.routing_key = key
    assert [each[1] for each in looks(peer.session(), 6)] == ["k", "k", "a", "a", "b", "b"]


def test_what_the_encoder_changes_counts_for_the_message(peer, producer):
    class Body:
        def __init__(self, key: str) -> None:
            self.key = key

        def __json__(self) -> str:
            producer.routing_key = self.key
            return self.key

    for key in "abc":
        producer.publish(1)
        producer.publish(Body(key), serializer="json")
    # The long way, which the first takes, looks at the routing key after that as well.
    assert [each[1] for each in looks(peer.session(), 6)] == ["k", "a", "a", "b", "b", "c"]


@pytest.fixture
def registry(monkeypatch):
    for name in ("_encoders", "_decoders", "type_to_name", "name_to_type"):
        monkeypatch.setattr(serialization.registry, name, dict(getattr(serialization.registry, name)))
    for name in ("_default_encode", "_default_content_type", "_default_content_encoding"):
        monkeypatch.setattr(serialization.registry, name, getattr(serialization.registry, name))
    return serialization.registry


@pytest.mark.parametrize("serializer", ["own", None])
def test_what_is_registered_counts_at_once(peer, connection, registry, serializer):
    def become(mark: str, encoding: str) -> None:
        registry.register("own", lambda body: f"{mark}{body}".encode(), None, f"x/{mark}", encoding)
        if serializer is None:
            registry._set_default_serializer("own")

    producer = kombu.Producer(connection, routing_key="k", serializer=serializer)
    for mark, encoding in (("a", "binary"), ("b", "utf-8"), ("c", "binary")):
        become(mark, encoding)
        for number in range(2):
            producer.publish(number)
    if serializer:
        registry.unregister("own")
        with pytest.raises(kombu.exceptions.SerializerNotInstalled, match="No encoder installed for own"):
            producer.publish(1)
    else:
        registry._set_default_serializer("json")
        producer.publish(1)
    seen = looks(peer.session(), 6)
    assert [each[3] for each in seen[:6]] == [b"a0", b"a1", b"b0", b"b1", b"c0", b"c1"]
    assert [(each[2]["content_type"], each[2]["content_encoding"]) for each in seen[:6:2]] == [
        ("x/a", "binary"), ("x/b", "utf-8"), ("x/c", "binary")
    ]


@pytest.mark.parametrize("serializer", ["own", None])
def test_errors_of_encoders_are_told_apart(peer, connection, registry, serializer):
    errors = {
        "missing": kombu.exceptions.SerializerNotInstalled("no package"), "wrong": ValueError("why"),
        "stop": KeyboardInterrupt("now"),
    }

    def encode(body: Any) -> str:
        if body["error"] in errors:
            raise errors[body["error"]]
        return "fine"

    registry.register("own", encode, None, "x/own")
    registry._set_default_serializer("own")
    producer = kombu.Producer(connection, routing_key="k", serializer=serializer)
    for _ in range(2):
        producer.publish({"error": None})
    with pytest.raises(kombu.exceptions.SerializerNotInstalled) as missing:
        producer.publish({"error": "missing"})
    assert missing.value is errors["missing"]
    with pytest.raises(kombu.exceptions.EncodeError, match="why") as wrong:
        producer.publish({"error": "wrong"})
    assert wrong.value.__cause__ is errors["wrong"]
    assert wrong.value.args == (errors["wrong"],)
    with pytest.raises(KeyboardInterrupt):
        producer.publish({"error": "stop"})
    producer.publish({"error": None})
    assert [each[3] for each in looks(peer.session(), 3)] == [b"fine"] * 3


def test_bodies_that_need_no_default_serializer(peer, connection):
    class Octets(bytes):
        pass

    class Text(str):
        pass

    producer = kombu.Producer(connection, routing_key="k")
    for body in (b"b", Octets(b"b"), "t", Text("t")):
        for _ in range(2):
            producer.publish(body)
    for body in (b"b", "t"):
        producer.publish(body, serializer="raw")
    seen = looks(peer.session(), 10)
    assert [each[3] for each in seen] == [b"b"] * 4 + [b"t"] * 4 + [b"b", b"t"]
    assert [(each[2]["content_type"], each[2]["content_encoding"]) for each in seen[::2]] == [
        *[("application/data", "binary")] * 2, *[("text/plain", "utf-8")] * 2, ("application/data", "binary")
    ]


def test_a_producer_that_lacks_something_is_asked_again(peer, connection):
    class Own(kombu.Producer):
        def _begin_planning(self):
            super()._begin_planning()
            self.batched = True
            self.kept = self.__dict__.pop("_batch_local", None)

    producer = Own(connection.channel(), routing_key="k")
    producer.publish("x")
    for _ in range(2):
        with pytest.raises(AttributeError, match="_batch_local"):
            producer.publish("x")
    producer._batch_local = producer.kept
    producer.publish("y")
    assert [each[3] for each in looks(peer.session(), 2)] == [b"x", b"y"]
