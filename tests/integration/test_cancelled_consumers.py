"""The broker ends a consumer: whoever asked is told, and the others go on."""

from __future__ import annotations

from typing import Any

import pytest
from amqp.exceptions import ConsumerCancelled

from kombu import Connection, Consumer, Producer, Queue
from patience import Background, drain_until


@pytest.fixture
def queues(connection: Connection, queue_name: str) -> tuple[Queue, Queue]:
    """Give a queue that is going to be deleted, and one that is not."""
    queues = tuple(Queue(f"{queue_name}-{end}", durable=False)(connection.channel()) for end in ("doomed", "kept"))
    for queue in queues:
        queue.declare()
    return queues  # type: ignore[return-value]


def test_on_cancel_is_called_and_the_other_consumers_go_on(connection: Connection, queues: Any) -> None:
    doomed, kept = queues
    cancelled: list[str] = []
    seen: list[Any] = []
    channel = connection.channel()
    ending = Consumer(channel, doomed, callbacks=[lambda *args: None], on_cancel=cancelled.append)
    going_on = Consumer(channel, kept, callbacks=[lambda body, message: seen.append(body)], no_ack=True)
    ending.consume()
    going_on.consume()
    doomed.delete()
    drain_until(connection, lambda: cancelled)
    assert len(cancelled) == 1
    assert not ending.consuming_from(doomed)
    Producer(connection, routing_key=kept.name).publish("still here")
    drain_until(connection, lambda: seen)
    assert channel.is_open

    # consume() starts it again, on a queue of that name.
    doomed.declare()
    again: list[Any] = []
    ending.callbacks = [lambda body, message: again.append(body)]
    ending.consume(no_ack=True)
    Producer(connection, routing_key=doomed.name).publish("once more")
    drain_until(connection, lambda: again)
    assert again == ["once more"]


def test_without_on_cancel_it_is_raised_where_events_are_drained(connection: Connection, queues: Any) -> None:
    doomed, kept = queues
    seen: list[Any] = []
    channel = connection.channel()
    ending = Consumer(channel, doomed, callbacks=[lambda *args: None])
    going_on = Consumer(channel, kept, callbacks=[lambda body, message: seen.append(body)], no_ack=True)
    ending.consume()
    going_on.consume()
    doomed.delete()
    with pytest.raises(ConsumerCancelled) as caught:
        drain_until(connection, lambda: False)
    assert isinstance(caught.value, connection.connection_errors)
    Producer(connection, routing_key=kept.name).publish("still here")
    drain_until(connection, lambda: seen)
    assert seen == ["still here"]


def test_a_consumer_that_cancels_itself_is_not_told(connection: Connection, queues: Any) -> None:
    doomed, _kept = queues
    cancelled: list[str] = []
    consumer = Consumer(connection.channel(), doomed, callbacks=[lambda *args: None], on_cancel=cancelled.append)
    consumer.consume()
    consumer.cancel()
    doomed.delete()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.2)
    assert cancelled == []


def test_the_thread_that_drains_is_told(connection: Connection, queues: Any) -> None:
    doomed, _kept = queues
    cancelled: list[str] = []
    Consumer(connection.channel(), doomed, callbacks=[lambda *args: None], on_cancel=cancelled.append).consume()
    with Background(lambda: drain_until(connection, lambda: cancelled)):
        doomed.delete()
    assert len(cancelled) == 1
