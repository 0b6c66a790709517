"""Channels and connections that end: closed by the peer, by us, by both at once, by nobody's answer, by a fork."""

from __future__ import annotations

import os
import select
import threading
import time
import warnings

import pytest
from amqp.exceptions import (
    AccessRefused,
    ConnectionForced,
    NotFound,
    PreconditionFailed,
    RecoverableConnectionError,
)

from clients import consume, no_answer, publish
from patience import PATIENCE, Background, drain_until, until


def close_channel(session, channel=1, code=406, text="PRECONDITION_FAILED - unknown delivery tag"):
    session.send_method("channel.close", channel, reply_code=code, reply_text=text, class_id=60, method_id=80)


# -- a channel closed by the peer


def test_a_channel_with_consumers_stays_closed_and_says_why(peer, connect):
    connection = connect(peer)
    channel, other = connection.channel(), connection.channel()
    got = []
    consume(channel, got.append, "a")
    consume(other, got.append, "b")
    session = peer.session()
    session.send_delivery(b"1", consumer_tag="a")
    close_channel(session)
    session.send_delivery(b"2", consumer_tag="b")
    drain_until(connection, lambda: got)
    with pytest.raises(PreconditionFailed, match="unknown delivery tag"):
        connection.drain_events(timeout=PATIENCE)
    session.expect("channel.close-ok")
    before = len(session.methods)
    for use in (
        lambda: publish(channel),
        lambda: channel.queue_declare("q"),
        lambda: consume(channel, got.append, "c"),
        got[0].ack,
        got[0].reject,
        got[0].requeue,
    ):
        with pytest.raises(PreconditionFailed, match="unknown delivery tag") as raised:
            use()
        assert raised.value.reply_code == 406
    assert not got[0].acknowledged
    assert len(session.methods) == before
    # The others go on.
    drain_until(connection, lambda: len(got) == 2)
    got[1].ack()
    session.expect("basic.ack")
    assert connection.connected


def test_a_channel_that_held_nothing_opens_again_when_used(peer, connect):
    connection = connect(peer)
    channel = connection.channel()
    session = peer.session()
    close_channel(session, code=404, text="NOT_FOUND - no queue")
    with pytest.raises(NotFound):
        connection.drain_events(timeout=PATIENCE)
    publish(channel)
    assert channel.queue_declare("q").queue == "q"
    assert [method.name for method in session.methods[-4:]] == [
        "channel.close-ok", "channel.open", "basic.publish", "queue.declare"
    ]  # fmt: skip
    assert channel.is_open


def test_a_refused_request_raises_what_the_peer_said(peer, connect):
    connection = connect(peer)
    channel = connection.channel()
    peer.on("queue.declare", lambda session, method: close_channel(session, method.channel, 403, "ACCESS_REFUSED"))
    for _ in range(3):
        with pytest.raises(AccessRefused, match="ACCESS_REFUSED"):
            channel.queue_declare("q")
    assert len(peer.session().arrived("channel.open")) == 3


def test_the_thread_that_waits_on_the_channel_is_told_and_the_one_that_drains_goes_on(peer, connect):
    connection = connect(peer)
    channel, other = connection.channel(), connection.channel()
    got = []
    consume(other, got.append, "b")
    no_answer(peer, "queue.declare")
    session = peer.session()
    drainer = Background(drain_until, connection, lambda: len(got) == 2).start()
    session.send_delivery(b"1", consumer_tag="b")
    until(lambda: got)
    waiter = Background(channel.queue_declare, "q").start()
    session.expect("queue.declare")
    close_channel(session, 1, 404, "NOT_FOUND")
    with pytest.raises(NotFound):
        waiter.join()
    session.send_delivery(b"2", consumer_tag="b")
    drainer.join()


def test_the_thread_that_drains_is_told_of_a_channel_that_nobody_waits_on(peer, connect):
    connection = connect(peer)
    channel, other = connection.channel(), connection.channel()
    busy, leave = threading.Event(), threading.Event()

    def work(message):
        busy.set()
        assert leave.wait(PATIENCE)

    consume(channel, work, "a")

    def drain():
        connection.drain_events(timeout=PATIENCE)
        connection.drain_events(timeout=PATIENCE)

    session = peer.session()
    drainer = Background(drain).start()
    session.send_delivery(b"1", consumer_tag="a")
    assert busy.wait(PATIENCE)
    # While that callback works, another thread reads for its own reply and comes by the close.
    peer.on("queue.purge", lambda session, method: (
        close_channel(session, 1), session.send_method("queue.purge-ok", 2, message_count=3)
    ))  # fmt: skip
    assert Background(other.queue_purge, "q").start().join() == 3
    leave.set()
    with pytest.raises(PreconditionFailed):
        drainer.join()


# -- a connection closed by the peer


