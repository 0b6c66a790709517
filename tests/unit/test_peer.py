"""The scripted peer does what tests rely on; shown with the plain ``amqp`` package as the client."""

from __future__ import annotations

import socket
import time

import amqp
import pytest

import certificates
import wire
from peer import Peer, ProtocolViolation


@pytest.fixture
def connect():
    """Give a function that connects a client, which is collected whatever becomes of the test."""
    clients = []

    def connect(peer, **options):
        clients.append(amqp.Connection(peer.host, connect_timeout=5, **options))
        clients[-1].connect()
        return clients[-1]

    yield connect
    for client in clients:
        client.collect()


def test_negotiates_what_it_was_told(connect):
    offered = {"frame_max": 8192, "channel_max": 7, "heartbeat": 20, "mechanisms": "PLAIN"}
    with Peer(**offered, capabilities={"basic.nack": True}) as peer:
        client = connect(peer, heartbeat=30)
        session = peer.session()
        assert (session.frame_max, session.channel_max, session.heartbeat_interval) == (8192, 7, 20)
        assert (client.frame_max, client.channel_max, client.heartbeat) == (8192, 7, 20)
        assert client.server_properties["capabilities"] == {"basic.nack": True}
        assert session.response == b"\0guest\0guest"
        assert session.virtual_host == "/"
        client.close()
        session.wait_ended()


def test_answers_an_ordinary_client_without_a_script(connect):
    with Peer() as peer:
        client = connect(peer)
        channel = client.channel()
        channel.exchange_declare("events", "topic", durable=True)
        assert channel.queue_declare("q").queue == "q"
        assert channel.queue_declare("").queue.startswith("generated-")
        channel.queue_bind("q", "events", "#")
        channel.basic_qos(0, 10, False)
        channel.basic_cancel(channel.basic_consume("q"))
        assert channel.basic_get("q") is None
        channel.close()
        client.close()
        declare = peer.session(0).expect("exchange.declare")
        assert (declare.args["exchange"], declare.type, declare.durable, declare.passive) == (
            "events",
            "topic",
            True,
            False,
        )


@pytest.mark.parametrize("cut", [None, 1, [7, 20], [3]])
def test_deliveries_arrive_whole_however_they_are_cut(connect, cut):
    with Peer(frame_max=4096) as peer:
        client = connect(peer)
        channel = client.channel()
        got = []
        channel.basic_consume("q", callback=got.append)
        body = bytes(range(256)) * 40
        tag = peer.session().send_delivery(
            body[: 300 if cut == 1 else None],
            cut=cut,
            routing_key="r",
            properties={"content_type": "text/plain", "application_headers": {"n": 1}},
        )
        while not got:
            client.drain_events(timeout=5)
        assert got[0].body == body[: 300 if cut == 1 else None]
        assert got[0].delivery_info["delivery_tag"] == tag == 1
        assert got[0].properties["application_headers"] == {"n": 1}
        channel.basic_ack(tag)
        peer.session().expect("basic.ack", delivery_tag=1, multiple=False)
        client.close()


def test_publishes_are_put_together_and_confirms_can_be_late(connect):
    with Peer(frame_max=4096) as peer:
        peer.on("basic.publish", None)
        client = connect(peer, confirm_publish=False)
        channel = client.channel()
        channel.confirm_select()
        acked, nacked = [], []
        channel.events["basic_ack"].add(lambda tag, multiple: acked.append((tag, multiple)))
        channel.events["basic_nack"].add(lambda tag, multiple: nacked.append((tag, multiple)))
        for number in range(3):
            channel.basic_publish(amqp.Message(b"x" * 10_000, priority=number), "ex", "key", mandatory=True)
        session = peer.session()
        publishes = session.wait_for("basic.publish", 3)
        assert [len(p.body) for p in publishes] == [10_000] * 3
        assert [p.properties["priority"] for p in publishes] == [0, 1, 2]
        assert publishes[0].mandatory and not publishes[0].immediate
        assert session.confirming == {1: 3}
        session.ack(2, multiple=True)
        session.nack(3)
        while not nacked:
            client.drain_events(timeout=5)
        assert (acked, nacked) == ([(2, True)], [(3, False)])
        client.close()


def test_confirms_by_itself_when_nothing_else_is_said(connect):
    with Peer() as peer:
        client = connect(peer, confirm_publish=True)
        client.channel().basic_publish_confirm(amqp.Message("m"), "", "q", confirm_timeout=5)
        client.close()


def test_a_closed_connection_is_an_end_of_file_and_a_reset_one_a_reset(connect):
    with Peer() as peer:
        client = connect(peer)
        peer.session().close()
        with pytest.raises(OSError, match="closed the connection|Server unexpectedly closed"):
            client.drain_events(timeout=5)
        client = connect(peer)
        peer.session(1).reset()
        with pytest.raises(ConnectionResetError):
            client.drain_events(timeout=5)
        assert peer.connections == 2


