"""Producer.batch over AMQP: order, sizes, errors and time limits in the middle, confirms, threads, close and fork."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from amqp.exceptions import MessageNacked, NotFound, RecoverableConnectionError

import kombu
from kombu.exceptions import BatchPublishError, ConfirmError, EncodeError
from patience import PATIENCE, Background
from peer import DEFAULT_HANDLERS

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def connection(peer, connect):
    return connect(peer)


@pytest.fixture
def producer(connection):
    return kombu.Producer(connection, routing_key="q")


def bodies(session: Any, count: int) -> list[str]:
    """Return the bodies of the first *count* publishes once they are there."""
    return [bytes(method.body).decode() for method in session.wait_for("basic.publish", count)]


def marked(session: Any, channel: Any) -> list[str]:
    """Have the peer answer something, and return the names of the methods it has seen on this channel and since."""
    channel.queue_declare("marker")
    return [method.name for method in session.methods if method.channel == channel.channel_id]


def writes(connection: Any) -> int:
    return connection.connection.bytes_sent


def test_many_messages_are_one_write_in_order(peer, connection, producer):
    producer.publish("before")
    session = peer.session()
    start = writes(connection)
    with producer.batch(max_size=1000):
        for number in range(500):
            assert producer.publish(str(number)) is None
        assert writes(connection) == start
    assert writes(connection) == start + 1
    producer.publish("after")
    assert bodies(session, 502) == ["before", *map(str, range(500)), "after"]


def test_messages_of_all_kinds_are_what_they_are_outside(peer, connection):
    exchange = kombu.Exchange("e", "topic")
    producer = kombu.Producer(connection, exchange, routing_key="k")
    publishes = [
        (("text",), {}),
        ((b"bytes",), {"delivery_mode": 1, "priority": 4}),
        (({"a": 1},), {"serializer": "json", "headers": {"h": 1}}),
        (("x" * 200_000,), {"routing_key": "other", "mandatory": True}),
        (("x" * 100,), {"compression": "zlib"}),
        (("text",), {"correlation_id": "c", "expiration": 3}),
        ((b"\xff",), {"content_type": "image/png", "exchange": "f"}),
        (("\u20ac",), {"content_type": "text/plain", "content_encoding": "utf-16"}),
        ((b"",), {}),
    ]
    session = peer.session()
    # Twice outside: what is the same in several publishes is planned from the second on.
    for _ in range(2):
        for args, kwargs in publishes:
            producer.publish(*args, **kwargs)
    with producer.batch():
        for args, kwargs in publishes:
            producer.publish(*args, **kwargs)
    seen = session.wait_for("basic.publish", 3 * len(publishes))
    looks = [(each.args, each.properties, bytes(each.body)) for each in seen]
    assert looks[: len(publishes)] == looks[len(publishes) : 2 * len(publishes)] == looks[2 * len(publishes) :]


def test_it_is_sent_when_it_is_full(peer, connection, producer):
    session = peer.session()
    with producer.batch(max_size=3):
        for number in range(7):
            producer.publish(str(number))
        assert bodies(session, 6) == list("012345")
        assert len(session.arrived("basic.publish")) == 6
    assert bodies(session, 7) == list("0123456")


def test_it_is_sent_when_it_has_grown_large(peer, connection, producer):
    session = peer.session()
    with producer.batch(max_size=1000):
        for _ in range(3):
            producer.publish(bytes(600_000))
        session.wait_for("basic.publish", 2)
    session.wait_for("basic.publish", 3)


def test_flush_and_nesting(peer, connection, producer):
    session = peer.session()
    with producer.batch() as outer:
        producer.publish("1")
        with producer.batch() as inner:
            producer.publish("2")
        assert session.arrived("basic.publish") == []
        outer.flush()
        assert bodies(session, 2) == ["1", "2"]
        outer.flush()
        producer.publish("3")
        with pytest.raises(RuntimeError, match="not active"):
            inner.flush()
    assert bodies(session, 3) == ["1", "2", "3"]


def test_an_exception_of_the_program_throws_away_what_was_not_sent(peer, connection, producer):
    session = peer.session()
    with pytest.raises(KeyError), producer.batch(max_size=2):
        for number in range(3):
            producer.publish(str(number))
        raise KeyError("the program's")
    producer.publish("after")
    assert bodies(session, 3) == ["0", "1", "after"]


def test_a_message_that_cannot_be_encoded_leaves_the_others_alone(peer, connection, producer):
    session = peer.session()
    with producer.batch():
        producer.publish("1")
        with pytest.raises(EncodeError):
            producer.publish(object(), serializer="json")
        with pytest.raises(Exception, match="short string of 300 bytes"):
            producer.publish("x", routing_key="k" * 300)
        producer.publish("2")
    assert bodies(session, 2) == ["1", "2"]


@pytest.mark.parametrize("then", ["publish", "ack", "declare", "reject", "get"])
def test_whatever_else_is_written_for_the_channel_comes_behind(peer, connection, producer, then):
    session = peer.session()
    channel = producer.channel
    got: list[Any] = []
    channel.basic_consume("q", "c", callback=got.append)
    session.send_delivery(b"x")
    connection.drain_events(timeout=PATIENCE)
    with producer.batch():
        producer.publish("1")
        producer.publish("2")
        if then == "publish":
            kombu.Producer(channel, routing_key="q").publish("3")
        elif then == "ack":
            got[0].ack()
        elif then == "reject":
            got[0].reject()
        elif then == "get":
            peer.on("basic.get", lambda session, method: session.send_method("basic.get-empty", method.channel))
            channel.basic_get("q")
        else:
            channel.queue_declare("q2")
        producer.publish("4")
    names = marked(session, channel)
    first = names.index("basic.publish")
    assert names[first : first + 4] == [
        "basic.publish",
        "basic.publish",
        {"publish": "basic.publish", "declare": "queue.declare"}.get(then, f"basic.{then}"),
        "basic.publish",
    ]


def test_declarations_come_before_the_messages_that_need_them(peer, connection):
    session = peer.session()
    producer = kombu.Producer(connection, kombu.Exchange("e1"), routing_key="k")
    with producer.batch():
        producer.publish("1")
        producer.publish("2", exchange=kombu.Exchange("e2"), declare=[kombu.Exchange("e2")])
        producer.publish("3")
    names = [name for name in marked(session, producer.channel) if name in ("exchange.declare", "basic.publish")]
    assert names == ["exchange.declare", "basic.publish", "exchange.declare", "basic.publish", "basic.publish"]


def test_the_peer_that_left_is_noticed(peer, connection, producer):
    session = peer.session()
    # By the first message after it, which is not taken then, or when the batch is sent.
    with pytest.raises((BatchPublishError, OSError, RecoverableConnectionError)):
        with producer.batch() as batch:
            producer.publish("1")
            session.close()
            while True:
                producer.publish("2")
                batch.flush()
    with pytest.raises(RecoverableConnectionError):
        producer.publish("3")


def test_a_batch_that_failed_fails_on(peer, connection, producer):
    with pytest.raises(BatchPublishError, match="has failed before"):
        with producer.batch() as batch:
            producer.publish("1")
            connection.collect()
            with pytest.raises(BatchPublishError, match="not known which"):
                batch.flush()
            batch.flush()


def test_a_channel_closed_in_between_does_not_get_what_was_meant_for_its_previous_life(peer, connection, producer):
    session = peer.session()
    with pytest.raises(BatchPublishError) as raised:
        with producer.batch():
            producer.publish("1")
            session.send_method("channel.close", 1, reply_code=404, reply_text="NOT_FOUND", class_id=60)
            with pytest.raises(NotFound):
                connection.drain_events(timeout=PATIENCE)
    assert isinstance(raised.value.__cause__, NotFound)
    producer.publish("2")
    assert bodies(session, 1) == ["2"]


def test_a_peer_that_does_not_read_ends_the_write_at_its_time(peer, connection, producer):
    session = peer.session()
    assert producer.channel.is_open
    session.pause_reading()
    with pytest.raises(BatchPublishError) as raised, producer.batch(max_size=10_000):
        for _ in range(60):
            producer.publish(bytes(1_000_000), timeout=0.2)
    assert "timed out" in str(raised.value.__cause__) or "no more within" in str(raised.value.__cause__)
    session.resume_reading()
    connection.collect()


@pytest.mark.parametrize("how", ["channel", "connection"])
def test_closing_in_the_middle_is_told(connection, producer, how):
    with pytest.raises(BatchPublishError):
        with producer.batch():
            producer.publish("1")
            if how == "channel":
                producer.channel.close()
            else:
                connection.release()


def test_threads_have_batches_of_their_own_on_one_channel(peer, connection):
    channel = connection.channel()
    producer = kombu.Producer(channel, routing_key="q")

    def work(name: str) -> None:
        for start in range(0, 50, 10):
            with producer.batch(max_size=7):
                for number in range(start, start + 10):
                    producer.publish(f"{name}{number}")
                    if number % 4 == 0:
                        kombu.Producer(channel, routing_key="q").publish(f"{name}{number}!")

    tasks = [Background(work, name).start() for name in "abc"]
    for task in tasks:
        task.join()
    wanted = [text for number in range(50) for text in (f"{number}", f"{number}!") if not number % 4 or text[-1] != "!"]
    seen = bodies(peer.session(), 3 * len(wanted))
    for name in "abc":
        assert [body[1:] for body in seen if body[0] == name] == wanted


def test_a_batch_that_ends_while_others_are_sent_is_not_in_the_way(peer, connection):
    channel = connection.channel()
    first, second = (channel.create_publish_batch(max_size=10) for _ in range(2))
    for batch, body in ((first, "a"), (second, "b")):
        batch.publish(channel.prepare_message(body), routing_key="q")
    flush = first.flush

    def flush_and_end_the_other() -> None:
        # As its own thread may at any moment.
        flush()
        second.flush()
        second.close()

    first.flush = flush_and_end_the_other
    channel.basic_publish(channel.prepare_message("c"), routing_key="q")
    assert bodies(peer.session(), 3) == ["a", "b", "c"]
    assert channel.held_back == ()


def test_supports_batch_publish_says_so(producer):
    assert producer.supports_batch_publish


# -- with confirms, one by one


@pytest.fixture
def confirming(peer, connect):
    peer.on("basic.publish", None)
    return kombu.Producer(connect(peer, confirm_publish=True), routing_key="q")


def test_the_end_waits_until_all_are_confirmed(peer, confirming):
    session = peer.session()

    def work() -> None:
        with confirming.batch():
            for number in range(5):
                confirming.publish(str(number))

    task = Background(work).start()
    session.wait_for("basic.publish", 5)
    session.ack(2)
    session.ack(5)
    session.flush()
    assert task.alive
    session.ack(4, multiple=True)
    task.join()
    assert len(confirming.channel._confirms) == 0


def test_a_refused_message_fails_the_batch(peer, confirming):
    session = peer.session()

    def work() -> None:
        with confirming.batch():
            for number in range(3):
                confirming.publish(str(number), mandatory=True)

    task = Background(work).start()
    session.wait_for("basic.publish", 3)
    session.nack(2)
    session.ack(1)
    session.ack(3)
    with pytest.raises(BatchPublishError) as raised:
        task.join()
    assert isinstance(raised.value.__cause__, MessageNacked) and "tag 2" in str(raised.value.__cause__)


def test_the_wait_for_confirms_has_a_time_limit(peer, confirming):
    session = peer.session()
    with pytest.raises(BatchPublishError) as raised, confirming.batch():
        for number in range(3):
            confirming.publish(str(number), confirm_timeout=0.1)
    assert isinstance(raised.value.__cause__, TimeoutError)
    assert "did not confirm 3 publish(es) within 0.1 seconds" in str(raised.value.__cause__)
    # What comes late is nobody else's.
    session.ack(3, multiple=True)
    peer.on("basic.publish", lambda session, method: session.ack(4))
    confirming.publish("4")


# -- with confirms in a window


@pytest.fixture
def windowed(peer, connect):
    peer.on("basic.publish", None)
    return kombu.Producer(connect(peer, confirm_publish=True, confirm_window=4), routing_key="q")


def test_each_message_has_its_promise(peer, windowed):
    session = peer.session()
    told: list[Any] = []
    with windowed.batch():
        made = [windowed.publish(str(number)) for number in range(3)]
        made.append(windowed.publish("3", confirm_callback=told.append))
        assert not session.arrived("basic.publish")
    assert [each.delivery_tag for each in made] == [1, 2, 3, 4]
    session.wait_for("basic.publish", 4)
    session.nack(2)
    session.ack(4, multiple=True)
    with pytest.raises(ConfirmError) as raised:
        windowed.flush(PATIENCE)
    assert raised.value.failures == [made[1]]
    assert told == [made[3]]


def test_a_batch_larger_than_the_window_is_sent_as_there_is_room(peer, windowed):
    session = peer.session()

    def work() -> list[Any]:
        with windowed.batch():
            return [windowed.publish(str(number)) for number in range(10)]

    task = Background(work).start()
    session.wait_for("basic.publish", 4)
    session.ack(4, multiple=True)
    session.wait_for("basic.publish", 8)
    session.ack(8, multiple=True)
    made = task.join()
    session.ack(10, multiple=True)
    windowed.flush(PATIENCE)
    assert all(each.ready for each in made)
    assert bodies(session, 10) == [str(number) for number in range(10)]


def test_what_never_got_room_fails_by_that(peer, windowed):
    session = peer.session()
    made: list[Any] = []
    with pytest.raises(BatchPublishError) as raised, windowed.batch():
        made += [windowed.publish(str(number), confirm_timeout=0.1) for number in range(6)]
    assert isinstance(raised.value.__cause__, TimeoutError)
    assert [each.settled for each in made] == [False] * 4 + [True] * 2
    assert made[5].reason is raised.value.__cause__
    session.wait_for("basic.publish", 4)
    session.ack(4, multiple=True)
    # Who was told by the batch is not told again.
    windowed.flush(PATIENCE)
    assert [each.ready for each in made] == [True] * 4 + [False] * 2


def test_to_wait_for_a_promise_within_the_batch_sends_it(peer, windowed):
    peer.on("basic.publish", DEFAULT_HANDLERS["basic.publish"])
    with windowed.batch():
        windowed.publish("1").wait(PATIENCE)
        windowed.publish("2")
        windowed.flush(PATIENCE)
        windowed.publish("3")
        windowed.channel.flush(PATIENCE)
        assert bodies(peer.session(), 3) == ["1", "2", "3"]


def test_a_batch_given_up_fails_its_promises(peer, windowed):
    with pytest.raises(KeyError), windowed.batch():
        confirmation = windowed.publish("1")
        raise KeyError
    assert isinstance(confirmation.reason, BatchPublishError)
    windowed.flush(0)
    assert peer.session().arrived("basic.publish") == []


# -- fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_sends_nothing_of_its_parents_batch(peer, connection, producer):
    session = peer.session()
    with producer.batch():
        producer.publish("1")
        child = os.fork()
        if not child:
            code = 1
            try:
                signal.alarm(20)
                try:
                    producer.publish("child's")
                    producer._batch_local.current.flush()
                except (BatchPublishError, RecoverableConnectionError):
                    code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        producer.publish("2")
    assert bodies(session, 2) == ["1", "2"]