def test_a_connection_closed_by_the_peer_says_why_every_time(any_peer, connect):
    connection = connect(any_peer)
    channel = connection.channel()
    got = []
    consume(channel, got.append)
    session = any_peer.session()
    session.send_delivery(b"1")
    drain_until(connection, lambda: got)
    session.send_method("connection.close", reply_code=320, reply_text="CONNECTION_FORCED - broker shutdown")
    with pytest.raises(ConnectionForced, match="broker shutdown"):
        connection.drain_events(timeout=PATIENCE)
    session.expect("connection.close-ok")
    session.wait_ended()
    for use in (
        lambda: connection.drain_events(timeout=PATIENCE),
        lambda: publish(channel),
        lambda: channel.queue_declare("q"),
        got[0].ack,
    ):
        with pytest.raises(RecoverableConnectionError):
            use()
    assert not connection.connected
    assert any_peer.connections == 1
    connection.close()


def test_every_thread_is_told_when_the_peer_closes_the_connection(peer, connect):
    connection = connect(peer)
    channels = [connection.channel() for _ in range(4)]
    no_answer(peer, "queue.declare")
    session = peer.session()
    tasks = [Background(channel.queue_declare, "q").start() for channel in channels[1:]]
    session.wait_for("queue.declare", 3)
    tasks.append(Background(connection.drain_events).start())
    session.send_method("connection.close", reply_code=320, reply_text="CONNECTION_FORCED")
    for task in tasks:
        with pytest.raises(RecoverableConnectionError, match="CONNECTION_FORCED"):
            task.join()


# -- closed by us


def test_closing_says_good_bye_and_can_be_repeated(any_peer, connect):
    connection = connect(any_peer)
    channel = connection.channel()
    channel.close()
    channel.close()
    transport = connection.connection
    transport.close()
    transport.close()
    connection.close()
    session = any_peer.session()
    session.wait_ended()
    assert [method.name for method in session.methods[-2:]] == ["channel.close", "connection.close"]
    with pytest.raises(RecoverableConnectionError):
        transport.drain_events(timeout=1)
    with pytest.raises(RecoverableConnectionError):
        channel.queue_declare("q")


@pytest.mark.parametrize("what", ["channel.close", "connection.close"])
def test_an_agreement_that_never_comes_is_not_waited_for(any_peer, connect, what, caplog):
    no_answer(any_peer, what)
    connection = connect(any_peer, close_timeout=0.2)
    channel = connection.channel()
    session = any_peer.session()
    stop = threading.Event()

    def chatter():
        while not stop.wait(0.01):
            session.heartbeat()

    with Background(chatter):
        started = time.monotonic()
        (channel if what == "channel.close" else connection.connection).close()
        assert time.monotonic() - started < PATIENCE
        stop.set()
    session.expect(what)
    if what == "channel.close":
        assert "no answer to channel.close" in caplog.text
        # Its number is not given to another until the peer has agreed.
        assert connection.channel().channel_id == 2
        session.send_method("channel.close-ok", 1)
        session.flush()
        with pytest.raises(TimeoutError):
            while True:
                connection.drain_events(timeout=0.1)
        assert connection.channel().channel_id == 1
    else:
        session.wait_ended()


@pytest.mark.parametrize("what", ["channel", "connection"])
def test_both_sides_may_close_at_once(peer, connect, what):
    def close_too(session, method):
        session.send_method(f"{what}.close", method.channel, reply_code=320, reply_text="me too")

    peer.on(f"{what}.close", close_too)
    connection = connect(peer)
    channel = connection.channel()
    session = peer.session()
    (channel if what == "channel" else connection.connection).close()
    session.expect(f"{what}.close-ok")
    if what == "channel":
        assert connection.channel().queue_declare("q").queue == "q"
    else:
        session.wait_ended()


def test_what_comes_after_a_close_is_discarded(peer, connect):
    connection = connect(peer)
    channel, other = connection.channel(), connection.channel()
    got = []
    consume(channel, got.append, "a")
    consume(other, got.append, "b")
    session = peer.session()

    def deliver_first(session, method):
        session.send_delivery(b"too late", consumer_tag="a")
        session.send_delivery(b"in time", consumer_tag="b")
        session.send_method("channel.close-ok", method.channel)

    peer.on("channel.close", deliver_first)
    channel.close()
    # The broker has the one again as soon as the channel is closed, so nobody may act upon it.
    assert [message.body for message in got] == [b"in time"]

    def deliver_last(session, method):
        session.send_delivery(b"too late", consumer_tag="b")
        session.send_method("connection.close-ok")
        session.close()

    peer.on("connection.close", deliver_last)
    connection.close()
    session.wait_ended()
    assert len(got) == 1


def test_closing_while_another_thread_drains(any_peer, connect):
    connection = connect(any_peer)
    channel = connection.channel()
    entered = threading.Event()
    consume(channel, lambda message: entered.set())
    transport = connection.connection
    drainer = Background(lambda: [transport.drain_events(timeout=PATIENCE) for _ in range(9)]).start()
    session = any_peer.session()
    session.send_delivery(b"1")
    assert entered.wait(PATIENCE)
    transport.close()
    with pytest.raises(RecoverableConnectionError, match="closed"):
        drainer.join()
    session.wait_ended()


