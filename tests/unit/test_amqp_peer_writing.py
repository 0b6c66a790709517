"""What reaches a peer: whole frames, of the negotiated size, from many threads; and acks that travel together."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections import defaultdict
from statistics import median

import pytest
from amqp.exceptions import RecoverableConnectionError

from clients import consume, publish
from patience import PATIENCE, Background, drain_until, until
from peer import Peer

ACK_WRITES = ("corked", "immediate", "coalesced")


#: Of ``any_peer``.
FRAME_MAX = 8192


def sealed(thread, number, size):
    """Return a body that shows whether it is whole, and whose it is."""
    filler = bytes((thread + number) & 255 for _ in range(size))
    text = b"%d %d " % (thread, number) + filler
    return hashlib.md5(text, usedforsecurity=False).digest() + text


def unsealed(body):
    assert hashlib.md5(body[16:], usedforsecurity=False).digest() == body[:16]
    thread, number, _ = body[16:].split(b" ", 2)
    return int(thread), int(number)


# -- publishing


@pytest.mark.parametrize("shared", [True, False], ids=["one channel", "a channel each"])
def test_eight_threads_publish_while_one_drains_and_acknowledges(any_peer, connect, shared):
    """The peer itself refuses a frame that is cut, above the limit, or between two of another message's."""
    connection = connect(any_peer)
    consumer = connection.channel()
    got = []

    def take(message):
        got.append(message.delivery_tag)
        message.ack()

    consume(consumer, take)
    channel = connection.channel()
    channels = [channel if shared else connection.channel() for _ in range(8)]
    session = any_peer.session()
    per_thread, sizes = 12, (20, 8184, 60_000)
    deliveries = 300
    for _ in range(deliveries):
        session.send_delivery(b"x" * 200)

    def work(thread):
        for number in range(per_thread):
            publish(channels[thread], sealed(thread, number, sizes[number % 3]))

    workers = [Background(work, thread).start() for thread in range(8)]
    drain_until(connection, lambda: len(got) == deliveries)
    for worker in workers:
        worker.join()
    published = defaultdict(list)
    for method in session.wait_for("basic.publish", 8 * per_thread):
        thread, number = unsealed(method.body)
        published[thread].append(number)
    assert published == {thread: list(range(per_thread)) for thread in range(8)}
    tags = [method.delivery_tag for method in session.wait_for("basic.ack", deliveries)]
    assert tags == list(range(1, deliveries + 1))


