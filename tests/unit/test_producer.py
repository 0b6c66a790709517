"""Producers: what they publish, declare, retry and leave alone."""

from __future__ import annotations

import pickle

import pytest
from amqp import RecoverableConnectionError

from kombu.entity import Exchange, Queue
from kombu.exceptions import BatchPublishError, OperationalError
from kombu.messaging import Producer
from recording import ChannelClosed, ConnectionLost, RecordingChannel, RecordingConnection


@pytest.fixture
def connection():
    return RecordingConnection()


@pytest.fixture
def channel(connection):
    return connection.channel()


class TestChannel:
    def test_a_producer_of_a_connection_needs_no_channel_until_it_publishes(self, connection):
        producer = Producer(connection, Exchange("e"))
        assert connection.channels == []
        producer.publish("x")
        assert producer.channel is connection.channels[0]
        assert producer.exchange.channel is producer.channel

    def test_connection_is_the_one_given_or_the_channels(self, connection, channel):
        assert Producer(connection).connection is connection
        assert Producer(channel).connection is connection
        channel.connection = None
        assert Producer(channel).connection is None
        assert Producer(None).connection is None

    def test_an_unbound_producer_can_be_revived(self, channel):
        producer = Producer(None, Exchange("e"))
        producer.revive(channel)
        producer.publish("x")
        assert channel.published()[0][0] == b"x"

    def test_returned_messages_are_told_to_on_return(self, connection, channel):
        told = []
        Producer(channel, on_return=told.append)
        assert channel.events["basic_return"] == {told.append}
        lazily = Producer(connection, on_return=told.append)
        lazily.publish("x")
        assert lazily.channel.events["basic_return"] == {told.append}

    def test_pickling_keeps_all_but_the_channel(self, channel):
        producer = Producer(channel, Exchange("e"), "rk", "yaml", False, "gzip")
        again = pickle.loads(pickle.dumps(producer))
        assert (again.exchange, again.routing_key, again.serializer) == (Exchange("e"), "rk", "yaml")
        assert (again.auto_declare, again.compression, again._channel) == (False, "gzip", None)


class TestLeavesAlone:
    def test_the_callers_headers(self, channel):
        headers = {"h": 1}
        Producer(channel).publish({"a": 1}, headers=headers, compression="zlib")
        assert headers == {"h": 1}
        sent = channel.published()[0][4]
        assert sent == {"h": 1, "compression": "application/x-gzip"}

    def test_the_callers_headers_even_where_the_transport_keeps_the_dict(self, channel):
        headers = {"h": 1}
        Producer(channel).publish({"a": 1}, headers=headers)
        channel.published()[0][4]["h"] = 2
        assert headers == {"h": 1}

    def test_the_callers_list_of_declarations(self, channel):
        declare = [Queue("q")]
        Producer(channel, Exchange("e")).publish("x", declare=declare)
        assert declare == [Queue("q")]
        assert channel.names("exchange_declare", "queue_declare") == ["queue_declare", "exchange_declare"]

    @pytest.mark.parametrize("declare", [(Exchange("d"),), {Exchange("d")}, iter([Exchange("d")])])
    def test_declarations_may_be_any_iterable(self, channel, declare):
        Producer(channel, Exchange("e")).publish("x", declare=declare)
        assert [call.kwargs["exchange"] for call in channel.of("exchange_declare")] == ["d", "e"]

    def test_the_callers_properties(self, channel):
        properties = {"correlation_id": "c", "reply_to": Queue("answers")}
        Producer(channel).publish("x", **properties)
        assert properties == {"correlation_id": "c", "reply_to": Queue("answers")}
        assert channel.published()[0][5]["reply_to"] == "answers"

    def test_transport_options_and_the_retry_policy(self, connection):
        connection.transport_options = {"confirm_publish": True}
        policy = {"max_retries": 3, "interval_start": 0}
        Producer(connection).publish("x", retry=True, retry_policy=policy)
        assert connection.transport_options == {"confirm_publish": True}
        assert policy == {"max_retries": 3, "interval_start": 0}
        assert connection.policies == [policy]

    def test_the_default_exchange_object(self, channel):
        exchange = Exchange("e")
        Producer(channel, exchange).publish("x")
        assert not exchange.is_bound


def test_reply_to_has_the_name_that_a_declaration_found(channel):
    answers = Queue("")
    Producer(channel).publish("x", reply_to=answers, declare=[answers])
    assert channel.published()[0][5]["reply_to"] == "amq.gen-1"


