"""The broker in memory: shared by the process, woken by publishing, safe for many threads and after a fork."""

from __future__ import annotations

import os
import threading
from collections import Counter
from queue import Empty

import pytest
from amqp.exceptions import RecoverableConnectionError

from interpreter import run
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.transport import memory
from kombu.transport.memory import MessageQueue

#: Seconds after which something is taken to hang.
LONG = 30


@pytest.fixture(autouse=True)
def empty_broker():
    yield
    memory.Channel.queues.clear()
    memory.Transport.global_state.clear()


@pytest.fixture
def connection():
    with Connection("memory://") as connection:
        yield connection


@pytest.fixture
def channel(connection):
    return connection.channel()


def publish(channel, body, exchange="", routing_key="q", **kwargs):
    message = channel.prepare_message(body, content_type="text/plain", content_encoding="utf-8", **kwargs)
    channel.basic_publish(message, exchange, routing_key)


def bodies(channel, queue, no_ack=True):
    found = iter(lambda: channel.basic_get(queue, no_ack=no_ack), None)
    return [message.body.decode() for message in found]


# -- Messages through it.


def test_what_is_published_is_consumed_on_another_connection():
    queue = Queue("tasks", Exchange("tasks"), "key")
    got = []
    with Connection("memory://") as one, Connection("memory://") as other:
        with Consumer(other.channel(), queue, callbacks=[lambda body, message: (got.append(body), message.ack())]):
            producer = Producer(one.channel(), queue.exchange, "key")
            for number in range(10):
                producer.publish({"number": number}, headers={"h": number}, priority=3)
            for _ in range(10):
                other.drain_events(timeout=LONG)
            with pytest.raises(TimeoutError):
                other.drain_events(timeout=0)
    assert got == [{"number": number} for number in range(10)]


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout"])
def test_exchange_types(connection, channel, kind):
    exchange = Exchange("e", kind)
    bound = [Queue("one", exchange, "a.b"), Queue("two", exchange, "a.*"), Queue("three", exchange, "x")]
    for queue in bound:
        queue(channel).declare()
    Producer(channel).publish("m", exchange=exchange, routing_key="a.b", serializer="json")
    expected = {"direct": ["one"], "topic": ["one", "two"], "fanout": ["one", "two", "three"]}[kind]
    assert [queue.name for queue in bound if queue(channel).get() is not None] == expected
    assert kind in connection.transport.implements.exchange_type


def test_simple_queues_work(connection):
    queue = connection.SimpleQueue("simple")
    queue.put({"a": 1})
    assert queue.qsize() == 1
    message = queue.get(timeout=LONG)
    assert message.payload == {"a": 1}
    message.ack()
    with pytest.raises(Empty):
        queue.get(timeout=0.01)
    queue.close()


def test_declaring_tells_how_many_messages_wait(channel):
    publish(channel, "x")
    publish(channel, "y")
    assert channel.queue_declare("q")[:2] == ("q", 2)
    assert channel.queue_purge("q") == 2
    assert channel.queue_declare("q", passive=True)[:2] == ("q", 0)


def test_asking_about_a_queue_that_is_not_there_does_not_make_it(channel):
    assert channel.basic_get("absent") is None
    assert channel._size("absent") == 0
    assert channel.queue_purge("absent") == 0
    assert "absent" not in channel.queues
    assert not channel._has_queue("absent")


def test_a_queue_without_bindings_is_deleted_too(channel):
    publish(channel, "x")
    channel.queue_delete("q", if_empty=True)
    assert channel._size("q") == 1
    channel.queue_delete("q")
    assert "q" not in channel.queues


def test_a_deleted_queue_is_routed_to_no_more(channel):
    channel.exchange_declare("e")
    channel.queue_bind("q", "e", "k")
    channel.queue_delete("q")
    publish(channel, "x", "e", "k")
    assert "q" not in channel.queues


def test_reply_queues_stay(channel):
    publish(channel, "x")
    channel.after_reply_message_received("q")
    assert channel._size("q") == 1


# -- Priorities.


def test_a_queue_declared_with_priorities_keeps_them_apart(connection, channel):
    queue = Queue("q", Exchange("e"), "k", max_priority=5)
    queue(channel).declare()
    for body, priority in (("low", 0), ("none", None), ("high", 5), ("middle", 3), ("above", 200), ("high again", 5)):
        publish(channel, body, "e", "k", priority=priority)
    assert channel._size("q") == 6
    assert [message["properties"]["priority"] for message in channel.queues["q"].queue] == [5, 200, 5, 3, 0, 0]
    assert bodies(channel, "q") == ["high", "above", "high again", "middle", "low", "none"]


