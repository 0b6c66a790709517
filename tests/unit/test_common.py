"""Helpers on top of entities."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager

import pytest
from amqp import ChannelError, RecoverableConnectionError

from kombu import common
from kombu.common import (
    Broadcast,
    QoS,
    collect_replies,
    drain_consumer,
    eventloop,
    ignore_errors,
    insured,
    itermessages,
    maybe_declare,
    send_reply,
)
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError
from kombu.message import Message
from kombu.messaging import Consumer, Producer
from recording import ChannelClosed, ConnectionLost, RecordingConnection


@pytest.fixture
def connection():
    return RecordingConnection()


@pytest.fixture
def channel(connection):
    return connection.channel()


class TestIds:
    def test_an_id_belongs_to_object_process_and_thread(self, monkeypatch):
        one, other = object(), object()
        here = common.oid_from(one)
        assert here == common.oid_from(one) != common.oid_from(other)
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append((common.oid_from(one), common.oid_from(one, False))))
        thread.start()
        thread.join()
        assert elsewhere[0][0] != here
        assert elsewhere[0][1] == common.oid_from(one, threads=False)
        monkeypatch.setattr(common.os, "getpid", lambda: -1)
        assert common.oid_from(one) != here

    def test_it_can_be_made_without_md5(self, monkeypatch):
        def refused(*args):
            raise ValueError("[digital envelope routines] unsupported")

        made_with_md5 = common.generate_oid(1, 2, 3, self)
        monkeypatch.setattr(common, "uuid3", refused)
        assert len(common.generate_oid(1, 2, 3, self)) == 36
        assert common.generate_oid(1, 2, 3, self) != made_with_md5


class TestBroadcast:
    def test_every_queue_has_a_name_of_its_own(self):
        one, other = Broadcast("news"), Broadcast("news")
        assert one.name != other.name and one.name.startswith("bcast.")
        assert one.exchange == Exchange("news", type="fanout") and one.alias == "news" and one.auto_delete

    def test_a_name_may_be_given_and_made_unique(self):
        assert Broadcast("news", queue="mine").name == "mine"
        unique = Broadcast("news", queue="mine", unique=True).name
        assert unique.startswith("mine.") and unique != Broadcast("news", queue="mine", unique=True).name

    def test_a_bound_copy_keeps_the_name(self, channel):
        queue = Broadcast("news")
        assert queue(channel).name == queue.name


class TestMaybeDeclare:
    @pytest.mark.parametrize("entity", [Exchange("e"), Queue("q")])
    def test_declares_once_a_connection(self, connection, entity):
        assert maybe_declare(entity, connection.channel()) is True
        assert maybe_declare(entity, connection.channel()) is False
        assert common.declaration_cached(entity, connection.default_channel)
        assert maybe_declare(entity, connection.reconnect()) is True

    def test_takes_the_channel_that_the_entity_is_bound_to(self, channel):
        assert maybe_declare(Exchange("e")(channel)) is True
        assert len(channel.of("exchange_declare")) == 1

    def test_takes_a_connection(self, connection):
        assert maybe_declare(Exchange("e"), connection) is True
        assert len(connection.default_channel.of("exchange_declare")) == 1

    def test_an_unbound_entity_without_a_channel_is_an_error(self):
        for retry in (False, True):
            with pytest.raises(ChannelError, match="Cannot bind channel None to entity"):
                maybe_declare(Exchange("e"), None, retry=retry)

    @pytest.mark.parametrize("retry", [False, True])
    @pytest.mark.parametrize("bound", [False, True])
    def test_a_closed_channel_is_a_recoverable_error(self, channel, retry, bound):
        entity = Exchange("e")(channel) if bound else Exchange("e")
        channel.connection = None
        with pytest.raises(RecoverableConnectionError, match="disconnected"):
            maybe_declare(entity, channel, retry=retry)

    def test_takes_the_entitys_channel_where_the_other_one_is_closed(self, connection):
        closed, alive = connection.channel(), connection.channel()
        closed.connection = None
        assert maybe_declare(Exchange("e")(alive), closed) is True
        assert len(alive.of("exchange_declare")) == 1

    @pytest.mark.parametrize("retry", [False, True])
    def test_unnamed_queues_are_named_each(self, channel, retry):
        for _ in range(2):
            queue = Queue("")
            assert maybe_declare(queue, channel, retry=retry) is True
            assert queue.name == "amq.gen-1"
        assert len(channel.of("queue_declare")) == 2

    def test_what_may_vanish_is_declared_each_time(self, channel):
        for _ in range(2):
            assert maybe_declare(Queue("q", auto_delete=True), channel) is True

    def test_a_failed_declaration_is_not_remembered(self, channel):
        channel.failures["exchange_declare"] = [ChannelClosed()]
        with pytest.raises(ChannelClosed):
            maybe_declare(Exchange("e"), channel)
        assert maybe_declare(Exchange("e"), channel) is True

    def test_retry_declares_again_on_the_new_channel(self, connection, channel):
        channel.failures["queue_declare"] = [ConnectionLost()]
        assert maybe_declare(Queue("q", Exchange("e")), channel, retry=True, max_retries=1) is True
        assert connection.channels[-1].names() == ["exchange_declare", "queue_declare", "queue_bind"]
        assert connection.policies == [{"max_retries": 1}]

    def test_retry_ends_with_its_policy(self, connection):
        class Failing(RecordingConnection):
            def channel(self):
                channel = super().channel()
                channel.failures["exchange_declare"] = [ConnectionLost()]
                return channel

        connection = Failing()
        with pytest.raises(OperationalError):
            maybe_declare(Exchange("e"), connection.channel(), retry=True, max_retries=2)
        assert connection.counts["attempts"] == 3

    def test_retry_leaves_a_closed_channel_for_the_one_given(self, connection):
        closed, alive = connection.channel(), connection.channel()
        entity = Exchange("e")(closed)
        closed.connection = None
        assert maybe_declare(entity, alive, retry=True) is True
        assert len(alive.of("exchange_declare")) == 1


class TestEventloop:
    def test_yields_what_is_drained_as_often_as_told(self, connection):
        connection.events.extend([1, 2, 3])
        assert list(eventloop(connection, limit=2, timeout=5)) == [1, 2]
        assert connection.timeouts == [5, 5]

    @pytest.mark.parametrize("limit", [None, 0])
    def test_goes_on_for_ever_without_a_limit(self, connection, limit):
        connection.events.extend([*range(100), ConnectionLost()])
        seen = []
        with pytest.raises(ConnectionLost):
            seen.extend(eventloop(connection, limit=limit))
        assert connection.timeouts == [None] * 101

    def test_a_timeout_is_raised_unless_ignored(self, connection):
        with pytest.raises(TimeoutError):
            list(eventloop(connection, limit=1, timeout=1))
        assert list(eventloop(connection, limit=2, timeout=1, ignore_timeouts=True)) == []
        assert list(eventloop(connection, limit=1, timeout=0)) == []

    def test_nothing_happens_before_it_is_iterated(self, connection):
        eventloop(connection, limit=1)
        assert connection.timeouts == []


def delivers(channel, *bodies):
    """Return an event that delivers messages to the channel's only consumer."""
    def deliver():
        for body in bodies:
            channel.deliver(Message(body, 1, "text/plain", "utf-8", channel=channel))
    return deliver


