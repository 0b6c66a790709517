"""Delays written into routing keys: the ladder that is declared delivers after as many seconds as the key says."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu import Connection, Exchange, Queue, binding
from kombu.transport import native_delayed_delivery as delayed
from kombu.transport import virtual
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    calculate_routing_key,
    declare_native_delayed_delivery_exchanges_and_queues,
    level_name,
)
from kombu.transport.virtual.exchange import TopicExchange

LONGEST = 2**28 - 1


class Channel(virtual.Channel):
    """A channel that writes down exchanges, queues and bindings, exchanges to exchanges included."""

    def __init__(self, connection, **kwargs):
        super().__init__(connection, **kwargs)
        self.broker = connection.broker

    def exchange_declare(self, exchange=None, type="direct", **kwargs):
        self.broker.exchanges[exchange] = type

    def queue_declare(self, queue=None, passive=False, **kwargs):
        self.broker.queues[queue] = kwargs["arguments"]
        return super().queue_declare(queue, passive, **kwargs)

    def queue_bind(self, queue, exchange=None, routing_key="", arguments=None, **kwargs):
        self.broker.bound.append(("queue", queue, exchange, routing_key))

    def exchange_bind(self, destination, source="", routing_key="", nowait=False, arguments=None):
        self.broker.bound.append(("exchange", destination, source, routing_key))

    def _purge(self, queue):
        return 0


class Broker:
    """What was declared, and a message's way through it."""

    def __init__(self):
        self.exchanges, self.queues, self.bound = {}, {}, []

    def travel(self, exchange, key, seconds=0):
        """Return how long a message takes from *exchange* to where no ladder is, and the exchange it arrives at."""
        topics = TopicExchange(None)
        ways = [
            (kind, target)
            for kind, target, source, pattern in self.bound
            if source == exchange and re.match(topics.key_to_pattern(pattern), key)
        ]
        if "celery_delayed_delivery" in exchange:
            return seconds, exchange
        assert len(ways) == 1, (exchange, key, ways)
        kind, target = ways[0]
        if kind == "exchange":
            return self.travel(target, key, seconds)
        arguments = self.queues[target]
        waited = seconds + arguments["x-message-ttl"] / 1000
        return self.travel(arguments["x-dead-letter-exchange"], key, waited)


@pytest.fixture(scope="module")
def connect():
    broker = Broker()

    class Transport(virtual.Transport):
        pass

    Transport.Channel = Channel
    Transport.broker = broker
    with Connection(transport=Transport) as connection:
        yield connection, broker


@pytest.fixture
def connection(connect):
    return connect[0]


@pytest.fixture
def broker(connect):
    broker = connect[1]
    broker.__init__()
    return broker


@pytest.mark.parametrize("prefix", [None, "", "mine"])
@pytest.mark.parametrize("seconds", [1, 2, 3, 5, 60, 86400, LONGEST])
def test_a_message_travels_as_long_as_its_key_says(connection, broker, prefix, seconds):
    declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum", prefix)
    key = calculate_routing_key(seconds, "some.task")
    arrived = f"{prefix}_celery_delayed_delivery" if prefix else "celery_delayed_delivery"
    assert broker.travel(level_name(delayed.MAX_LEVEL, prefix), key) == (seconds, arrived)


def test_the_ladder_is_made_of_topic_exchanges_and_queues_of_the_type_asked_for(connection, broker):
    declare_native_delayed_delivery_exchanges_and_queues(connection, "classic")
    assert set(broker.exchanges.values()) == {"topic"}
    assert len(broker.exchanges) == len(broker.queues) + 1 == 29
    assert broker.queues["celery_delayed_0"] == {
        "x-queue-type": "classic",
        "x-overflow": "reject-publish",
        "x-message-ttl": 1000,
        "x-dead-letter-exchange": "celery_delayed_delivery",
    }
    declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
    assert broker.queues["celery_delayed_27"]["x-dead-letter-exchange"] == "celery_delayed_26"
    assert {each["x-dead-letter-strategy"] for each in broker.queues.values()} == {"at-least-once"}


def test_channels_are_closed_again(connection, broker):
    before = len(connection.transport.channels)
    declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
    bind_queue_to_native_delayed_delivery_exchange(connection, Queue("q", Exchange("e", "topic"), "k"))
    assert len(connection.transport.channels) == before


def test_an_unknown_queue_type_is_named(connection):
    with pytest.raises(ValueError, match="queue_type must be either classic or quorum, not 'stream'"):
        declare_native_delayed_delivery_exchanges_and_queues(connection, "stream")


def test_a_queue_is_bound_behind_the_delay(connection, broker):
    bind_queue_to_native_delayed_delivery_exchange(connection, Queue("q", Exchange("e", "topic"), "k"), "mine")
    assert broker.bound == [
        ("exchange", "e", "mine_celery_delayed_delivery", "#.k"),
        ("queue", "q", "e", "#.k"),
    ]


def test_each_binding_of_a_queue_is_bound(connection, broker):
    queue = Queue(
        "q", bindings=[binding(Exchange("one", "topic"), "#.a"), binding(Exchange("two", "fanout"), routing_key="b")]
    )
    bind_queue_to_native_delayed_delivery_exchange(connection, queue)
    assert sorted(broker.bound) == [
        ("exchange", "one", "celery_delayed_delivery", "#.a"),
        ("exchange", "two", "celery_delayed_delivery", "#.b"),
        ("queue", "q", "one", "#.a"),
        ("queue", "q", "two", "#.b"),
    ]


def test_a_direct_exchange_is_left_out_with_a_warning(connection, broker, caplog):
    bind_queue_to_native_delayed_delivery_exchange(connection, Queue("q", Exchange("straight"), "k"))
    assert broker.bound == []
    assert "Exchange straight is a direct exchange" in caplog.text


@given(st.integers(1, LONGEST), st.text(min_size=1))
def test_a_key_has_the_bits_of_the_delay_and_the_rest(seconds, key):
    bits, rest = calculate_routing_key(seconds, key)[:56], calculate_routing_key(seconds, key)[56:]
    assert int(bits.replace(".", ""), 2) == seconds
    assert rest == key or key.startswith("0.") or key.startswith("1.")


@given(st.lists(st.integers(1, LONGEST), min_size=1, max_size=5))
def test_a_retried_key_does_not_grow(delays):
    key = "celery.task"
    for seconds in delays:
        key = calculate_routing_key(seconds, key)
    assert key == calculate_routing_key(delays[-1], "celery.task")


@pytest.mark.parametrize(
    ("seconds", "key", "what"), [(0, "k", "countdown.*0"), (-1, "k", "-1"), (1, "", "routing_key")]
)
def test_impossible_delays_are_refused(seconds, key, what):
    with pytest.raises(ValueError, match=what):
        calculate_routing_key(seconds, key)


def test_level_names():
    assert level_name(3) == level_name(3, "") == "celery_delayed_3"
    assert level_name(3, "p") == "p_celery_delayed_3"
    with pytest.raises(ValueError, match="-1"):
        level_name(-1)
