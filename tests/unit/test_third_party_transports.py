"""Transports of others, written for kombu 5.7, run unchanged: one on the emulated broker, one on the base classes.

They are ``tests/support/sqlite_transport.py`` and ``tests/support/deque_transport.py``.  Neither they nor these tests
need more than kombu 5.7 has, with which all of this passes too.
"""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import deque_transport
import interpreter
import sqlite_transport
from kombu import Connection, Consumer, Exchange, Message, Producer, Queue, pidbox
from kombu.asynchronous import Hub
from kombu.common import Broadcast, collect_replies, itermessages, maybe_declare, send_reply, uuid
from kombu.mixins import ConsumerMixin
from kombu.pools import connections, producers, reset
from kombu.transport import TRANSPORT_ALIASES
from patience import Background, drain_until, until

#: Names of brokers in this process.
NAMES = itertools.count(1)


@pytest.fixture(params=["sqlite", "deque"])
def broker(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[dict[str, str]]:
    """Give what a connection to a broker of the test's own is made with, by each transport in turn."""
    if request.param == "sqlite":
        # What is declared is known to the process, beside what the file has.
        sqlite_transport.Transport.global_state.clear()
        yield {"transport": "sqlite_transport:Transport", "virtual_host": str(tmp_path / "broker.db")}
        sqlite_transport.Transport.global_state.clear()
    else:
        yield {"transport": "deque_transport:Transport", "virtual_host": str(next(NAMES))}
        deque_transport.BROKERS.clear()


@pytest.fixture
def connect(broker: dict[str, str]) -> Iterator[Callable[..., Connection]]:
    """Give ``connect(**options)``: a connection to the broker, closed in the end."""
    made: list[Connection] = []

    def make(**options: Any) -> Connection:
        made.append(Connection("localhost", **broker, **options))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


@pytest.fixture
def connection(connect: Any) -> Connection:
    return connect()


@pytest.fixture
def tasks(connection: Connection) -> Any:
    """Give a queue, declared, bound to a direct exchange."""
    queue = Queue("tasks", Exchange("tasks", "direct"), "tasks")(connection.default_channel)
    queue.declare()
    return queue


def publish(connection: Connection, queue: Any, *bodies: Any, **options: Any) -> None:
    producer = Producer(connection, queue.exchange, queue.routing_key)
    for body in bodies:
        producer.publish(body, **options)


def test_the_transport_says_what_it_is(connection: Connection) -> None:
    transport = connection.transport
    info = connection.info()
    assert transport.driver_type in ("sqlite", "deque")
    assert info["transport"] == f"{type(transport).__module__}:Transport"
    assert info["virtual_host"]
    assert transport.driver_version()[0].isdigit()
    assert connection.supports_exchange_type("fanout")
    assert not connection.supports_exchange_type("headers")
    assert connection.is_evented
    assert not connection.supports_heartbeats


def test_what_is_published_is_consumed_in_order_with_all_that_belongs_to_it(
    connection: Connection, tasks: Any
) -> None:
    seen: list[Message] = []
    publish(connection, tasks, {"n": 0}, {"n": 1}, headers={"h": [1, None]}, correlation_id="c", reply_to="r")
    publish(connection, tasks, "text", serializer="raw", content_type="text/plain", content_encoding="utf-8")
    publish(connection, tasks, "x" * 5000, compression="gzip")
    with Consumer(connection, tasks, on_message=seen.append, accept=["json", "text/plain"]):
        drain_until(connection, lambda: len(seen) == 4)
    assert [message.payload for message in seen] == [{"n": 0}, {"n": 1}, "text", "x" * 5000]
    first = seen[0]
    assert first.headers["h"] == [1, None]
    assert (first.properties["correlation_id"], first.properties["reply_to"]) == ("c", "r")
    assert (first.content_type, first.content_encoding) == ("application/json", "utf-8")
    assert (first.delivery_info["exchange"], first.delivery_info["routing_key"]) == ("tasks", "tasks")
    for message in seen:
        message.ack()
        assert message.acknowledged


def test_what_is_not_acknowledged_comes_again(connect: Any, connection: Connection, tasks: Any) -> None:
    publish(connection, tasks, 1, 2, 3)
    with connect() as other:
        queue = tasks.bind(other.default_channel)
        queue.get().ack()
        assert queue.get().payload == 2
    assert sorted(message.payload for message in (tasks.get(no_ack=True), tasks.get(no_ack=True))) == [2, 3]
    assert tasks.get() is None


def test_rejected_messages_are_dropped_and_requeued_ones_come_again(connection: Connection, tasks: Any) -> None:
    publish(connection, tasks, "drop", "requeue")
    tasks.get().reject()
    tasks.get().requeue()
    again = tasks.get()
    assert again.payload == "requeue"
    again.ack()
    assert tasks.get() is None


def test_prefetch_limits_what_is_delivered(connection: Connection, tasks: Any) -> None:
    seen: list[Message] = []
    publish(connection, tasks, *range(5))
    consumer = Consumer(connection, tasks, on_message=seen.append)
    consumer.qos(prefetch_count=2)
    with consumer:
        drain_until(connection, lambda: len(seen) == 2)
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0.05)
        seen[0].ack()
        drain_until(connection, lambda: len(seen) == 3)
        seen[1].ack()
        seen[2].ack()
        drain_until(connection, lambda: len(seen) == 5)
    assert [message.payload for message in seen] == list(range(5))


