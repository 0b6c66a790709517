"""A channel that the broker closes: what it held is gone, so it says so; if it held nothing, it opens again."""

from __future__ import annotations

import re
from time import monotonic
from typing import Any

import pytest
from amqp.exceptions import NotFound, PreconditionFailed

from kombu import Connection, Consumer, Message, Producer, Queue
from patience import PATIENCE, drain_until, until


@pytest.fixture
def queue(connection: Connection, queue_name: str) -> Queue:
    queue = Queue(queue_name, durable=False)(connection.channel())
    queue.declare()
    return queue


def test_a_wrong_acknowledgement_closes_its_channel_for_good_and_no_other(
    connection: Connection, queue: Queue
) -> None:
    producer = Producer(connection, routing_key=queue.name)
    doomed, healthy = connection.channel(), connection.channel()
    lost: list[Message] = []
    kept: list[Message] = []
    doomed_consumer = Consumer(doomed, queue, on_message=lost.append, prefetch_count=1)
    doomed_consumer.consume()
    producer.publish(1)
    drain_until(connection, lambda: lost)

    lost[0].ack()
    doomed.basic_ack(lost[0].delivery_tag)  # a second time, as a late one after the broker's own limit would be
    with pytest.raises(PreconditionFailed) as caught:
        drain_until(connection, lambda: False)
    assert caught.value.reply_code == 406
    assert f"unknown delivery tag {lost[0].delivery_tag}" in caught.value.reply_text
    assert isinstance(caught.value, connection.channel_errors)

    # It stays closed, and each use says why.
    for use in (
        lambda: doomed.basic_ack(99),
        lambda: doomed.basic_reject(99, requeue=True),
        lambda: doomed.basic_qos(0, 1, False),
        lambda: doomed.basic_publish(doomed.prepare_message(b"x"), "", queue.name),
        lambda: Queue(queue.name)(doomed).get(),
        lambda: Consumer(doomed, queue, on_message=lost.append, auto_declare=False).consume(),
    ):
        with pytest.raises(PreconditionFailed, match="unknown delivery tag") as caught:
            use()
        assert caught.value.reply_code == 406
    assert not doomed.is_open

    # The others know nothing of it.
    assert connection.connected
    with Consumer(healthy, queue, on_message=kept.append):
        producer.publish(2)
        drain_until(connection, lambda: kept)
        kept[0].ack()
    assert kept[0].payload == 2
    assert queue.get() is None
    assert len(lost) == 1


def test_a_message_of_a_closed_channel_can_not_be_settled_any_more(connection: Connection, queue: Queue) -> None:
    Producer(connection, routing_key=queue.name).publish("mine")
    channel = connection.channel()
    messages: list[Message] = []
    Consumer(channel, queue, on_message=messages.append).consume()
    drain_until(connection, lambda: messages)
    channel.basic_ack(12345)
    with pytest.raises(PreconditionFailed):
        drain_until(connection, lambda: False)
    for settle in (messages[0].ack, messages[0].reject, messages[0].requeue):
        with pytest.raises(PreconditionFailed):
            settle()
    assert not messages[0].acknowledged
    # The broker has it again.
    assert until(queue.get).delivery_info["redelivered"]


def test_unsettled_messages_from_get_keep_a_channel_closed_too(connection: Connection, queue: Queue) -> None:
    Producer(connection, routing_key=queue.name).publish("mine")
    channel = connection.channel()
    assert Queue(queue.name)(channel).get() is not None
    with pytest.raises(NotFound):
        Queue(f"{queue.name}-missing")(channel).queue_declare(passive=True)
    with pytest.raises(NotFound, match="missing"):
        channel.basic_qos(0, 1, False)


def test_a_channel_that_held_nothing_opens_again_at_its_next_use(connection: Connection, queue: Queue) -> None:
    channel = connection.channel()
    for _ in range(3):
        with pytest.raises(NotFound) as caught:
            Queue(f"{queue.name}-missing")(channel).queue_declare(passive=True)
        assert caught.value.reply_code == 404
        Producer(channel, routing_key=queue.name).publish("still here")
        assert until(Queue(queue.name)(channel).get).ack() is None
    assert channel.is_open


def test_settled_messages_and_cancelled_consumers_do_not_count(connection: Connection, queue: Queue) -> None:
    channel = connection.channel()
    messages: list[Message] = []
    with Consumer(channel, queue, on_message=messages.append):
        Producer(connection, routing_key=queue.name).publish(1)
        drain_until(connection, lambda: messages)
        messages[0].ack()
    with pytest.raises(NotFound):
        Queue(f"{queue.name}-missing")(channel).queue_declare(passive=True)
    assert Queue(queue.name)(channel).queue_declare(passive=True).queue == queue.name


