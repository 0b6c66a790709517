"""What arrives from a peer that cuts its frames anywhere, stops in the middle, talks to others, or breaks the rules."""

from __future__ import annotations

import struct
import threading
import time

import pytest
from amqp.exceptions import (
    AMQPNotImplementedError,
    ChannelNotOpen,
    ConsumerCancelled,
    FrameError,
    FrameSyntaxError,
    RecoverableConnectionError,
    UnexpectedFrame,
)

import kombu
import wire
from clients import consume, no_answer
from pace import at_some_pace
from patience import PATIENCE, Background, drain_until
from peer import DEFAULT_HANDLERS, Peer

#: Of ``any_peer``.
FRAME_MAX = 4096


def body_of(number, size):
    return bytes((number + index * 7) & 255 for index in range(size))


# -- framing


@pytest.mark.parametrize("cut", [7, 8, 1000, [1, 2, 3, 4, 5, 6, 7], None])
def test_messages_are_whole_and_in_order_however_they_are_cut(any_peer, connect, cut):
    connection = connect(any_peer)
    got = []
    consume(connection.channel(), lambda message: got.append(bytes(message.body or b"")))
    session = any_peer.session()
    sizes = [0, 1, 300, 4088, 4089, 10_000] if cut != 7 else [0, 1, 300]
    for number, size in enumerate(sizes):
        session.send_delivery(body_of(number, size), cut=cut)
    drain_until(connection, lambda: len(got) == len(sizes))
    assert got == [body_of(number, size) for number, size in enumerate(sizes)]


def test_half_a_message_waits_for_the_rest(any_peer, connect):
    connection = connect(any_peer)
    got = []
    consume(connection.channel(), got.append)
    session = any_peer.session()
    _, data = session.delivery(body_of(0, 6000))
    for start, end in [(0, 5), (5, 40), (40, 3000), (3000, len(data) - 1)]:
        session.send_raw(data[start:end])
        session.flush()
        for timeout in (0, 0.02):
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=timeout)
            assert time.monotonic() - started < PATIENCE
    assert not got
    session.send_raw(data[-1:])
    drain_until(connection, lambda: got)
    assert got[0].body == body_of(0, 6000)
    got[0].ack()
    session.expect("basic.ack", delivery_tag=1)


def test_what_is_buffered_is_served_before_the_peer_is_asked(any_peer, connect):
    # Over TLS one record holds many messages, of which a poll of the socket shows nothing.
    connection = connect(any_peer)
    got = []
    consume(connection.channel(), got.append)
    session = any_peer.session()
    session.send_raw(b"".join(session.delivery(b"%d" % number)[1] for number in range(200)))
    connection.drain_events(timeout=PATIENCE)
    session.flush()
    for served in range(2, 201):
        connection.drain_events(timeout=PATIENCE)
        assert len(got) == served


def test_a_large_body_over_tls_and_tcp(any_peer, connect):
    connection = connect(any_peer)
    got = []
    consume(connection.channel(), got.append)
    body = body_of(3, 256) * 8000
    any_peer.session().send_delivery(body, cut=70_000)
    drain_until(connection, lambda: got)
    assert got[0].body == body


# -- deadlines


def test_traffic_for_others_does_not_extend_a_deadline(any_peer, connect):
    connection = connect(any_peer)
    channel, other = connection.channel(), connection.channel()
    consume(channel, lambda message: None)
    session = any_peer.session()
    stop = threading.Event()

    def chatter():
        # A content for the other channel that never ends, and heartbeats.
        session.send_method("basic.deliver", 2, consumer_tag="x", delivery_tag=1)
        session.send_raw(wire.content(2, {}, bytes(10**6), 4096)[0])
        while not stop.wait(0.002):
            session.heartbeat()
            session.send_frame(wire.BODY, 2, b"y")

    with Background(chatter):
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.3)
        assert time.monotonic() - started < PATIENCE
        stop.set()
    assert other.is_open


def limited_from_here_on(connection, seconds):
    """Put a limit on what waits for an answer, where opening a channel before may take its time."""
    assert connection.connection.operation_timeout == PATIENCE
    connection.connection.operation_timeout = seconds


