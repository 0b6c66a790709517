"""Consumers that get their messages many at a time: sizes, order, settling together, errors, cancel and close."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from amqp.exceptions import ChannelError, RecoverableConnectionError

from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.consumer_batch import Gatherer, MessageBatch
from kombu.exceptions import MessageStateError
from patience import PATIENCE


@pytest.fixture
def connection(peer, connect):
    return connect(peer)


def consumer_on(channel: Any, on_batch: Any, **options: Any) -> Consumer:
    options = {"accept": ["json"], "batch_size": 10, **options}
    return Consumer(channel, Queue("q"), on_batch=on_batch, auto_declare=False, **options)


def deliver(session: Any, *numbers: int, body: bytes | None = None) -> None:
    [tag] = session.consumers
    for number in numbers:
        session.send_delivery(
            b"%d" % number if body is None else body, consumer_tag=tag,
            properties={"content_type": "application/json", "content_encoding": "utf-8"},
        )
    session.flush()


def drain(connection: Any, count: int, at_once: int = 100) -> None:
    while count:
        count -= connection.drain_events(timeout=PATIENCE, max_events=min(at_once, count))


def settled(session: Any, channel: Any) -> list[tuple[Any, ...]]:
    """Return what has been acknowledged and rejected, once the peer has answered something behind it."""
    channel.queue_declare("marker")
    return [
        (method.name, method.delivery_tag, bool(method.args.get("multiple") or method.args.get("requeue")))
        for method in session.methods
        if method.name in ("basic.ack", "basic.reject")
    ]


# -- gathering


def test_what_is_there_comes_as_one_batch(peer, connection):
    got: list[Any] = []
    with consumer_on(connection, got.append):
        deliver(peer.session(), *range(5))
        drain(connection, 5)
    [batch] = got
    assert isinstance(batch, MessageBatch)
    assert batch.payloads == [0, 1, 2, 3, 4]
    assert [message.payload for message in batch] == batch.payloads
    assert len(batch) == 5 and batch[0].payload == 0 and batch[1:3].payloads == [1, 2]
    assert repr(batch) == "<MessageBatch of 5, 5 unsettled>"


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_a_full_batch_is_handed_on_at_once(peer, connection, at_once):
    got: list[Any] = []
    with consumer_on(connection, got.append, batch_size=3):
        deliver(peer.session(), *range(8))
        drain(connection, 8, at_once)
    assert [number for batch in got for number in batch.payloads] == list(range(8))
    assert max(map(len, got)) <= 3
    assert len(got) >= 3


def test_nobody_waits_while_messages_are_gathered(peer, connection):
    got: list[Any] = []
    with consumer_on(connection, got.append):
        for number in range(3):
            deliver(peer.session(), number)
            connection.drain_events(timeout=PATIENCE)
            assert sum(map(len, got)) == number + 1


def test_what_a_synchronous_method_brought_is_handed_on_before_anybody_waits(peer, connection):
    got: list[Any] = []
    channel = connection.channel()
    with consumer_on(channel, got.append):
        deliver(peer.session(), 1, 2)
        channel.queue_declare("other")
        with pytest.raises(TimeoutError):
            while True:
                connection.drain_events(timeout=0.05)
        assert [number for batch in got for number in batch.payloads] == [1, 2]


def test_many_batches_leave_nothing_behind(peer, connection):
    with consumer_on(connection, lambda batch: batch.ack(), batch_size=2) as consumer:
        for start in range(0, 60, 20):
            deliver(peer.session(), *range(start, start + 20))
            drain(connection, 20)
        assert len(consumer._gatherer) == 0
        assert connection.default_channel.unacked == set()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"batch_size": 0}, ValueError),
        ({"batch_size": True}, TypeError),
        ({"batch_size": 1.5}, TypeError),
        ({"on_message": print}, ValueError),
        ({"callbacks": [print]}, ValueError),
    ],
)
def test_what_makes_no_sense_is_refused(connection, options, error):
    with pytest.raises(error, match="batch"):
        consumer_on(connection, print, **options)
    with pytest.raises(TypeError, match="on_batch has to be callable"):
        Gatherer("no function")


# -- settling


def one_batch(peer: Any, connection: Any, count: int, **options: Any) -> tuple[Any, Any, Any]:
    got: list[Any] = []
    channel = connection.channel()
    consumer_on(channel, got.append, batch_size=count, **options).consume()
    deliver(peer.session(), *range(count))
    drain(connection, count)
    return got[0], channel, peer.session()


def test_ack_is_one_frame(peer, connection):
    batch, channel, session = one_batch(peer, connection, 5)
    batch.ack()
    batch.ack()
    assert settled(session, channel) == [("basic.ack", 5, True)]
    assert all(message.acknowledged for message in batch)
    assert channel.unacked == set()
    with pytest.raises(MessageStateError):
        batch[0].ack()


def test_one_message_is_acknowledged_by_itself(peer, connection):
    batch, channel, session = one_batch(peer, connection, 1)
    batch.ack()
    assert settled(session, channel) == [("basic.ack", 1, False)]


def test_what_was_settled_before_is_respected(peer, connection):
    batch, channel, session = one_batch(peer, connection, 6)
    batch[1].reject()
    batch[3].ack()
    batch[5].requeue()
    batch.ack()
    assert settled(session, channel) == [
        ("basic.reject", 2, False), ("basic.ack", 4, False), ("basic.reject", 6, True), ("basic.ack", 5, True),
    ]
    assert [message._state for message in batch] == ["ACK", "REJECTED", "ACK", "ACK", "ACK", "REQUEUED"]


def test_a_message_of_somebody_else_is_left_alone(peer, connection):
    other: list[Any] = []
    got: list[Any] = []
    channel = connection.channel()
    consumer_on(channel, got.append, batch_size=6).consume()
    [tag] = peer.session().consumers
    channel.basic_consume("q2", "other", callback=other.append)
    session = peer.session()
    for number in range(7):
        session.send_delivery(
            b"%d" % number, consumer_tag="other" if number == 3 else tag,
            properties={"content_type": "application/json", "content_encoding": "utf-8"},
        )
    drain(connection, 7)
    got[0].ack()
    assert settled(session, channel) == [("basic.ack", 3, True)] + [("basic.ack", n, False) for n in (5, 6, 7)]
    assert not other[0].acknowledged and channel.unacked == {4}


def test_batches_may_be_settled_out_of_order(peer, connection):
    got: list[Any] = []
    channel = connection.channel()
    consumer_on(channel, got.append, batch_size=3).consume()
    deliver(peer.session(), *range(6))
    drain(connection, 6)
    got[1].ack()
    got[0].ack()
    acks = settled(peer.session(), channel)
    assert acks == [("basic.ack", n, False) for n in (4, 5, 6)] + [("basic.ack", 3, True)]


def test_part_of_a_batch(peer, connection):
    batch, channel, session = one_batch(peer, connection, 6)
    batch[2:].ack()
    batch[:2].reject()
    assert settled(session, channel) == (
        [("basic.ack", n, False) for n in (3, 4, 5, 6)] + [("basic.reject", n, False) for n in (1, 2)]
    )


def test_reject_and_requeue(peer, connection):
    batch, channel, session = one_batch(peer, connection, 4)
    batch[:2].reject()
    batch.requeue()
    batch.reject()
    assert settled(session, channel) == [
        ("basic.reject", 1, False), ("basic.reject", 2, False), ("basic.reject", 3, True), ("basic.reject", 4, True),
    ]


def test_nothing_is_sent_where_no_acknowledgement_is_needed(peer, connection):
    batch, channel, session = one_batch(peer, connection, 4, no_ack=True)
    batch.ack()
    assert settled(session, channel) == []


def test_an_ack_that_cannot_be_sent_leaves_the_messages_unsettled(peer, connection):
    batch, channel, session = one_batch(peer, connection, 4)
    session.send_method("channel.close", channel.channel_id, reply_code=406, reply_text="PRECONDITION_FAILED")
    with pytest.raises(ChannelError):
        connection.drain_events(timeout=PATIENCE)
    with pytest.raises(ChannelError, match="PRECONDITION_FAILED"):
        batch.ack()
    assert not any(message.acknowledged for message in batch)


# -- errors


def test_an_exception_of_the_callback_comes_out_and_the_next_batch_goes_on(peer, connection):
    got: list[Any] = []

    def on_batch(batch: Any) -> None:
        got.append(batch)
        if len(got) == 1:
            raise KeyError("first")

    with consumer_on(connection, on_batch, batch_size=3):
        deliver(peer.session(), *range(6))
        with pytest.raises(KeyError, match="first"):
            drain(connection, 6)
        drain(connection, 3)
    assert [batch.payloads for batch in got] == [[0, 1, 2], [3, 4, 5]]
    assert not got[0][0].acknowledged


def test_an_exception_at_rest_comes_out(peer, connection):
    def on_batch(batch: Any) -> None:
        raise KeyError("at rest")

    with pytest.raises(KeyError, match="at rest"), consumer_on(connection, on_batch):
        deliver(peer.session(), 1)
        connection.drain_events(timeout=PATIENCE)


@pytest.mark.parametrize("body", [b"{", b"1"])
def test_what_cannot_be_decoded_or_is_not_accepted_is_no_part_of_the_batch(peer, connection, body):
    got: list[Any] = []
    wrong: list[Any] = []

    def on_decode_error(message: Any, error: Exception) -> None:
        wrong.append(error)
        message.reject()

    accept = ["json"] if body == b"{" else ["pickle"]
    with consumer_on(connection, got.append, on_decode_error=on_decode_error, accept=accept):
        session = peer.session()
        if body == b"{":
            deliver(session, 1)
        deliver(session, 2, body=body)
        if body == b"{":
            deliver(session, 3)
        drain(connection, 3 if body == b"{" else 1)
        numbers = [number for batch in got for number in batch.payloads]
        for batch in got:
            batch.ack()
    assert numbers == ([1, 3] if body == b"{" else [])
    assert [type(error).__name__ for error in wrong] == ["DecodeError" if body == b"{" else "ContentDisallowed"]


def test_without_on_decode_error_it_is_raised(peer, connection):
    got: list[Any] = []
    with consumer_on(connection, got.append):
        deliver(peer.session(), 1)
        deliver(peer.session(), 2, body=b"{")
        with pytest.raises(Exception, match="Expecting"):
            drain(connection, 2)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0)
    assert [number for batch in got for number in batch.payloads] == [1]


# -- the end


def test_cancelling_hands_on_what_has_been_gathered(peer, connection):
    got: list[Any] = []
    consumer = consumer_on(connection, got.append)
    consumer.consume()
    deliver(peer.session(), 1, 2, 3)

    # One event alone, and others wait: the batch is not complete yet.
    connection.drain_events(timeout=PATIENCE)
    peer.session().flush()
    consumer.cancel()
    assert got and got[0].payloads[0] == 1
    with pytest.raises(TimeoutError):
        while True:
            connection.drain_events(timeout=0.05)
    for batch in got:
        batch.ack()


def test_leaving_by_an_exception_calls_nobody(peer, connection):
    got: list[Any] = []
    with pytest.raises(KeyError), consumer_on(connection, got.append) as consumer:
        consumer._gatherer(1, type("Stray", (), {"channel": connection.default_channel})())
        raise KeyError
    assert got == []


def test_an_exception_while_leaving_is_the_programs(peer, connection):
    def on_batch(batch: Any) -> None:
        raise KeyError("while leaving")

    with pytest.raises(KeyError, match="while leaving"):
        with consumer_on(connection, on_batch) as consumer:
            consumer._gatherer(1, type("Stray", (), {"channel": connection.default_channel})())


@pytest.mark.parametrize("how", ["channel", "connection"])
def test_what_came_on_a_channel_that_is_closed_is_dropped(peer, connection, how):
    got: list[Any] = []
    channel = connection.channel()
    consumer = consumer_on(channel, got.append)
    consumer.consume()
    consumer._gatherer(1, type("Stray", (), {"channel": channel})())
    if how == "channel":
        channel.close()
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0)
    else:
        connection.release()
        with pytest.raises(RecoverableConnectionError):
            connection.drain_events(timeout=0)
    consumer._gatherer.hand_on()
    assert got == []


def test_after_a_reconnect_batches_come_from_the_new_channel(peer, connection):
    got: list[Any] = []
    consumer = consumer_on(connection, got.append)
    consumer.consume()
    deliver(peer.session(), 1)
    connection.drain_events(timeout=PATIENCE)
    peer.session().close()
    with pytest.raises(OSError):
        connection.drain_events(timeout=PATIENCE)
    consumer.revive(connection)
    new = peer.session(1)
    deliver(new, 2)
    connection.drain_events(timeout=PATIENCE)
    got[-1].ack()
    assert [batch.payloads for batch in got] == [[1], [2]]
    assert settled(new, consumer.channel) == [("basic.ack", 1, False)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_what_a_parent_gathered_is_not_its_childs(peer, connection):
    got: list[Any] = []
    consumer = consumer_on(connection, got.append)
    consumer.consume()
    consumer._gatherer(1, type("Stray", (), {"channel": connection.default_channel})())
    child = os.fork()
    if not child:
        code = 1
        try:
            consumer._gatherer.hand_on()
            code = len(got)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    consumer._gatherer.hand_on()
    assert len(got) == 1


# -- other transports


@pytest.fixture
def memory() -> Iterator[Connection]:
    with Connection("memory://") as made:
        yield made


def fill(memory: Connection, count: int) -> Queue:
    queue = Queue("batches", Exchange("batches"), "key")
    queue(memory.default_channel).declare()
    queue(memory.default_channel).purge()
    producer = Producer(memory, queue.exchange, "key")
    for number in range(count):
        producer.publish(number)
    return queue


@pytest.mark.parametrize("at_once", [1, 100])
def test_in_memory(memory, at_once):
    queue = fill(memory, 25)
    got: list[Any] = []

    def on_batch(batch: Any) -> None:
        got.append(batch)
        batch[0].reject()
        batch.ack()

    with Consumer(memory, queue, on_batch=on_batch, batch_size=10, accept=["json"]):
        drain(memory, 25, at_once)
        assert [batch.payloads for batch in got] == [[*range(10)], [*range(10, 20)], [*range(20, 25)]]
        with pytest.raises(TimeoutError):
            memory.drain_events(timeout=0)
    assert all(message.acknowledged for batch in got for message in batch)
    assert queue(memory.default_channel).queue_declare(passive=True).message_count == 0


def test_in_memory_a_prefetch_limit_below_the_size_is_no_deadlock(memory):
    queue = fill(memory, 7)
    got: list[Any] = []
    with Consumer(
        memory, queue, on_batch=lambda batch: (got.append(batch.payloads), batch.ack()), batch_size=100,
        prefetch_count=3, accept=["json"],
    ):
        drain(memory, 7)
    assert [number for numbers in got for number in numbers] == list(range(7))
    assert max(map(len, got)) <= 3


def test_a_transport_that_cannot_say_when_it_has_no_more_gets_batches_of_one():
    class Bare:
        connection = object()

    got: list[Any] = []
    gatherer = Gatherer(got.append, 10)
    message = type("Message", (), {"channel": Bare()})()
    gatherer(1, message)
    gatherer(2, message)
    assert list(map(len, got)) == [1, 1]


