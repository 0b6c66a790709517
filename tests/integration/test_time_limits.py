"""A timeout is a deadline, and running out of time never loses a byte."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from kombu import Connection, Consumer, Message, Producer, Queue
from patience import PATIENCE, Background, drain_until, until
from proxy import Proxy


def answered(queue: Queue) -> Any:
    """Return the broker's answer, or None when it did not come in time."""
    try:
        return queue.queue_declare(passive=True)
    except TimeoutError:
        return None


def test_draining_an_idle_connection_raises_when_the_time_is_over(connection: Connection) -> None:
    connection.connect()
    for timeout in (0, 0.05, 0.3):
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=timeout)
        assert timeout - 0.001 <= time.monotonic() - started < PATIENCE


def test_an_idle_wait_uses_no_processor_time(connection: Connection) -> None:
    connection.connect()
    used = time.process_time()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=1)
    assert time.process_time() - used < 0.3


def test_a_time_limit_may_be_longer_than_a_poll_can_count(
    connect: Any, connection: Connection, queue_name: str
) -> None:
    seen: list[Any] = []

    def publish_late() -> None:
        time.sleep(0.2)
        Producer(connection, routing_key=queue_name).publish("late")

    consuming = connect()
    queue = Queue(queue_name, durable=False)
    with Consumer(consuming, queue, callbacks=[lambda body, message: seen.append(body)], no_ack=True):
        with Background(publish_late):
            consuming.drain_events(timeout=1e9)
    assert seen == ["late"]


def test_a_trickle_does_not_extend_the_time(
    broker: Any, connect: Any, connection: Connection, proxy: Proxy, queue_name: str
) -> None:
    """A message of which some bytes come again and again keeps nobody waiting beyond the deadline."""
    consuming = connect(proxy.url(broker.url))
    bodies: list[Any] = []
    queue = Queue(queue_name, durable=False)
    with Consumer(consuming, queue, callbacks=[lambda body, message: bodies.append(body)], no_ack=True):
        pair = proxy.pair()
        pair.hold()
        Producer(connection, routing_key=queue_name).publish("x" * 60000)
        stop = False

        def trickle() -> None:
            while not stop:
                pair.let(50)
                time.sleep(0.005)

        with Background(trickle):
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                consuming.drain_events(timeout=0.4)
            elapsed = time.monotonic() - started
            stop = True
        pair.flow()
        drain_until(consuming, lambda: bodies)
    # With each piece counting as news it would have waited for the whole, which takes six seconds and is no timeout.
    assert elapsed >= 0.39
    assert bodies == ["x" * 60000]


def test_heartbeats_do_not_extend_the_time(connect: Any) -> None:
    connection = connect(heartbeat=1)
    connection.connect()
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=1.3)
    assert 1.29 <= time.monotonic() - started < PATIENCE


@pytest.mark.parametrize("seed", [1, 2])
def test_random_pieces_and_random_timeouts_lose_nothing(
    seed: int, broker: Any, connect: Any, connection: Connection, proxy: Proxy, queue_name: str
) -> None:
    chance = random.Random(seed)
    count = 120
    bodies = [chance.randbytes(chance.choice([0, 1, 7, 100, 3000, 140000])) for _ in range(count)]
    consuming = connect(proxy.url(broker.url))
    seen: list[bytes] = []

    def on_message(message: Message) -> None:
        assert message.headers["n"] == len(seen)
        seen.append(message.body or b"")
        message.ack()

    pieces = random.Random(seed)
    with Consumer(consuming, Queue(queue_name, durable=False), on_message=on_message, prefetch_count=20):
        pair = proxy.pair()
        pair.hold()
        pair.cut = lambda: pieces.choice([1, 2, 7, 8, 100, 1000, 20000])
        producer = Producer(connection, routing_key=queue_name)
        for n, body in enumerate(bodies):
            producer.publish(body, headers={"n": n}, content_type="application/data", content_encoding="binary")
        # One that runs out of time in the middle of a frame for certain, and then as chance has it.
        pair.let(11)
        with pytest.raises(TimeoutError):
            consuming.drain_events(timeout=0.001)
        pair.flow()
        deadline = time.monotonic() + 60
        while len(seen) < count:
            assert time.monotonic() < deadline
            try:
                consuming.drain_events(timeout=chance.choice([0, 0, 0.0005, 0.002]))
            except TimeoutError:
                continue
    assert seen == bodies


def test_a_synchronous_method_is_answered_although_messages_come_first(
    connection: Connection, queue_name: str
) -> None:
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    queue.declare()
    producer = Producer(connection, routing_key=queue_name)
    seen: list[int] = []
    with Consumer(connection.channel(), queue, no_ack=True, on_message=lambda message: seen.append(message.payload)):
        for n in range(500):
            producer.publish(n)
            if n % 50 == 0:
                assert queue.queue_declare(passive=True).queue == queue_name
        drain_until(connection, lambda: len(seen) == 500)
    assert seen == list(range(500))


def test_a_synchronous_method_can_be_given_a_time_limit(
    broker: Any, connect: Any, proxy: Proxy, queue_name: str
) -> None:
    connection = connect(proxy.url(broker.url), transport_options={"operation_timeout": PATIENCE})
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    queue.declare()
    assert connection.connection.operation_timeout == PATIENCE
    # Only now: the broker may take its time over what has to succeed.
    connection.connection.operation_timeout = 0.3
    pair = proxy.pair()
    pair.hold()
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        queue.queue_declare(passive=True)
    assert 0.29 <= time.monotonic() - started < PATIENCE
    pair.flow()
    # The late reply belongs to the call that gave up; this one gets its own.
    assert until(lambda: answered(queue)).queue == queue_name


def test_connecting_to_a_server_that_says_nothing_ends_in_time(broker: Any, connect: Any, proxy: Proxy) -> None:
    proxy.silent = True
    connection = connect(proxy.url(broker.url), connect_timeout=0.4)
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(connection.recoverable_connection_errors):
            connection.ensure_connection(max_retries=0, interval_start=0, reraise_as_library_errors=False)
        assert time.monotonic() - started < PATIENCE
    proxy.silent = False
    # A busy broker may be silent for that long, too.
    assert connection.ensure_connection(max_retries=50, interval_start=0.1, interval_step=0).connected
