"""Publisher confirms in a window on a RabbitMQ: outcomes, a blocked broker, and restarts that lose nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from amqp.exceptions import MessageNacked

from kombu import Connection, Consumer, Producer, Queue
from kombu.exceptions import ConfirmError
from patience import PATIENCE, Background, drain_until
from rabbit import Rabbit

CONFIRM = {"confirm_publish": True, "confirm_window": 100}

#: Messages that a restart of the broker may not lose, in a window and one by one; the suite's promise is 100000.
MESSAGES = int(os.environ.get("KOMBU_RESTART_MESSAGES", "10000"))
ONE_BY_ONE = int(os.environ.get("KOMBU_RESTART_MESSAGES", "1000"))

RETRY: dict[str, Any] = {
    "retry": True,
    "retry_policy": {"max_retries": 300, "interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.5},
}


@pytest.fixture
def confirming(connect: Any) -> Connection:
    return connect(transport_options=CONFIRM)


def count(queue: Queue) -> int:
    return queue.queue_declare(passive=True).message_count


def test_confirmed_publishes_are_in_their_queue(confirming: Connection, queue_name: str) -> None:
    queue = Queue(queue_name)(confirming.channel())
    queue.declare()
    producer = Producer(confirming, routing_key=queue_name)
    confirmations = [producer.publish(n, delivery_mode=2) for n in range(1000)]
    producer.flush(PATIENCE)
    assert all(each.ready for each in confirmations)
    assert count(queue) == 1000


def test_each_refused_and_returned_publish_learns_of_it(confirming: Connection, queue_name: str) -> None:
    arguments = {"x-max-length": 3, "x-overflow": "reject-publish"}
    queue = Queue(queue_name, queue_arguments=arguments, durable=False)(confirming.channel())
    queue.declare()
    producer = Producer(confirming)
    fates = []
    for n in range(10):
        fates.append(producer.publish(n, routing_key=queue_name, mandatory=True))
        fates.append(producer.publish(n, routing_key=f"no queue {n}", mandatory=True))
    with pytest.raises(ConfirmError) as raised:
        producer.flush(PATIENCE)
    assert raised.value.count == 17
    assert [each.ready for each in fates[::2]] == [True] * 3 + [False] * 7
    assert all(isinstance(each.reason, MessageNacked) for each in fates[6::2])
    assert [each.reason.reply_code for each in fates[1::2]] == [312] * 10
    assert count(queue) == 3


def test_a_missing_exchange_fails_what_followed(confirming: Connection, queue_name: str) -> None:
    queue = Queue(queue_name, durable=False)(confirming.channel())
    queue.declare()
    producer = Producer(confirming)
    first = producer.publish("1", routing_key=queue_name)
    first.wait(PATIENCE)
    lost = producer.publish("2", exchange="no such exchange", routing_key="x")
    with pytest.raises(ConfirmError, match="no exchange"):
        producer.flush(PATIENCE)
    assert lost.reason.reply_code == 404
    producer.publish("3", routing_key=queue_name).wait(PATIENCE)
    assert count(queue) == 2


def test_a_frozen_broker_fills_the_window(rabbit: Rabbit, connect: Any, queue_name: str) -> None:
    confirming = connect(transport_options={"confirm_publish": True, "confirm_window": 5})
    Queue(queue_name, durable=False)(confirming.channel()).declare()
    producer = Producer(confirming, routing_key=queue_name)
    producer.publish("first").wait(PATIENCE)
    rabbit.freeze()
    try:
        for n in range(5):
            producer.publish(n)
        with pytest.raises(TimeoutError, match="nothing was published: 5 publishes are unconfirmed"):
            producer.publish("too many", confirm_timeout=0.2)
        with pytest.raises(TimeoutError, match="5 publish"):
            producer.flush(0.2)
    finally:
        rabbit.thaw()
    producer.flush(PATIENCE)


class Everything:
    """Publish numbers until each has been confirmed, whatever happens to the broker."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self.again: list[int] = []

    def publish(self, number: int) -> None:
        self.producer.publish(
            number, delivery_mode=2, serializer="json",
            confirm_callback=lambda each: self.settled(number, each), **RETRY,
        )

    def settled(self, number: int, confirmation: Any) -> None:
        if confirmation.failed:
            self.again.append(number)

    def all_of(self, numbers: range) -> None:
        pending = list(numbers)
        while pending:
            for number in pending:
                self.publish(number)
            self.producer.flush(60)
            pending, self.again = self.again, []


def received(connection: Connection, queue: Queue, wanted: int) -> set[int]:
    """Consume *wanted* messages, or what there is of them; a queue that is not there is an error."""
    got: set[int] = set()

    def on_message(message: Any) -> None:
        got.add(message.payload)
        message.ack()

    channel = connection.channel()
    options = {"accept": ["json"], "prefetch_count": 500, "auto_declare": False}
    with Consumer(channel, queue(channel), on_message=on_message, **options), suppress(TimeoutError):
        drain_until(connection, lambda: len(got) >= wanted, timeout=60)
    return got


def put_on_disk(rabbit: Rabbit) -> None:
    """See that what was declared outlives the server.

    RabbitMQ answers a declaration before it is on disk, and confirms what goes to a queue that is lost with it.
    """
    rabbit.restart()


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_restart_between_publishes_loses_none(rabbit: Rabbit, connect: Any, queue_name: str, kill: bool) -> None:
    confirming = connect(transport_options={"confirm_publish": True, "confirm_window": 1000})
    queue = Queue(queue_name, durable=True)
    queue(confirming.channel()).declare()
    put_on_disk(rabbit)
    everything = Everything(Producer(confirming, routing_key=queue_name))
    everything.all_of(range(MESSAGES // 2))
    rabbit.restart(kill=kill)
    everything.all_of(range(MESSAGES // 2, MESSAGES))
    assert received(connect(), queue, MESSAGES) == set(range(MESSAGES))


def test_a_restart_amid_publishes_loses_none(rabbit: Rabbit, connect: Any, queue_name: str) -> None:
    confirming = connect(transport_options={"confirm_publish": True, "confirm_window": 1000})
    queue = Queue(queue_name, durable=True)
    queue(confirming.channel()).declare()
    everything = Everything(Producer(confirming, routing_key=queue_name))
    put_on_disk(rabbit)
    with Background(lambda: rabbit.restart(kill=True), timeout=180):
        everything.all_of(range(MESSAGES))
    # What was confirmed before the restart is there after it.
    everything.all_of(range(MESSAGES, MESSAGES + 1))
    assert received(connect(), queue, MESSAGES + 1) == set(range(MESSAGES + 1))


def test_one_by_one_a_restart_between_publishes_loses_none(rabbit: Rabbit, connect: Any, queue_name: str) -> None:
    confirming = connect(transport_options={"confirm_publish": True})
    queue = Queue(queue_name, durable=True)
    queue(confirming.channel()).declare()
    put_on_disk(rabbit)
    producer = Producer(confirming, routing_key=queue_name, serializer="json")
    publish: Callable[..., Any] = producer.publish
    for number in range(ONE_BY_ONE):
        if number == ONE_BY_ONE // 2:
            rabbit.restart(kill=True)
        publish(number, delivery_mode=2, **RETRY)
    assert received(connect(), queue, ONE_BY_ONE) == set(range(ONE_BY_ONE))
