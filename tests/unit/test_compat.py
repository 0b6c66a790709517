"""The interface of carrot."""

from __future__ import annotations

import pytest

from kombu import compat
from kombu.entity import Exchange, Queue
from kombu.message import Message
from recording import RecordingConnection


@pytest.fixture
def connection():
    return RecordingConnection()


def message(body, channel):
    return Message(body, 1, "text/plain", "utf-8", channel=channel)


class TestPublisher:
    def test_makes_its_exchange_of_keywords(self, connection):
        publisher = compat.Publisher(connection, "e", "rk", "topic", durable=False, auto_delete=True)
        publisher.send("x")
        channel = connection.default_channel
        declared, sent = channel.of("exchange_declare")[0].kwargs, channel.of("basic_publish")[0].kwargs
        assert (declared["exchange"], declared["type"], declared["durable"], declared["auto_delete"]) == (
            "e", "topic", False, True,
        )
        assert (sent["exchange"], sent["routing_key"]) == ("e", "rk")
        assert publisher.backend is channel

    def test_makes_it_of_class_attributes(self, connection):
        class Own(compat.Publisher):
            exchange, exchange_type, routing_key, durable, auto_delete = "e", "fanout", "k", False, True

        publisher = Own(connection)
        assert (publisher.exchange.name, publisher.exchange.type) == ("e", "fanout")
        assert (publisher.routing_key, publisher.exchange.durable, publisher.exchange.auto_delete) == ("k", False, True)

    def test_takes_an_exchange_and_a_channel(self, connection):
        channel = connection.channel()
        publisher = compat.Publisher(connection, Exchange("e"), channel=channel)
        assert publisher.exchange == Exchange("e") and publisher.channel is channel

    def test_a_context_closes_it(self, connection):
        with compat.Publisher(connection, "e") as publisher:
            assert publisher._closed is False
        assert publisher._closed is True


class TestConsumer:
    @pytest.fixture
    def consumer(self, connection):
        return compat.Consumer(connection, "q", "e", "rk", exchange_type="topic", durable=False, auto_delete=True)

    def test_makes_its_queue_of_keywords(self, consumer):
        (queue,) = consumer.queues
        assert (queue.name, queue.routing_key, queue.durable, queue.auto_delete) == ("q", "rk", False, True)
        assert queue.exchange == Exchange("e", "topic", durable=False, auto_delete=True)

    def test_makes_it_of_class_attributes(self, connection):
        class Own(compat.Consumer):
            queue, exchange, exclusive = "q", "e", True

        assert Own(connection).queues[0].exclusive is True

    def test_has_a_channel_of_its_own_and_closes_it(self, connection, consumer):
        (channel,) = connection.channels
        assert consumer.backend is consumer.channel is channel
        with consumer:
            pass
        assert consumer._closed and channel.names()[-1] == "close"

    def test_fetch_returns_one_message_or_none(self, connection, consumer):
        seen = []
        consumer.register_callback(lambda body, message: seen.append(body))
        channel = connection.channels[0]
        channel.waiting.extend(message(body, channel) for body in "ab")
        assert consumer.fetch().payload == "a" and seen == []
        assert consumer.fetch(no_ack=True, enable_callbacks=True).payload == "b" and seen == ["b"]
        assert consumer.fetch() is None
        assert [call.kwargs["no_ack"] for call in channel.of("basic_get")] == [False, True, False]

    def test_iterqueue_ends_when_the_queue_is_empty_or_the_limit_reached(self, connection, consumer):
        channel = connection.channels[0]
        channel.waiting.extend(message(body, channel) for body in "abcd")
        assert [each.payload for each in consumer.iterqueue(limit=3)] == ["a", "b", "c"]
        assert len(channel.waiting) == 1  # nothing is fetched that is not returned
        assert [each.payload for each in consumer.iterqueue()] == ["d"]

    def test_iterating_goes_on_for_ever(self, connection, consumer):
        iterator = iter(consumer)
        assert next(iterator) is None
        channel = connection.channels[0]
        channel.waiting.append(message("a", channel))
        assert next(iterator).payload == "a"

    def test_iterconsume_and_wait_drain_events(self, connection, consumer):
        connection.events.extend([1, 2, 3])
        assert list(consumer.iterconsume(limit=1, no_ack=True)) == [1]
        assert consumer.wait(limit=2) == [2, 3]
        consumed = connection.channels[0].of("basic_consume")
        assert len(consumed) == 1 and consumed[0].kwargs["no_ack"] is True

    def test_discard_all_purges(self, consumer):
        assert consumer.discard_all() == 2
        with pytest.raises(NotImplementedError):
            consumer.discard_all(filterfunc=print)
        with pytest.raises(NotImplementedError, match="fetch"):
            consumer.process_next()

    def test_revive_moves_the_backend_too(self, connection, consumer):
        new = connection.channel()
        consumer.revive(new)
        assert consumer.backend is consumer.channel is new


class TestConsumerSet:
    OPTIONS = {"exchange": "e", "exchange_type": "topic", "routing_key": "k"}

    def test_has_queues_of_options_and_of_other_consumers(self, connection):
        other = compat.Consumer(connection, "other", "e")
        consumers = compat.ConsumerSet(connection, from_dict={"q": self.OPTIONS}, consumers=[other])
        assert [queue.name for queue in consumers.queues] == ["other", "q"]
        assert consumers.queues[1].exchange == Exchange("e", "topic")

    def test_takes_more_of_both(self, connection):
        consumers = compat.ConsumerSet(connection)
        consumers.add_consumer_from_dict("q", **self.OPTIONS)
        consumers.add_consumer(compat.Consumer(connection, "other", "e"))
        assert [queue.name for queue in consumers.queues] == ["q", "other"]
        assert consumers.discard_all() == 4
        assert compat.entry_to_queue("q", **self.OPTIONS) == Queue("q", Exchange("e", "topic"), "k")

    def test_drains(self, connection):
        connection.events.append(1)
        assert list(compat.ConsumerSet(connection, from_dict={"q": self.OPTIONS}).iterconsume(limit=1)) == [1]

    def test_closes_the_channel_that_is_its_own(self, connection):
        own = compat.ConsumerSet(connection)
        own.close()
        assert connection.channels[0].names() == ["close"]
        given = connection.channel()
        compat.ConsumerSet(connection, channel=given).close()
        assert given.names() == []

    def test_revive_moves_the_backend_too(self, connection):
        consumers = compat.ConsumerSet(connection)
        new = connection.channel()
        consumers.revive(new)
        assert consumers.backend is new
