"""The receive loop on a socket pair: deadlines, ends, callbacks, its buffer, acknowledgements held back."""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from amqp.exceptions import FrameError, RecoverableConnectionError, UnexpectedFrame

import wire
from patience import PATIENCE, until
from rig import LINKS, Link, Rig, Task
from streams import delivery

#: How the platform packs what SO_LINGER takes.
LINGER = "hh" if sys.platform == "win32" else "ii"


@pytest.fixture(params=LINKS)
def rig(core, request) -> Iterator[Rig]:
    made = Rig(core, request.param == "fd")
    yield made
    made.close()


@pytest.fixture
def object_rig(core) -> Iterator[Rig]:
    """A rig that shows who waits and who reads."""
    made = Rig(core, False)
    yield made
    made.close()


# -- one thread


def test_one_event_a_call_and_the_buffer_before_the_socket(object_rig):
    rig = object_rig
    rig.send(b"".join(delivery(b"%d" % number) for number in range(100)))
    for count in range(1, 101):
        rig.receiver.drain_events(timeout=1)
        assert len(rig.got) == count
    assert rig.bodies == [b"%d" % number for number in range(100)]
    assert rig.link.reads == 1
    assert not rig.receiver.buffered


def test_buffered_says_whether_a_call_would_have_something_to_do(rig):
    assert not rig.receiver.buffered
    rig.send(delivery(b"1") + delivery(b"2") + delivery(b"3")[:9])
    rig.receiver.drain_events(timeout=1)
    assert rig.receiver.buffered
    rig.receiver.drain_events(timeout=1)
    assert not rig.receiver.buffered


def test_a_thousand_deliveries_take_few_reads(object_rig):
    rig = object_rig
    data = b"".join(delivery(b"x" * 100) for _ in range(1000))
    sender = Task(rig.send, data)
    for timeout in (None, 0.5, 1):
        for _ in range(333):
            rig.receiver.drain_events(timeout=timeout)
    rig.receiver.drain_events(timeout=0)
    sender.join()
    assert len(rig.got) == 1000
    assert rig.link.reads <= 100


def test_everything_but_deliveries_goes_to_on_method(rig):
    rig.send(
        wire.method("basic.ack", 2, delivery_tag=1)
        + wire.method("basic.return", 3, reply_text="NO_ROUTE")
        + b"".join(wire.content(3, {}, b"back", 4096))
    )
    contents = []
    rig.receiver.on_method = lambda *event: contents.append(event)
    rig.receiver.drain_events(timeout=1)
    rig.receiver.drain_events(timeout=1)
    assert contents[0] == (2, (60, 80), wire.method_payload("basic.ack", delivery_tag=1), None)
    assert contents[1][:3] == (3, (60, 50), (0, "NO_ROUTE", "", ""))
    assert contents[1][3].body == b"back"


def test_a_delivery_without_consumer_goes_to_its_channel(rig):
    rig.send(delivery(b"stray", consumer_tag="unknown"))
    rig.receiver.drain_events(timeout=1)
    [(consumer_tag, message)] = rig.channels[1].unclaimed
    assert (consumer_tag, message.body) == ("unknown", b"stray")


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_silence_is_a_timeout(rig, timeout):
    started = time.monotonic()
    with pytest.raises(socket.timeout, match="timed out"):
        rig.receiver.drain_events(timeout=timeout)
    assert timeout <= time.monotonic() - started < PATIENCE
    with pytest.raises(socket.timeout):
        rig.receiver.wait_for(lambda: False, timeout)
    # And no end of the connection.
    rig.send(delivery(b"late"))
    rig.receiver.drain_events(timeout=1)
    assert rig.bodies == [b"late"]


def test_without_a_timeout_it_waits(object_rig):
    rig = object_rig
    drainer = Task(rig.receiver.drain_events)
    until(lambda: rig.link.waits)
    rig.send(delivery(b"at last"))
    drainer.join()
    assert rig.bodies == [b"at last"]


@pytest.mark.parametrize("where", [1, 10, 30, 60, -1])
def test_half_a_message_neither_spins_nor_gets_lost(object_rig, where):
    rig = object_rig
    data = delivery(b"whole" * 10)
    rig.send(data[:where])
    for timeout in (0, 0.05):
        before = rig.link.reads
        with pytest.raises(socket.timeout):
            rig.receiver.drain_events(timeout=timeout)
        assert rig.link.reads - before <= 3 if timeout else rig.link.reads - before <= 2
    rig.send(data[where:])
    rig.receiver.drain_events(timeout=1)
    assert rig.bodies == [b"whole" * 10]


