"""Batches on a RabbitMQ: publishes by one write, and messages handed over and acknowledged together."""

from __future__ import annotations

from typing import Any

import pytest

from kombu import Connection, Consumer, Producer, Queue
from kombu.consumer_batch import MessageBatch
from kombu.exceptions import BatchPublishError
from patience import drain_until, until
from rabbit import Rabbit


def declared(connection: Connection, name: str, **options: Any) -> Queue:
    queue = Queue(name, durable=False, **options)(connection.channel())
    queue.declare()
    return queue


def messages(queue: Queue) -> list[Any]:
    found = iter(lambda: queue.get(no_ack=True), None)
    return [message.payload for message in found]


@pytest.mark.parametrize(
    "options", [{}, {"confirm_publish": True}, {"confirm_publish": True, "confirm_window": 50}],
    ids=["plain", "one by one", "window"],
)
def test_a_batch_arrives_whole_and_in_order(connect: Any, queue_name: str, options: dict[str, Any]) -> None:
    connection = connect(transport_options=options)
    queue = declared(connection, queue_name)
    producer = Producer(connection, routing_key=queue_name, serializer="json")
    with producer.batch(max_size=300):
        for number in range(1000):
            producer.publish(number)
    producer.flush(30)
    until(lambda: queue.queue_declare(passive=True).message_count == 1000)
    assert messages(queue) == list(range(1000))


def test_large_bodies_in_a_batch(connect: Any, queue_name: str) -> None:
    connection = connect(transport_options={"confirm_publish": True})
    queue = declared(connection, queue_name)
    producer = Producer(connection, routing_key=queue_name)
    sizes = [0, 1, 100_000, 200_000, 3_000_000, 5]
    with producer.batch():
        for size in sizes:
            producer.publish(bytes(size))
    assert [len(body) for body in messages(queue)] == sizes


def test_a_refused_message_fails_the_batch(connect: Any, queue_name: str) -> None:
    connection = connect(transport_options={"confirm_publish": True})
    queue = declared(connection, queue_name, queue_arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    producer = Producer(connection, routing_key=queue_name)
    with pytest.raises(BatchPublishError, match="refused"), producer.batch():
        for number in range(4):
            producer.publish(str(number))
    assert messages(queue) == ["0", "1"]


def unacknowledged(rabbit: Rabbit, name: str) -> int:
    rows = rabbit.rows("list_queues", "name", "messages_unacknowledged")
    return next(int(row["messages_unacknowledged"]) for row in rows if row["name"] == name)


def test_batches_of_messages_are_acknowledged_all(rabbit: Rabbit, connect: Any, queue_name: str) -> None:
    connection = connect()
    queue = declared(connection, queue_name)
    producer = Producer(connection, routing_key=queue_name, serializer="json")
    with producer.batch():
        for number in range(500):
            producer.publish(number)
    got: list[int] = []
    sizes: list[int] = []

    def on_batch(batch: MessageBatch) -> None:
        got.extend(batch.payloads)
        sizes.append(len(batch))
        batch[0].reject()
        batch.ack()

    consuming = connect()
    channel = consuming.channel()
    with Consumer(channel, queue(channel), on_batch=on_batch, batch_size=40, prefetch_count=100, accept=["json"]):
        drain_until(consuming, lambda: len(got) >= 500)
        until(lambda: unacknowledged(rabbit, queue_name) == 0)
    assert got == list(range(500))
    assert max(sizes) <= 40
    # Nobody was disconnected for an acknowledgement that the broker did not expect.
    channel.queue_declare(queue_name, passive=True)


def test_messages_left_in_a_batch_come_again(connect: Any, queue_name: str) -> None:
    connection = connect()
    queue = declared(connection, queue_name)
    for number in range(5):
        Producer(connection, routing_key=queue_name, serializer="json").publish(number)
    first: list[MessageBatch] = []
    consuming = connect()
    channel = consuming.channel()
    Consumer(channel, queue(channel), on_batch=first.append, accept=["json"]).consume()
    drain_until(consuming, lambda: sum(map(len, first)) == 5)
    for batch in first:
        batch[:2].ack()
    kept = sum(len(batch[2:]) for batch in first)
    consuming.release()
    until(lambda: queue.queue_declare(passive=True).message_count == kept)