@pytest.mark.parametrize(
    ("offered", "asked", "agreed"),
    [(4096, None, 4096), (131072, 8192, 8192), (4096, 131072, 4096), (0, 16384, 16384), (1_000_000, None, 1_000_000)],
)
def test_frames_are_of_the_size_agreed_upon(connect, offered, asked, agreed):
    with Peer(frame_max=offered) as peer:
        connection = connect(peer, **({} if asked is None else {"frame_max": asked}))
        session = peer.session()
        assert session.frame_max == agreed
        channel = connection.channel()
        before = session.frames
        publish(channel, sealed(1, 1, 200_000))
        body = session.expect("basic.publish").body
        assert unsealed(body) == (1, 1)
        assert session.frames - before == 2 + -(-len(body) // (agreed - 8))
        got = []
        consume(channel, got.append)
        session.send_delivery(b"x" * 300_000)
        drain_until(connection, lambda: got)
        assert len(got[0].body) == 300_000


@pytest.mark.parametrize("size", [0, 1, 8183, 8184, 8185, 16_384, 16_385, 2_000_000])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bodies_of_any_size_and_kind_arrive_whole(any_peer, connect, size, kind):
    connection = connect(any_peer)
    body = bytes(range(256)) * (size // 256 + 1)
    publish(connection.channel(), kind(body[:size]))
    assert any_peer.session().expect("basic.publish").body == body[:size]


def test_a_publish_to_a_peer_that_does_not_read_can_time_out(any_peer, connect):
    connection = connect(any_peer)
    channel = connection.channel()
    session = any_peer.session()
    session.pause_reading()
    started = time.monotonic()
    with pytest.raises(RecoverableConnectionError, match=r"within 0\.[0-9]+ seconds; a frame is cut short"):
        publish(channel, bytes(50_000_000), timeout=0.2)
    assert time.monotonic() - started < PATIENCE
    session.resume_reading()
    session.wait_ended()
    with pytest.raises(RecoverableConnectionError, match="a frame is cut short"):
        publish(channel)


def test_a_publish_does_not_wait_longer_for_another_one_than_it_may(any_peer, connect):
    connection = connect(any_peer)
    channel = connection.channel()
    session = any_peer.session()
    session.pause_reading()
    patient = Background(publish, channel, bytes(20_000_000)).start()
    # The write of the other one begins at its own time, so this one may get through a few times before.
    with pytest.raises(RecoverableConnectionError, match="basic_publish: timed out"):
        while True:
            publish(channel, b"impatient", timeout=0.1)
    assert connection.connected
    session.resume_reading()
    patient.join()
    publish(channel, b"last")
    until(lambda: session.arrived("basic.publish")[-1:] and session.arrived("basic.publish")[-1].body == b"last")


def test_a_publish_may_take_any_number_of_seconds(any_peer, connect):
    channel = connect(any_peer).channel()
    publish(channel, bytes(1_000_000), timeout=1e12)
    assert len(any_peer.session().expect("basic.publish").body) == 1_000_000


def test_a_thread_that_drains_is_told_of_a_frame_cut_short(peer, connect):
    connection = connect(peer)
    channel = connection.channel()
    session = peer.session()
    session.pause_reading()
    drainer = Background(connection.drain_events).start()
    with pytest.raises(RecoverableConnectionError, match="a frame is cut short"):
        publish(channel, bytes(50_000_000), timeout=0.2)
    with pytest.raises(RecoverableConnectionError, match="a frame is cut short"):
        drainer.join()
    session.resume_reading()
    session.wait_ended()


def test_a_write_timeout_is_for_every_method(peer, connect):
    connection = connect(peer, write_timeout=0.2)
    channel = connection.channel()
    session = peer.session()
    session.pause_reading()
    started = time.monotonic()
    with pytest.raises((TimeoutError, RecoverableConnectionError)):
        for _ in range(100):
            publish(channel, bytes(1_000_000))
    assert time.monotonic() - started < PATIENCE


def test_heartbeats_between_large_writes_keep_the_frames_whole(tls_certificates, connect):
    # OpenSSL insists on getting a record through before any other; giving one up must not cost a frame.
    with Peer(heartbeat=60, tls=tls_certificates) as peer:
        connection = connect(peer, heartbeat=60)
        channel = connection.channel()
        session = peer.session()
        session.pause_reading()
        stop = threading.Event()

        def beat():
            while not stop.wait(0.001):
                connection.connection.send_heartbeat()

        def work():
            for number in range(20):
                publish(channel, sealed(1, number, 500_000))

        beater = Background(beat).start()
        worker = Background(work).start()
        # Long enough for the buffers of the kernel to be full.
        until(lambda: _stands_still(session, worker))
        session.resume_reading()
        worker.join()
        stop.set()
        beater.join()
        bodies = [method.body for method in session.wait_for("basic.publish", 20)]
        assert [unsealed(body) for body in bodies] == [(1, number) for number in range(20)]


def _stands_still(session, worker):
    """Return whether the writer has been blocked for a moment."""
    time.sleep(0.2)
    return worker.alive


# -- acknowledgements


@pytest.mark.parametrize("ack_writes", ACK_WRITES)
def test_the_ack_of_a_slow_callback_does_not_wait_for_the_next_one(peer, connect, ack_writes):
    connection = connect(peer, ack_writes=ack_writes)
    session = peer.session()
    waited = []

    def work(message):
        # All that came before has been acknowledged by now, though more deliveries are buffered all the time.
        started = time.monotonic()
        session.wait_for("basic.ack", message.delivery_tag - 1)
        waited.append(time.monotonic() - started)
        time.sleep(0.002)
        message.ack()

    consume(connection.channel(), work)
    count = 20
    session.send_raw(b"".join(session.delivery(b"x")[1] for _ in range(count)))
    drain_until(connection, lambda: len(waited) == count)
    session.wait_for("basic.ack", count)
    # What the kernel holds back by itself comes 0.2 seconds later, each time; what nobody pushes, never.
    assert median(waited) < 0.1


@pytest.mark.parametrize("ack_writes", ACK_WRITES)
def test_nor_where_one_call_dispatches_both(peer, connect, ack_writes):
    connection = connect(peer, ack_writes=ack_writes)
    session = peer.session()
    waited = []

    def work(message):
        started = time.monotonic()
        session.wait_for("basic.ack", message.delivery_tag - 1)
        waited.append(time.monotonic() - started)
        time.sleep(0.002)
        message.ack()

    consume(connection.channel(), work)
    count = 20
    session.send_raw(b"".join(session.delivery(b"x")[1] for _ in range(count)))
    while len(waited) < count:
        connection.drain_events(timeout=PATIENCE, max_events=count)
    session.wait_for("basic.ack", count)
    assert median(waited) < 0.1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are written at once")
@pytest.mark.parametrize("ack_writes", ["corked", "immediate"])
@pytest.mark.parametrize("max_events", [1, 2])
def test_the_ack_of_a_fast_callback_does_not_wait_for_one_that_sleeps(peer, connect, ack_writes, max_events):
    connection = connect(peer, ack_writes=ack_writes)
    session = peer.session()
    waited = []

    def work(message):
        if message.delivery_tag == 2:
            # The promise is 0.25 seconds, of which the kernel takes 0.2; what nobody pushes never comes.
            waited.append(session.wait_for("basic.ack", 1))
        message.ack()

    consume(connection.channel(), work)
    session.send_raw(session.delivery(b"fast")[1] + session.delivery(b"sleeps")[1])
    while not waited:
        connection.drain_events(timeout=PATIENCE, max_events=max_events)
    session.wait_for("basic.ack", 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("ack_writes", ACK_WRITES)
def test_a_child_sends_none_of_the_acks_that_its_parent_holds_back(peer, connect, ack_writes):
    connection = connect(peer, ack_writes=ack_writes)
    session = peer.session()
    got = []

    def work(message):
        message.ack()
        got.append(message)
        if len(got) == 2:
            child = os.fork()
            if not child:
                try:
                    # Whatever the child does with what it inherited.
                    connection.release()
                    connection.collect()
                finally:
                    os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    consume(connection.channel(), work)
    session.send_raw(b"".join(session.delivery(b"x")[1] for _ in range(5)))
    drain_until(connection, lambda: len(got) == 5)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0)
    session.wait_for("basic.ack", 5)
    assert [method.delivery_tag for method in session.arrived("basic.ack")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("ack_writes", ACK_WRITES)
def test_an_ack_is_pushed_by_the_next_wait_whatever_ended_the_call_before(peer, connect, ack_writes):
    connection = connect(peer, ack_writes=ack_writes)
    session = peer.session()

    def work(message):
        message.ack()
        if message.delivery_tag == 1:
            raise KeyError("after the ack")

    consume(connection.channel(), work)
    session.send_raw(session.delivery(b"1")[1] + session.delivery(b"2")[1])
    with pytest.raises(KeyError):
        connection.drain_events(timeout=PATIENCE, max_events=10)
    connection.drain_events(timeout=PATIENCE, max_events=10)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0)
    session.wait_for("basic.ack", 2)


@pytest.mark.parametrize("ack_writes", ACK_WRITES)
def test_the_ack_of_the_last_message_does_not_wait(peer, connect, ack_writes):
    connection = connect(peer, ack_writes=ack_writes)
    session = peer.session()
    got = []

    def work(message):
        message.ack()
        got.append(message)

    consume(connection.channel(), work)
    waited = []
    for number in range(1, 11):
        # Two at once, so that the first ack is held back in favour of the second.
        session.send_raw(session.delivery(b"x")[1] + session.delivery(b"y")[1])
        drain_until(connection, lambda number=number: len(got) == 2 * number)
        started = time.monotonic()
        session.wait_for("basic.ack", 2 * number)
        waited.append(time.monotonic() - started)
    # By itself the kernel would take 0.2 seconds, each time.
    assert median(waited) < 0.1


@pytest.mark.parametrize("ack_writes", ACK_WRITES)
def test_acks_come_before_what_was_written_after_them(peer, connect, ack_writes):
    connection = connect(peer, ack_writes=ack_writes)
    channel, other = connection.channel(), connection.channel()
    got = []

    def work(message):
        message.ack()
        if message.body == b"publish":
            publish(other, b"answer")
        got.append(message)

    consume(channel, work)
    session = peer.session()
    bodies = [b"a", b"b", b"publish", b"c", b"publish", b"d"]
    session.send_raw(b"".join(session.delivery(body)[1] for body in bodies))
    drain_until(connection, lambda: len(got) == len(bodies))
    session.wait_for("basic.ack", len(bodies))
    names = [method.name for method in session.methods if method.name in ("basic.ack", "basic.publish")]
    assert names == ["basic.ack"] * 3 + ["basic.publish"] + ["basic.ack"] * 2 + ["basic.publish", "basic.ack"]


@pytest.mark.parametrize("ack_writes", ACK_WRITES)
def test_acks_held_back_leave_when_the_socket_is_waited_for_and_when_it_closes(peer, connect, ack_writes):
    connection = connect(peer, ack_writes=ack_writes)
    got = []

    def work(message):
        message.ack()
        got.append(message)

    consume(connection.channel(), work)
    session = peer.session()
    session.send_raw(session.delivery(b"1")[1] + session.delivery(b"2")[1] + session.delivery(b"3")[1][:-1])
    connection.drain_events(timeout=PATIENCE)
    connection.drain_events(timeout=PATIENCE)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0)
    session.wait_for("basic.ack", 2)
    session.send_raw(b"\xce" + session.delivery(b"4")[1])
    drain_until(connection, lambda: len(got) == 3)
    connection.close()
    session.wait_ended()
    assert [method.delivery_tag for method in session.arrived("basic.ack")] == [1, 2, 3]


@pytest.mark.parametrize("ack_writes", ACK_WRITES)
def test_many_acks_arrive_each_and_in_order(any_peer, connect, ack_writes):
    connection = connect(any_peer, ack_writes=ack_writes)
    got = []

    def work(message):
        message.ack()
        got.append(message.delivery_tag)

    consume(connection.channel(), work)
    session = any_peer.session()
    count = 3000
    session.send_raw(b"".join(session.delivery(b"x" * 50)[1] for _ in range(count)))
    drain_until(connection, lambda: len(got) == count)
    tags = [method.delivery_tag for method in session.wait_for("basic.ack", count)]
    assert tags == got == list(range(1, count + 1))


@pytest.mark.parametrize("ack_writes", ACK_WRITES)
def test_acks_from_other_threads_arrive(peer, connect, ack_writes):
    connection = connect(peer, ack_writes=ack_writes)
    got = []
    consume(connection.channel(), got.append)
    session = peer.session()
    count = 400
    session.send_raw(b"".join(session.delivery(b"x" * 50)[1] for _ in range(count)))
    done = threading.Event()

    def settle(part):
        for index in range(part, count, 4):
            until(lambda index=index: len(got) > index)
            got[index].ack()

    workers = [Background(settle, part).start() for part in range(4)]

    def finish():
        for worker in workers:
            worker.join()
        done.set()

    with Background(finish):
        while not done.is_set():
            try:
                connection.drain_events(timeout=0.05)
            except TimeoutError:
                pass
    tags = [method.delivery_tag for method in session.wait_for("basic.ack", count)]
    assert sorted(tags) == list(range(1, count + 1))


def test_a_channel_whose_basic_ack_is_replaced_is_asked_by_that(peer, connect):
    connection = connect(peer)
    channel = connection.channel()
    kind = type(channel)
    own = kind.basic_ack
    session = peer.session()
    consume(channel, lambda message: message.ack())
    asked, tags = [], iter(range(1, 100))

    def delivered():
        """Have two deliveries acknowledged, and return the numbers of those that the peer does not hear of."""
        asked.clear()
        sent = [next(tags), next(tags)]
        for _ in sent:
            session.send_delivery(b"x")
            connection.drain_events(timeout=PATIENCE)
        if not asked:
            assert [session.expect("basic.ack").delivery_tag for _ in sent] == sent
        return asked == sent

    assert not delivered()
    channel.basic_ack = lambda delivery_tag, multiple=False: asked.append(delivery_tag)
    assert delivered()
    del channel.basic_ack
    assert not delivered()
    vars(channel)["basic_ack"] = lambda delivery_tag, multiple=False: asked.append(delivery_tag)
    assert delivered()
    del channel.basic_ack
    assert not delivered()
    channel.basic_ack = channel.basic_ack
    assert not delivered()
    del channel.basic_ack
    try:
        kind.basic_ack = lambda self, delivery_tag, multiple=False: asked.append(delivery_tag)
        assert delivered()
        kind.basic_ack = property(lambda self: lambda delivery_tag, multiple=False: asked.append(delivery_tag))
        assert delivered()
    finally:
        kind.basic_ack = own
    assert not delivered()

    class Own(kind):
        def basic_ack(self, delivery_tag, multiple=False, argsig="Lb"):
            asked.append(delivery_tag)

    channel.__class__ = Own
    assert delivered()
    channel.__class__ = kind
    assert not delivered()


def test_an_unknown_way_of_writing_acks_is_refused(peer, connect):
    with pytest.raises(ValueError, match="ack_writes has to be one of corked, immediate, coalesced; it is 'lazy'"):
        connect(peer, ack_writes="lazy")


def test_one_ack_for_several(peer, connect):
    connection = connect(peer)
    got = []
    channel = connection.channel()
    consume(channel, got.append)
    session = peer.session()
    for _ in range(5):
        session.send_delivery(b"x")
    drain_until(connection, lambda: len(got) == 5)
    got[2].ack(multiple=True)
    session.expect("basic.ack", delivery_tag=3, multiple=True)
    assert channel.unacked == {4, 5}
    got[3].reject()
    session.expect("basic.reject", delivery_tag=4, requeue=False)
    got[4].requeue()
    session.expect("basic.reject", delivery_tag=5, requeue=True)
    assert channel.unacked == set()


# -- a connection that the broker has blocked


@pytest.fixture
def blocked(peer, connect):
    """A channel on a connection that has been told that it is blocked."""
    connection = connect(peer)
    channel = connection.channel()
    peer.session().send_method("connection.blocked", reason="low on memory")
    drain_until(connection, lambda: connection.connection.blocked)
    return channel


def test_a_publish_on_a_blocked_connection_can_time_out(peer, blocked):
    with pytest.raises(RecoverableConnectionError, match="timed out after 0.05 seconds; .* blocked .*: low on memory"):
        publish(blocked, timeout=0.05)
    # A publish that need not end goes to the kernel, as ever; nothing of the other was written.
    publish(blocked, b"no limit")
    assert [bytes(method.body) for method in peer.session().wait_for("basic.publish", 1)] == [b"no limit"]
    assert blocked.connection.connected


def test_a_publish_goes_on_when_the_connection_is_unblocked(peer, blocked):
    task = Background(lambda: publish(blocked, b"late", timeout=PATIENCE)).start()
    session = peer.session()
    assert not session.arrived("basic.publish")
    session.send_method("connection.unblocked")
    task.join()
    session.wait_for("basic.publish", 1)


def test_the_notice_is_read_before_a_publish_after_a_pause(peer, connect):
    connection = connect(peer)
    channel = connection.channel()
    session = peer.session()
    publish(channel)
    session.send_method("connection.blocked", reason="disk")
    session.flush()

    def timed_out():
        # Until the notice has arrived the publish is written.
        try:
            publish(channel, timeout=0.02)
        except RecoverableConnectionError as error:
            return "disk" in str(error)
        time.sleep(0.025)
        return False

    assert until(timed_out)


@pytest.mark.parametrize("options", [{"confirm_publish": True}, {"confirm_publish": True, "confirm_window": 5}])
def test_a_confirmed_publish_can_time_out_as_well(peer, connect, options):
    connection = connect(peer, **options)
    channel = connection.channel()
    peer.session().send_method("connection.blocked", reason="low on memory")
    drain_until(connection, lambda: connection.connection.blocked)
    with pytest.raises(RecoverableConnectionError, match="low on memory"):
        publish(channel, timeout=0.05)
    assert not peer.session().arrived("basic.publish")


def test_a_batch_can_time_out_as_well(peer, blocked):
    import kombu
    from kombu.exceptions import BatchPublishError

    producer = kombu.Producer(blocked, routing_key="q")
    with pytest.raises(BatchPublishError, match="low on memory"), producer.batch():
        producer.publish("1", timeout=0.05)
    assert not peer.session().arrived("basic.publish")


def test_closing_a_blocked_connection_does_not_hang(peer, connect):
    connection = connect(peer, close_timeout=0.1)
    session = peer.session()
    session.send_method("connection.blocked", reason="low on memory")
    drain_until(connection, lambda: connection.connection.blocked)
    session.pause_reading()
    started = time.monotonic()
    connection.release()
    assert time.monotonic() - started < PATIENCE
    session.resume_reading()
