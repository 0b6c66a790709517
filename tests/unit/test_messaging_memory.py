"""Sending and receiving over ``memory://``, also where the transport is made to fail."""

from __future__ import annotations

import threading
from collections import Counter
from time import monotonic

import amqp
import pytest

from kombu import Connection, Consumer, Exchange, Producer, Queue, pools
from kombu.common import Broadcast, collect_replies, drain_consumer, insured, itermessages, maybe_declare, send_reply
from kombu.exceptions import ContentDisallowed, DecodeError, OperationalError
from kombu.transport import memory, virtual

#: Serializers and compressions that need nothing but Python.
PLAIN = [("json", None), ("json", "zlib"), ("json", "bzip2"), ("pickle", "gzip"), ("raw", None)]


class Failing(memory.Transport):
    """A broker in memory that counts what it is asked for and fails as often as it is told."""

    # Told apart, as a transport that can do so is retried as often as the policy says.
    recoverable_connection_errors = (amqp.ConnectionError,)
    recoverable_channel_errors = (amqp.ChannelError,)

    global_state = virtual.BrokerState()
    counts: Counter[str] = Counter()
    failures: dict[str, list[BaseException]] = {}

    def establish_connection(self):
        self.happens("connect")
        return super().establish_connection()

    @classmethod
    def happens(cls, what):
        cls.counts[what] += 1
        if cls.failures.get(what):
            raise cls.failures[what].pop(0)

    class Channel(memory.Channel):
        def exchange_declare(self, *args, **kwargs):
            Failing.happens("exchange_declare")
            return super().exchange_declare(*args, **kwargs)

        def queue_declare(self, *args, **kwargs):
            Failing.happens("queue_declare")
            return super().queue_declare(*args, **kwargs)

        def basic_publish(self, *args, **kwargs):
            Failing.happens("basic_publish")
            return super().basic_publish(*args, **kwargs)

        def basic_consume(self, *args, **kwargs):
            Failing.happens("basic_consume")
            return super().basic_consume(*args, **kwargs)


def gone():
    return amqp.ConnectionError("gone")


@pytest.fixture
def failing():
    """Give the transport with clean counts."""
    Failing.counts = Counter()
    Failing.failures = {}
    Failing.global_state.clear()
    return Failing


@pytest.fixture
def connection():
    with Connection("memory://") as connection:
        yield connection


@pytest.fixture
def name(request):
    """Return a name for queues that no other test uses."""
    return request.node.nodeid


@pytest.fixture
def frail(failing):
    with Connection(transport=failing) as connection:
        yield connection


class TestRoundTrip:
    @pytest.mark.parametrize(("serializer", "compression"), PLAIN)
    def test_what_is_published_arrives(self, connection, name, serializer, compression):
        body = b"raw" if serializer == "raw" else {"a": [1, None, "ü"]}
        queue = Queue(name, Exchange(name, "topic"), "a.*")
        got = []
        accept = ["json", "pickle", "application/data"]
        with connection.Consumer(queue, callbacks=[lambda *received: got.append(received)], accept=accept):
            producer = connection.Producer(exchange=queue.exchange, serializer=serializer, compression=compression)
            producer.publish(body, routing_key="a.b", headers={"h": 1}, correlation_id="c", declare=[queue])
            connection.drain_events(timeout=5)
        ((received, message),) = got
        assert received == body
        assert message.headers["h"] == 1 and message.properties["correlation_id"] == "c"
        assert message.delivery_info["routing_key"] == "a.b"
        message.ack()
        assert queue(connection).get() is None

    def test_the_headers_of_the_sender_are_not_those_of_the_receiver(self, connection, name):
        headers = {"h": 1}
        queue = connection.SimpleQueue(name)
        queue.put(1, headers=headers)
        queue.get(timeout=5).headers["h"] = 2
        assert headers == {"h": 1}

    @pytest.mark.parametrize("serializer", ["json", "pickle"])
    @pytest.mark.parametrize("body", [None, 0, [], {}, "", False])
    def test_a_body_that_is_false_arrives_as_it_is(self, connection, name, serializer, body):
        queue = connection.SimpleQueue(name, serializer=serializer, accept=["json", "pickle"])
        queue.put(body)
        assert queue.get(timeout=5).payload == body

    def test_reply_to_may_be_a_queue(self, connection, name):
        answers, asked = Queue(f"{name}.answers"), connection.SimpleQueue(name)
        asked.put({"n": 1}, reply_to=answers, correlation_id="c", declare=[answers])
        request = asked.get(timeout=5)
        send_reply("", request, {"n": 2}, connection.Producer())
        assert list(collect_replies(connection, connection.default_channel, answers, limit=1, timeout=5)) == [{"n": 2}]