def test_a_method_that_is_never_answered_has_a_deadline_too(peer, connect):
    connection = connect(peer, operation_timeout=PATIENCE)
    channel = connection.channel()
    limited_from_here_on(connection, 0.2)
    no_answer(peer, "queue.declare", "channel.open")
    session = peer.session()
    stop = threading.Event()

    def chatter():
        while not stop.wait(0.005):
            session.heartbeat()

    with Background(chatter):
        for call in (lambda: channel.queue_declare("q"), connection.channel):
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                call()
            assert time.monotonic() - started < PATIENCE
        stop.set()


def test_answers_that_nobody_waits_for_any_more_are_no_offence(peer, connect):
    connection = connect(peer, operation_timeout=PATIENCE)
    channel = connection.channel()
    limited_from_here_on(connection, 0.1)
    no_answer(peer, "queue.declare", "channel.open", "channel.close")
    session = peer.session()
    for call in (lambda: channel.queue_declare("q"), connection.channel):
        with pytest.raises(TimeoutError):
            call()
    session.expect("channel.close")
    session.send_method("queue.declare-ok", 1, queue="late")
    peer.on("channel.open", DEFAULT_HANDLERS["channel.open"])
    connection.connection.operation_timeout = None
    # The number of the channel that did not open stays taken until the peer has said what became of it.
    assert connection.channel().channel_id == 3
    session.send_method("channel.open-ok", 2)
    session.send_method("channel.close-ok", 2)
    assert channel.queue_purge("q") == 0
    assert connection.channel().channel_id == 2


def test_an_answer_that_comes_late_is_not_the_next_request_s(peer, connect):
    connection = connect(peer, operation_timeout=PATIENCE)
    channel = connection.channel()
    limited_from_here_on(connection, 0.2)
    no_answer(peer, "queue.declare")
    session = peer.session()
    with pytest.raises(TimeoutError):
        channel.queue_declare("first")
    connection.connection.operation_timeout = None
    declare = Background(channel.queue_declare, "second").start()
    session.wait_for("queue.declare", 2)
    session.send_method("queue.declare-ok", 1, queue="first")
    session.send_method("queue.declare-ok", 1, queue="second")
    assert declare.join().queue == "second"


def test_an_exception_in_a_callback_during_a_wait_does_not_shift_the_answers(peer, connect):
    connection = connect(peer)
    channel = connection.channel()

    def fail(message):
        raise ValueError("in the callback")

    consume(channel, fail)
    session = peer.session()
    no_answer(peer, "queue.declare", "basic.get")
    session.send_delivery(b"1")
    with pytest.raises(ValueError, match="in the callback"):
        channel.queue_declare("first")
    session.send_delivery(b"2")
    with pytest.raises(ValueError, match="in the callback"):
        channel.basic_get("q")
    session.expect("basic.get")
    session.send_method("queue.declare-ok", 1, queue="first")
    session.send_method("basic.get-empty", 1)
    peer.on("queue.declare", DEFAULT_HANDLERS["queue.declare"])
    assert channel.queue_declare("second").queue == "second"


def test_a_silent_peer_ends_the_handshake_in_time(connect):
    for name in ("protocol-header", "connection.start-ok", "connection.open"):
        with Peer() as silent:
            no_answer(silent, name)
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                kombu.Connection(silent.url, connect_timeout=0.2).transport.establish_connection()
            assert time.monotonic() - started < PATIENCE


def test_read_timeout_is_a_bound_on_silence(peer, connect):
    def attempt(pace):
        # The handshake has this limit, too.
        limit = 0.2 * pace
        connection = connect(peer, read_timeout=limit)
        with pytest.raises(TimeoutError, match=f"read_timeout={limit:g}"):
            connection.drain_events(timeout=None)

    at_some_pace(attempt)


# -- ends