def test_other_queues_have_no_priorities(channel):
    for body, priority in (("low", 0), ("high", 9)):
        publish(channel, body, priority=priority)
    assert bodies(channel, "q") == ["low", "high"]


def test_a_message_queue_by_itself():
    queue = MessageQueue(max_priority=2)
    assert queue.empty()
    for message, priority in (("a", 0), ("b", 7), ("c", -3), ("d", 1)):
        queue.put(message, priority)
    assert (queue.qsize(), queue.empty(), list(queue.queue)) == (4, False, ["b", "d", "a", "c"])
    assert queue.get() == "b"
    assert queue.clear() == 3
    with pytest.raises(Empty):
        queue.get()


# -- One message in several queues.


@pytest.fixture
def fanned_out(channel):
    """A message in q1 and q2."""
    channel.exchange_declare("f", "fanout")
    for queue in ("q1", "q2"):
        channel.queue_declare(queue)
        channel.queue_bind(queue, "f")
    publish(channel, "x", "f", "", headers={"h": 1})
    return channel


def test_each_queue_has_its_own_message(fanned_out):
    first, second = fanned_out.basic_get("q1"), fanned_out.basic_get("q2")
    assert first.delivery_tag != second.delivery_tag
    first.headers["h"] = first.properties["own"] = first.delivery_info["own"] = 2
    assert second.headers == {"h": 1}
    assert "own" not in second.properties and "own" not in second.delivery_info
    # With one tag for both, as 5.7 has it, this ack would settle the other message as well.
    first.ack()
    fanned_out.qos._flush()
    assert list(fanned_out.qos._delivered) == [second.delivery_tag]


def test_a_consumer_that_changes_headers_does_not_change_the_publishers(channel):
    headers = {"h": 1}
    publish(channel, "x", headers=headers)
    channel.basic_get("q").headers["h"] = 2
    assert headers == {"h": 1}


@pytest.mark.parametrize("how", ["requeue", "recover"])
def test_what_goes_back_goes_to_the_queue_it_came_from(fanned_out, how):
    message = fanned_out.basic_get("q1")
    if how == "requeue":
        message.requeue()
    else:
        fanned_out.basic_recover(requeue=True)
    # 5.7 routes it again, which makes it come twice out of the other queue.
    assert bodies(fanned_out, "q1") == ["x"]
    assert bodies(fanned_out, "q2") == ["x"]


def test_what_came_from_a_queue_that_is_gone_is_routed_again(fanned_out):
    message = fanned_out.basic_get("q1")
    fanned_out.queue_delete("q1")
    message.requeue()
    assert "q1" not in fanned_out.queues
    assert bodies(fanned_out, "q2") == ["x", "x"]


# -- Waiting.


def drain_in_thread(connection, timeout=LONG):
    """Drain one event in a thread that has begun to wait; return it and where its exception goes."""
    caught = []

    def drain():
        try:
            connection.drain_events(timeout=timeout)
        except BaseException as exc:
            caught.append(exc)

    transport = connection.transport
    thread = threading.Thread(target=drain)
    thread.start()
    for _ in range(LONG * 1000):
        if transport in memory._arrivals._waiting or not thread.is_alive():
            break
        thread.join(0.001)
    return thread, caught


@pytest.fixture
def patient():
    """A connection that does not look by itself."""
    with Connection("memory://", transport_options={"polling_interval": 10 * LONG}) as connection:
        yield connection


def test_publishing_wakes_who_waits(patient, channel):
    got = []
    patient.channel().basic_consume("q", True, got.append, "tag")
    thread, caught = drain_in_thread(patient)
    publish(channel, "x")
    thread.join(LONG)
    assert not thread.is_alive() and not caught
    assert [message.body for message in got] == [b"x"]


def test_a_fanout_and_a_requeue_wake_too(patient, channel):
    got = []
    consuming = patient.channel()
    channel.exchange_declare("f", "fanout")
    channel.queue_bind("q", "f")
    consuming.basic_consume("q", True, got.append, "tag")
    thread, _ = drain_in_thread(patient)
    publish(channel, "x", "f", "")
    thread.join(LONG)
    publish(channel, "y", routing_key="other")
    message = channel.basic_get("other")
    consuming.basic_consume("other", True, got.append, "another tag")
    thread, _ = drain_in_thread(patient)
    message.requeue()
    thread.join(LONG)
    assert [message.body for message in got] == [b"x", b"y"]


