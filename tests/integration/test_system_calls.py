"""What the hot paths ask of the kernel, counted by strace."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

import strace
from kombu import Connection, Producer, Queue
from patience import until
from proxy import Proxy
from rabbit import Rabbit
from strace import Call, Traced

READS = {"read", "readv", "recvfrom", "recvmsg"}
WRITES = {"write", "writev", "sendto", "sendmsg"}


@pytest.fixture(autouse=True)
def _needs_strace() -> None:
    if strace.available():
        return
    if os.environ.get("KOMBU_REQUIRE_BROKERS", "") in ("", "0"):
        pytest.skip("no strace here, or it may not trace")
    pytest.fail("KOMBU_REQUIRE_BROKERS is set, and there is no strace that may trace", pytrace=False)


def on(fd: int, calls: list[Call], names: set[str]) -> list[Call]:
    return [call for call in calls if call.name in names and call.fd == fd]


def changes_of_timeout(fd: int, calls: list[Call]) -> list[Call]:
    return [
        call
        for call in calls
        if call.fd == fd
        and (call.name in ("ioctl", "fcntl") or (call.name == "setsockopt" and "TIMEO" in call.arguments))
    ]


CONSUME = """
import fcntl, struct, termios, time
from kombu import Connection, Consumer, Queue
url, name, count, timeout, acks = sys.argv[1:]
count, timeout = int(count), None if timeout == "None" else float(timeout)
connection = Connection(url)
seen = 0

def on_message(message):
    global seen
    seen += 1
    if acks == "acks":
        message.ack()

def waiting():
    return struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, b"\\0" * 4))[0]

with Consumer(connection, Queue(name, durable=False), on_message=on_message, no_ack=acks != "acks"):
    sock = connection.connection.sock
    say("consuming")
    heard()
    # The broker has sent all, and what the kernel has room for is in it when no more comes.
    before, now = -1, 0
    while now != before or not now:
        time.sleep(0.1)
        before, now = now, waiting()
    say("begin", sock.fileno(), now)
    while seen < count:
        try:
            connection.drain_events(timeout=timeout)
        except TimeoutError:
            time.sleep(0.01)
    say("end")
    heard()
connection.release()
"""


@pytest.mark.parametrize("acks", ["acks", "no-acks"])
@pytest.mark.parametrize("timeout", [None, 0, 1])
def test_a_backlog_is_read_with_few_calls_and_without_a_change_of_timeout(
    timeout: int | None, acks: str, rabbit: Rabbit, queue_name: str, tmp_path: Path
) -> None:
    count = 1000
    with Connection(rabbit.url()) as connection:
        queue = Queue(queue_name, durable=False)(connection.default_channel)
        queue.declare()
        producer = Producer(connection, routing_key=queue_name)
        for n in range(count):
            producer.publish("x" * 200, headers={"n": n})
        with Traced(CONSUME, rabbit.url(), queue_name, str(count), str(timeout), acks, folder=tmp_path) as script:
            script.expect("consuming")
            until(lambda: queue.queue_declare(passive=True).message_count == 0, what="the broker to send all")
            script.tell()
            fd = int(script.expect("begin")[0])
            script.expect("end")
            script.tell()
            script.finish()
            calls = script.calls("begin", "end")
    reads = on(fd, calls, READS)
    assert 0 < len(reads) <= count / 10, Counter(call.name for call in calls)
    assert changes_of_timeout(fd, calls) == []


PUBLISH = """
import time
from kombu import Connection, Exchange, Producer
url, name = sys.argv[1:]
with Connection(url) as connection:
    producer = Producer(connection, Exchange(name, "fanout", durable=False))
    producer.publish("the first one declares the exchange")
    say("begin", connection.connection.sock.fileno())
    began = time.monotonic()
    for n in range(200):
        producer.publish({"n": n}, headers={"n": n}, correlation_id=str(n))
    say("end", time.monotonic() - began)
"""


def test_a_small_publish_is_one_write(rabbit: Rabbit, queue_name: str, tmp_path: Path) -> None:
    with Traced(PUBLISH, rabbit.url(), queue_name, folder=tmp_path) as script:
        fd = int(script.expect("begin")[0])
        (seconds,) = map(float, script.expect("end"))
        script.finish()
        calls = script.calls("begin", "end")
    assert len(on(fd, calls, WRITES)) == 200
    assert changes_of_timeout(fd, calls) == []
    # strace makes it slow, and there is a look at the peer fifty times a second.
    assert len(on(fd, calls, READS)) <= 1 + seconds / 0.02


BATCH = """
from kombu import Connection, Producer, Queue
url, name = sys.argv[1:]
connection = Connection(url)
producer = Producer(connection, routing_key=name)
Queue(name, durable=False)(connection.default_channel).declare()
for _ in range(2):
    producer.publish("planned from here on")
say("begin", connection.connection.sock.fileno())
for _ in range(10):
    with producer.batch():
        for n in range(100):
            producer.publish("x" * 20)
say("end")
"""


def test_a_batch_is_one_write(rabbit: Rabbit, queue_name: str, tmp_path: Path) -> None:
    with Traced(BATCH, rabbit.url(), queue_name, folder=tmp_path) as script:
        fd = int(script.expect("begin")[0])
        script.expect("end")
        script.finish()
        calls = script.calls("begin", "end")
    assert len(on(fd, calls, WRITES)) == 10
    assert changes_of_timeout(fd, calls) == []


HALF = """
import time
from kombu import Connection, Consumer, Queue
url, name = sys.argv[1:]
connection = Connection(url)
bodies = []
queue = Queue(name, durable=False)
with Consumer(connection, queue, callbacks=[lambda body, message: bodies.append(body)], no_ack=True):
    say("consuming", connection.connection.sock.fileno())
    heard()
    connection.drain_events(timeout=30)
    say("primed")
    heard()
    for n in range(5):
        started = time.monotonic()
        say("begin%d" % n)
        try:
            connection.drain_events(timeout=0)
        except TimeoutError:
            pass
        else:
            raise AssertionError("half a message was dispatched")
        say("end%d" % n)
    started, used = time.monotonic(), time.process_time()
    say("idle")
    try:
        connection.drain_events(timeout=1)
    except TimeoutError:
        pass
    say("waited", time.monotonic() - started, time.process_time() - used)
    heard()
    connection.drain_events(timeout=30)
    assert bodies[-1] == "y" * 12000, bodies[-1][:100]
    say("whole")
connection.collect()
"""


def test_half_a_message_costs_at_most_two_reads_and_no_spinning(
    rabbit: Rabbit, queue_name: str, tmp_path: Path
) -> None:
    with Proxy(rabbit.port) as proxy, Connection(rabbit.url()) as connection:
        with Traced(HALF, proxy.url(rabbit.url()), queue_name, folder=tmp_path) as script:
            fd = int(script.expect("consuming")[0])
            producer = Producer(connection, routing_key=queue_name)
            pair = proxy.pair()
            producer.publish("first")
            script.tell()
            script.expect("primed")
            pair.hold()
            producer.publish("y" * 12000)
            pair.let(6000)
            script.tell()
            for n in range(5):
                script.expect(f"begin{n}")
                script.expect(f"end{n}")
            script.expect("idle")
            waited, used = map(float, script.expect("waited"))
            pair.flow()
            script.tell()
            script.expect("whole")
            script.finish()
            for n in range(5):
                assert len(on(fd, script.calls(f"begin{n}", f"end{n}"), READS)) <= 2
            assert len(on(fd, script.calls("idle", "waited"), READS)) <= 4
    assert waited >= 0.99
    assert used < 0.3
