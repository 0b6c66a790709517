"""Queues with the interface of :mod:`queue`."""

from __future__ import annotations

import pytest
from amqp import RecoverableConnectionError

from kombu import simple
from kombu.entity import Exchange, Queue
from kombu.message import Message
from kombu.simple import SimpleBuffer, SimpleQueue
from recording import ConnectionLost, RecordingConnection


@pytest.fixture
def connection():
    return RecordingConnection()


@pytest.fixture
def channel(connection):
    return connection.channel()


class Clock:
    """Time that passes only where it is said to."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(simple, "monotonic", lambda: self.now)

    def passes(self, seconds, then=None):
        def event():
            self.now += seconds
            if then:
                then()
        return event


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def message(channel, body="x", **kwargs):
    return Message(body, 1, "text/plain", "utf-8", channel=channel, **kwargs)


class TestGet:
    def test_returns_the_messages_in_their_order(self, connection, channel):
        queue = SimpleQueue(channel, "s")
        connection.events.append(lambda: [channel.deliver(message(channel, body)) for body in "abc"])
        assert [queue.get().payload for _ in range(3)] == ["a", "b", "c"]
        assert connection.timeouts == [None]
        assert len(channel.of("basic_consume")) == 1

    def test_the_timeout_is_one_deadline_whatever_else_arrives(self, connection, channel, clock):
        queue = SimpleQueue(channel, "s")
        connection.events.extend(clock.passes(2) for _ in range(100))
        with pytest.raises(queue.Empty):
            queue.get(timeout=5)
        assert connection.timeouts == [5, 3, 1]

    def test_a_message_in_the_last_moment_is_returned(self, connection, channel, clock):
        queue = SimpleQueue(channel, "s")
        connection.events.append(clock.passes(5, lambda: channel.deliver(message(channel))))
        assert queue.get(timeout=5).payload == "x"

    def test_a_message_that_is_there_needs_no_time(self, connection, channel):
        queue = SimpleQueue(channel, "s")
        connection.events.append(lambda: [channel.deliver(message(channel, body)) for body in "ab"])
        queue.get()
        assert queue.get(timeout=0).payload == "b"
        assert len(connection.timeouts) == 1

    def test_a_wait_in_vain_raises_empty(self, channel):
        queue = SimpleQueue(channel, "s")
        with pytest.raises(SimpleQueue.Empty):
            queue.get(timeout=0.1)

    def test_an_error_comes_through(self, connection, channel):
        connection.events.append(ConnectionLost())
        with pytest.raises(ConnectionLost):
            SimpleQueue(channel, "s").get(timeout=1)

    def test_a_closed_channel_is_named(self, channel):
        queue = SimpleQueue(channel, "s")
        channel.connection = None
        queue._consuming = True
        with pytest.raises(RecoverableConnectionError, match="'s': its channel is closed"):
            queue.get(timeout=1)

    @pytest.mark.parametrize("get", [lambda queue: queue.get(block=False), lambda queue: queue.get_nowait()])
    def test_without_blocking_it_asks_for_one_message(self, channel, get):
        queue = SimpleQueue(channel, "s", accept=["json"])
        channel.waiting.append(message(channel))
        got = get(queue)
        assert got.body == "x" and got.accept == {"application/json"}
        with pytest.raises(queue.Empty):
            get(queue)
        assert channel.of("basic_get")[0].kwargs == {"queue": "s", "no_ack": False}
        assert channel.of("basic_consume") == []


def test_put_publishes_to_the_queue(channel):
    queue = SimpleQueue(channel, "s", serializer="json")
    headers = {"h": 1}
    queue.put({"a": 1}, headers=headers, compression="zlib", priority=3)
    body, priority, content_type, _, sent, _ = channel.published()[0]
    assert (priority, content_type, sent["h"]) == (3, "application/json", 1)
    assert headers == {"h": 1}
    assert channel.of("basic_publish")[0].kwargs["routing_key"] == "s"


def test_size_and_truth_are_different_things(channel):
    queue = SimpleQueue(channel, "s")
    asked = len(channel.calls)
    assert bool(queue) is True and len(channel.calls) == asked
    assert len(queue) == queue.qsize() == 2
    assert channel.calls[-1].kwargs["passive"] is True
    assert queue.clear() == 2


def test_closing_cancels(channel):
    with SimpleQueue(channel, "s") as queue, pytest.raises(queue.Empty):
        queue.get(timeout=0.1)
    assert channel.names("basic_consume", "basic_cancel") == ["basic_consume", "basic_cancel"]


def test_options_add_to_those_of_the_class_and_change_neither(channel):
    queue_opts, exchange_opts = {"max_length": 5}, {"durable": True}
    buffer = SimpleBuffer(channel, "s", queue_opts=queue_opts, exchange_opts=exchange_opts)
    assert (buffer.queue.durable, buffer.queue.max_length, buffer.queue.exchange.durable) == (False, 5, True)
    assert queue_opts == {"max_length": 5} and exchange_opts == {"durable": True}
    assert "max_length" not in SimpleBuffer.queue_opts and SimpleBuffer.exchange_opts["durable"] is False


def test_a_queue_that_is_given_brings_its_own_exchange(channel):
    queue = SimpleQueue(channel, Queue("q", Exchange("e", "topic"), "k"))
    queue.put("x")
    sent = channel.of("basic_publish")[0].kwargs
    assert (sent["exchange"], sent["routing_key"]) == ("e", "k")


def test_a_buffer_does_not_acknowledge(channel):
    buffer = SimpleBuffer(channel, "s")
    with pytest.raises(buffer.Empty):
        buffer.get(timeout=0.1)
    assert channel.of("basic_consume")[0].kwargs["no_ack"] is True
    assert SimpleBuffer(channel, "s", no_ack=False).no_ack is False


def test_a_connection_serves_as_well_as_a_channel(connection):
    queue = SimpleQueue(connection, "s")
    assert queue.channel is connection.default_channel
    queue.put("x")
    assert len(connection.channels) == 1