def test_what_was_published_before_waiting_is_not_missed(patient, channel, monkeypatch):
    # It arrives after the transport has looked and before it is registered as waiting.
    got = []
    patient.channel().basic_consume("q", True, got.append, "tag")
    register = memory._arrivals.register

    def register_late(watched, event):
        if watched == {"q"}:
            publish(channel, "x")
        register(watched, event)

    monkeypatch.setattr(memory._arrivals, "register", register_late)
    patient.drain_events(timeout=LONG)
    assert [message.body for message in got] == [b"x"]


def test_an_ack_of_another_thread_wakes_who_waits_for_room(patient, channel):
    got = []
    consuming = patient.channel()
    for body in "xy":
        publish(channel, body)
    consuming.basic_qos(prefetch_count=1)
    consuming.basic_consume("q", False, got.append, "tag")
    patient.drain_events(timeout=LONG)
    for settle in ("ack", "reject"):
        publish(channel, "more")
        thread, _ = drain_in_thread(patient)
        getattr(got[-1], settle)()
        thread.join(LONG)
        assert not thread.is_alive()
    assert len(got) == 3


def test_a_new_consumer_and_a_higher_limit_wake_who_waits(patient, channel):
    got = []
    consuming = patient.channel()
    for body in "xy":
        publish(channel, body)
    consuming.basic_qos(prefetch_count=1)
    thread, _ = drain_in_thread(patient)
    consuming.basic_consume("q", False, got.append, "tag")
    thread.join(LONG)
    thread, _ = drain_in_thread(patient)
    consuming.basic_qos(prefetch_count=2)
    thread.join(LONG)
    assert [message.body for message in got] == [b"x", b"y"]


def test_closing_wakes_who_waits_with_a_recoverable_error(patient):
    patient.channel().basic_consume("q", True, print, "tag")
    thread, caught = drain_in_thread(patient)
    patient.transport.close_connection(patient.connection)
    thread.join(LONG)
    assert isinstance(caught[0], RecoverableConnectionError)


def test_waiting_leaves_nothing_behind(connection):
    connection.channel().basic_consume("q", True, print, "tag")
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.01)
    assert not memory._arrivals._waiting


def test_an_idle_consumer_looks_once_an_interval(channel, monkeypatch):
    with Connection("memory://", transport_options={"polling_interval": 0.1}) as connection:
        looks = []
        consuming = connection.channel()
        consuming.basic_consume("q", True, print, "tag")
        get = consuming._get
        consuming._get = lambda queue: looks.append(queue) or get(queue)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.45)
        # Before it registers as waiting and after, each time; a busy one would look thousands of times.
        assert 2 <= len(looks) <= 15


def test_a_channel_of_a_subclass_that_holds_messages_back_does_not_make_it_spin(connection, channel):
    class Holding(memory.Channel):
        looks = 0

        def _get(self, queue, timeout=None):
            self.looks += 1
            raise Empty()

    own = Holding(connection.connection)
    connection.transport.channels.append(own)
    own.basic_consume("q", True, print, "tag")
    publish(channel, "x")
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.1)
    assert own.looks < 10


def test_a_cycle_of_ones_own_may_deliver_by_itself(connection):
    class Cycle:
        def get(self, callback, timeout=None):
            return "something happened"

    assert connection.connection
    connection.transport.cycle = Cycle()
    assert connection.drain_events(timeout=LONG) == 1


def test_messages_may_be_polled_for_where_a_channel_of_a_subclass_has_its_own(connection):
    class Own(memory.Channel):
        def _get(self, queue, timeout=None):
            return self.prepare_message("own", properties={"delivery_tag": "tag"})

    got = []
    own = Own(connection.connection)
    connection.transport.channels.append(own)
    own.basic_consume("anything", True, got.append, "tag")
    connection.drain_events(timeout=LONG)
    assert [message.body for message in got] == [b"own"]


def test_an_empty_queue_of_the_consumers_own_is_its_own_affair(connection, channel):
    # 5.7 takes it to mean that there was no message.
    def consume(message):
        raise Empty("mine")

    channel.basic_consume("q", False, consume, "tag")
    publish(channel, "x")
    publish(channel, "y")
    with pytest.raises(Empty, match="mine"):
        connection.drain_events(timeout=0)
    assert channel._size("q") == 1


