"""How publishes in a window of confirms leave: those that follow closely together, and none is left behind."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import kombu
from clients import Clients, consume
from patience import PATIENCE, Background, drain_until
from peer import DEFAULT_HANDLERS, Peer

SIZE = 16
WINDOW = {"confirm_publish": True, "confirm_window": SIZE}

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are written at once")


class Site:
    """A producer in a window; the peer leaves its publishes unanswered."""

    def __init__(self, peer: Peer, connect: Clients, **options: Any) -> None:
        peer.on("basic.publish", None)
        self.peer = peer
        self.connection = connect(peer, **WINDOW, **options)
        self.producer = kombu.Producer(self.connection, routing_key="q")
        self.published: list[Any] = []
        self.publish()
        self.session = peer.session()
        self.answer()

    @property
    def held_back(self) -> bool:
        return bool(self.connection.connection._writer.unpushed)

    def publish(self) -> Any:
        confirmation = self.producer.publish(str(len(self.published)))
        self.published.append(confirmation)
        return confirmation

    def answer(self) -> None:
        """Have the peer confirm all, and read it."""
        self.arrive()
        self.session.ack(len(self.published), multiple=True)
        self.producer.flush(PATIENCE)

    def arrive(self) -> None:
        """Wait until all is with the peer."""
        self.session.wait_for("basic.publish", len(self.published))

    def hold_back(self) -> Any:
        """Publish until the kernel holds something back; return the promise of the last publish."""
        while True:
            # More than a millisecond may pass between two of them on a busy machine, which pushes.
            self.publish()
            last = self.publish()
            if self.held_back:
                return last
            if len(self.producer.channel.confirm_window) > SIZE - 4:
                self.answer()

    def fill(self) -> None:
        """Publish until the window is full, with something held back."""
        while not self.held_back:
            self.answer()
            for _ in range(SIZE):
                self.publish()


@pytest.fixture
def site(peer, connect) -> Site:
    return Site(peer, connect)


# -- what holds back


@linux
@pytest.mark.parametrize("pause", [0.002, 0.03])
def test_a_publish_after_a_pause_is_at_the_peer_at_once(site, pause):
    for _ in range(5):
        time.sleep(pause)
        site.publish()
        assert not site.held_back
        site.arrive()


@linux
def test_a_publish_after_a_pause_takes_along_what_was_held_back(site):
    for _ in range(5):
        site.hold_back()
        time.sleep(0.002)
        assert site.held_back
        site.publish()
        assert not site.held_back
        site.arrive()
        site.answer()


@linux
def test_a_burst_is_pushed_a_millisecond_after_its_first_and_holds_back_anew(site, connect):
    many = Site(site.peer, connect, confirm_timeout=PATIENCE)
    many.producer.channel.confirm_window.size = 100_000
    changes = []
    deadline = time.monotonic() + PATIENCE
    # Each time that something was held back, and then not, one publish has taken it along.
    while changes.count(False) < 5 and time.monotonic() < deadline:
        many.publish()
        if not changes or changes[-1] != many.held_back:
            changes.append(many.held_back)
    assert changes.count(False) >= 5 and changes.count(True) >= 4
    many.arrive()


@linux
def test_the_last_of_a_burst_arrives_though_nobody_does_anything(site):
    site.hold_back()
    # The promise is 0.25 seconds, of which the kernel takes 0.2; what nobody pushes never comes.
    site.arrive()
    assert site.held_back


def test_order_is_kept_and_nothing_is_missing(peer, connect):
    peer.on("basic.publish", DEFAULT_HANDLERS["basic.publish"])
    connection = connect(peer, confirm_publish=True, confirm_window=100)
    producer = kombu.Producer(connection, routing_key="q")
    sizes = (1, 300, 16 * 1024, 16 * 1024 + 1, 200_000)
    bodies = [bytes([number & 255]) * sizes[number % 97 % 5 if number % 97 < 5 else 1] for number in range(1000)]
    promises = [producer.publish(body) for body in bodies]
    producer.flush(PATIENCE)
    assert all(each.ready for each in promises)
    assert [each.delivery_tag for each in promises] == list(range(1, 1001))
    assert [bytes(method.body) for method in peer.session().arrived("basic.publish")] == bodies


# -- what pushes


def ignoring_the_time_limit(function: Callable[..., Any], *args: Any, **options: Any) -> None:
    with contextlib.suppress(TimeoutError):
        function(*args, **options)


def in_a_batch(site: Site) -> None:
    with site.producer.batch():
        site.publish()


PUSHES: dict[str, Callable[[Site, Any], None]] = {
    "flush": lambda site, last: ignoring_the_time_limit(site.producer.flush, 0),
    "flush of the channel": lambda site, last: ignoring_the_time_limit(site.producer.channel.flush, 0),
    "wait": lambda site, last: ignoring_the_time_limit(last.wait, 0),
    "drain_events": lambda site, last: ignoring_the_time_limit(site.connection.drain_events, timeout=0),
    "check_alive": lambda site, last: site.connection.connection.check_alive(),
    "a method": lambda site, last: site.connection.default_channel.queue_declare("other"),
    "a method without an answer": lambda site, last: site.connection.default_channel.queue_declare("x", nowait=True),
    "a method on another channel": lambda site, last: site.connection.channel().queue_declare("other"),
    "a heartbeat": lambda site, last: site.connection.connection.send_heartbeat(),
    "a batch": lambda site, last: in_a_batch(site),
}


@linux
@pytest.mark.parametrize("how", PUSHES)
def test_whatever_else_is_done_pushes(site, how):
    for _ in range(3):
        last = site.hold_back()
        PUSHES[how](site, last)
        assert not site.held_back
        site.arrive()
        site.answer()


@linux
@pytest.mark.parametrize("limit", [{"confirm_timeout": 0}, {"confirm_timeout": 0.01}])
def test_waiting_for_room_pushes(site, limit):
    site.fill()
    assert site.held_back
    with pytest.raises(TimeoutError, match="nothing was published"):
        site.producer.publish("one too many", **limit)
    assert not site.held_back
    site.arrive()


@linux
@pytest.mark.parametrize("how", ["ack", "reject", "nack"])
def test_settling_a_message_pushes(site, how):
    got: list[Any] = []
    channel = site.connection.channel()
    consume(channel, got.append)
    for number in range(1, 4):
        site.session.send_delivery(b"x", channel=channel.channel_id)
        drain_until(site.connection, lambda number=number: len(got) == number)
        site.hold_back()
        if how == "nack":
            channel.basic_nack(number)
        else:
            getattr(got[-1], how)()
        assert not site.held_back
        site.arrive()
        site.answer()


@linux
def test_publishes_and_acks_that_are_held_back_leave_together_in_their_order(site):
    channel = site.connection.channel()
    held: list[bool] = []

    def work(message: Any) -> None:
        site.publish()
        site.publish()
        message.ack()
        held.append(site.held_back)

    consume(channel, work)
    deliveries = [site.session.delivery(b"x", channel=channel.channel_id)[1] for _ in range(3)]
    site.session.send_raw(b"".join(deliveries))
    drain_until(site.connection, lambda: len(held) == 3)
    ignoring_the_time_limit(site.connection.drain_events, timeout=0)
    assert not site.held_back and not held[-1]
    site.session.wait_for("basic.ack", 3)
    site.arrive()
    names = [method.name for method in site.session.methods if method.name in ("basic.ack", "basic.publish")]
    assert names[-9:] == ["basic.publish", "basic.publish", "basic.ack"] * 3


@linux
def test_acks_that_wait_in_the_process_follow_what_the_kernel_holds(peer, connect):
    site = Site(peer, connect, ack_writes="coalesced")
    channel = site.connection.channel()
    held: list[bool] = []

    def work(message: Any) -> None:
        site.hold_back()
        message.ack()
        held.append(site.held_back)

    consume(channel, work)
    site.session.send_raw(b"".join(site.session.delivery(b"x", channel=channel.channel_id)[1] for _ in range(2)))
    drain_until(site.connection, lambda: len(held) == 2)
    site.hold_back()
    ignoring_the_time_limit(site.connection.drain_events, timeout=0)
    assert not site.held_back
    site.arrive()
    site.session.wait_for("basic.ack", 2)


@linux
@pytest.mark.parametrize("how", ["channel", "connection", "collect"])
def test_closing_pushes(site, how):
    site.hold_back()
    channel = site.producer.channel
    if how == "channel":
        channel.close()
        assert not site.held_back
    elif how == "connection":
        site.connection.release()
    else:
        site.connection.collect()
    site.arrive()


@linux
@pytest.mark.parametrize("how", ["flush", "wait", "drain_events"])
def test_who_waits_while_another_thread_reads_pushes(site, monkeypatch, how):
    """The one that reads is waiting for the socket already, and pushes nothing."""
    link = site.connection.connection._link
    pushed: list[bool] = []
    push = link.push

    def counted() -> None:
        pushed.append(site.held_back)
        push()

    monkeypatch.setattr(link, "push", counted)
    while True:
        reading = Background(site.connection.drain_events).start()
        time.sleep(0.01)
        last = site.hold_back()
        pushed.clear()
        if reading.alive and site.held_back:
            break
        # On a busy machine it may have read an answer, or begun only now, which pushes as well.
        site.session.ack(len(site.published), multiple=True)
        reading.join()
    if how == "drain_events":
        ignoring_the_time_limit(site.connection.drain_events, timeout=0.01)
    else:
        ignoring_the_time_limit(site.producer.flush if how == "flush" else last.wait, 0.01)
    assert pushed and not site.held_back
    site.arrive()
    site.session.ack(len(site.published), multiple=True)
    reading.join()


# -- where nothing is held back


def never_held_back(connection: Any, producer: Any) -> None:
    writer = connection.connection._writer
    for number in range(200):
        producer.publish(str(number))
        assert not writer.unpushed


def test_immediate_writes_hold_nothing_back(peer, connect):
    connection = connect(peer, window_writes="immediate", confirm_publish=True, confirm_window=1000)
    never_held_back(connection, kombu.Producer(connection, routing_key="q"))


def test_nothing_is_held_back_without_a_window(peer, connect):
    for options in ({}, {"confirm_publish": True}):
        connection = connect(peer, **options)
        never_held_back(connection, kombu.Producer(connection, routing_key="q"))


def test_nothing_is_held_back_over_tls(tls_certificates, connect):
    with Peer(tls=tls_certificates) as peer:
        connection = connect(peer, confirm_publish=True, confirm_window=1000)
        never_held_back(connection, kombu.Producer(connection, routing_key="q"))
        peer.session().wait_for("basic.publish", 200)


@pytest.mark.parametrize("value", ["lazy", "coalesced", None, 1])
def test_an_unknown_way_of_writing_in_a_window_is_refused(peer, connect, value):
    with pytest.raises(ValueError, match=f"window_writes has to be one of corked, immediate; it is {value!r}"):
        connect(peer, window_writes=value)
