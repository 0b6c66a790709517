"""What consumers and publishers find when the connection is gone: an error each time, and nothing pretended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from amqp.exceptions import ConnectionForced

from kombu import Connection, Consumer, Message, Producer, Queue
from patience import PATIENCE, Background, drain_until, until
from proxy import Proxy
from rabbit import Rabbit

#: Ways to lose a connection that goes through a proxy.
LOSSES: dict[str, Callable[[Proxy], None]] = {
    "end of stream": lambda proxy: proxy.pair().close(),
    "reset": lambda proxy: proxy.pair().reset(),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_draining_raises_every_time_until_the_connection_is_made_again(
    loss: str, broker: Any, connect: Any, connection: Connection, proxy: Proxy, queue_name: str
) -> None:
    consuming = connect(proxy.url(broker.url))
    queue = Queue(queue_name, durable=False)
    bodies: list[Any] = []
    consumer = Consumer(consuming, queue, callbacks=[lambda body, message: bodies.append(body)], no_ack=True)
    consumer.consume()
    LOSSES[loss](proxy)
    for _ in range(5):
        with pytest.raises(consuming.recoverable_connection_errors):
            drain_until(consuming, lambda: False)
        assert not consuming.connected
    assert len(proxy.pairs) == 1

    consuming.ensure_connection(max_retries=1)
    consumer.revive(consuming.channel())
    Producer(connection, routing_key=queue_name).publish("after it")
    drain_until(consuming, lambda: bodies)
    assert bodies == ["after it"]


def test_what_arrived_before_the_loss_is_still_delivered(
    broker: Any, connect: Any, connection: Connection, proxy: Proxy, queue_name: str
) -> None:
    consuming = connect(proxy.url(broker.url))
    queue = Queue(queue_name, durable=False)
    seen: list[int] = []
    with Consumer(consuming, queue, no_ack=True, on_message=lambda message: seen.append(message.payload)):
        pair = proxy.pair()
        before = pair.received
        producer = Producer(connection, routing_key=queue_name)
        for n in range(50):
            producer.publish(n)
        drain_until(consuming, lambda: seen)
        until(lambda: pair.received > before + 50 * 60)
        until(lambda: Queue(queue_name)(connection.default_channel).queue_declare(passive=True).message_count == 0)
        pair.close()
        with pytest.raises(consuming.recoverable_connection_errors):
            drain_until(consuming, lambda: False)
    assert seen == list(range(len(seen)))
    assert len(seen) > 1


def test_a_broker_that_closes_the_connection_says_why(rabbit: Rabbit, connect: Any, queue_name: str) -> None:
    consuming = connect()
    consumer = Consumer(consuming, Queue(queue_name, durable=False), on_message=lambda message: None)
    consumer.consume()
    rabbit.close_connections("maintenance tonight")
    with pytest.raises(ConnectionForced, match="maintenance tonight") as caught:
        drain_until(consuming, lambda: False)
    assert caught.value.reply_code == 320
    assert isinstance(caught.value, consuming.recoverable_connection_errors)
    for _ in range(3):
        with pytest.raises(consuming.recoverable_connection_errors, match="maintenance tonight"):
            consuming.drain_events(timeout=1)
    with pytest.raises(consuming.recoverable_connection_errors):
        consumer.channel.basic_qos(0, 1, False)
    with pytest.raises(consuming.recoverable_connection_errors):
        consumer.channel.basic_publish(consumer.channel.prepare_message(b"x"), "", queue_name)


def test_a_thread_that_waits_for_events_hears_of_it(rabbit: Rabbit, connect: Any) -> None:
    consuming = connect()
    consuming.connect()
    channel = consuming.channel()
    waiting = Background(consuming.drain_events).start()
    rabbit.close_connections()
    with pytest.raises(consuming.recoverable_connection_errors):
        waiting.join()
    with pytest.raises(consuming.recoverable_connection_errors):
        channel.basic_qos(0, 1, False)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_synchronous_method_raises_when_the_connection_goes_while_it_waits(
    loss: str, broker: Any, connect: Any, proxy: Proxy, queue_name: str
) -> None:
    connection = connect(proxy.url(broker.url))
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    pair = proxy.pair()
    pair.hold()
    sent = pair.sent
    waiting = Background(queue.declare).start()
    until(lambda: pair.sent > sent)
    LOSSES[loss](proxy)
    with pytest.raises(connection.recoverable_connection_errors):
        waiting.join()


@pytest.mark.parametrize("settle", ["ack", "reject", "requeue"])
def test_settling_raises_when_the_connection_is_lost_and_the_message_stays_unsettled(
    settle: str, broker: Any, connect: Any, connection: Connection, proxy: Proxy, queue_name: str
) -> None:
    consuming = connect(proxy.url(broker.url))
    messages: list[Message] = []
    queue = Queue(queue_name, durable=False)
    consumer = Consumer(consuming, queue, on_message=messages.append)
    consumer.consume()
    producer = Producer(connection, routing_key=queue_name)
    for n in range(3):
        producer.publish(n)
    drain_until(consuming, lambda: len(messages) == 3)
    proxy.pair().reset()

    for message in messages:
        with pytest.raises(consuming.recoverable_connection_errors):
            getattr(message, settle)()
        assert not message.acknowledged
    again = Queue(queue_name)(connection.default_channel)
    assert until(again.get).delivery_info["redelivered"]


def test_a_tag_of_a_former_connection_is_refused_here_and_not_sent(
    rabbit: Rabbit, connect: Any, connection: Connection, queue_name: str
) -> None:
    consuming = connect()
    messages: list[Message] = []
    consumer = Consumer(consuming, Queue(queue_name, durable=False), on_message=messages.append)
    consumer.consume()
    Producer(connection, routing_key=queue_name).publish("mine")
    drain_until(consuming, lambda: messages)
    consuming.collect()
    consuming.ensure_connection(max_retries=1)
    consumer.revive(consuming.channel())
    with pytest.raises(consuming.recoverable_connection_errors):
        messages[0].ack()
    assert not messages[0].acknowledged
    drain_until(consuming, lambda: len(messages) == 2)
    messages[1].ack()
    # The other channel's tags are not disturbed: the same number means another message there.
    assert consuming.connected
    assert messages[1].acknowledged


@pytest.mark.parametrize("broker", ["tcp"], indirect=True)
def test_a_killed_broker_is_noticed_and_after_its_return_all_goes_on(
    rabbit: Rabbit, connect: Any, queue_name: str
) -> None:
    consuming, publishing = connect(connect_timeout=2), connect(connect_timeout=2)
    queue = Queue(queue_name, durable=True)
    messages: list[Message] = []
    consumer = Consumer(consuming, queue, on_message=messages.append)
    consumer.consume()
    producer = Producer(publishing, routing_key=queue_name)
    producer.publish("before", delivery_mode=2)
    drain_until(consuming, lambda: messages)

    rabbit.kill()
    for _ in range(3):
        with pytest.raises(consuming.recoverable_connection_errors):
            drain_until(consuming, lambda: False)
    with pytest.raises(consuming.recoverable_connection_errors):
        messages[0].ack()
    assert not messages[0].acknowledged
    started = time.monotonic()
    with pytest.raises(publishing.recoverable_connection_errors):
        producer.publish("nobody there")
    with pytest.raises(consuming.recoverable_connection_errors):
        consuming.ensure_connection(max_retries=0, reraise_as_library_errors=False)
    assert time.monotonic() - started < PATIENCE

    rabbit.start()
    consuming.ensure_connection(max_retries=20, interval_start=0.1, interval_max=0.5)
    consumer.revive(consuming.channel())
    producer.publish("after", retry=True, retry_policy={"max_retries": 20, "interval_start": 0.1})
    drain_until(consuming, lambda: any(message.payload == "after" for message in messages))
