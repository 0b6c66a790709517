"""Memory that stays: none for messages that are gone, little for a connection that idles."""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from kombu import Connection, Consumer, Message, Producer, Queue
from patience import drain_until
from proxy import Proxy

HEADERS = {
    "trace": {"id": "0123456789abcdef", "parents": [{"span": n, "flags": [True, None, 1.5]} for n in range(3)]},
    "list": [1, "two", {"three": [4, 5]}],
    "text": "some text of ordinary length",
}


def resident() -> int:
    """Return the process's resident memory in bytes."""
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def growth(work: Callable[[], Any], rounds: int) -> tuple[int, int]:
    """Return by how many bytes and objects the process grew over *rounds*, after two rounds to settle."""
    # After each: free-threaded builds let more garbage gather than the limits of these tests.
    for _ in range(2):
        work()
        gc.collect()
    memory, objects = resident(), len(gc.get_objects())
    for _ in range(rounds):
        work()
        gc.collect()
    return resident() - memory, len(gc.get_objects()) - objects


@pytest.mark.leak
@pytest.mark.stress
@pytest.mark.parametrize("broker", ["tcp"], indirect=True)
def test_publishing_and_consuming_nested_headers_keeps_memory_flat(connection: Connection, queue_name: str) -> None:
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    queue.declare()
    producer = Producer(connection, routing_key=queue_name)
    seen = 0
    batch = 4000

    def on_message(message: Message) -> None:
        nonlocal seen
        assert message.headers["list"][2] == {"three": [4, 5]}
        message.ack()
        seen += 1

    with Consumer(connection, queue, on_message=on_message):

        def round_trip() -> None:
            goal = seen + batch
            for n in range(batch):
                producer.publish({"n": n}, headers=HEADERS, delivery_mode=1)
            drain_until(connection, lambda: seen >= goal, timeout=60)

        memory, objects = growth(round_trip, 4)
    # 16,000 messages: one reference or a byte of each would show.
    assert objects < 500
    assert memory < 4 << 20


@pytest.mark.leak
def test_requeued_and_fetched_messages_keep_memory_flat(connection: Connection, queue_name: str) -> None:
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    queue.declare()
    Producer(connection, routing_key=queue_name).publish("x" * 1000, headers=HEADERS)

    def fetch() -> None:
        for _ in range(300):
            message = queue.get()
            assert message.headers == HEADERS
            message.requeue()

    memory, objects = growth(fetch, 3)
    assert objects < 100
    assert memory < 2 << 20


@pytest.mark.leak
@pytest.mark.parametrize("broker", ["tcp"], indirect=True)
def test_channels_opened_and_closed_leave_nothing_and_get_no_slower(connection: Connection) -> None:
    connection.connect()
    numbers: set[int] = set()

    def churn() -> None:
        for _ in range(250):
            channel = connection.channel()
            numbers.add(channel.channel_id)
            channel.close()

    memory, objects = growth(churn, 6)
    assert numbers == {1}
    assert objects < 100
    assert memory < 2 << 20


def test_a_thousand_channels_at_once(connection: Connection) -> None:
    """The time for the last ones is that for the first ones; 5.7 looks at all of them each time."""
    connection.connect()
    channels: list[Any] = []
    times: list[float] = []
    for _ in range(4):
        started = time.process_time()
        channels += [connection.channel() for _ in range(250)]
        times.append(time.process_time() - started)
    assert sorted(channel.channel_id for channel in channels) == list(range(1, 1001))
    assert times[-1] < 5 * times[0] + 0.2
    for channel in channels:
        channel.close()
    assert connection.channel().channel_id <= 1001


@pytest.mark.leak
def test_lost_connections_leave_nothing(broker: Any, connect: Any, proxy: Proxy, queue_name: str) -> None:
    """Descriptors and objects are as many after a number of reconnects as before."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("descriptors can only be counted where there is a /proc")
    connection = connect(proxy.url(broker.url))
    consumer = Consumer(connection, Queue(queue_name, durable=False), on_message=lambda message: None)
    consumer.consume()

    def lose() -> None:
        proxy.pair().reset()
        with pytest.raises(connection.recoverable_connection_errors):
            drain_until(connection, lambda: False)
        connection.ensure_connection(max_retries=2, interval_start=0)
        consumer.revive(connection.default_channel)
        # What the proxy keeps is not the client's.
        del proxy.pairs[:-1]

    for _ in range(3):
        lose()
    gc.collect()
    descriptors, objects = len(os.listdir("/proc/self/fd")), len(gc.get_objects())
    for _ in range(15):
        lose()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2
    assert len(gc.get_objects()) - objects < 300


@pytest.mark.parametrize("broker", ["tcp"], indirect=True)
def test_an_idle_connection_takes_less_than_64_kib(connect: Any) -> None:
    """Over TLS it is OpenSSL's memory that would be counted, or not be."""
    connect().default_channel.basic_qos(0, 1, False)
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        connections = [connect() for _ in range(20)]
        for each in connections:
            each.default_channel.basic_qos(0, 1, False)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(connections) < 64 * 1024