@pytest.mark.parametrize("where", [3, 30, -1, None])
def test_a_peer_that_leaves_in_the_middle_is_an_error_every_time(any_peer, connect, where):
    connection = connect(any_peer)
    channel = connection.channel()
    got = []
    consume(channel, got.append)
    session = any_peer.session()
    session.send_delivery(b"whole")
    session.send_raw(session.delivery(b"cut short")[1][:where] if where else b"")
    session.close()
    drain_until(connection, lambda: got)
    with pytest.raises(OSError, match="Server unexpectedly closed connection"):
        connection.drain_events(timeout=PATIENCE)
    for _ in range(3):
        with pytest.raises(RecoverableConnectionError, match="unexpectedly closed"):
            connection.drain_events(timeout=PATIENCE)
    assert not connection.connected
    assert any_peer.connections == 1
    with pytest.raises((RecoverableConnectionError, OSError)):
        got[0].ack()
    assert not got[0].acknowledged


def test_a_reset_is_an_error_every_time(peer, connect):
    connection = connect(peer)
    consume(connection.channel(), lambda message: None)
    peer.session().reset()
    with pytest.raises(ConnectionResetError):
        connection.drain_events(timeout=PATIENCE)
    for _ in range(3):
        with pytest.raises(RecoverableConnectionError):
            connection.drain_events(timeout=PATIENCE)
    assert peer.connections == 1


BAD = {
    "wrong end octet": (
        wire.frame(wire.METHOD, 0, wire.method_payload("connection.unblocked"), end=0),
        UnexpectedFrame,
        "Received frame_end 0x00 while expecting 0xce",
    ),
    "unknown frame type": (wire.frame(5, 1, b""), UnexpectedFrame, "Received frame 5 while expecting type: 1"),
    "oversized frame": (
        wire.frame(wire.METHOD, 1, bytes(200_000)), FrameError, "200008 bytes; the negotiated frame_max is 131072"
    ),
    "body out of order": (wire.frame(wire.BODY, 1, b"x"), UnexpectedFrame, "Received frame 3 while expecting type: 1"),
    "truncated arguments": (
        wire.frame(wire.METHOD, 1, wire.method_payload("queue.declare-ok", queue="q")[:-1]),
        FrameSyntaxError,
        "long of 4 bytes at offset 10 exceeds the 3 bytes that remain",
    ),
    "leftover arguments": (
        wire.frame(wire.METHOD, 1, wire.method_payload("queue.declare-ok", queue="q") + b"x"),
        FrameSyntaxError,
        "1 bytes are left over after the arguments",
    ),
    "bad short string": (
        wire.frame(wire.METHOD, 1, b"\0\x3c\0\x3c\x02\xc3(" + bytes(11)), FrameSyntaxError, "is not UTF-8"
    ),
    "truncated table": (
        wire.method("basic.deliver", 1, consumer_tag="c", delivery_tag=1)
        + wire.frame(wire.HEADER, 1, struct.pack(">HHQH", 60, 0, 0, 0x2000) + struct.pack(">I", 99)),
        FrameSyntaxError,
        "table of 99 bytes at offset 6 exceeds the 0 bytes that remain",
    ),
    "unknown method": (
        wire.frame(wire.METHOD, 1, b"\0\x3c\x03\xe7"), AMQPNotImplementedError, r"Unknown AMQP method \(60, 999\)"
    ),
    "method for a channel that is not open": (
        wire.method("basic.ack", 9, delivery_tag=1), ChannelNotOpen, "for channel 9, which is not open"
    ),
    "content for a channel that is not open": (
        wire.method("basic.deliver", 9, consumer_tag="c"), ChannelNotOpen, "for channel 9, which is not open"
    ),
    "body above max_body_size": (
        wire.method("basic.deliver", 1, consumer_tag="c")
        + wire.frame(wire.HEADER, 1, struct.pack(">HHQH", 60, 0, 10**6 + 1, 0)),
        FrameError,
        "announces 1000001 bytes; max_body_size is 1000000",
    ),
}  # fmt: skip


@pytest.mark.parametrize("waiting", [False, True], ids=["draining", "waiting for a reply"])
@pytest.mark.parametrize("case", BAD)
def test_bad_octets_end_the_connection(peer, connect, case, waiting):
    data, kind, text = BAD[case]
    connection = connect(peer, max_body_size=10**6)
    channel, other = connection.channel(), connection.channel()
    got = []
    consume(channel, got.append)
    session = peer.session()
    if waiting:
        peer.on("queue.purge", lambda session, method: session.send_raw(data))
        with pytest.raises(kind, match=text):
            other.queue_purge("q")
    else:
        session.send_delivery(b"before")
        session.send_raw(data)
        drain_until(connection, lambda: got)
        with pytest.raises(kind, match=text):
            connection.drain_events(timeout=PATIENCE)
    session.wait_ended()
    with pytest.raises(RecoverableConnectionError):
        connection.drain_events(timeout=PATIENCE)
    with pytest.raises(RecoverableConnectionError):
        other.queue_purge("q")
    assert not connection.connected