def test_an_empty_queue_times_out_and_a_cancelled_consumer_gets_nothing(connection: Connection, tasks: Any) -> None:
    seen: list[Any] = []
    consumer = Consumer(connection, tasks, on_message=seen.append, no_ack=True)
    consumer.consume()
    with pytest.raises(socket.timeout):
        connection.drain_events(timeout=0.05)
    publish(connection, tasks, 1)
    connection.drain_events(timeout=10)
    consumer.cancel()
    publish(connection, tasks, 2)
    with pytest.raises(socket.timeout):
        connection.drain_events(timeout=0.05)
    assert len(seen) == 1


def test_queues_are_counted_purged_and_deleted(connection: Connection, tasks: Any) -> None:
    publish(connection, tasks, *range(3))
    assert tasks.queue_declare(passive=True)[1] == 3
    assert tasks.purge() == 3
    assert tasks.get() is None
    publish(connection, tasks, 1)
    tasks.delete()
    with pytest.raises(connection.channel_errors):
        connection.channel().queue_declare(queue="tasks", passive=True)


def test_a_fanout_exchange_reaches_every_queue(connect: Any, connection: Connection) -> None:
    exchange = Exchange("news", "fanout")
    seen: dict[str, list[Any]] = {"one": [], "two": []}
    other = connect()
    with Consumer(
        connection, Queue("one", exchange), callbacks=[lambda body, _: seen["one"].append(body)], no_ack=True
    ), Consumer(
        other, Broadcast("news", queue="two", exchange=exchange),
        callbacks=[lambda body, _: seen["two"].append(body)], no_ack=True,
    ):
        Producer(connection, exchange).publish("extra")
        drain_until(connection, lambda: seen["one"])
        drain_until(other, lambda: seen["two"])
    assert seen == {"one": ["extra"], "two": ["extra"]}


def test_a_direct_exchange_takes_the_routing_key(connection: Connection) -> None:
    exchange = Exchange("colours", "direct")
    red, blue = (Queue(name, exchange, name)(connection.default_channel) for name in ("red", "blue"))
    for queue in (red, blue):
        maybe_declare(queue)
    Producer(connection, exchange).publish(1, routing_key="red")
    assert red.get(no_ack=True).payload == 1
    assert blue.get() is None


def test_a_simple_queue_puts_and_gets(connection: Connection) -> None:
    with connection.SimpleQueue("simple") as queue:
        queue.put({"a": 1})
        queue.put({"a": 2})
        assert len(queue) == 2
        first = queue.get(timeout=10)
        assert first.payload == {"a": 1}
        first.ack()
        assert queue.clear() == 1
        with pytest.raises(queue.Empty):
            queue.get_nowait()
        with pytest.raises(queue.Empty):
            queue.get(timeout=0.05)


def test_a_producer_goes_on_after_its_connection_was_lost(connection: Connection, tasks: Any) -> None:
    producer = Producer(connection, tasks.exchange, tasks.routing_key)
    producer.publish(1)
    connection.transport.close_connection(connection.connection)
    producer.publish(2, retry=True, retry_policy={"max_retries": 3, "interval_start": 0, "interval_step": 0})
    queue = tasks.bind(connection.channel())
    assert [queue.get(no_ack=True).payload for _ in range(2)] == [1, 2]


