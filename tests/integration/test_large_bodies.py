"""Memory that large bodies take: once for what is received, not even once more for what is sent."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kombu import Connection, Consumer, Message, Producer, Queue
from patience import drain_until

MIB = 1 << 20

#: What a connection and a message take besides: two frames, the receive buffer, objects.
ALLOWANCE = 2 * 131072 + 512 * 1024


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start(1)
    yield
    tracemalloc.stop()


def peak_of(work: Callable[[], Any]) -> int:
    """Return by how many bytes memory rose at most during *work*."""
    gc.collect()
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    work()
    return tracemalloc.get_traced_memory()[1] - before


def produce(connection: Connection, queue: Queue, body: Any) -> None:
    Producer(connection, routing_key=queue.name).publish(
        body, content_type="application/data", content_encoding="binary", delivery_mode=1
    )


@pytest.fixture
def queue(connection: Connection, queue_name: str) -> Queue:
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    queue.declare()
    return queue


@pytest.mark.parametrize("size", [1 * MIB, 4 * MIB, 16 * MIB])
def test_a_delivery_takes_its_body_once(size: int, connection: Connection, queue: Queue, traced: None) -> None:
    bodies: list[Any] = []

    def on_message(message: Message) -> None:
        bodies.append(message.body)
        message.ack()

    with Consumer(connection.channel(), queue, on_message=on_message):
        produce(connection, queue, b"small")
        drain_until(connection, lambda: len(bodies) == 1)
        produce(connection, queue, bytes(size))
        peak = peak_of(lambda: drain_until(connection, lambda: len(bodies) == 2, timeout=60))
    assert len(bodies[1]) == size
    assert peak <= size + ALLOWANCE


@pytest.mark.parametrize("size", [1 * MIB, 16 * MIB])
def test_get_takes_its_body_once(size: int, connection: Connection, queue: Queue, traced: None) -> None:
    produce(connection, queue, b"small")
    produce(connection, queue, bytes(size))
    bodies = [queue.get(no_ack=True).body]
    peak = peak_of(lambda: bodies.append(queue.get(no_ack=True).body))
    assert len(bodies[1]) == size
    assert peak <= size + ALLOWANCE


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_publish_does_not_copy_its_body(kind: Any, connection: Connection, queue: Queue, traced: None) -> None:
    body = kind(bytes(8 * MIB))
    produce(connection, queue, b"small")
    peak = peak_of(lambda: produce(connection, queue, body))
    # One copy is what is allowed; none is made.
    assert peak <= ALLOWANCE
    queue.purge()


def test_text_is_encoded_once(connection: Connection, queue: Queue, traced: None) -> None:
    text = "x" * (8 * MIB)
    peak = peak_of(lambda: Producer(connection, routing_key=queue.name).publish(text, serializer="raw"))
    assert peak <= 8 * MIB + ALLOWANCE
    queue.purge()


def test_what_was_received_is_given_back(connection: Connection, queue: Queue, traced: None) -> None:
    """After the large message nothing of it is held: neither by the connection nor by its receive buffer."""

    def round_trip(size: int) -> None:
        produce(connection, queue, bytes(size))
        assert len(queue.get(no_ack=True).body) == size

    round_trip(10)
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    round_trip(16 * MIB)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    assert after - before <= 512 * 1024
