"""Heartbeats sent, and silence noticed, by the receive loop itself."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from statistics import median
from typing import Any

import pytest
from amqp.exceptions import ConnectionForced, RecoverableConnectionError

import wire
from pace import at_some_pace
from patience import PATIENCE, until
from rig import LINKS, Rig, Task
from streams import delivery


@pytest.fixture(params=LINKS)
def make(core, request) -> Callable[[], Rig]:
    """Give a function that makes a rig."""
    return lambda: Rig(core, request.param == "fd")


@pytest.fixture
def rig(make) -> Iterator[Rig]:
    with closing(make()) as made:
        yield made


class Beats:
    """Count the heartbeats that a receiver sends."""

    def __init__(self, receiver: Any, interval: float) -> None:
        self.times: list[float] = []
        self.other_frames = 0
        receiver.send_heartbeat = lambda: self.times.append(time.monotonic())
        receiver.frames_sent = lambda: len(self.times) + self.other_frames
        receiver.heartbeat = interval
        assert receiver.heartbeat == interval


def test_heartbeats_are_sent_while_nothing_comes(make):
    def attempt(pace: float) -> None:
        with closing(make()) as rig:
            beats = Beats(rig.receiver, 0.2 * pace)
            sender = Task(lambda: [rig.send(wire.HEARTBEAT_FRAME) or time.sleep(0.04 * pace) for _ in range(12)])
            began = time.monotonic()
            with pytest.raises(socket.timeout):
                rig.receiver.drain_events(timeout=0.5 * pace)
            sender.join()
            # One every half interval at least; one of them may be late where the machine stands still.
            gaps = [after - before for before, after in zip([began, *beats.times], beats.times, strict=False)]
            assert len(gaps) >= 4
            assert median(gaps) <= 0.1 * pace

    at_some_pace(attempt)


def test_heartbeats_are_sent_while_messages_keep_coming(make):
    def attempt(pace: float) -> None:
        with closing(make()) as rig:
            beats = Beats(rig.receiver, 0.2 * pace)
            stop = threading.Event()
            talker = Task(lambda: [rig.send(delivery(b"x") * 20) for _ in iter(stop.is_set, True)])
            limit = time.monotonic() + PATIENCE
            try:
                while len(beats.times) < 4:
                    rig.receiver.drain_events(timeout=PATIENCE)
                    assert time.monotonic() < limit
            finally:
                stop.set()
            while talker.alive:
                rig.receiver.serve_waiting()
            talker.join()

    at_some_pace(attempt)


def test_heartbeats_are_sent_while_a_body_of_one_message_comes(make):
    def attempt(pace: float) -> None:
        with closing(make()) as rig:
            beats = Beats(rig.receiver, 0.2 * pace)
            stop = threading.Event()

            def chatter() -> None:
                rig.send(wire.method("basic.deliver", 1, consumer_tag="c", delivery_tag=1))
                rig.send(wire.content(1, {}, b"", 4096)[0][:-11] + (2**29).to_bytes(8, "big") + b"\0\0\xce")
                while not stop.is_set():
                    try:
                        rig.send(wire.frame(wire.BODY, 1, bytes(10)) * 100)
                    except OSError:
                        return

            talker = Task(chatter)
            drainer = Task(rig.receiver.drain_events)
            try:
                until(lambda: len(beats.times) >= 3 or not drainer.alive)
            finally:
                stop.set()
                rig.peer.shutdown(socket.SHUT_RDWR)
            with pytest.raises(OSError, match="unexpectedly closed"):
                drainer.join()
            talker.join()
            assert len(beats.times) >= 3

    at_some_pace(attempt)


def test_no_heartbeat_where_other_frames_were_sent(make):
    def attempt(pace: float) -> None:
        with closing(make()) as rig:
            beats = Beats(rig.receiver, 0.2 * pace)
            sender = Task(lambda: [rig.send(wire.HEARTBEAT_FRAME) or time.sleep(0.05 * pace) for _ in range(10)])

            def count() -> int:
                beats.other_frames += 1
                return beats.other_frames

            rig.receiver.frames_sent = count
            with pytest.raises(socket.timeout):
                rig.receiver.drain_events(timeout=0.4 * pace)
            sender.join()
            assert beats.times == []

    at_some_pace(attempt)


def test_silence_for_two_intervals_is_the_end(rig):
    Beats(rig.receiver, 0.1)
    failures = []
    rig.receiver.on_failure = failures.append
    with pytest.raises(ConnectionForced, match=r"nothing received for \d+\.\d seconds, the interval is 0\.1"):
        rig.receiver.drain_events(timeout=PATIENCE)
    assert [type(failure) for failure in failures] == [ConnectionForced]
    for _ in range(2):
        with pytest.raises(RecoverableConnectionError, match="Too many heartbeats missed"):
            rig.receiver.drain_events(timeout=PATIENCE)
    rig.receiver.tick()


def test_silence_is_noticed_by_short_calls_too(rig):
    Beats(rig.receiver, 0.1)
    limit = time.monotonic() + PATIENCE
    with pytest.raises(ConnectionForced):
        while time.monotonic() < limit:
            with pytest.raises(socket.timeout):
                rig.receiver.drain_events(timeout=0.01)


def test_silence_is_noticed_by_the_tick_of_an_event_loop(rig):
    Beats(rig.receiver, 0.1)
    limit = time.monotonic() + PATIENCE
    with pytest.raises(ConnectionForced):
        while time.monotonic() < limit:
            rig.receiver.tick()
            time.sleep(0.01)


def test_a_slow_callback_is_no_silence_of_the_peer(rig):
    beats = Beats(rig.receiver, 0.05)

    def slow(message: Any) -> None:
        rig.take(message)
        # What came meanwhile has not been read yet.
        rig.send(delivery(b"%d" % (len(rig.got) + 1)))
        time.sleep(0.15)

    rig.channels[1].callbacks["c"] = slow
    rig.send(delivery(b"1"))
    for _ in range(4):
        rig.receiver.drain_events(timeout=PATIENCE)
    assert rig.bodies == [b"1", b"2", b"3", b"4"]
    assert beats.times


def test_bytes_that_wait_in_the_kernel_are_no_silence(rig):
    beats = Beats(rig.receiver, 0.05)

    def slow(message: Any) -> None:
        rig.take(message)
        rig.send(wire.HEARTBEAT_FRAME)
        time.sleep(0.15)

    rig.channels[1].callbacks["c"] = slow
    # All in the buffer at once, so that the socket is not read between them.
    rig.send(delivery(b"1") + delivery(b"2") + delivery(b"3") + delivery(b"4"))
    for _ in range(4):
        rig.receiver.drain_events(timeout=PATIENCE)
    assert len(rig.got) == 4
    assert beats.times


def test_heartbeats_are_sent_while_the_socket_never_runs_dry(core):
    class Endless:
        plain_fd = -1
        time_limit = None
        closed = False
        position = 0

        def recv_into(self, view: memoryview) -> int:
            size = min(len(view), 1000)
            frames = wire.HEARTBEAT_FRAME * 127
            view[:size] = frames[self.position:self.position + size]
            self.position = (self.position + size) % 8
            return size

        def wait_readable(self, timeout: float | None) -> bool:
            raise AssertionError("there is always something to read")

    def attempt(pace: float) -> None:
        receiver = core.drain.Receiver(Endless(), {}, lambda *event: None)
        beats = Beats(receiver, 0.2 * pace)
        with pytest.raises(socket.timeout):
            receiver.drain_events(timeout=0.5 * pace)
        assert beats.times

    at_some_pace(attempt)


def test_a_frame_that_comes_slowly_is_no_silence(make):
    data = delivery(b"x" * 12)

    def attempt(pace: float) -> None:
        with closing(make()) as rig:
            Beats(rig.receiver, 0.05 * pace)

            def trickle() -> None:
                for octet in data:
                    rig.send(bytes([octet]))
                    time.sleep(0.004 * pace)

            sender = Task(trickle)
            rig.receiver.drain_events(timeout=PATIENCE)
            assert rig.bodies == [b"x" * 12]
            sender.join()

    at_some_pace(attempt)


def test_without_a_heartbeat_nothing_ticks(rig):
    beats = Beats(rig.receiver, 0)
    with pytest.raises(socket.timeout):
        rig.receiver.drain_events(timeout=0.1)
    rig.receiver.tick()
    assert beats.times == [] and rig.receiver.failure is None
