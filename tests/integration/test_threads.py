"""Many threads on one connection: publishing, acknowledging and asking while one drains."""

from __future__ import annotations

import os
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kombu import Connection, Consumer, Message, Producer, Queue
from patience import PATIENCE, Background, drain_until

BINARY = {"content_type": "application/data", "content_encoding": "binary", "delivery_mode": 1}


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """Have threads take turns a thousand times as often, so that what goes wrong between two steps does so here."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def checked(size: int) -> bytes:
    """Return *size* random bytes that begin with their checksum."""
    rest = os.urandom(size - 4)
    return zlib.crc32(rest).to_bytes(4, "big") + rest


def whole(body: bytes) -> bool:
    return zlib.crc32(body[4:]).to_bytes(4, "big") == body[:4]


@pytest.mark.stress
def test_eight_threads_publish_and_three_ask_while_one_drains(connection: Connection, queue_name: str) -> None:
    publishers, each, size = 8, 60, 60000
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    queue.declare()
    seen: Counter[int] = Counter()
    done = threading.Event()

    def publish(number: int) -> None:
        with connection.channel() as channel:
            producer = Producer(channel, routing_key=queue_name)
            for n in range(each):
                producer.publish(checked(size), headers={"thread": number, "n": n}, **BINARY)

    def ask(number: int) -> int:
        asked = 0
        with connection.channel() as channel:
            while not done.is_set():
                name = f"{queue_name}-{number}-{asked}"
                other = Queue(name, durable=False)(channel)
                assert other.queue_declare().queue == name
                assert other.delete() == 0
                asked += 1
        return asked

    def on_message(message: Message) -> None:
        assert whole(message.body)
        number = message.headers["thread"]
        assert message.headers["n"] == seen[number]
        seen[number] += 1
        message.ack()

    with ThreadPoolExecutor(publishers + 3) as pool:
        asking = [pool.submit(ask, number) for number in range(3)]
        publishing = [pool.submit(publish, number) for number in range(publishers)]
        try:
            with Consumer(connection.channel(), queue, on_message=on_message, prefetch_count=50):
                drain_until(connection, lambda: seen.total() == publishers * each, timeout=60)
        finally:
            done.set()
        for future in publishing + asking:
            future.result(timeout=30)
    assert all(future.result() for future in asking)
    assert seen == Counter({number: each for number in range(publishers)})
    assert queue.queue_declare(passive=True).message_count == 0


def test_threads_acknowledge_what_another_one_drains(connection: Connection, queue_name: str) -> None:
    count = 400
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    queue.declare()
    producer = Producer(connection, routing_key=queue_name)
    for n in range(count):
        producer.publish(n)
    settled: list[int] = []

    def settle(message: Message) -> None:
        message.ack()
        settled.append(message.payload)

    with ThreadPoolExecutor(6) as pool:
        futures: list[Any] = []
        with Consumer(
            connection.channel(),
            queue,
            on_message=lambda message: futures.append(pool.submit(settle, message)),
            prefetch_count=20,
        ):
            drain_until(connection, lambda: len(futures) == count, timeout=30)
            for future in futures:
                future.result(timeout=30)
    assert sorted(settled) == list(range(count))
    assert queue.get() is None


def test_a_synchronous_method_is_answered_while_another_thread_is_busy_in_a_callback(
    connection: Connection, queue_name: str
) -> None:
    """Nobody else reads meanwhile, so the thread that waits has to; it runs no callback of the other's."""
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    queue.declare()
    asking = connection.channel()
    entered, answered = threading.Event(), threading.Event()
    ran_in: list[int] = []

    def on_message(message: Message) -> None:
        ran_in.append(threading.get_ident())
        if len(ran_in) == 1:
            entered.set()
            assert answered.wait(15)

    def ask() -> None:
        assert entered.wait(15)
        for _ in range(20):
            assert Queue(queue_name)(asking).queue_declare(passive=True).queue == queue_name
        answered.set()

    producer = Producer(connection, routing_key=queue_name)
    with Consumer(connection.channel(), queue, on_message=on_message, no_ack=True):
        with Background(ask):
            for n in range(5):
                producer.publish(n)
            drain_until(connection, lambda: len(ran_in) == 5)
    assert set(ran_in) == {threading.get_ident()}