def test_any_cut_and_any_timeout_give_the_same_messages(rig):
    data = b"".join(delivery(bytes([65 + number]) * number * 7) for number in range(12))
    step = 13
    for start in range(0, len(data), step):
        rig.send(data[start:start + step])
        with pytest.raises(socket.timeout):
            while True:
                rig.receiver.drain_events(timeout=0)
    assert rig.bodies == ["", *[bytes([65 + number]) * number * 7 for number in range(1, 12)]]


def test_traffic_for_others_does_not_extend_the_time(rig):
    stop = threading.Event()

    def chatter() -> None:
        # Heartbeats and a body that never ends: not one event.
        rig.send(wire.method("basic.deliver", 2, consumer_tag="c", delivery_tag=1))
        rig.send(wire.content(2, {}, bytes(100_000), 4096)[0])
        while not stop.wait(0.001):
            rig.send(wire.HEARTBEAT_FRAME + wire.frame(wire.BODY, 2, b"x"))

    talker = Task(chatter)
    for drain in (rig.receiver.drain_events, lambda timeout: rig.receiver.wait_for(lambda: False, timeout)):
        started = time.monotonic()
        with pytest.raises(socket.timeout):
            drain(timeout=0.1)
        assert time.monotonic() - started < 5
    stop.set()
    talker.join()


def test_bytes_that_never_cease_do_not_extend_the_time(rig):
    stop = threading.Event()
    flood = wire.HEARTBEAT_FRAME * 10_000

    def chatter() -> None:
        while not stop.is_set():
            try:
                rig.send(flood)
            except OSError:
                return

    talker = Task(chatter)
    started = time.monotonic()
    with pytest.raises(socket.timeout):
        rig.receiver.drain_events(timeout=0.1)
    assert time.monotonic() - started < 5
    stop.set()
    rig.peer.shutdown(socket.SHUT_RDWR)
    talker.join()


def test_deliveries_that_never_cease_do_not_extend_the_wait_for_a_reply(rig):
    stop = threading.Event()
    flood = delivery(b"x" * 10_000) * 10

    def chatter() -> None:
        while not stop.is_set():
            try:
                rig.send(flood)
            except OSError:
                return

    talker = Task(chatter)
    started = time.monotonic()
    with pytest.raises(socket.timeout):
        rig.wait_for_reply(2, timeout=0.2)
    assert time.monotonic() - started < 5
    assert rig.got
    stop.set()
    rig.peer.shutdown(socket.SHUT_RDWR)
    talker.join()


def test_the_end_of_the_stream_is_raised_every_time(rig):
    failures = []
    rig.receiver.on_failure = failures.append
    rig.send(delivery(b"last") + delivery(b"half")[:-3])
    rig.peer.close()
    rig.receiver.drain_events(timeout=1)
    assert rig.bodies == [b"last"]
    with pytest.raises(OSError, match="Server unexpectedly closed connection"):
        rig.receiver.drain_events(timeout=1)
    for call in (rig.receiver.drain_events, lambda timeout: rig.receiver.wait_for(lambda: False, timeout)):
        for timeout in (None, 0, 1):
            with pytest.raises(RecoverableConnectionError, match="already closed: Server unexpectedly") as raised:
                call(timeout)
            assert isinstance(raised.value.__cause__, OSError)
    with pytest.raises(RecoverableConnectionError):
        rig.receiver.serve_waiting()
    assert len(failures) == 1


@pytest.mark.parametrize("kind", LINKS)
def test_a_reset_is_raised_as_it_is_and_then_every_time(core, kind):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            server, _ = listener.accept()
            receiver = core.drain.Receiver(Link(client, kind == "fd"), {}, lambda *event: None)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(LINGER, 1, 0))
            server.close()
            with pytest.raises(ConnectionResetError):
                receiver.drain_events(timeout=PATIENCE)
            for _ in range(2):
                with pytest.raises(RecoverableConnectionError, match="connection already closed"):
                    receiver.drain_events(timeout=PATIENCE)


