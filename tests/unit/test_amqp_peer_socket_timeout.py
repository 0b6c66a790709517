"""A timeout that a program puts on the socket of a connection itself, as some do to bound what has no other limit."""

from __future__ import annotations

import socket
import time
from textwrap import dedent

import pytest
from amqp.exceptions import RecoverableConnectionError

import greenlets
import interpreter
import kombu
from clients import consume, no_answer, publish
from patience import PATIENCE, drain_until

#: Seconds, or None: to wait for ever.
TIMEOUTS = [None, 300.0]


#: Of ``any_peer``.
FRAME_MAX = 4096


def socket_of(connection: kombu.Connection) -> socket.socket:
    return connection.connection.sock


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_it_does_not_have_anything_wait_that_has_not_to(any_peer, connect, timeout):
    connection = connect(any_peer)
    channel = connection.channel()
    socket_of(connection).settimeout(timeout)
    started = time.monotonic()
    # With a look at what has arrived, before a publish that comes a while after the one before.
    publish(channel, b"first")
    connection.connection.check_alive()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.02)
    got = []
    consume(channel, lambda message: (got.append(message.body), message.ack()))
    session = any_peer.session()
    # Half a message first: what waits is less than is wanted.
    _, data = session.delivery(b"x" * 6000)
    session.send_raw(data[:100])
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.02)
    connection.connection.check_alive()
    session.send_raw(data[100:])
    drain_until(connection, lambda: got)
    session.wait_for("basic.ack", 1)
    assert got == [b"x" * 6000]
    assert time.monotonic() - started < PATIENCE
    assert socket_of(connection).gettimeout() == timeout


def test_it_limits_how_long_nothing_may_come_where_no_other_limit_is_given(any_peer, connect):
    connection = connect(any_peer)
    channel = connection.channel()
    got = []
    consume(channel, lambda message: got.append(message.body))
    socket_of(connection).settimeout(0.05)
    for _ in range(2):
        with pytest.raises(socket.timeout, match="the socket's timeout of 0.05 seconds"):
            connection.drain_events()
    assert connection.connected
    any_peer.session().send_delivery(b"later")
    drain_until(connection, lambda: got)
    assert got == [b"later"]


def test_a_limit_that_is_given_counts_instead_of_it(any_peer, connect):
    connection = connect(any_peer)
    socket_of(connection).settimeout(0.01)
    started = time.monotonic()
    with pytest.raises(socket.timeout, match=r"timed out$"):
        connection.drain_events(timeout=0.2)
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize("restored", [None, 0.0])
def test_it_can_be_taken_back(peer, connect, restored):
    connection = connect(peer)
    got = []
    consume(connection.channel(), lambda message: got.append(message.body))
    socket_of(connection).settimeout(0.01)
    socket_of(connection).settimeout(restored)
    peer.session().send_delivery(b"in time")
    while not got:
        connection.drain_events()
    assert got == [b"in time"]


def test_it_limits_a_write_that_the_peer_does_not_take(any_peer, connect):
    connection = connect(any_peer)
    channel = connection.channel()
    any_peer.session().pause_reading()
    socket_of(connection).settimeout(0.05)
    with pytest.raises((socket.timeout, RecoverableConnectionError), match="timed out|took"):
        for _ in range(1000):
            publish(channel, b"x" * 100_000)


PATCHED = {
    "gevent": "import gevent.monkey; gevent.monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}


@pytest.mark.parametrize("library", sorted(PATCHED))
@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_so_it_is_with_the_sockets_of_greenlets(peer, library, timeout, core):
    greenlets.require(library)
    program = f"""
        {PATCHED[library]}
        import time
        from kombu import Connection, Producer
        started = time.monotonic()
        with Connection({peer.url!r}, transport_options={{"confirm_publish": False}}) as connection:
            channel = connection.channel()
            channel.connection.sock.settimeout({timeout})
            producer = Producer(channel)
            for number in range(3):
                producer.publish(str(number), routing_key="q")
                # Longer than publishes trust that the peer is there still.
                time.sleep(0.05)
            try:
                connection.drain_events(timeout=0.02)
            except TimeoutError:
                pass
            else:
                raise AssertionError("nothing was sent")
            channel.connection.sock.settimeout(0.05)
            try:
                connection.drain_events()
            except TimeoutError as error:
                assert "the socket's timeout" in str(error), error
        assert time.monotonic() - started < {PATIENCE}
    """
    done = interpreter.run(dedent(program), options=("-W", "ignore"), timeout=120, KOMBU_IMPL=core.impl)
    assert done.returncode == 0, done.stderr
    peer.session().wait_for("basic.publish", 3)


def test_a_method_that_is_not_answered_ends_by_it(peer, connect):
    connection = connect(peer)
    channel = connection.channel()
    no_answer(peer, "queue.declare")
    socket_of(connection).settimeout(0.05)
    with pytest.raises(TimeoutError):
        channel.queue_declare("q")
    assert connection.connected
