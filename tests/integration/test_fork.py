"""A forked child leaves its parent's connection alone, and makes its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

import interpreter
import which_build
from proxy import Proxy

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")

# Warnings are errors, but a fork with threads about, which is what some of this is about, warns from Python 3.12 on.
SETUP = """
import gc, json, os, sys, threading, time, traceback, warnings
warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
from kombu import Connection, Consumer, Producer, Queue
url, options, name = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
connection = Connection(url, **options)
queue = Queue(name, durable=False)
messages = []
consumer = Consumer(connection, queue, on_message=messages.append)
consumer.consume()
producer = Producer(connection, routing_key=name)

def drain(count):
    deadline = time.monotonic() + 15
    while len(messages) < count:
        connection.drain_events(timeout=deadline - time.monotonic())

def in_child(work):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    deadline = time.monotonic() + 30
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            raise AssertionError("the child hangs")
        time.sleep(0.01)
    assert status == 0, status

def sent():
    # What the proxy has had of this connection.  The answer to a request shows that all before it has been through.
    queue(connection.default_channel).queue_declare(passive=True)
    print("sent?", flush=True)
    return int(input())

def raises(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except connection.recoverable_connection_errors as error:
        return error
    raise AssertionError(f"{function} did not raise")
"""


def run(code: str, broker: Any, name: str, proxy: Proxy | None = None) -> str:
    url = broker.url if proxy is None else proxy.url(broker.url)
    done = interpreter.run(SETUP + code, url, json.dumps(broker.options), name, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_child_that_does_nothing_or_collects_garbage_leaves_the_connection_alone(
    broker: Any, proxy: Proxy, queue_name: str
) -> None:
    run(
        """
def forget():
    global connection, consumer, producer, queue
    connection = consumer = producer = queue = None
    messages.clear()
    gc.collect()

producer.publish(1)
drain(1)
in_child(lambda: None)
in_child(forget)
messages[0].ack()
producer.publish(2)
drain(2)
messages[1].ack()
assert [message.payload for message in messages] == [1, 2]
connection.release()
""",
        broker,
        queue_name,
        proxy,
    )
    assert len(proxy.pairs) == 1


def test_a_child_that_closes_everything_leaves_the_connection_alone(
    broker: Any, proxy: Proxy, queue_name: str
) -> None:
    run(
        """
producer.publish(1)
drain(1)
in_child(lambda: connection.release())
in_child(lambda: connection.close())
in_child(lambda: connection.collect())
in_child(lambda: connection.transport.close_connection(connection._connection))
in_child(lambda: connection._connection.close())
in_child(lambda: connection._connection.collect())
in_child(lambda: connection._default_channel.close())
producer.publish(2)
drain(2)
for message in messages:
    message.ack()
connection.release()
""",
        broker,
        queue_name,
        proxy,
    )
    assert len(proxy.pairs) == 1


def test_a_child_that_ends_as_usual_leaves_the_connection_alone(broker: Any, proxy: Proxy, queue_name: str) -> None:
    run(
        """
import atexit
pid = os.fork()
if not pid:
    sys.exit(0)  # with atexit, finalizers and all
os.waitpid(pid, 0)
producer.publish(1)
drain(1)
messages[0].ack()
connection.release()
""",
        broker,
        queue_name,
        proxy,
    )
    assert len(proxy.pairs) == 1


def test_what_a_child_does_with_the_connection_raises_a_recoverable_error(
    broker: Any, proxy: Proxy, queue_name: str
) -> None:
    run(
        """
def child():
    message = messages[0]
    raises(message.ack)
    assert not message.acknowledged
    raises(message.reject)
    raises(connection.drain_events, timeout=1)
    raises(connection.drain_events)
    raises(consumer.channel.basic_qos, 0, 1, False)
    raises(consumer.channel.basic_publish, consumer.channel.prepare_message(b"x"), "", name)
    raises(consumer.cancel)
    raises(connection.heartbeat_check)

producer.publish(1)
drain(1)
in_child(child)
messages[0].ack()
producer.publish(2)
drain(2)
assert [message.payload for message in messages] == [1, 2]
connection.release()
""",
        broker,
        queue_name,
        proxy,
    )
    assert len(proxy.pairs) == 1


def test_a_child_connects_anew_with_the_same_objects(broker: Any, proxy: Proxy, queue_name: str) -> None:
    run(
        """
def child():
    assert not connection.connected
    own = Queue(name + "-child", durable=False, exclusive=True)
    connection.ensure_connection(max_retries=1)
    producer.revive(connection.default_channel)
    producer.publish("from the child", routing_key=name)
    found = []
    with Consumer(connection, own, callbacks=[lambda body, message: found.append(body)], no_ack=True):
        producer.publish("to the child", routing_key=own.name)
        deadline = time.monotonic() + 15
        while not found:
            connection.drain_events(timeout=deadline - time.monotonic())
    assert found == ["to the child"], found
    connection.release()

producer.publish("from the parent")
drain(1)
in_child(child)
drain(2)
assert [message.payload for message in messages] == ["from the parent", "from the child"]
for message in messages:
    message.ack()
connection.release()
""",
        broker,
        queue_name,
        proxy,
    )
    assert len(proxy.pairs) == 2


def test_a_child_forked_while_other_threads_hold_locks_goes_on(broker: Any, proxy: Proxy, queue_name: str) -> None:
    run(
        """
stop = False

def publish():
    channel = connection.channel()
    publishing = Producer(channel, routing_key=name)
    while not stop:
        publishing.publish("x" * 20000)
        time.sleep(0.0005)

def draining():
    while not stop:
        try:
            connection.drain_events(timeout=0.01)
        except TimeoutError:
            pass
        while messages:
            messages.pop().ack()

def child():
    raises(connection.drain_events, timeout=1)
    connection.ensure_connection(max_retries=1)
    Producer(connection, routing_key=name + "-other").publish("y")
    connection.release()

threads = [threading.Thread(target=work) for work in (publish, publish, draining)]
for thread in threads:
    thread.start()
try:
    for _ in range(5):
        in_child(child)
finally:
    stop = True
    for thread in threads:
        thread.join(20)
assert not any(thread.is_alive() for thread in threads)
assert connection.connected
assert connection.default_channel.is_open
connection.release()
""",
        broker,
        queue_name,
        proxy,
    )


def test_no_byte_of_the_childs_reaches_the_parents_broker(broker: Any, proxy: Proxy, queue_name: str) -> None:
    """Counted outside: between the fork and the child's end the parent's socket carries nothing, and stays open."""
    code = (
        f"import sys; sys.path.insert(0, {str(which_build.ROOT)!r})\n" if which_build.testing_the_tree() else ""
    ) + (
        SETUP
        + """
producer.publish(1)
drain(1)
request = -sent() + sent()
before = sent()
def child():
    raises(messages[0].ack)
    raises(consumer.channel.basic_publish, consumer.channel.prepare_message(b"x"), "", name)
    connection.release()
    gc.collect()
in_child(child)
after = sent()
assert after == before + request, (before, after, request)
messages[0].ack()
connection.release()
print("done", flush=True)
"""
    )
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", code, proxy.url(broker.url), json.dumps(broker.options), queue_name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        while (line := process.stdout.readline().strip()) == "sent?":
            pair = proxy.pair(0)
            assert not pair.client_gone
            print(pair.sent, file=process.stdin, flush=True)
        assert line == "done"
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.communicate()
