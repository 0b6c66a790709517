"""However acknowledgements are written, they reach the broker without further ado."""

from __future__ import annotations

from typing import Any

import pytest

from kombu import Connection, Consumer, Message, Producer, Queue
from patience import drain_until, until
from rabbit import Rabbit

MODES = ("corked", "immediate", "coalesced")


def unacknowledged(rabbit: Rabbit, name: str) -> int:
    rows = rabbit.rows("list_queues", "name", "messages_unacknowledged")
    return next(int(row["messages_unacknowledged"]) for row in rows if row["name"] == name)


def filled(connection: Connection, name: str, count: int) -> Queue:
    queue = Queue(name, durable=False)(connection.default_channel)
    queue.declare()
    producer = Producer(connection, routing_key=name)
    for n in range(count):
        producer.publish(n)
    return queue


@pytest.mark.parametrize("mode", MODES)
def test_they_are_with_the_broker_when_the_consumer_waits_for_more(
    mode: str, rabbit: Rabbit, connect: Any, connection: Connection, queue_name: str
) -> None:
    queue = filled(connection, queue_name, 300)
    consuming = connect(transport_options={"ack_writes": mode})
    seen: list[Message] = []

    def on_message(message: Message) -> None:
        message.ack()
        seen.append(message)

    with Consumer(consuming, queue(consuming.default_channel), on_message=on_message, prefetch_count=64):
        drain_until(consuming, lambda: len(seen) == 300)
        with pytest.raises(TimeoutError):
            consuming.drain_events(timeout=0)
        # Nothing is done here any more that could push them.
        until(lambda: unacknowledged(rabbit, queue_name) == 0)


@pytest.mark.parametrize("mode", MODES)
def test_each_gets_through_where_the_broker_waits_for_it(
    mode: str, connect: Any, connection: Connection, queue_name: str
) -> None:
    queue = filled(connection, queue_name, 200)
    consuming = connect(transport_options={"ack_writes": mode})
    seen: list[int] = []

    def on_message(message: Message) -> None:
        message.ack()
        seen.append(message.payload)

    with Consumer(consuming, queue(consuming.default_channel), on_message=on_message, prefetch_count=1):
        drain_until(consuming, lambda: len(seen) == 200)
    assert seen == list(range(200))


@pytest.mark.parametrize("mode", MODES)
def test_closing_takes_them_along(mode: str, connect: Any, connection: Connection, queue_name: str) -> None:
    """The last ones are written while further deliveries wait, and nobody drains after that."""
    queue = filled(connection, queue_name, 100)
    consuming = connect(transport_options={"ack_writes": mode})
    acknowledged: list[int] = []

    def on_message(message: Message) -> None:
        message.ack()
        acknowledged.append(message.payload)

    consumer = Consumer(consuming, queue(consuming.default_channel), on_message=on_message)
    consumer.consume()
    while len(acknowledged) < 50:
        consuming.drain_events(timeout=15)
    consuming.release()
    left = [until(queue.get).payload for _ in range(100 - len(acknowledged))]
    assert sorted(acknowledged + left) == list(range(100))


@pytest.mark.parametrize("mode", MODES)
def test_their_order_with_other_methods_is_kept(
    mode: str, connect: Any, connection: Connection, queue_name: str
) -> None:
    """A reject, a publish and a request written after an acknowledgement do not overtake it."""
    queue = filled(connection, queue_name, 90)
    consuming = connect(transport_options={"ack_writes": mode})
    seen: list[int] = []

    def on_message(message: Message) -> None:
        kind = message.payload % 3
        if kind == 0:
            message.ack()
        elif kind == 1:
            message.reject()
        else:
            # All before it are settled, so this settles one; were one of them late, it would be an unknown tag.
            message.ack(multiple=True)
            message.channel.basic_qos(0, 7, False)
        seen.append(message.payload)

    with Consumer(consuming, queue(consuming.default_channel), on_message=on_message, prefetch_count=7):
        drain_until(consuming, lambda: len(seen) == 90)
    assert sorted(seen) == list(range(90))
    assert queue.get() is None


def test_an_unknown_mode_is_refused_by_name(connect: Any) -> None:
    connection = connect(transport_options={"ack_writes": "sometimes"})
    with pytest.raises(ValueError, match="'sometimes'"):
        connection.connect()
    assert not connection.connected