def test_bad_octets_end_the_connection(rig):
    failures = []
    rig.receiver.on_failure = failures.append
    rig.send(delivery(b"good") + wire.frame(wire.METHOD, 1, b"\0\0\0\0", end=0))
    rig.receiver.drain_events(timeout=1)
    with pytest.raises(UnexpectedFrame, match="frame_end 0x00 while expecting 0xce"):
        rig.receiver.drain_events(timeout=1)
    assert [type(failure) for failure in failures] == [UnexpectedFrame]
    with pytest.raises(RecoverableConnectionError, match="frame_end 0x00"):
        rig.receiver.drain_events(timeout=1)


def test_limits_are_the_receivers_to_set(rig):
    rig.receiver.frame_max = 4096
    rig.send(wire.frame(wire.METHOD, 1, bytes(4089)))
    with pytest.raises(FrameError, match="4097 bytes; the negotiated frame_max is 4096"):
        rig.receiver.drain_events(timeout=1)


def test_read_timeout_is_a_bound_on_silence(rig):
    rig.receiver.read_timeout = 0.1
    with pytest.raises(socket.timeout, match="nothing received for read_timeout=0.1 seconds"):
        rig.receiver.drain_events(timeout=None)
    with pytest.raises(socket.timeout, match=r"^timed out$"):
        rig.receiver.drain_events(timeout=0.01)
    rig.send(delivery(b"still there"))
    rig.receiver.drain_events(timeout=None)
    assert rig.bodies == [b"still there"]


# -- callbacks


def test_an_exception_in_a_callback_loses_nothing(rig):
    def fail(message: Any) -> None:
        rig.take(message)
        raise ValueError(message.body)

    rig.channels[1].callbacks["c"] = fail
    rig.send(delivery(b"1") + delivery(b"2") + delivery(b"3")[:20])
    for number in (b"1", b"2"):
        with pytest.raises(ValueError, match=number.decode()):
            rig.receiver.drain_events(timeout=1)
    rig.send(delivery(b"3")[20:])
    with pytest.raises(ValueError, match="3"):
        rig.receiver.drain_events(timeout=1)
    assert rig.bodies == [b"1", b"2", b"3"]
    assert rig.receiver.failure is None
    # The turn was given back, too.
    rig.reply(2)
    Task(rig.wait_for_reply, 2).join()


def test_a_callback_may_drain(rig):
    order = []

    def nest(message: Any) -> None:
        order.append((b"in", message.body))
        if message.body != b"3":
            rig.receiver.drain_events(timeout=1)
        order.append((b"out", message.body))

    rig.channels[1].callbacks["c"] = nest
    rig.send(delivery(b"1") + delivery(b"2") + delivery(b"3"))
    rig.receiver.drain_events(timeout=1)
    assert order == [(b"in", b"1"), (b"in", b"2"), (b"in", b"3"), (b"out", b"3"), (b"out", b"2"), (b"out", b"1")]
    Task(rig.reply, 2).join()
    Task(rig.wait_for_reply, 2).join()


def test_a_callback_may_wait_for_a_reply(rig):
    def ask(message: Any) -> None:
        rig.take(message)
        if message.body == b"1":
            rig.wait_for_reply(2)
            rig.got.append(("reply", threading.get_ident()))

    rig.channels[1].callbacks["c"] = ask
    rig.send(delivery(b"1") + delivery(b"2") + wire.method("queue.purge-ok", 2) + delivery(b"3"))
    rig.receiver.drain_events(timeout=1)
    rig.receiver.drain_events(timeout=1)
    assert rig.bodies == [b"1", b"2", "reply", b"3"]


def test_a_listener_of_replies_may_wait_for_another_one(rig):
    def ask(channel_id: int) -> None:
        if channel_id == 2:
            rig.wait_for_reply(3)

    rig.on_reply = ask
    rig.send(
        wire.method("queue.purge-ok", 2) + delivery(b"meanwhile") + wire.method("queue.purge-ok", 3) + delivery(b"then")
    )
    rig.wait_for_reply(2)
    assert (rig.replies, rig.bodies) == ({2, 3}, [b"meanwhile"])
    Task(rig.receiver.drain_events, 1).join()
    assert rig.bodies == [b"meanwhile", b"then"]