def test_queues_are_served_in_turn(connection, channel):
    got = []
    for queue in "abc":
        channel.basic_consume(queue, True, lambda message: got.append(message.body.decode()), queue)
        for number in range(2):
            publish(channel, f"{queue}{number}", routing_key=queue)
    for _ in range(6):
        connection.drain_events(timeout=0)
    assert got == ["a0", "b0", "c0", "a1", "b1", "c1"]


def test_a_callback_may_drain_publish_and_cancel(connection, channel):
    got = []

    def consume(message):
        got.append(message.body)
        if message.body == b"first":
            publish(channel, "published")
            connection.drain_events(timeout=0)
            channel.basic_cancel("tag")

    channel.basic_consume("q", True, consume, "tag")
    publish(channel, "first")
    connection.drain_events(timeout=0)
    assert got == [b"first", b"published"]
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0)


# -- Threads.


@pytest.mark.stress
def test_many_publish_while_some_drain():
    publishers, consumers, each = 6, 3, 400
    seen, errors, left = Counter(), [], threading.Semaphore(0)
    stop = threading.Event()
    queue = Queue("q", Exchange("e"), "k")

    def publish_all(number):
        try:
            with Connection("memory://") as connection:
                producer = Producer(connection.channel(), queue.exchange, "k", auto_declare=True)
                for turn in range(each):
                    producer.publish([number, turn], declare=[queue])
        except BaseException as exc:
            errors.append(exc)

    def consume_all():
        def on_message(body, message):
            message.ack()
            seen[tuple(body)] += 1
            left.release()

        try:
            with Connection("memory://") as connection, Consumer(connection, queue, callbacks=[on_message]):
                while not stop.is_set():
                    try:
                        connection.drain_events(timeout=0.2)
                    except TimeoutError:
                        continue
        except BaseException as exc:
            errors.append(exc)

    drains = [threading.Thread(target=consume_all) for _ in range(consumers)]
    threads = drains + [threading.Thread(target=publish_all, args=(number,)) for number in range(publishers)]
    for thread in threads:
        thread.start()
    for _ in range(publishers * each):
        assert left.acquire(timeout=LONG), errors
    stop.set()
    for thread in threads:
        thread.join(LONG)
    assert not errors
    assert seen == {(number, turn): 1 for number in range(publishers) for turn in range(each)}