class TestMalformed:
    def publish(self, connection, name):
        Producer(connection).publish(b"{", name, content_type="application/json", declare=[Queue(name)])
        Producer(connection).publish(b"x", name, content_type="application/x-nonesuch")
        Producer(connection).publish(b"x", name, content_type="application/json", headers={"compression": "zlib"})

    def test_every_one_is_raised_out_of_drain_events_and_the_next_is_delivered(self, connection, name):
        self.publish(connection, name)
        with connection.Consumer(Queue(name), callbacks=[print], accept=["json"]):
            with pytest.raises(DecodeError):
                connection.drain_events(timeout=5)
            with pytest.raises(ContentDisallowed, match="application/x-nonesuch"):
                connection.drain_events(timeout=5)
            with pytest.raises(Exception, match="decompressing"):
                connection.drain_events(timeout=5)

    def test_every_one_reaches_on_decode_error(self, connection, name):
        self.publish(connection, name)
        failed = []

        def on_decode_error(message, exc):
            failed.append(exc)
            message.reject()

        with connection.Consumer(Queue(name), callbacks=[print], accept=["json"], on_decode_error=on_decode_error):
            for _ in range(3):
                connection.drain_events(timeout=5)
        assert [type(exc).__name__ for exc in failed] == ["DecodeError", "ContentDisallowed", "error"]


class TestHelpers:
    def test_itermessages_yields_up_to_its_limit(self, connection, name):
        queue = connection.SimpleQueue(name)
        for number in range(3):
            queue.put(number)
        channel = connection.channel()
        messages = itermessages(connection, channel, Queue(name, no_ack=True), limit=2, timeout=5)
        assert [body for body, _ in messages] == [0, 1]

    def test_drain_consumer_ends_when_nothing_comes(self, connection, name):
        assert list(drain_consumer(connection.Consumer(Queue(name)), limit=1, timeout=0.01)) == []

    def test_a_broadcast_reaches_every_queue(self, connection, name):
        consumers = [connection.Consumer(Broadcast(name), channel=connection.channel()) for _ in range(2)]
        got = []
        for consumer in consumers:
            consumer.register_callback(lambda body, message: got.append(body))
            consumer.consume()
        Producer(connection, Exchange(name, "fanout", durable=True)).publish("news")
        while len(got) < 2:
            connection.drain_events(timeout=5)
        assert got == ["news", "news"]

    def test_insured_publishes_through_a_failure(self, failing):
        def publish(body, connection, channel):
            Producer(channel).publish(body, "q")
            return "done"

        failing.failures = {"basic_publish": [gone()]}
        pool = Connection(transport=failing).Pool(1)
        try:
            assert insured(pool, publish, ("x",), {}, errback=lambda exc, interval: None, interval_start=0) == "done"
        finally:
            pool.force_close_all()
        assert failing.counts["basic_publish"] == 2


class TestBudget:
    """One budget for the whole publish: connecting, declaring and publishing (no waiting in between)."""

    POLICY = {"interval_start": 0, "interval_step": 0, "interval_max": 0}

    def publish(self, connection, max_retries, **options):
        producer = Producer(connection, Exchange("e"))
        policy = {**self.POLICY, "max_retries": max_retries}
        producer.publish("x", retry=True, retry_policy=policy, **options)

    @pytest.mark.parametrize("max_retries", [0, 1, 3])
    @pytest.mark.parametrize("operation", ["exchange_declare", "queue_declare", "basic_publish"])
    def test_what_keeps_failing_is_tried_once_and_retried_as_told(self, frail, failing, operation, max_retries):
        failing.failures = {operation: [gone() for _ in range(100)]}
        with pytest.raises(OperationalError, match="gone"):
            self.publish(frail, max_retries, declare=[Queue("q", Exchange("e"))])
        assert failing.counts[operation] == max_retries + 1
        assert failing.counts["connect"] == max_retries + 1

    @pytest.mark.parametrize("max_retries", [0, 1, 3])
    @pytest.mark.parametrize("call", ["first", "second"])
    def test_a_broker_that_is_down_is_not_tried_for_ever(self, frail, failing, max_retries, call):
        if call == "second":
            self.publish(frail, 0)
            frail.collect()
        failing.counts.clear()
        failing.failures = {"connect": [gone() for _ in range(100)]}
        with pytest.raises(OperationalError, match="gone"):
            self.publish(frail, max_retries)
        assert failing.counts["connect"] == max_retries + 1

    def test_different_failures_share_the_budget(self, frail, failing):
        failing.failures = {"connect": [gone()], "exchange_declare": [gone()], "basic_publish": [gone()]}
        self.publish(frail, 3)
        assert failing.counts == {"connect": 4, "exchange_declare": 3, "basic_publish": 2}
        failing.failures = {"connect": [gone(), gone()], "basic_publish": [gone()]}
        with pytest.raises(OperationalError):
            self.publish(frail, 2)

    def test_a_consumer_is_restored_within_the_same_budget(self, frail, failing):
        consumer = frail.Consumer(Queue("q"))
        failing.failures = {"basic_consume": [gone()]}
        frail.ensure(consumer, consumer.consume, max_retries=1, **self.POLICY)()
        assert consumer.consuming_from("q") and failing.counts["connect"] == 2