def test_what_a_listener_raises_reaches_the_caller_and_no_more(rig):
    def refuse(channel_id: int) -> None:
        raise LookupError(channel_id)

    rig.on_reply = refuse
    rig.reply(4)
    with pytest.raises(LookupError, match="4"):
        rig.receiver.drain_events(timeout=1)
    rig.on_reply = lambda channel_id: None
    rig.send(delivery(b"next") + wire.method("queue.purge-ok", 2))
    Task(rig.wait_for_reply, 2).join()
    assert rig.bodies == [b"next"]


def test_what_is_waited_for_may_raise(rig):
    def ready() -> bool:
        if rig.replies:
            raise LookupError("closed meanwhile")
        return False

    rig.reply(2)
    with pytest.raises(LookupError, match="closed meanwhile"):
        rig.receiver.wait_for(ready, 1)
    rig.reply(3)
    Task(rig.wait_for_reply, 3).join()


def test_serve_waiting_takes_all_that_is_there(rig):
    rig.receiver.serve_waiting()
    rig.send(delivery(b"1") + delivery(b"2") + delivery(b"3")[:30])
    rig.receiver.serve_waiting()
    assert rig.bodies == [b"1", b"2"]


# -- the buffer


def test_the_buffer_grows_while_much_waits_and_shrinks_afterwards(rig):
    data = b"".join(delivery(b"x" * 1000) for _ in range(2000))
    # As much as the kernel takes waits before any of it is read; who reads might keep pace with who sends.
    rig.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
    rig.peer.setblocking(False)
    waiting = 0
    with suppress(BlockingIOError):
        while waiting < len(data):
            waiting += rig.peer.send(data[waiting:])
    rig.peer.setblocking(True)
    sender = Task(rig.send, data[waiting:])
    largest = 0
    while len(rig.got) < 2000:
        rig.receiver.drain_events(timeout=PATIENCE)
        largest = max(largest, rig.receiver.buffer_size)
    sender.join()
    assert 64 * 1024 < largest <= 256 * 1024
    # Short waits add up to one.
    limit = time.monotonic() + PATIENCE
    while rig.receiver.buffer_size > 16 * 1024:
        assert time.monotonic() < limit
        with pytest.raises(socket.timeout):
            rig.receiver.drain_events(timeout=0.3)
    assert rig.receiver.buffer_size == 16 * 1024
    rig.send(data[: len(delivery(b"x" * 1000))])
    rig.receiver.drain_events(timeout=PATIENCE)
    assert len(rig.got) == 2001


def test_a_quiet_receiver_is_small(rig):
    rig.send(delivery(b"x"))
    rig.receiver.drain_events(timeout=1)
    assert rig.receiver.buffer_size <= 16 * 1024


# -- acknowledgements held back


class Output:
    """What may hold acknowledgements back."""

    def __init__(self) -> None:
        self.unpushed = 0.0
        self.pushes = 0

    def push(self) -> None:
        self.pushes += 1
        self.unpushed = 0.0


@pytest.fixture(params=LINKS)
def output_rig(core, request) -> Iterator[tuple[Rig, Output]]:
    output = Output()
    made = Rig(core, request.param == "fd", output)
    yield made, output
    made.close()


def test_what_is_held_back_is_pushed_before_the_socket_is_read(output_rig):
    rig, output = output_rig
    output.unpushed = time.monotonic()
    with pytest.raises(socket.timeout):
        rig.receiver.drain_events(timeout=0)
    assert output.pushes == 1


@pytest.mark.parametrize("slow", [True, False])
def test_what_is_held_back_is_pushed_after_a_slow_callback(output_rig, slow):
    rig, output = output_rig

    def acknowledge(message: Any) -> None:
        if slow:
            time.sleep(0.002)
        # Far in the future, so that its age is not what counts.
        output.unpushed = time.monotonic() + 100

    rig.channels[1].callbacks["c"] = acknowledge
    rig.send(delivery(b"1") + delivery(b"2"))
    rig.receiver.drain_events(timeout=1)
    pushes = output.pushes
    assert pushes == 1 if slow else pushes <= 1
    rig.receiver.drain_events(timeout=1)
    with pytest.raises(socket.timeout):
        rig.receiver.drain_events(timeout=0)
    assert output.unpushed == 0


def test_what_is_held_back_too_long_is_pushed_when_a_callback_returns(output_rig):
    rig, output = output_rig
    rig.send(delivery(b"1") + delivery(b"2"))
    rig.receiver.drain_events(timeout=1)
    output.unpushed = time.monotonic() - 0.01
    rig.receiver.drain_events(timeout=1)
    assert output.pushes == 1
