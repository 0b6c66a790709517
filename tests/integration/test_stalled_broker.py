"""A broker that stops reading for a while: publishers wait, may give up, and never spoil the stream."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kombu import Connection, Consumer, Message, Producer, Queue
from patience import PATIENCE, Background, drain_until, until
from proxy import Proxy
from rabbit import Rabbit

BINARY = {"content_type": "application/data", "content_encoding": "binary", "delivery_mode": 1}


def fill(producer: Producer, timeout: float | None = None) -> int:
    """Publish until it raises for lack of room, and return how many messages went."""
    for n in range(100000):
        try:
            producer.publish(n.to_bytes(4, "big") + bytes(30000), timeout=timeout, **BINARY)
        except (TimeoutError, *producer.connection.recoverable_connection_errors):
            return n
    raise AssertionError("it never filled up")


def number_of(message: Message) -> int:
    return int.from_bytes(message.body[:4], "big")


def test_publishing_waits_for_a_broker_that_pauses(
    broker: Any, connect: Any, connection: Connection, proxy: Proxy, queue_name: str
) -> None:
    """For longer than a second, which is where the amqp package's socket options would end the connection."""
    publishing = connect(proxy.url(broker.url))
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    queue.declare()
    producer = Producer(publishing, routing_key=queue_name)
    producer.publish("before")
    pair = proxy.pair()
    pair.stall()
    count = 600

    def publish() -> None:
        for n in range(count):
            producer.publish(n.to_bytes(4, "big") + bytes(30000), **BINARY)

    with Background(publish, timeout=60) as publisher:
        sent = time.monotonic()
        time.sleep(2.5)
        assert publisher.alive
        pair.read_on()
    assert time.monotonic() - sent > 2.4
    numbers: list[int] = []
    assert queue.get(no_ack=True).payload == "before"
    with Consumer(connection, queue, no_ack=True, on_message=lambda message: numbers.append(number_of(message))):
        drain_until(connection, lambda: len(numbers) == count, timeout=30)
    assert numbers == list(range(count))


def test_a_publish_that_gives_up_tells_whether_the_connection_goes_on(
    broker: Any, connect: Any, connection: Connection, proxy: Proxy, queue_name: str
) -> None:
    publishing = connect(proxy.url(broker.url), transport_options={"close_timeout": 0.5})
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    queue.declare()
    producer = Producer(publishing, routing_key=queue_name)
    pair_of(publishing, proxy).stall()
    started = time.monotonic()
    gone = fill(producer, timeout=0.2)
    assert gone
    deadline = time.monotonic()
    assert deadline - started < PATIENCE
    # The one that gave up was not begun, and everything goes on; or it was cut in the middle, and nothing does.
    goes_on = publishing.connected
    proxy.pair().read_on()
    if goes_on:
        producer.publish((gone + 1).to_bytes(4, "big") + bytes(30000), **BINARY)
    else:
        with pytest.raises(publishing.recoverable_connection_errors):
            producer.publish("refused")
    publishing.release()
    numbers: list[int] = []
    with Consumer(connection, queue, no_ack=True, on_message=lambda message: numbers.append(number_of(message))):
        if goes_on:
            drain_until(connection, lambda: numbers[-1:] == [gone + 1], timeout=30)
            assert numbers == [*range(gone), gone + 1]
        else:
            # What was with the kernel when the connection ended may be lost with it.
            drain_until(connection, lambda: numbers)
            with pytest.raises(TimeoutError):
                while True:
                    connection.drain_events(timeout=0.3)
            assert numbers == list(range(len(numbers)))
            assert len(numbers) <= gone


def pair_of(connection: Connection, proxy: Proxy) -> Any:
    connection.connect()
    assert connection.default_channel
    return proxy.pair()


def test_closing_is_bounded_while_the_broker_does_not_read(broker: Any, connect: Any, proxy: Proxy) -> None:
    publishing = connect(proxy.url(broker.url), transport_options={"close_timeout": 0.5, "write_timeout": 0.5})
    producer = Producer(publishing, routing_key="nowhere")
    pair_of(publishing, proxy).stall()
    fill(producer)
    started = time.monotonic()
    publishing.release()
    assert time.monotonic() - started < PATIENCE
    assert not publishing.connected


@pytest.mark.parametrize("broker", ["tcp"], indirect=True)
def test_a_blocked_broker_says_so_and_why(rabbit: Rabbit, connect: Any, queue_name: str) -> None:
    publishing = connect(transport_options={"close_timeout": 2})
    queue = Queue(queue_name, durable=False)(publishing.default_channel)
    queue.declare()
    said: list[Any] = []
    transport = publishing.connection
    transport.on_blocked = said.append
    transport.on_unblocked = lambda: said.append("unblocked")
    with rabbit.blocked():
        Producer(publishing, routing_key=queue_name).publish("now or later")
        drain_until(publishing, lambda: said, timeout=30)
        assert transport.blocked
        assert "memory" in transport.blocked_reason
        assert "memory" in said[0]
        other = connect(transport_options={"close_timeout": 2})
        Producer(other, routing_key=queue_name).publish("blocked too")
        started = time.monotonic()
        other.release()
        assert time.monotonic() - started < PATIENCE
    drain_until(publishing, lambda: "unblocked" in said, timeout=30)
    assert not transport.blocked
    assert transport.blocked_reason is None
    assert {until(queue.get, timeout=30).payload for _ in range(2)} == {"now or later", "blocked too"}