def test_what_cannot_be_encoded_is_not_published(channel):
    with pytest.raises(Exception, match="JSON serializable"):
        Producer(channel).publish({"a": object()})
    assert channel.calls == []


class TestDeclares:
    def test_ten_thousand_publishes_declare_the_exchange_once(self, connection):
        producer = Producer(connection, Exchange("e"))
        for number in range(10_000):
            producer.publish("x", routing_key=str(number))
        (channel,) = connection.channels
        assert channel.names("exchange_declare", "basic_publish").index("exchange_declare") == 0
        assert len(channel.of("exchange_declare")) == 1
        assert len(channel.of("basic_publish")) == 10_000

    def test_producers_of_one_connection_share_what_has_been_declared(self, connection):
        for _ in range(3):
            Producer(connection, Exchange("e")).publish("x")
        assert len(connection.channels[0].of("exchange_declare")) == 1

    def test_declares_again_on_a_new_connection(self, connection):
        producer = Producer(connection, Exchange("e"))
        producer.publish("x")
        connection.channels[0].failures["basic_publish"] = [ConnectionLost()]
        producer.publish("y", retry=True)
        again = connection.channels[1].names("exchange_declare", "basic_publish")
        assert again == ["exchange_declare", "basic_publish"]

    def test_an_exchange_that_may_vanish_is_declared_each_time(self, channel):
        producer = Producer(channel, Exchange("e", auto_delete=True))
        producer.publish("x")
        producer.publish("x")
        assert len(channel.of("exchange_declare")) == 2

    def test_declares_nothing_when_told_not_to(self, channel):
        Producer(channel, Exchange("e"), auto_declare=False).publish("x")
        Producer(channel).publish("x")
        assert channel.of("exchange_declare") == []

    def test_declare_declares_at_once(self, channel):
        Producer(channel, Exchange("e")).declare()
        Producer(channel).declare()
        assert len(channel.of("exchange_declare")) == 1

    def test_maybe_declare_of_nothing_is_nothing(self, channel):
        assert Producer(channel).maybe_declare(None) is None
        assert channel.calls == []


class TestRetry:
    @pytest.mark.parametrize("max_retries", [0, 1, 3])
    @pytest.mark.parametrize("operation", ["basic_publish", "exchange_declare", "queue_declare"])
    def test_one_budget_holds_for_declaring_and_publishing(self, max_retries, operation):
        class Failing(RecordingConnection):
            def channel(self):
                channel = super().channel()
                channel.failures[operation] = [ConnectionLost("gone")]
                return channel

        connection = Failing()
        producer = Producer(connection, Exchange("e"))
        with pytest.raises(OperationalError, match="gone"):
            producer.publish("x", retry=True, retry_policy={"max_retries": max_retries}, declare=[Queue("q")])
        assert connection.counts == {"operations": 1, "attempts": max_retries + 1}
        assert sum(len(channel.of(operation)) for channel in connection.channels) == max_retries + 1

    def test_failures_of_different_kinds_use_up_the_same_budget(self, connection):
        failing = ["exchange_declare", "queue_declare", "basic_publish"]

        class Failing(RecordingConnection):
            def channel(self):
                channel = super().channel()
                if failing:
                    channel.failures[failing.pop(0)] = [ConnectionLost()]
                return channel

        connection = Failing()
        policy = {"max_retries": 3}
        Producer(connection, Exchange("e")).publish("x", retry=True, retry_policy=policy, declare=[Queue("q")])
        assert connection.counts == {"operations": 1, "attempts": 4}
        assert len(connection.channels[-1].of("basic_publish")) == 1

    def test_a_closed_channel_is_replaced(self, connection):
        producer = Producer(connection, Exchange("e"))
        producer.publish("x")
        connection.channels[0].connection = None
        connection.connection_errors = (ConnectionLost, RecoverableConnectionError)
        producer.publish("y", retry=True, declare=[Queue("q", Exchange("e"))])
        assert [call[0] for call in connection.channels[-1].published()] == [b"y"]

    def test_a_producer_of_a_channel_finds_its_connection_after_the_channel_is_gone(self, connection, channel):
        connection.connection_errors = (ConnectionLost, RecoverableConnectionError)
        producer = Producer(channel, Exchange("e"))
        channel.connection = None
        producer.publish("x", retry=True)
        assert connection.channels[-1].published()[0][0] == b"x"

    def test_without_any_connection_the_error_says_what_to_do(self):
        channel = RecordingChannel()
        channel.connection = None
        with pytest.raises(RecoverableConnectionError, match="give the producer a channel or a connection"):
            Producer(channel).publish("x", retry=True)

    def test_without_retry_the_error_comes_through(self, channel):
        channel.failures["basic_publish"] = [ConnectionLost("gone")]
        with pytest.raises(ConnectionLost):
            Producer(channel).publish("x")

    def test_tracing_tools_find_the_arguments_of_a_publish_by_position(self, channel, monkeypatch):
        seen = []
        monkeypatch.setattr(Producer, "_publish", lambda self, *args, **kwargs: seen.append((args, kwargs)))
        Producer(channel, Exchange("e")).publish("x", "rk", headers={"h": 1}, priority=3, correlation_id="c")
        ((args, kwargs),) = seen
        assert kwargs == {}
        assert args[:10] == (
            b"x", 3, "text/plain", "utf-8", {"h": 1}, {"correlation_id": "c", "delivery_mode": 2},
            "rk", False, False, "e",
        )


