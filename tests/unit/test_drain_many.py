"""Several events in one call of drain_events: how many, in which order, until when, and what an exception leaves."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from amqp.exceptions import RecoverableConnectionError

import wire
from clients import consume
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.transport import virtual
from patience import PATIENCE, Background
from rig import LINKS, Rig
from scripted_transport import Broker, connection_to
from streams import delivery


@pytest.fixture(params=LINKS)
def rig(core, request) -> Iterator[Rig]:
    made = Rig(core, request.param == "fd")
    yield made
    made.close()


def deliveries(count: int) -> bytes:
    return b"".join(delivery(b"%d" % number) for number in range(count))


def numbers(*range_of: int) -> list[bytes]:
    return [b"%d" % number for number in range(*range_of)]


# -- the receive loop


def test_as_many_as_asked_for_in_order(rig):
    rig.send(deliveries(10))
    assert rig.receiver.drain_events(PATIENCE, 4) == 4
    assert rig.bodies == numbers(4)
    assert rig.receiver.drain_events(PATIENCE) == 1
    assert rig.receiver.drain_events(timeout=PATIENCE, max_events=100) == 5
    assert rig.bodies == numbers(10)


def test_it_waits_for_the_first_alone(rig):
    late = Background(rig.send, deliveries(3)).start()
    assert 1 <= rig.receiver.drain_events(PATIENCE, 100) <= 3
    late.join()
    with pytest.raises(socket.timeout):
        while True:
            rig.receiver.drain_events(0, 100)
    assert rig.bodies == numbers(3)


def test_none_in_time_is_a_timeout(rig):
    with pytest.raises(socket.timeout):
        rig.receiver.drain_events(0, 5)
    with pytest.raises(socket.timeout):
        rig.receiver.drain_events(0.01, 5)


def test_replies_count_as_events(rig):
    rig.send(delivery(b"0") + wire.method("queue.purge-ok", 2) + delivery(b"1"))
    assert rig.receiver.drain_events(PATIENCE, 10) == 3
    assert rig.bodies == numbers(2)
    assert rig.replies == {2}


def test_half_a_delivery_is_not_waited_for(rig):
    whole = delivery(b"1")
    rig.send(delivery(b"0") + whole[:-5])
    assert rig.receiver.drain_events(None, 10) == 1
    rig.send(whole[-5:])
    assert rig.receiver.drain_events(None, 10) == 1
    assert rig.bodies == numbers(2)


def test_an_exception_in_the_middle_loses_nothing(rig):
    def take(message: Any) -> None:
        rig.take(message)
        if message.body in (b"2", b"6"):
            raise KeyError(message.body)

    rig.channels[1].callbacks["c"] = take
    rig.send(deliveries(10))
    with pytest.raises(KeyError, match="2"):
        rig.receiver.drain_events(PATIENCE, 100)
    assert rig.bodies == numbers(3)
    with pytest.raises(KeyError, match="6"):
        rig.receiver.drain_events(PATIENCE, 100)
    assert rig.receiver.drain_events(PATIENCE, 100) == 3
    assert rig.bodies == numbers(10)


def test_a_time_limit_that_a_callback_met_is_its_own(rig):
    def take(message: Any) -> None:
        rig.take(message)
        raise TimeoutError("the callback's own")

    rig.channels[1].callbacks["c"] = take
    rig.send(deliveries(2))
    for _ in range(2):
        with pytest.raises(TimeoutError, match="the callback's own"):
            rig.receiver.drain_events(PATIENCE, 100)
    assert rig.bodies == numbers(2)


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_the_time_is_the_calls(rig, timeout):
    def take(message: Any) -> None:
        rig.take(message)
        time.sleep(0.03)

    rig.channels[1].callbacks["c"] = take
    rig.send(deliveries(50))
    assert 1 <= rig.receiver.drain_events(timeout, 50) < 50
    assert rig.bodies == numbers(len(rig.got))
    assert rig.receiver.buffered


def test_without_a_time_limit_it_takes_all_that_is_there(rig):
    rig.send(deliveries(100))
    assert rig.receiver.drain_events(None, 100) == 100


def test_a_callback_may_drain_as_well(rig):
    inner: list[int] = []

    def take(message: Any) -> None:
        rig.take(message)
        if message.body == b"1":
            inner.append(rig.receiver.drain_events(PATIENCE, 3))

    rig.channels[1].callbacks["c"] = take
    rig.send(deliveries(8))
    assert rig.receiver.drain_events(PATIENCE, 5) == 5
    assert inner == [3]
    assert rig.bodies == numbers(8)


def test_a_connection_that_a_callback_lost_ends_the_call(rig):
    def take(message: Any) -> None:
        rig.take(message)
        rig.receiver.fail(RecoverableConnectionError("closed in a callback"))

    rig.channels[1].callbacks["c"] = take
    rig.send(deliveries(3))
    assert rig.receiver.drain_events(PATIENCE, 10) == 1
    with pytest.raises(RecoverableConnectionError, match="closed in a callback"):
        rig.receiver.drain_events(PATIENCE, 10)


def test_the_end_of_the_stream_is_raised_after_what_came_before(rig):
    rig.send(deliveries(3))
    rig.peer.shutdown(socket.SHUT_WR)
    with pytest.raises(OSError, match="unexpectedly closed"):
        rig.receiver.drain_events(PATIENCE, 10)
    assert rig.bodies == numbers(3)


def test_another_thread_gets_its_reply_during_a_long_call(rig):
    waiting = Background(rig.wait_for_reply, 2)

    def take(message: Any) -> None:
        rig.take(message)
        if message.body == b"0":
            rig.reply(2)
            waiting.start().join()

    rig.channels[1].callbacks["c"] = take
    rig.send(deliveries(3))
    assert rig.receiver.drain_events(PATIENCE, 10) >= 3
    assert rig.bodies == numbers(3)


# -- at rest


def test_what_is_called_at_rest_waits_until_nothing_is_left(rig):
    log: list[Any] = []

    def take(message: Any) -> None:
        log.append(message.body)
        if message.body == b"0":
            rig.receiver.call_at_rest(lambda: log.append("rest"))

    rig.channels[1].callbacks["c"] = take
    rig.send(deliveries(3))
    for _ in range(3):
        assert rig.receiver.drain_events(PATIENCE) == 1
    assert log == [*numbers(3), "rest"]


def test_nobody_waits_before_what_is_called_at_rest(rig):
    log: list[str] = []
    half = delivery(b"1")[:-1]
    rig.channels[1].callbacks["c"] = lambda message: rig.receiver.call_at_rest(lambda: log.append("rest"))
    # A whole frame is left, so the first call leaves it alone; but not a whole delivery.
    rig.send(delivery(b"0") + half)
    rig.receiver.drain_events(PATIENCE)
    with pytest.raises(socket.timeout):
        rig.receiver.drain_events(0)
    assert log == ["rest"]


def test_an_exception_of_one_called_at_rest_keeps_the_others(rig):
    log: list[str] = []

    def broken() -> None:
        raise KeyError("broken")

    def take(message: Any) -> None:
        rig.receiver.call_at_rest(broken)
        rig.receiver.call_at_rest(lambda: log.append("rest"))

    rig.channels[1].callbacks["c"] = take
    rig.send(delivery(b"0"))
    with pytest.raises(KeyError, match="broken"):
        rig.receiver.drain_events(PATIENCE)
    with pytest.raises(socket.timeout):
        rig.receiver.drain_events(0)
    assert log == ["rest"]


# -- the connection


@pytest.mark.parametrize("wrong", [0, -1])
@pytest.mark.parametrize("url", ["memory://", "amqp://"])
def test_less_than_one_event_is_refused(url, wrong):
    with pytest.raises(ValueError, match=f"max_events has to be at least 1, not {wrong}: give the number of events"):
        Connection(url).drain_events(timeout=0, max_events=wrong)


@pytest.mark.parametrize("wrong", [True, False, 1.0, 2.5, None, "3"])
def test_what_is_no_number_of_events_is_refused(wrong):
    with pytest.raises(TypeError, match="max_events has to be an integer, not .*: give the number of events"):
        Connection("memory://").drain_events(timeout=0, max_events=wrong)


def test_over_amqp(peer, connect):
    connection = connect(peer)
    channel = connection.channel()
    got: list[bytes] = []
    consume(channel, lambda message: got.append(message.body))
    session = peer.session()
    for number in range(20):
        session.send_delivery(b"%d" % number)
    session.flush()
    total = 0
    while total < 20:
        count = connection.drain_events(timeout=PATIENCE, max_events=8)
        assert 1 <= count <= 8
        total += count
    assert got == numbers(20)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0, max_events=8)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle_leaves_the_rest_to_the_parent(peer, connect):
    connection = connect(peer)
    got: list[bytes] = []
    children: list[int] = []

    def on_message(message: Any) -> None:
        got.append(message.body)
        if len(got) == 2:
            children.append(os.fork())

    consume(connection.channel(), on_message)
    session = peer.session()
    session.send_raw(b"".join(session.delivery(b"%d" % number)[1] for number in range(5)))
    code = 1
    try:
        total = 0
        while total < 5:
            total += connection.drain_events(timeout=PATIENCE, max_events=5)
    except RecoverableConnectionError as error:
        code = 0 if "another process" in str(error) and len(got) == 2 else 2
    finally:
        if children == [0]:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    assert got == numbers(5)


@pytest.mark.parametrize("how", ["close", "collect"])
def test_closing_in_the_middle_ends_the_call(peer, connect, how):
    connection = connect(peer)
    got: list[bytes] = []

    def on_message(message: Any) -> None:
        got.append(message.body)
        getattr(connection, how)()

    consume(connection.channel(), on_message)
    session = peer.session()
    session.send_raw(b"".join(session.delivery(b"%d" % number)[1] for number in range(5)))
    assert connection.drain_events(timeout=PATIENCE, max_events=5) == 1
    assert got == [b"0"]
    with pytest.raises(RecoverableConnectionError):
        connection.drain_events(timeout=0, max_events=5)


@pytest.fixture
def memory() -> Iterator[Connection]:
    with Connection("memory://") as connection:
        yield connection


def fill(connection: Connection, count: int) -> Queue:
    queue = Queue("many", Exchange("many"), "key")
    queue(connection.default_channel).declare()
    queue(connection.default_channel).purge()
    producer = Producer(connection, queue.exchange, "key")
    for number in range(count):
        producer.publish(number)
    return queue


def test_in_memory(memory):
    queue = fill(memory, 10)
    got: list[int] = []

    def on_message(body: int, message: Any) -> None:
        message.ack()
        got.append(body)
        if body == 6:
            raise KeyError(body)

    with Consumer(memory, queue, callbacks=[on_message], accept=["json"]):
        assert memory.drain_events(timeout=1) == 1
        assert memory.drain_events(timeout=PATIENCE, max_events=4) == 4
        with pytest.raises(KeyError):
            memory.drain_events(timeout=PATIENCE, max_events=4)
        assert memory.drain_events(timeout=None, max_events=100) == 3
        with pytest.raises(TimeoutError):
            memory.drain_events(timeout=0, max_events=2)
    assert got == list(range(10))


def test_in_memory_the_time_is_the_calls(memory):
    queue = fill(memory, 30)
    slow = [lambda body, message: (message.ack(), time.sleep(0.03))]
    with Consumer(memory, queue, callbacks=slow, accept=["json"]):
        assert 1 <= memory.drain_events(timeout=0.05, max_events=30) < 30


def test_in_memory_the_prefetch_limit_holds(memory):
    queue = fill(memory, 10)
    got: list[Any] = []
    with Consumer(memory, queue, on_message=got.append, accept=["json"], prefetch_count=3):
        assert memory.drain_events(timeout=PATIENCE, max_events=100) == 3
        for message in got:
            message.ack()
        assert memory.drain_events(timeout=PATIENCE, max_events=100) == 3


class OneAtATime(virtual.Transport):
    """A virtual transport as they were written for kombu 5.7."""

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        self.seen = timeout


def test_a_transport_that_knows_of_one_event_gets_no_new_argument():
    with Connection(transport=OneAtATime) as connection:
        connection.connect()
        assert connection.drain_events(timeout=3) == 1
        assert connection.drain_events(timeout=2, max_events=1) == 1
        assert connection.drain_events(timeout=1, max_events=50) == 1
        assert connection.transport.seen == 1


def test_a_transport_that_takes_anything_gets_no_new_argument():
    broker = Broker()
    connection = connection_to(broker)
    connection.connect()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=1, max_events=5)
    assert broker.seen("drain") == [{"timeout": 1}]
