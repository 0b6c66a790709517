"""Draining from an event loop: a poll sees the socket, not what has been read from it already."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kombu import Connection, Consumer, Message, Producer, Queue
from kombu.asynchronous import Hub


@pytest.fixture
def hub() -> Any:
    hub = Hub()
    yield hub
    hub.close()


def run(hub: Hub, condition: Any, timeout: float = 15.0) -> None:
    """Turn the loop until *condition()*."""
    deadline = time.monotonic() + timeout
    loop = hub.create_loop()
    # Something has to wake it now and then.
    hub.call_repeatedly(0.05, lambda: None)
    while not condition():
        assert time.monotonic() < deadline, "the loop waits for nothing"
        next(loop)


def test_a_backlog_is_dispatched_to_its_end(connect: Any, hub: Hub, queue_name: str) -> None:
    """The last messages of a read are in the buffer when the socket is silent: nothing must wait for more to come."""
    count = 1000
    connection = connect()
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    queue.declare()
    producer = Producer(connect(), routing_key=queue_name)
    for n in range(count):
        producer.publish(n)
    seen: list[int] = []

    def on_message(message: Message) -> None:
        seen.append(message.payload)
        message.ack()

    with Consumer(connection, queue, on_message=on_message):
        connection.register_with_event_loop(hub)
        run(hub, lambda: len(seen) == count)
        connection.transport.unregister_from_event_loop(connection.connection, hub)
    assert seen == list(range(count))


def test_a_request_in_a_callback_leaves_nothing_behind(connect: Any, hub: Hub, queue_name: str) -> None:
    """Its reply brings deliveries along, which no poll shows."""
    count = 50
    connection = connect()
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    queue.declare()
    producer = Producer(connect(), routing_key=queue_name)
    for n in range(count):
        producer.publish(n)
    seen: list[int] = []
    asking = connection.channel()

    def on_message(message: Message) -> None:
        message.ack()
        Queue(queue_name)(asking).queue_declare(passive=True)
        seen.append(message.payload)

    with Consumer(connection, queue, on_message=on_message, prefetch_count=10):
        connection.register_with_event_loop(hub)
        run(hub, lambda: len(seen) == count)
        connection.transport.unregister_from_event_loop(connection.connection, hub)
    assert sorted(seen) == list(range(count))


def test_messages_for_a_request_made_outside_a_callback_are_dispatched(
    connect: Any, hub: Hub, queue_name: str
) -> None:
    connection = connect()
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    queue.declare()
    producer = Producer(connect(), routing_key=queue_name)
    seen: list[int] = []
    with Consumer(connection, queue, no_ack=True, on_message=lambda message: seen.append(message.payload)):
        connection.register_with_event_loop(hub)
        for n in range(20):
            producer.publish(n)
        # This reads everything that is there, deliveries included.
        Queue(queue_name)(connection.default_channel).queue_declare(passive=True)
        run(hub, lambda: len(seen) == 20)
        connection.transport.unregister_from_event_loop(connection.connection, hub)
    assert seen == list(range(20))


def test_a_loss_reaches_the_loops_caller(rabbit: Any, connect: Any, hub: Hub) -> None:
    connection: Connection = connect()
    connection.connect()
    connection.register_with_event_loop(hub)
    rabbit.close_connections("for the loop")
    with pytest.raises(connection.recoverable_connection_errors):
        run(hub, lambda: False)
    assert not connection.connected