class TestDeclares:
    def test_ten_thousand_publishes_declare_once_a_connection(self, frail, failing):
        producer = Producer(frail, Exchange("e"))
        for _ in range(10_000):
            producer.publish(b"x", content_type="a/b", content_encoding="binary")
        assert failing.counts["exchange_declare"] == 1
        failing.failures = {"basic_publish": [gone()]}
        producer.publish(b"x", retry=True, retry_policy=TestBudget.POLICY)
        assert failing.counts["exchange_declare"] == 2 and failing.counts["connect"] == 2

    def test_a_new_connection_declares_again(self, frail, failing):
        queue = Queue("q", Exchange("e"))
        assert maybe_declare(queue, frail.default_channel) and not maybe_declare(queue, frail.default_channel)
        frail.collect()
        assert maybe_declare(queue, frail.default_channel)


class TestPooled:
    @pytest.fixture
    def pool(self, failing):
        with Connection(transport=failing) as connection:
            yield pools.producers[connection]
            pools.reset()

    def test_application_and_channel_errors_open_no_more_connections(self, pool, failing):
        limit = pool.limit
        for number in range(400):
            error = (None, ValueError("application"), amqp.ChannelError("channel"), None)[number % 4]
            try:
                with pool.acquire(block=True, timeout=5) as producer:
                    producer.publish(number, "q", retry=False)
                    if error:
                        raise error
            except (ValueError, amqp.ChannelError):
                pass
        assert failing.counts["basic_publish"] == 400
        assert failing.counts["connect"] <= limit

    def test_a_connection_error_replaces_the_connection(self, pool, failing):
        failing.failures = {"basic_publish": [gone()]}
        with pytest.raises(amqp.ConnectionError), pool.acquire(block=True, timeout=5) as producer:
            producer.publish("x", "q")
        with pool.acquire(block=True, timeout=5) as producer:
            producer.publish("y", "q")
        assert failing.counts["connect"] == 2


class TestSimple:
    def test_get_returns_within_its_timeout_while_others_get_messages(self, connection, name):
        other = connection.SimpleQueue(f"{name}.other")
        other._consume()
        stop = threading.Event()

        def disturb():
            with Connection("memory://") as second, second.SimpleQueue(f"{name}.other") as queue:
                while not stop.wait(0.01):
                    queue.put("noise")

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            started = monotonic()
            queue = connection.SimpleQueue(name)
            with pytest.raises(queue.Empty):
                queue.get(timeout=0.3)
            assert 0.3 <= monotonic() - started < 5
        finally:
            stop.set()
            thread.join()

    def test_a_buffer_is_a_queue_without_acknowledgements(self, connection, name):
        with connection.SimpleBuffer(name) as buffer:
            buffer.put({"a": 1})
            assert len(buffer) == 1
            assert buffer.get(timeout=5).payload == {"a": 1}
            assert buffer.clear() == 0


def test_many_threads_publish_with_one_producer_each(connection, name):
    queue = connection.SimpleQueue(name)

    def publish(start):
        with Connection("memory://") as own:
            producer = own.Producer(routing_key=name)
            for number in range(start, start + 200):
                producer.publish(number)

    threads = [threading.Thread(target=publish, args=(start,)) for start in range(0, 1000, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(queue.get(timeout=5).payload for _ in range(1000)) == list(range(1000))


def test_a_consumer_made_in_a_subclass_with_own_arguments_still_works(connection, name):
    class Own(Consumer):
        def __init__(self, channel, **kwargs):
            super().__init__(channel, [Queue(name)], accept=["json"], **kwargs)

    connection.SimpleQueue(name).put({"a": 1})
    got = []
    with Own(connection, callbacks=[lambda body, message: got.append(body)]):
        connection.drain_events(timeout=5)
    assert got == [{"a": 1}]