def test_a_synchronous_method_is_answered_while_another_thread_waits_for_events(
    connection: Connection, queue_name: str
) -> None:
    queue = Queue(queue_name, durable=False)(connection.channel())
    queue.declare()
    seen: list[Any] = []
    consumer = Consumer(connection.channel(), queue, on_message=seen.append, no_ack=True)
    consumer.consume()

    def drain() -> None:
        while not seen:
            connection.drain_events(timeout=15)

    with Background(drain):
        for _ in range(50):
            assert queue.queue_declare(passive=True).queue == queue_name
        Producer(connection.channel(), routing_key=queue_name).publish("the end")
    assert len(seen) == 1


def test_an_error_reaches_the_thread_it_is_about(connection: Connection, queue_name: str) -> None:
    """A channel that is closed is told to the thread that waits on it, and the one that drains goes on."""
    queue = Queue(queue_name, durable=False)(connection.channel())
    queue.declare()
    seen: list[Any] = []
    Consumer(connection.channel(), queue, on_message=seen.append, no_ack=True).consume()
    errors: list[BaseException] = []

    def drain() -> None:
        while not seen:
            connection.drain_events(timeout=15)

    def ask() -> None:
        channel = connection.channel()
        for n in range(20):
            with pytest.raises(connection.channel_errors) as caught:
                Queue(f"{queue_name}-missing-{n}")(channel).queue_declare(passive=True)
            assert f"missing-{n}" in caught.value.reply_text
            errors.append(caught.value)

    with Background(drain):
        with ThreadPoolExecutor(3) as pool:
            for future in [pool.submit(ask) for _ in range(3)]:
                future.result(timeout=30)
        Producer(connection.channel(), routing_key=queue_name).publish("the end")
    assert len(errors) == 60


def test_channels_open_and_close_in_many_threads(connection: Connection, queue_name: str) -> None:
    connection.connect()

    def churn() -> None:
        for _ in range(30):
            with connection.channel() as channel:
                assert channel.is_open
                channel.basic_qos(0, 1, False)

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(churn) for _ in range(6)]:
            future.result(timeout=30)
    # All numbers were given back, so the next channel gets a small one.
    assert connection.channel().channel_id <= 6


def test_many_threads_share_one_connecting_connection(connect: Any, queue_name: str) -> None:
    connection = connect()
    with ThreadPoolExecutor(8) as pool:
        channels = {id(future.result(timeout=30)) for future in [
            pool.submit(lambda: connection.default_channel) for _ in range(8)
        ]}
    assert len(channels) == 1


@pytest.mark.parametrize("confirm", [False, True], ids=["plain", "confirms"])
def test_a_channel_closed_while_threads_publish_on_it_costs_no_more_than_a_few_messages(
    confirm: bool, connect: Any, queue_name: str
) -> None:
    """A frame written for it after our agreement to its closing would have the broker close the connection."""
    connection = connect(transport_options={"confirm_publish": confirm})
    queue = Queue(queue_name, durable=False)(connection.channel())
    queue.declare()
    shared = connection.channel()

    def publish(number: int) -> int:
        producer = Producer(shared, routing_key=queue_name)
        refused = 0
        for n in range(60):
            missing = {"exchange": f"{queue_name}-missing"} if n % 10 == number else {}
            try:
                producer.publish(b"x" * 500, **missing, **BINARY)
            except connection.channel_errors as exc:
                assert exc.reply_code == 404
                refused += 1
        return refused

    told = 0
    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(publish, number) for number in range(5)]
        while not all(future.done() for future in futures):
            try:
                connection.drain_events(timeout=0.02)
            except TimeoutError:
                continue
            except connection.channel_errors as exc:
                assert exc.reply_code == 404
                told += 1
        told += sum(future.result(timeout=30) for future in futures)
    assert queue.queue_declare(passive=True).queue == queue_name
    # Some of it may have been too quick for the answers.
    while True:
        try:
            connection.drain_events(timeout=0.1 if told else PATIENCE)
        except TimeoutError:
            break
        except connection.channel_errors as exc:
            assert exc.reply_code == 404
            told += 1
    assert told > 0
    assert connection.connected
    assert queue.queue_declare(passive=True).queue == queue_name