def test_two_threads_may_let_go_of_a_connection_at_once(any_peer, connect, monkeypatch):
    """One of them is in the middle of closing the socket while the other begins."""
    transport = connect(any_peer).connection
    sock = transport.transport.sock
    others = []
    shutdown = type(sock).shutdown

    def meet_another(self, how):
        if self is sock and not others:
            others.append(threading.Thread(target=transport.collect))
            others[0].start()
            # It waits, and has nothing left to do afterwards.
            others[0].join(0.2)
        return shutdown(self, how)

    monkeypatch.setattr(type(sock), "shutdown", meet_another)
    transport.collect()
    others[0].join(PATIENCE)
    assert not others[0].is_alive() and sock.fileno() < 0


def test_letting_go_while_another_thread_drains(any_peer, connect):
    connection = connect(any_peer)
    transport = connection.connection
    entered = threading.Event()
    consume(connection.channel(), lambda message: entered.set())
    drainer = Background(lambda: [transport.drain_events(timeout=PATIENCE) for _ in range(9)]).start()
    session = any_peer.session()
    session.send_delivery(b"1")
    assert entered.wait(PATIENCE)
    transport.collect()
    with pytest.raises(RecoverableConnectionError, match="closed"):
        drainer.join()
    session.wait_ended()
    assert not session.arrived("connection.close")


def test_closing_in_a_callback(peer, connect):
    connection = connect(peer)
    transport = connection.connection
    consume(connection.channel(), lambda message: transport.close())
    session = peer.session()
    session.send_raw(session.delivery(b"1")[1] + session.delivery(b"2")[1])
    transport.drain_events(timeout=PATIENCE)
    session.wait_ended()
    with pytest.raises(RecoverableConnectionError, match="closed"):
        transport.drain_events(timeout=PATIENCE)


@pytest.mark.parametrize("end", ["close", "reset"])
def test_closing_after_the_peer_has_gone(any_peer, connect, end):
    connection = connect(any_peer)
    channel = connection.channel()
    getattr(any_peer.session(), end)()
    until(lambda: any_peer.session().ended or end == "close")
    channel.close()
    connection.close()
    connection.close()


# -- acknowledgements that cannot be


@pytest.mark.parametrize("ack_writes", ["corked", "immediate", "coalesced"])
@pytest.mark.parametrize("settle", ["ack", "reject", "requeue"])
def test_a_reset_before_an_ack_is_raised_and_the_message_stays_open(peer, connect, ack_writes, settle):
    connection = connect(peer, ack_writes=ack_writes)
    channel = connection.channel()
    got = []
    consume(channel, got.append)
    session = peer.session()
    session.send_delivery(b"1")
    drain_until(connection, lambda: got)
    session.reset()
    # Readable: the reset has come.
    assert select.select([connection.connection.sock], [], [], PATIENCE)[0]
    for _ in range(2):
        with pytest.raises((OSError, RecoverableConnectionError)):
            getattr(got[0], settle)()
        assert not got[0].acknowledged
    with pytest.raises((OSError, RecoverableConnectionError)):
        connection.drain_events(timeout=PATIENCE)


def test_a_tag_of_a_connection_that_was_replaced_is_refused_here(peer, connect):
    connection = connect(peer)
    got = []
    consume(connection.channel(), got.append)
    session = peer.session()
    session.send_delivery(b"1")
    drain_until(connection, lambda: got)
    connection.connection.collect()
    connection.connect()
    renewed = peer.session(1)
    channel = connection.channel()
    with pytest.raises(RecoverableConnectionError):
        got[0].ack()
    assert not got[0].acknowledged
    channel.queue_declare("q")
    assert not renewed.arrived("basic.ack")


# -- fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_says_nothing_to_the_parents_peer(any_peer, connect):
    connection = connect(any_peer, close_timeout=0.5)
    channel = connection.channel()
    got = []
    consume(channel, got.append)
    session = any_peer.session()
    session.send_delivery(b"1")
    drain_until(connection, lambda: got)
    before = session.frames
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads: the peer's.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        code = 1
        try:
            refused = 0
            for use in (
                lambda: publish(channel),
                got[0].ack,
                lambda: channel.queue_declare("q"),
                lambda: connection.connection.drain_events(timeout=0.1),
            ):
                try:
                    use()
                except (RecoverableConnectionError, OSError):
                    refused += 1
            connection.close()
            code = 0 if refused == 4 else 2
        finally:
            os._exit(code)
    until(lambda: os.waitpid(pid, os.WNOHANG)[0], what="the child")
    # What the parent says next comes next, in whole frames.
    assert channel.queue_declare("q").queue == "q"
    assert session.frames == before + 1
    session.send_delivery(b"2")
    drain_until(connection, lambda: len(got) == 2)
    got[0].ack()
    got[1].ack()
    session.wait_for("basic.ack", 2)
    connection.close()
    session.wait_ended()