def test_pools_work(connect: Any) -> None:
    reset()
    try:
        pooled = connect()
        with producers[pooled].acquire(block=True) as producer:
            producer.publish("pooled", routing_key="pool", declare=[Queue("pool")])
        with connections[pooled].acquire(block=True) as other:
            assert Queue("pool")(other.default_channel).get(no_ack=True).payload == "pooled"
    finally:
        reset()


def test_a_message_is_answered(connect: Any, connection: Connection) -> None:
    requests = Queue("requests", Exchange("requests", "direct"), "requests")
    replies = Queue(uuid(), Exchange("replies", "direct"), routing_key="me")
    client = connect()
    channel = client.channel()
    replies(channel).declare()
    with Consumer(connection, requests, on_message=lambda message: answer(connection, message)):
        Producer(channel).publish(
            {"x": 2}, exchange=requests.exchange, routing_key="requests", declare=[requests],
            reply_to="me", correlation_id="c-1",
        )
        connection.drain_events(timeout=10)
    found = collect_replies(client, channel, replies, limit=1, timeout=10, no_ack=False)
    assert list(found) == [{"y": 4}]


def answer(connection: Connection, message: Message) -> None:
    exchange = Exchange("replies", "direct")
    send_reply(exchange, message, {"y": message.payload["x"] ** 2}, Producer(connection.channel()))
    message.ack()


def test_mailboxes_broadcast_and_collect_replies(connect: Any, connection: Connection) -> None:
    stop = threading.Event()

    def node(name: str) -> None:
        own = connect()
        mailbox = pidbox.Mailbox("app", type="fanout", connection=own)
        served = mailbox.Node(
            name, state={"name": name}, handlers={"who": lambda state, **_: state["name"]}, channel=own.channel()
        )
        with served.listen():
            ready.release()
            while not stop.is_set():
                try:
                    own.drain_events(timeout=0.02)
                except TimeoutError:
                    pass

    ready = threading.Semaphore(0)
    with Background(node, "a"), Background(node, "b"):
        assert ready.acquire(timeout=10)
        assert ready.acquire(timeout=10)
        try:
            replies = pidbox.Mailbox("app", type="fanout", connection=connection).multi_call(
                "who", timeout=10, limit=2
            )
        finally:
            stop.set()
    assert sorted(reply.popitem() for reply in replies) == [("a", "a"), ("b", "b")]


def test_a_consumer_mixin_runs(connect: Any, connection: Connection, tasks: Any) -> None:
    class Worker(ConsumerMixin):
        def __init__(self) -> None:
            self.connection = connect()
            self.seen: list[Any] = []

        def get_consumers(self, Consumer: Any, channel: Any) -> Any:
            return [Consumer([Queue("tasks", Exchange("tasks", "direct"), "tasks")], callbacks=[self.on_task])]

        def on_task(self, body: Any, message: Message) -> None:
            self.seen.append(body)
            message.ack()
            self.should_stop = body == "stop"

    worker = Worker()
    publish(connection, tasks, 1, 2, "stop")
    worker.run()
    assert worker.seen == [1, 2, "stop"]


def test_messages_are_iterated(connection: Connection, tasks: Any) -> None:
    publish(connection, tasks, *range(3))
    found = itermessages(connection, connection.channel(), Queue("tasks", no_ack=True), limit=3, timeout=1)
    assert [body for body, _ in found] == [0, 1, 2]


# -- The event loop.


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


def turn(hub: Hub, condition: Callable[[], object]) -> None:
    """Let the loop go round until *condition()*; a failure to wake ends at the bound of ``until``."""
    loop = hub.create_loop()
    # The loop waits for this at most before the condition is looked at again.
    hub.call_repeatedly(0.05, lambda: None)

    def looked() -> object:
        next(loop)
        return condition()

    until(looked)