class TestDraining:
    def test_yields_body_and_message_of_each_event(self, connection, channel):
        connection.events.extend([delivers(channel, "a"), delivers(channel, "b"), delivers(channel, "c")])
        got = list(drain_consumer(Consumer(channel, Queue("q")), limit=2, timeout=3))
        assert [body for body, _ in got] == ["a", "b"]
        assert got[0][1].payload == "a"
        assert connection.timeouts == [3, 3]
        assert channel.names("basic_consume", "basic_cancel") == ["basic_consume", "basic_cancel"]

    def test_messages_of_one_event_are_all_yielded_up_to_the_limit(self, connection, channel):
        connection.events.extend([delivers(channel, "a", "b"), delivers(channel, "c", "d")])
        got = drain_consumer(Consumer(channel, Queue("q")), limit=3, timeout=3)
        assert [body for body, _ in got] == ["a", "b", "c"]

    def test_waiting_in_vain_counts(self, connection, channel):
        assert list(drain_consumer(Consumer(channel, Queue("q")), limit=2, timeout=1)) == []
        assert connection.timeouts == [1, 1]

    def test_callbacks_are_called_as_well(self, connection, channel):
        connection.events.append(delivers(channel, "a"))
        seen, callbacks = [], [lambda body, message: seen.append(body)]
        list(drain_consumer(Consumer(channel, Queue("q")), limit=1, callbacks=callbacks))
        assert seen == ["a"] and len(callbacks) == 1

    def test_itermessages_makes_the_consumer(self, connection, channel):
        made = {}

        def make(queues, channel, **kwargs):
            made.update(kwargs, queues=queues)
            return Consumer(channel, queues, **kwargs)

        connection.Consumer = make
        connection.events.append(delivers(channel, "a"))
        queue = Queue("q")
        assert [body for body, _ in itermessages(connection, channel, queue, limit=1, no_ack=True)] == ["a"]
        assert made == {"queues": [queue], "no_ack": True}