class Pool:
    def __init__(self):
        self.replaced = []

    def replace(self, connection):
        self.replaced.append(connection)


class TestExit:
    @pytest.fixture
    def pooled(self, connection):
        connection._pool = Pool()
        return connection

    @pytest.mark.parametrize(("error", "broken"), [
        (ConnectionLost(), True), (ChannelClosed(), False), (ValueError(), False), (KeyboardInterrupt(), False),
    ])
    def test_only_a_connection_error_replaces_a_pooled_connection(self, pooled, error, broken):
        with pytest.raises(type(error)), Producer(pooled):
            raise error
        assert pooled._pool.replaced == [pooled] * broken

    @pytest.mark.parametrize(("cause", "broken"), [(ConnectionLost(), True), (ChannelClosed(), False)])
    def test_an_operational_error_counts_as_what_caused_it(self, pooled, cause, broken):
        with pytest.raises(OperationalError), Producer(pooled):
            raise OperationalError("retries used up") from cause
        assert pooled._pool.replaced == [pooled] * broken

    def test_a_clean_exit_replaces_nothing(self, pooled):
        with Producer(pooled):
            pass
        assert pooled._pool.replaced == []

    @pytest.mark.parametrize("make", [lambda connection: connection, lambda connection: connection.channel()])
    def test_what_belongs_to_no_pool_is_left_to_its_owner(self, connection, make):
        with pytest.raises(ConnectionLost), Producer(make(connection)):
            raise ConnectionLost()

    def test_the_producer_is_released_either_way(self, pooled):
        class Released(Producer):
            released = 0

            def release(self):
                self.released += 1

        producer = Released(pooled)
        with producer:
            pass
        with pytest.raises(ValueError), producer:
            raise ValueError
        assert producer.released == 2


class Session:
    def __init__(self, channel, max_size):
        self.channel, self.max_size = channel, max_size
        self.log = []
        self.failures = {}

    def _do(self, name):
        self.log.append(name)
        if name in self.failures:
            raise self.failures[name]

    def publish(self, message, **kwargs):
        self._do("publish")
        return kwargs

    def flush(self):
        self._do("flush")

    def discard(self):
        self._do("discard")

    def close(self):
        self._do("close")


class BatchingChannel(RecordingChannel):
    def __init__(self, client=None):
        super().__init__(client)
        self.sessions = []

    def create_publish_batch(self, max_size):
        self.sessions.append(Session(self, max_size))
        return self.sessions[-1]