def test_the_default_channel_is_replaced_when_it_held_nothing(connection: Connection, queue: Queue) -> None:
    with pytest.raises(NotFound):
        Queue(f"{queue.name}-missing")(connection.default_channel).queue_declare(passive=True)
    assert Queue(queue.name)(connection.default_channel).queue_declare(passive=True).queue == queue.name
    assert connection.default_channel.is_open


def test_the_default_channel_is_replaced_when_it_had_a_consumer(connection: Connection, queue: Queue) -> None:
    before = connection.default_channel
    seen: list[Any] = []
    consumer = Consumer(connection, queue, on_message=seen.append)
    consumer.consume()
    with pytest.raises(NotFound):
        Queue(f"{queue.name}-missing")(before).queue_declare(passive=True)
    after = connection.default_channel
    assert after is not before
    assert Queue(queue.name)(after).queue_declare(passive=True).consumer_count == 0
    with pytest.raises(NotFound):
        before.basic_qos(0, 1, False)
    consumer.revive(after)
    Producer(connection, routing_key=queue.name).publish("here")
    drain_until(connection, lambda: seen)


def test_a_publish_to_a_missing_exchange_is_told_to_the_next_use_and_costs_no_other_channel(
    connection: Connection, queue: Queue
) -> None:
    channel, other = connection.channel(), connection.channel()
    channel.basic_publish(channel.prepare_message(b"x"), f"{queue.name}-missing", "key")
    with pytest.raises(NotFound, match="missing"):
        drain_until(connection, lambda: False)
    Producer(other, routing_key=queue.name).publish("other")
    Producer(channel, routing_key=queue.name).publish("same")
    assert {until(queue.get).payload, until(queue.get).payload} == {"other", "same"}


def test_a_closed_channel_may_be_closed_again(connection: Connection, queue: Queue) -> None:
    channel = connection.channel()
    Consumer(channel, queue, on_message=lambda message: None).consume()
    channel.basic_ack(7)
    with pytest.raises(PreconditionFailed):
        drain_until(connection, lambda: False)
    channel.close()
    channel.close()
    assert Queue(queue.name)(connection.channel()).queue_declare(passive=True).consumer_count == 0


def test_a_synchronous_method_gets_its_answer_although_another_channel_is_closed_meanwhile(
    connection: Connection, queue: Queue
) -> None:
    """The error of the one is raised where events are drained, not in the call on the other."""
    doomed, other = connection.channel(), connection.channel()
    Consumer(doomed, queue, on_message=lambda message: None).consume()
    doomed.basic_ack(12345)
    asked = Queue(queue.name)(other)
    # Whichever of the two the broker answers first, one of these calls comes after the close.
    for _ in range(20):
        assert asked.queue_declare(passive=True).queue == queue.name
    with pytest.raises(PreconditionFailed):
        drain_until(connection, lambda: False)
    with pytest.raises(PreconditionFailed):
        doomed.basic_qos(0, 1, False)


def publish_until_told(publish: Any) -> None:
    """Publish without a pause, which is when nothing but the publishes themselves can read what the broker says."""
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline:
        publish()


@pytest.mark.parametrize("planned", [False, True], ids=["channel", "producer"])
def test_who_publishes_without_a_pause_is_told_that_the_exchange_is_not_there(
    connection: Connection, queue_name: str, planned: bool
) -> None:
    channel = connection.channel()
    if planned:
        producer = Producer(channel)

        def publish() -> None:
            producer.publish(b"x", exchange=f"{queue_name}-missing", routing_key="any")
    else:
        message = channel.prepare_message(b"x")

        def publish() -> None:
            channel.basic_publish(message, f"{queue_name}-missing", "any")

    with pytest.raises(NotFound, match=re.escape(f"{queue_name}-missing")):
        publish_until_told(publish)


def test_who_publishes_without_a_pause_notices_that_the_broker_has_gone(
    connection: Connection, queue_name: str, rabbit: Any
) -> None:
    message_of = connection.channel().prepare_message
    channel = connection.channel()
    channel.basic_publish(message_of(b"x"), "", queue_name)
    rabbit.restart()
    with pytest.raises(connection.recoverable_connection_errors):
        publish_until_told(lambda: channel.basic_publish(message_of(b"x"), "", queue_name))
