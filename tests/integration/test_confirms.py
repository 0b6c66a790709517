"""Publisher confirms: each publish learns what became of it, and of no other."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from amqp.exceptions import MessageNacked, NotFound

from kombu import Connection, Consumer, Exchange, Message, Producer, Queue
from patience import PATIENCE, drain_until, until
from proxy import Proxy
from rabbit import Rabbit

CONFIRM = {"confirm_publish": True}


@pytest.fixture
def confirming(connect: Any) -> Connection:
    return connect(transport_options=CONFIRM)


def full_queue(connection: Connection, name: str, length: int = 1) -> Queue:
    """Return a queue that refuses publishes once it holds *length* messages."""
    queue = Queue(name, queue_arguments={"x-max-length": length, "x-overflow": "reject-publish"}, durable=False)
    queue = queue(connection.channel())
    queue.declare()
    return queue


def count(queue: Queue) -> int:
    return queue.queue_declare(passive=True).message_count


def test_a_confirmed_publish_is_in_its_queue(confirming: Connection, queue_name: str) -> None:
    queue = Queue(queue_name)(confirming.channel())
    queue.declare()
    producer = Producer(confirming, routing_key=queue_name)
    for n in range(50):
        producer.publish(n, delivery_mode=2)
    assert count(queue) == 50


def test_a_refused_publish_raises_and_the_next_one_goes_on(confirming: Connection, queue_name: str) -> None:
    queue = full_queue(confirming, queue_name)
    producer = Producer(confirming, routing_key=queue_name)
    producer.publish("fits")
    for _ in range(3):
        with pytest.raises(MessageNacked):
            producer.publish("too much")
    assert queue.get(no_ack=True).payload == "fits"
    producer.publish("fits again")
    assert queue.get(no_ack=True).payload == "fits again"


def test_a_returned_publish_raises_its_own_error(confirming: Connection, queue_name: str) -> None:
    queue = Queue(queue_name, durable=False)(confirming.channel())
    queue.declare()
    producer = Producer(confirming)
    for n in range(3):
        with pytest.raises(confirming.channel_errors) as caught:
            producer.publish("stray", routing_key=f"{queue_name}-missing-{n}", mandatory=True)
        assert (caught.value.reply_code, caught.value.reply_text) == (312, "NO_ROUTE")
        producer.publish(n, routing_key=queue_name, mandatory=True)
    assert [until(queue.get).payload for _ in range(3)] == [0, 1, 2]


def test_a_returned_publish_goes_to_on_return_where_there_is_one(confirming: Connection, queue_name: str) -> None:
    returned: list[str] = []
    producer = Producer(confirming, on_return=lambda exc, exchange, key, message: returned.append(message.payload))
    producer.publish("stray", routing_key=queue_name, mandatory=True)
    # The return comes before the confirmation, so it is here.
    assert returned == ["stray"]


def test_a_publish_to_a_missing_exchange_raises_and_the_channel_confirms_again(
    confirming: Connection, queue_name: str
) -> None:
    queue = full_queue(confirming, queue_name, 3)
    channel = confirming.channel()
    producer = Producer(channel, routing_key=queue_name)
    for n in range(3):
        with pytest.raises(NotFound) as caught:
            producer.publish("lost", exchange=Exchange(f"{queue_name}-missing", no_declare=True), declare=[])
        assert caught.value.reply_code == 404
        # The channel has been opened again; if it did not confirm, this would return before the broker has it.
        producer.publish(n)
        assert count(queue) == n + 1
    with pytest.raises(MessageNacked):
        producer.publish("too much")


def test_confirm_mode_is_chosen_again_after_the_connection_is_lost(
    broker: Any, connect: Any, proxy: Proxy, queue_name: str
) -> None:
    confirming = connect(proxy.url(broker.url), transport_options=CONFIRM)
    queue = full_queue(connect(), queue_name, 2)
    producer = Producer(confirming, routing_key=queue_name)
    producer.publish(1)
    proxy.pair().reset()
    producer.publish(2, retry=True, retry_policy={"max_retries": 3, "interval_start": 0})
    assert count(queue) == 2
    with pytest.raises(MessageNacked):
        producer.publish(3)


def test_there_is_a_time_limit_and_a_late_answer_is_nobody_elses(
    broker: Any, connect: Any, proxy: Proxy, queue_name: str
) -> None:
    """Publish 1 gives up waiting; its late ack must not confirm publish 2, which the broker refuses."""
    confirming = connect(proxy.url(broker.url), transport_options={**CONFIRM, "confirm_timeout": 0.3})
    queue = full_queue(connect(), queue_name)
    producer = Producer(confirming, routing_key=queue_name)
    producer.channel.confirm_select()
    pair = proxy.pair()
    pair.hold()
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        producer.publish(1)
    assert 0.29 <= time.monotonic() - started < PATIENCE
    with pytest.raises(TimeoutError):
        producer.publish(2, confirm_timeout=0.1)
    pair.flow()
    with pytest.raises(MessageNacked):
        producer.publish(3, confirm_timeout=10)
    assert queue.get(no_ack=True).payload == 1
    producer.publish(4, confirm_timeout=10)
    assert queue.get(no_ack=True).payload == 4


def test_the_default_time_limit_is_finite(confirming: Connection) -> None:
    limit = confirming.connection.confirm_timeout
    assert limit is not None and 0 < limit <= 60


def test_a_frozen_broker_ends_the_wait(rabbit: Rabbit, connect: Any, queue_name: str) -> None:
    confirming = connect(transport_options={**CONFIRM, "confirm_timeout": 0.5, "close_timeout": 0.2})
    queue = Queue(queue_name)(confirming.channel())
    queue.declare()
    producer = Producer(confirming, routing_key=queue_name)
    producer.publish("before", confirm_timeout=PATIENCE)
    rabbit.freeze()
    try:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            producer.publish("during")
        assert 0.49 <= time.monotonic() - started < PATIENCE
    finally:
        rabbit.thaw()
    producer.publish("after", confirm_timeout=20)


@pytest.mark.parametrize("shared", [False, True], ids=["own channels", "one channel"])
def test_threads_learn_of_their_own_publishes(
    shared: bool, confirming: Connection, connect: Any, queue_name: str
) -> None:
    """Each thread alternates between a queue that takes everything and one that is full."""
    fine = Queue(f"{queue_name}-fine", durable=False)(confirming.channel())
    fine.declare()
    full = full_queue(confirming, f"{queue_name}-full")
    Producer(confirming, routing_key=full.name).publish("full now")
    one = confirming.channel()

    def publish(number: int) -> int:
        producer = Producer(one if shared else confirming.channel())
        refused = 0
        for n in range(40):
            try:
                producer.publish((number, n), routing_key=full.name if n % 2 else fine.name)
            except MessageNacked:
                assert n % 2
                refused += 1
            else:
                assert not n % 2
        return refused

    with ThreadPoolExecutor(4) as pool:
        assert [future.result(timeout=60) for future in [pool.submit(publish, n) for n in range(4)]] == [20] * 4
    assert count(fine) == 80
    assert count(full) == 1


def test_a_callback_may_publish_with_confirms_on_the_channel_it_consumes_on(
    confirming: Connection, queue_name: str
) -> None:
    channel = confirming.channel()
    queue = Queue(queue_name, durable=False)(channel)
    seen: list[int] = []

    def on_message(message: Message) -> None:
        seen.append(message.payload)
        if message.payload < 20:
            Producer(channel, routing_key=queue_name).publish(message.payload + 1)
        message.ack()

    with Consumer(channel, queue, on_message=on_message):
        Producer(channel, routing_key=queue_name).publish(0)
        drain_until(confirming, lambda: len(seen) == 21)
    assert sorted(seen) == list(range(21))