class TestReplies:
    def test_a_reply_goes_where_the_request_says(self, channel):
        request = Message(
            b"{}", 1, "application/x-python-serialize", "binary", channel=channel,
            properties={"reply_to": "back", "correlation_id": "c"},
        )
        send_reply(Exchange("answers"), request, {"a": 1}, Producer(channel), app_id="me")
        _, _, content_type, _, _, properties = channel.published()[0]
        assert content_type == "application/x-python-serialize"
        assert properties["correlation_id"] == "c" and properties["app_id"] == "me"
        sent = channel.of("basic_publish")[0].kwargs
        assert (sent["exchange"], sent["routing_key"]) == ("answers", "back")

    def test_properties_given_win_over_the_requests(self, channel):
        request = Message(b"{}", 1, "application/json", "utf-8", channel=channel, properties={"reply_to": "back"})
        policy = {"max_retries": 1}
        send_reply("", request, 1, Producer(channel), routing_key="elsewhere", retry=True, retry_policy=policy)
        assert channel.of("basic_publish")[0].kwargs["routing_key"] == "elsewhere"
        assert channel.connection.client.policies == [{"max_retries": 1}]

    @pytest.mark.parametrize(("no_ack", "acked"), [(True, 0), (False, 2)])
    def test_replies_are_collected_and_acknowledged_if_asked_to(self, connection, channel, no_ack, acked):
        connection.Consumer = lambda queues, channel, **kwargs: Consumer(channel, queues, **kwargs)
        connection.events.extend([delivers(channel, "a"), delivers(channel, "b")])
        got = list(collect_replies(connection, channel, Queue("q"), limit=2, timeout=1, no_ack=no_ack))
        assert got == ["a", "b"]
        assert len(channel.of("basic_ack")) == acked
        assert channel.of("after_reply_message_received")[0].args == ("q",)

    def test_the_channel_is_not_told_of_replies_that_did_not_come(self, connection, channel):
        connection.Consumer = lambda queues, channel, **kwargs: Consumer(channel, queues, **kwargs)
        assert list(collect_replies(connection, channel, Queue("q"), limit=1, timeout=1)) == []
        assert channel.of("after_reply_message_received") == []