def test_the_event_loop_delivers_what_comes_before_and_after_it_was_told(
    connect: Any, connection: Connection, tasks: Any, hub: Hub
) -> None:
    seen: list[Any] = []

    def take(body: Any, message: Message) -> None:
        seen.append(body)
        message.ack()

    publish(connection, tasks, *range(100))
    own = connect()
    with Consumer(own, Queue("tasks", tasks.exchange, "tasks"), callbacks=[take]):
        own.register_with_event_loop(hub)
        turn(hub, lambda: len(seen) == 100)
        hub.call_soon(publish, connection, tasks, *range(100, 200))
        turn(hub, lambda: len(seen) == 200)
        with Background(publish, connect(), tasks, *range(200, 300)):
            turn(hub, lambda: len(seen) == 300)
    assert seen == list(range(300))


def test_the_event_loop_goes_on_when_a_prefetch_limit_has_room_again(
    connect: Any, connection: Connection, tasks: Any, hub: Hub
) -> None:
    seen: list[Any] = []
    own = connect()
    consumer = Consumer(own, Queue("tasks", tasks.exchange, "tasks"), on_message=seen.append)
    consumer.qos(prefetch_count=5)
    publish(connection, tasks, *range(20))
    with consumer:
        own.register_with_event_loop(hub)
        turn(hub, lambda: len(seen) == 5)
        for settled in range(15):
            hub.call_later(0.001, seen[settled].ack)
            turn(hub, lambda wanted=settled + 6: len(seen) == wanted)
    assert [message.payload for message in seen] == list(range(20))


def test_an_error_of_a_consumer_leaves_the_loop_and_loses_no_message(
    connect: Any, connection: Connection, tasks: Any, hub: Hub
) -> None:
    seen: list[Any] = []

    class Bad(Exception):
        pass

    def take(body: Any, message: Message) -> None:
        message.ack()
        if body == "bad":
            raise Bad
        seen.append(body)

    hub.propagate_errors = (Bad,)
    own = connect()
    with Consumer(own, Queue("tasks", tasks.exchange, "tasks"), callbacks=[take]):
        own.register_with_event_loop(hub)
        publish(connection, tasks, 1, "bad", 2)
        with pytest.raises(Bad):
            turn(hub, lambda: False)
        # Rung again by what comes next, at the latest.
        publish(connection, tasks, 3)
        turn(hub, lambda: len(seen) == 3)
    assert seen == [1, 2, 3]


# -- What only one of them can be asked.


CONSUMER = """
import sys
sys.path.append(sys.argv[1])
from kombu import Connection, Consumer, Exchange, Queue
seen = []
def take(body, message):
    seen.append(body)
    message.ack()
queue = Queue("tasks", Exchange("tasks", "direct"), "tasks")
with Connection("localhost", transport="sqlite_transport:Transport", virtual_host=sys.argv[2]) as connection:
    with Consumer(connection, queue, callbacks=[take]):
        while len(seen) < 50:
            connection.drain_events(timeout=10)
print(seen)
"""


@pytest.mark.parametrize("broker", ["sqlite"], indirect=True)
def test_processes_share_what_is_in_a_file(broker: dict[str, str], connection: Connection, tasks: Any) -> None:
    support = str(Path(sqlite_transport.__file__).parent)
    with Background(publish, connection, tasks, *range(50)):
        done = interpreter.run(CONSUMER, support, broker["virtual_host"])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{list(range(50))}\n", "")


@pytest.mark.parametrize("broker", ["sqlite"], indirect=True)
def test_priorities_and_topics_of_the_emulated_broker_work(connection: Connection) -> None:
    exchange = Exchange("logs", "topic")
    queue = Queue("errors", exchange, "*.error")(connection.default_channel)
    queue.declare()
    producer = Producer(connection, exchange)
    for priority, key in ((1, "web.error"), (9, "db.error"), (5, "web.info")):
        producer.publish(key, routing_key=key, priority=priority)
    assert [queue.get(no_ack=True).payload for _ in range(2)] == ["db.error", "web.error"]
    assert queue.get() is None


def test_a_transport_may_be_given_a_scheme_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSPORT_ALIASES, "deques", "deque_transport:Transport")
    with Connection(f"deques://localhost/{next(NAMES)}") as connection:
        assert type(connection.transport) is deque_transport.Transport
        with connection.SimpleQueue("simple") as queue:
            queue.put(1)
            assert queue.get(timeout=10).payload == 1
