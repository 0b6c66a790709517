"""Exchanges, queues and bindings, where test_entities_recorded.py does not look."""

from __future__ import annotations

import pickle
import sys

import pytest

from kombu.entity import Exchange, Queue, binding, maybe_delivery_mode
from kombu.exceptions import NotBoundError, SerializerNotInstalled
from kombu.message import Message
from recording import RecordingChannel


@pytest.fixture
def channel():
    return RecordingChannel()


def test_an_unknown_delivery_mode_is_an_error():
    with pytest.raises(KeyError, match="sometimes"):
        maybe_delivery_mode("sometimes")


@pytest.mark.parametrize("call", [
    lambda: Exchange("e").declare(), lambda: Exchange("e").delete(), lambda: Queue("q").declare(),
    lambda: Queue("q").get(), lambda: Queue("q").consume(), lambda: Queue("q").cancel("t"),
])
def test_an_unbound_entity_cannot_be_used(call):
    with pytest.raises(NotBoundError):
        call()


@pytest.mark.parametrize("exchange", [Exchange(), Exchange("amq.topic"), Exchange("e", no_declare=True)])
def test_exchanges_that_are_not_ours_are_not_declared(exchange, channel):
    assert exchange(channel).declare() is None
    assert channel.calls == []


def test_message_leaves_the_callers_properties_alone(channel):
    properties = {"app_id": "me"}
    Exchange("e")(channel).Message("text", delivery_mode="transient", properties=properties)
    assert properties == {"app_id": "me"}
    assert channel.of("prepare_message")[0].kwargs == {
        "properties": {"app_id": "me", "delivery_mode": 1}, "content_encoding": "utf-8",
    }


@pytest.mark.parametrize("kind", [list, tuple, set])
def test_a_queue_leaves_the_callers_bindings_alone(kind):
    kept = [binding(Exchange("a"), "k")]
    bindings = kind(kept)
    for queue in (Queue("q", bindings), Queue("q", bindings=bindings)):
        queue.bindings.add(binding(Exchange("b")))
        assert queue.exchange is None
    assert list(bindings) == kept


def test_an_unnamed_queue_takes_the_name_that_the_broker_chose(channel):
    queue = Queue()
    assert queue.declare(channel=channel) == queue.name == "amq.gen-1"


def test_on_declared_is_told_the_counts_by_the_bound_copy_too(channel):
    told = []
    queue = Queue("q", on_declared=lambda *counts: told.append(counts))
    queue(channel).queue_declare()
    assert told == [("q", 2, 0)]


def test_a_bound_queue_binds_its_exchange_and_leaves_the_original_unbound(channel):
    exchange = Exchange("e")
    bound = Queue("q", exchange)(channel)
    assert bound.exchange.is_bound and bound.exchange.channel is channel
    assert not exchange.is_bound


@pytest.mark.parametrize("exchange", ["e", Exchange("e")])
def test_unbind_from_takes_an_exchange_by_name_too(exchange, channel):
    Queue("q")(channel).unbind_from(exchange, "k")
    assert channel.of("queue_unbind")[0].kwargs["exchange"] == "e"


def test_exclusive_implies_auto_delete():
    assert Queue("q", exclusive=True).auto_delete is True


@pytest.mark.parametrize(("queue", "cached"), [
    (Queue("q"), True), (Queue("q", auto_delete=True), False), (Queue("q", exclusive=True), False),
    (Queue("q", queue_arguments={"x-expires": 1}), False), (Queue("q", queue_arguments={"x-max-length": 1}), True),
])
def test_what_may_vanish_is_not_remembered_as_declared(queue, cached):
    assert queue.can_cache_declaration is cached


def test_comparing_with_something_else_is_not_an_error():
    assert Exchange("e") != "e" and Queue("q") != "q"
    assert Exchange("e") != Queue("e")


def test_binding_remembers_the_pickled_exchange():
    edge = pickle.loads(pickle.dumps(binding(Exchange("e", "topic"), "k", {"a": 1})))
    assert (edge.exchange, edge.routing_key, edge.arguments) == (Exchange("e", "topic"), "k", {"a": 1})


class TestGet:
    def test_returns_none_when_the_queue_is_empty(self, channel):
        assert Queue("q", no_ack=True)(channel).get() is None
        assert channel.calls[0].kwargs == {"queue": "q", "no_ack": True}

    def test_names_of_serializers_are_accepted_as_content_types(self, channel):
        channel.waiting.append(Message(b"{}", content_type="application/json", channel=channel))
        message = Queue("q")(channel).get(accept=["json", "text/plain"])
        assert message.accept == {"application/json", "text/plain"}

    def test_an_unknown_name_is_an_error(self, channel):
        channel.waiting.append(Message(b"{}", channel=channel))
        with pytest.raises(SerializerNotInstalled, match="nonesuch"):
            Queue("q")(channel).get(accept=["nonesuch"])

    def test_a_raw_message_is_converted_by_its_channel(self, channel):
        channel.message_to_python = lambda raw: Message(raw, channel=channel)
        channel.waiting.append(b"raw")
        assert Queue("q")(channel).get().body == b"raw"

    def test_a_message_that_cannot_be_decompressed_raises(self, channel):
        channel.waiting.append(Message(b"no zlib", headers={"compression": "zlib"}, channel=channel))
        with pytest.raises(Exception, match="header") as raised:
            Queue("q")(channel).get()
        assert raised.type.__module__ == "zlib"


def test_entities_cost_no_reference_cycles(channel):
    queue = Queue("q", Exchange("e"))
    bound = queue(channel)
    assert sys.getrefcount(bound) <= 2