def test_half_a_frame_and_silence_leave_the_client_waiting(connect):
    with Peer() as peer:
        client = connect(peer)
        channel = client.channel()
        got = []
        channel.basic_consume("q", callback=got.append)
        session = peer.session()
        _tag, data = session.delivery(b"late")
        session.send_raw(data[:-2])
        session.flush()
        with pytest.raises(socket.timeout):
            while True:
                client.drain_events(timeout=0.2)
        assert not got


def test_bad_octets_reach_the_client(connect):
    with Peer() as peer:
        client = connect(peer)
        peer.session().send_raw(wire.frame(wire.METHOD, 0, wire.method_payload("connection.unblocked"), end=0x00))
        with pytest.raises(amqp.UnexpectedFrame):
            client.drain_events(timeout=5)


def test_silence_can_be_scripted_for_any_method():
    with Peer() as peer:
        peer.on("connection.open", None)
        started = time.monotonic()
        with pytest.raises(socket.timeout):
            amqp.Connection(peer.host, connect_timeout=0.3, read_timeout=0.3).connect()
        assert time.monotonic() - started < 5
        with pytest.raises(TimeoutError, match="a client to open"):
            peer.session(timeout=0.1)


def test_a_handler_may_refuse(connect):
    def not_found(session, method):
        session.send_method("channel.close", method.channel, reply_code=404, reply_text="NOT_FOUND - no queue")

    with Peer() as peer:
        peer.on("queue.declare", not_found)
        client = connect(peer)
        with pytest.raises(amqp.NotFound, match="no queue"):
            client.channel().queue_declare("q", passive=True)
        peer.session().expect("channel.close-ok")
        client.close()


def test_heartbeats_are_counted_with_their_times(connect):
    with Peer(heartbeat=1) as peer:
        client = connect(peer, heartbeat=1)
        session = peer.session()
        before = time.monotonic()
        client.send_heartbeat()
        session.wait(lambda: session.heartbeats)
        assert before <= session.heartbeats[0] <= session.last_frame <= time.monotonic()
        session.heartbeat()
        client.blocking_read(timeout=5)
        assert client.bytes_recv
        client.close()


def test_a_client_that_breaks_the_protocol_fails_the_test(connect):
    with pytest.raises(ProtocolViolation, match="ends with 0x00"):
        with Peer() as peer:
            client = connect(peer)
            client.transport.write(wire.frame(wire.METHOD, 0, wire.method_payload("connection.close-ok"), end=0))
            peer.session().wait_ended()


def test_frames_of_two_methods_on_one_channel_are_a_violation(connect):
    with pytest.raises(ProtocolViolation, match="where 3 was due"):
        with Peer() as peer:
            client = connect(peer)
            publish = wire.method("basic.publish", 1) + wire.content(1, {}, b"0123456789", 4096)[0]
            client.transport.write(publish + wire.method("basic.publish", 1))
            peer.session().wait_ended()


def test_reading_can_be_paused_until_the_client_blocks(connect):
    with Peer() as peer:
        client = connect(peer, write_timeout=0.3)
        channel = client.channel()
        session = peer.session()
        session.pause_reading()
        # The amqp package has the kernel give up after a second, which is told in another way.
        with pytest.raises((socket.timeout, BlockingIOError, amqp.RecoverableConnectionError)):
            for _ in range(200):
                channel.basic_publish(amqp.Message(b"x" * 1_000_000), "", "q")


def test_refused_then_listening_again_on_the_same_port(connect):
    with Peer() as peer:
        peer.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(peer)
        peer.listen()
        connect(peer).close()


def test_speaks_tls(connect, tmp_path):
    with Peer(tls=certificates.make(tmp_path)) as peer:
        client = connect(peer, ssl=peer.options["ssl"])
        channel = client.channel()
        got = []
        channel.basic_consume("q", callback=got.append)
        peer.session().send_delivery(b"z" * 1_000_000, cut=70_000)
        while not got:
            client.drain_events(timeout=5)
        assert len(got[0].body) == 1_000_000
        channel.basic_publish(amqp.Message(b"y" * 1_000_000), "", "q")
        assert len(peer.session().expect("basic.publish").body) == 1_000_000
        client.close()
        peer.session().wait_ended()


def test_expect_says_what_came_instead(connect):
    with Peer() as peer:
        client = connect(peer)
        client.channel()
        with pytest.raises(TimeoutError, match=r"basic\.ack; the last methods were: .*channel\.open$"):
            peer.session().expect("basic.ack", timeout=0.1)
        client.close()