@pytest.mark.stress
def test_one_channel_may_be_published_on_by_many_threads(connection, channel):
    barrier = threading.Barrier(8)

    def run_one(number):
        barrier.wait()
        for turn in range(300):
            publish(channel, f"{number}-{turn}", routing_key=f"q{turn % 3}")

    threads = [threading.Thread(target=run_one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    found = [body for queue in ("q0", "q1", "q2") for body in bodies(channel, queue, no_ack=False)]
    assert sorted(found) == sorted(f"{number}-{turn}" for number in range(8) for turn in range(300))
    assert len(channel.qos._delivered) == 8 * 300


# -- Forks.

FORK = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12: there are threads, which is what this is about
from kombu import Connection
from kombu.transport import memory

def publish(channel, body):
    channel.basic_publish(channel.prepare_message(body), "", "q")

parent = Connection("memory://")
channel = parent.channel()
publish(channel, "before")

waiting = Connection("memory://", transport_options={"polling_interval": 600})
waiting.channel().basic_consume("q2", True, print, "tag")
thread = threading.Thread(target=waiting.drain_events, daemon=True)
thread.start()
while not memory._arrivals._waiting:
    pass
memory._arrivals._lock.acquire()  # as another thread may

pid = os.fork()
if pid == 0:
    own = Connection("memory://")
    mine, got = own.channel(), []
    publish(mine, "of the child")
    mine.basic_consume("q", True, lambda message: got.append(message.body.decode()), "own")
    own.drain_events(timeout=20)
    own.drain_events(timeout=20)
    threading.Thread(target=publish, args=(mine, "late")).start()
    own.drain_events(timeout=20)
    assert got == ["before", "of the child", "late"], got
    assert not memory._arrivals._waiting
    own.close()
    sys.stdout.flush()
    os._exit(0)
memory._arrivals._lock.release()
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert channel.basic_get("q").body == b"before"
assert channel.basic_get("q") is None
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_has_a_broker_of_its_own_and_no_lock_of_its_parent():
    outcome = run(FORK, timeout=2 * LONG)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.strip() == "done"


def test_a_hundred_connections_leave_nothing_behind():
    import gc

    def work():
        for _ in range(100):
            with Connection("memory://") as connection:
                with connection.channel() as channel:
                    channel.basic_consume("q", True, print, "tag")
                    publish(channel, "x", routing_key="other")
                    channel.basic_get("other").ack()

    work()
    counts = []
    for _ in range(3):
        work()
        gc.collect()
        counts.append(len(gc.get_objects()))
    assert counts[2] - counts[0] < 100


# -- Publishes that are planned.


def waiting(queue="q"):
    """Return the messages that wait, without what differs from one to the next."""
    found = []
    for message in memory.Channel.queues[queue].queue:
        properties = {**message["properties"]}
        assert properties.pop("delivery_tag")
        found.append({**message, "properties": properties})
    return found


@pytest.mark.parametrize("exchange", ["", "direct"])
def test_what_a_producer_sends_again_looks_as_at_first(channel, exchange):
    Queue("q", Exchange(exchange), "q")(channel).declare()
    producer = Producer(channel, Exchange(exchange), routing_key="q")
    for _ in range(3):
        producer.publish({"a": "ü"}, priority=4)
    producer.publish({"a": "ü"}, priority=5)
    first, second, third, other = waiting()
    assert first == second == third
    assert other["properties"].pop("priority") == 5
    assert first["properties"].pop("priority") == 4
    assert first == other
    assert first["properties"]["delivery_info"] == {"exchange": exchange, "routing_key": "q"}
    assert first["properties"]["body_encoding"] == "base64"


def test_messages_of_one_producer_share_nothing_that_can_be_changed(channel):
    channel.queue_declare("q")
    producer = Producer(channel, routing_key="q")
    for number in range(3):
        producer.publish(str(number))
    for message in (channel.basic_get("q", no_ack=True) for _ in range(2)):
        message.headers["seen"] = True
        message.delivery_info["seen"] = True
        message.properties["seen"] = True
    [last] = waiting()
    assert last["headers"] == {}
    assert "seen" not in last["properties"]
    assert "seen" not in last["properties"]["delivery_info"]


def test_bodies_of_all_kinds_are_the_bytes_that_they_were(channel):
    channel.queue_declare("q")
    producer = Producer(channel, routing_key="q")
    changed = bytearray(b"array")
    for body in (b"bytes", changed, memoryview(b"view"), "text", None):
        for _ in range(2):
            producer.publish(body, content_type="x/y")
    changed[:] = b"*****"
    expected = [body for body in ("bytes", "array", "view", "text") for _ in range(2)]
    assert bodies(channel, "q")[:8] == expected


@pytest.mark.parametrize(
    "name", ["prepare_message", "_inplace_augment_message", "encode_body", "basic_publish", "_put"]
)
def test_a_method_of_a_subclass_is_called_for_each_message(connection, name):
    called = []

    def own(self, *args, **kwargs):
        called.append(name)
        return getattr(memory.Channel, name)(self, *args, **kwargs)

    kind = type("Channel", (memory.Channel,), {name: own})
    channel = kind(connection.connection)
    channel.queue_declare("q")
    producer = Producer(channel, routing_key="q", serializer="json")
    for number in range(3):
        producer.publish(number)
    assert called == [name] * 3
    assert [message.payload for message in iter(lambda: channel.basic_get("q", no_ack=True), None)] == [0, 1, 2]


def test_a_codec_of_a_subclass_is_used(connection):
    class Hex:
        def encode(self, body):
            return (body.encode() if isinstance(body, str) else body).hex()

        def decode(self, body):
            return bytes.fromhex(body)

    kind = type("Channel", (memory.Channel,), {"codecs": {"base64": Hex()}})
    channel = kind(connection.connection)
    channel.queue_declare("q")
    producer = Producer(channel, routing_key="q")
    for _ in range(3):
        producer.publish("az")
    assert [message["body"] for message in waiting()] == ["617a"] * 3
    assert bodies(channel, "q") == ["az"] * 3


def test_a_producer_whose_channel_is_closed_says_so(connection):
    channel = connection.channel()
    channel.queue_declare("q")
    producer = Producer(channel, routing_key="q")
    for _ in range(2):
        producer.publish("x")
    channel.close()
    with pytest.raises(RecoverableConnectionError, match="publish a message"):
        producer.publish("x")


def test_a_batch_on_it_sends_at_once(channel):
    channel.queue_declare("q")
    producer = Producer(channel, routing_key="q")
    with producer.batch():
        for number in range(3):
            producer.publish(str(number))
            assert channel.queue_declare("q", passive=True).message_count == number + 1
    assert bodies(channel, "q") == ["0", "1", "2"]