# -- notices


def test_a_cancel_notice_reaches_its_consumer_and_the_others_go_on(peer, connect):
    connection = connect(peer)
    channel = connection.channel()
    got, cancelled = [], []
    consume(channel, lambda message: got.append(message.body), "a", on_cancel=cancelled.append)
    consume(channel, lambda message: got.append(message.body), "b", on_cancel=cancelled.append)
    session = peer.session()
    session.send_delivery(b"1", consumer_tag="a")
    session.send_method("basic.cancel", 1, consumer_tag="a", nowait=True)
    session.send_delivery(b"2", consumer_tag="b")
    drain_until(connection, lambda: len(got) == 2)
    assert (got, cancelled) == ([b"1", b"2"], ["a"])
    assert not session.arrived("basic.cancel-ok")


def test_a_cancel_notice_without_a_callback_is_raised(peer, connect):
    connection = connect(peer)
    channel = connection.channel()
    got = []
    consume(channel, got.append, "a")
    consume(channel, got.append, "b")
    session = peer.session()
    session.send_method("basic.cancel", 1, consumer_tag="a", nowait=True)
    session.send_delivery(b"still here", consumer_tag="b")
    with pytest.raises(ConsumerCancelled, match="a"):
        connection.drain_events(timeout=PATIENCE)
    drain_until(connection, lambda: got)


def test_a_message_whose_consumer_is_gone_goes_back(peer, connect):
    connection = connect(peer)
    channel = connection.channel()
    consume(channel, lambda message: None)
    session = peer.session()
    session.send_delivery(b"stray", consumer_tag="nobody", delivery_tag=5)
    connection.drain_events(timeout=PATIENCE)
    session.expect("basic.reject", delivery_tag=5, requeue=True)


def test_blocked_and_unblocked_are_told_with_the_reason(peer, connect):
    reasons = []
    connection = connect(peer, on_blocked=reasons.append, on_unblocked=lambda: reasons.append(None))
    transport = connection.connection
    session = peer.session()
    assert not transport.blocked
    session.send_method("connection.blocked", reason="low on memory")
    connection.drain_events(timeout=PATIENCE)
    assert (transport.blocked, transport.blocked_reason) == (True, "low on memory")
    session.send_method("connection.unblocked")
    connection.drain_events(timeout=PATIENCE)
    assert (transport.blocked, transport.blocked_reason) == (False, None)
    assert reasons == ["low on memory", None]


def test_a_blocked_connection_closes_all_the_same(peer, connect):
    connection = connect(peer)
    session = peer.session()
    session.send_method("connection.blocked", reason="low on disk")
    connection.drain_events(timeout=PATIENCE)
    connection.close()
    session.wait_ended()


# -- heartbeats


def test_heartbeats_are_sent_while_nothing_comes(any_peer, connect):
    any_peer.heartbeat = 1
    connection = connect(any_peer, heartbeat=1)
    consume(connection.channel(), lambda message: None)
    session = any_peer.session()
    assert session.heartbeat_interval == 1
    deadline = time.monotonic() + PATIENCE
    while len(session.heartbeats) < 2:
        assert time.monotonic() < deadline
        # The peer's own, lest it be taken for dead.
        session.heartbeat()
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.5)


def test_a_peer_that_falls_silent_is_noticed_by_draining(peer, connect):
    peer.heartbeat = 1
    connection = connect(peer, heartbeat=1)
    consume(connection.channel(), lambda message: None)
    with pytest.raises(RecoverableConnectionError, match="Too many heartbeats missed"):
        connection.drain_events(timeout=PATIENCE)
    peer.session().wait_ended()
    with pytest.raises(RecoverableConnectionError, match="Too many heartbeats missed"):
        connection.drain_events(timeout=PATIENCE)
