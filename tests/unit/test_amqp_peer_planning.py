"""Publishes whose frames are planned: the same bytes, and no plan where somebody has put in something else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from amqp.exceptions import NotFound, RecoverableConnectionError

import kombu
from clients import Clients
from kombu._core import planning
from patience import PATIENCE, Background, until


@pytest.fixture
def connect() -> Iterator[Clients]:
    clients = Clients()
    yield clients
    clients.close()


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
    producer.serializer = "yaml"
    producer.publish({"a": 1})
    producer.exchange.delivery_mode = 1
    producer.publish({"a": 1})
    producer.exchange = kombu.Exchange("e2")(producer.channel)
    producer.publish({"a": 1})
    producer.compression = "zlib"
    producer.publish({"a": 1})
    seen = looks(session, 7)
    assert [each[:2] for each in seen] == [("e", "k")] * 2 + [("e", "other")] * 3 + [("e2", "other")] * 2
    assert [each[2]["content_type"] for each in seen] == ["application/json"] * 3 + ["application/x-yaml"] * 4
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