class TestBatch:
    @pytest.fixture
    def batching(self, connection):
        return BatchingChannel(connection)

    @pytest.mark.parametrize("max_size", [0, -1, 1.5, True, None, "9"])
    def test_a_size_that_is_no_positive_integer_is_refused(self, batching, max_size):
        with pytest.raises(ValueError, match="max_size must be a positive integer"):
            Producer(batching).batch(max_size=max_size)

    def test_publishes_go_into_a_session_that_is_flushed_and_closed(self, batching):
        producer = Producer(batching, Exchange("e"))
        with producer.batch(max_size=5):
            producer.publish("a", routing_key="k", timeout=3)
            producer.publish("b")
        (session,) = batching.sessions
        assert session.max_size == 5
        assert session.log == ["publish", "publish", "flush", "close"]
        assert batching.of("basic_publish") == []
        assert len(batching.of("exchange_declare")) == 1

    def test_the_session_gets_what_basic_publish_would(self, batching):
        producer = Producer(batching)
        with producer.batch():
            got = producer.publish("a", "k", mandatory=True, timeout=3, confirm_timeout=4)
        producer.publish("a", "k", mandatory=True, timeout=3, confirm_timeout=4)
        assert batching.of("basic_publish")[0].kwargs == got

    def test_an_empty_batch_makes_no_session(self, batching):
        with Producer(batching).batch():
            pass
        assert batching.sessions == []

    def test_other_channels_publish_at_once(self, channel):
        producer = Producer(channel)
        with producer.batch() as batch:
            producer.publish("a")
            assert len(channel.of("basic_publish")) == 1
            batch.flush()

    def test_a_channel_may_be_told_not_to_batch(self, batching):
        batching.supports_batch_publish = False
        producer = Producer(batching)
        with producer.batch():
            producer.publish("a")
        assert batching.sessions == [] and len(batching.of("basic_publish")) == 1

    def test_flush_sends_in_between(self, batching):
        producer = Producer(batching)
        with producer.batch() as batch:
            producer.publish("a")
            batch.flush()
        assert batching.sessions[0].log == ["publish", "flush", "flush", "close"]
        with pytest.raises(RuntimeError, match="not active"):
            batch.flush()

    def test_an_error_discards_what_was_not_sent(self, batching):
        producer = Producer(batching)
        with pytest.raises(ValueError), producer.batch():
            producer.publish("a")
            raise ValueError
        assert batching.sessions[0].log == ["publish", "discard", "close"]

    def test_nested_batches_share_the_outermost_session(self, batching):
        producer = Producer(batching)
        with producer.batch(max_size=7):
            producer.publish("a")
            with producer.batch(max_size=3):
                producer.publish("b")
            assert batching.sessions[0].log == ["publish", "publish"]
        assert [session.max_size for session in batching.sessions] == [7]

    def test_an_error_in_a_nested_batch_gives_all_of_it_up(self, batching):
        producer = Producer(batching)
        with producer.batch() as outer:
            producer.publish("a")
            with pytest.raises(ValueError), producer.batch():
                raise ValueError
            with pytest.raises(RuntimeError, match="Cannot publish through an aborted batch"):
                producer.publish("b")
            with pytest.raises(RuntimeError, match="Cannot flush an aborted batch"):
                outer.flush()
        assert batching.sessions[0].log == ["publish", "discard", "close"]

    def test_a_batch_is_used_once(self, batching):
        batch = Producer(batching).batch()
        with batch:
            pass
        with pytest.raises(RuntimeError, match="cannot be re-entered"):
            batch.__enter__()

    def test_a_new_channel_in_the_middle_is_an_error(self, batching, connection):
        producer = Producer(batching)
        with pytest.raises(RuntimeError, match="channel changed"), producer.batch():
            producer.publish("a")
            producer.revive(BatchingChannel(connection))
            producer.publish("b")
        assert batching.sessions[0].log == ["publish", "discard", "close"]

    def test_publishing_outside_is_not_affected_afterwards(self, batching):
        producer = Producer(batching)
        with pytest.raises(ValueError), producer.batch():
            raise ValueError
        producer.publish("a")
        assert len(batching.of("basic_publish")) == 1

    def test_a_failed_flush_is_raised_and_the_session_closed(self, batching):
        producer = Producer(batching)
        with pytest.raises(BatchPublishError, match="perhaps"), producer.batch():
            producer.publish("a")
            batching.sessions[0].failures = {"flush": BatchPublishError("perhaps"), "close": OSError("too")}
        assert batching.sessions[0].log == ["publish", "flush", "close"]

    def test_a_failed_clean_up_does_not_hide_the_error(self, batching, caplog):
        producer = Producer(batching)
        with pytest.raises(ValueError), producer.batch():
            producer.publish("a")
            batching.sessions[0].failures = {"discard": OSError("one"), "close": OSError("two")}
            raise ValueError
        assert batching.sessions[0].log == ["publish", "discard", "close"]
        assert [record.exc_info[1].args for record in caplog.records] == [("one",), ("two",)]

    def test_support_is_what_transport_and_channel_say(self, connection, channel):
        class Implements:
            batch_publish = True

        class Transport:
            implements = Implements()

        assert Producer(channel).supports_batch_publish is False
        connection.transport = Transport()
        assert Producer(channel).supports_batch_publish is True
        assert Producer(connection).supports_batch_publish is True
        channel.supports_batch_publish = False
        assert Producer(channel).supports_batch_publish is False
        connection.transport.supports_batch_publish = False
        assert Producer(connection).supports_batch_publish is False
        assert Producer(None).supports_batch_publish is False