class TestIgnoreErrors:
    @pytest.mark.parametrize("error", [ConnectionLost, ChannelClosed])
    def test_connection_and_channel_errors_are_ignored(self, connection, error):
        def fun(*args, **kwargs):
            raise error(args, kwargs)

        assert ignore_errors(connection, fun, 1, a=2) is None
        with ignore_errors(connection):
            fun()

    def test_others_are_not(self, connection):
        with pytest.raises(ValueError), ignore_errors(connection):
            raise ValueError

    def test_the_result_is_returned(self, connection):
        assert ignore_errors(connection, lambda a, b: a + b, 1, b=2) == 3

    def test_lists_of_errors_will_do(self):
        class Owner:
            connection_errors = [KeyError]
            channel_errors = (IndexError,)

        with ignore_errors(Owner):
            raise KeyError


class TestInsured:
    class Pool:
        def __init__(self, connection):
            self.connection = connection

        @contextmanager
        def acquire(self, block):
            assert block is True
            yield self.connection

    class Connection(RecordingConnection):
        def ensure_connection(self, errback):
            self.ensured_with = errback

        def autoretry(self, fun, channel, errback, on_revive, **options):
            self.options = options

            def retrying(*args, **kwargs):
                errback(ConnectionLost(), 3)
                on_revive(channel)
                return fun(*args, channel=channel, **kwargs), channel
            return retrying

    def test_gives_connection_and_channel_and_returns_the_result(self):
        connection, told, revived = self.Connection(), [], []
        kwargs = {"b": 2}
        result = insured(
            self.Pool(connection), lambda *args, **kwargs: (args, kwargs), (1,), kwargs,
            errback=lambda *args: told.append(args), on_revive=revived.append, max_retries=4,
        )
        channel = connection.default_channel
        assert result == ((1,), {"b": 2, "connection": connection, "channel": channel})
        assert kwargs == {"b": 2} and revived == [channel] and connection.options == {"max_retries": 4}
        assert len(told) == 1 and connection.ensured_with is not None

    def test_errors_are_logged_when_nobody_else_is_told(self, caplog):
        insured(self.Pool(self.Connection()), lambda **kwargs: None, (), {})
        assert "Retry in 3s" in caplog.text


class TestQoS:
    @pytest.fixture
    def sent(self):
        return deque()

    @pytest.fixture
    def qos(self, sent):
        return QoS(lambda prefetch_count: sent.append(prefetch_count), 10)

    def test_update_sends_a_count_once(self, qos, sent):
        assert qos.update() == 10
        qos.update()
        assert list(sent) == [10] and qos.prev == 10

    def test_changes_are_sent_by_the_next_update(self, qos, sent):
        assert qos.increment_eventually() == 11
        assert qos.increment_eventually(4) == 15
        assert qos.decrement_eventually(5) == 10
        assert qos.increment_eventually(-3) == 10
        assert not sent
        qos.decrement_eventually()
        qos.update()
        assert list(sent) == [9]

    def test_the_count_goes_down_to_one_and_up_to_the_bound(self, sent):
        qos = QoS(sent.append, 2, max_prefetch=4)
        assert qos.decrement_eventually(9) == 1
        assert qos.increment_eventually(9) == 4

    @pytest.mark.parametrize("initial", [0, None])
    def test_no_limit_stays_no_limit(self, sent, initial):
        qos = QoS(sent.append, initial)
        assert qos.increment_eventually() == qos.decrement_eventually() == 0

    def test_more_than_the_protocol_can_say_is_no_limit(self, qos, sent, caplog):
        assert qos.set(2**16) == 2**16
        assert list(sent) == [0] and qos.prev == 2**16
        assert "prefetch_count exceeds 65535" in caplog.text
        qos.set(2**16 - 1)
        assert list(sent) == [0, 2**16 - 1]

    def test_threads_lose_no_change(self, sent):
        qos = QoS(lambda prefetch_count: sent.append(prefetch_count), 1000)

        def change():
            for _ in range(2000):
                qos.increment_eventually()
                qos.decrement_eventually()
                qos.increment_eventually()

        threads = [threading.Thread(target=change) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert qos.value == 9000
