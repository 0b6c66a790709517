"""The receive loop on a socket pair: deadlines, liveness, and whose turn it is among threads."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import wire
from amqp.exceptions import ConnectionForced, FrameError, RecoverableConnectionError, UnexpectedFrame
from streams import Channel, delivery

PATIENCE = 10.0


class Link:
    """One end of a socket pair, as the receive loop takes it.

    Attributes:
        waits: the threads that are in :meth:`wait_readable` now; known on the object link only.
        reads: calls of :meth:`recv_into`; likewise.
    """

    def __init__(self, sock: socket.socket, plain: bool) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.plain_fd = sock.fileno() if plain else -1
        self.closed = False
        self.reads = 0
        self.waits: list[int] = []

    def recv_into(self, view: memoryview) -> int:
        self.reads += 1
        return self.sock.recv_into(view)

    def wait_readable(self, timeout: float | None) -> bool:
        if self.closed:
            raise OSError("the connection's socket has been closed")
        self.waits.append(threading.get_ident())
        try:
            return bool(select.select([self.sock], [], [], timeout)[0])
        finally:
            self.waits.remove(threading.get_ident())


class Task:
    """A function at work in a thread of its own."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._outcome: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(function, arguments), daemon=True)
        self._thread.start()

    def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            self._outcome = function(*arguments)
        except BaseException as error:
            self._error = error

    @property
    def ident(self) -> int:
        assert self._thread.ident is not None
        return self._thread.ident

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the thread hangs"
        if self._error is not None:
            raise self._error
        return self._outcome


def wait_until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "it did not come about"
        time.sleep(0.001)


class Rig:
    """A receiver on one end of a socket pair, and the other end.

    Attributes:
        got: bodies of the deliveries to consumer ``"c"`` on channel 1, with the thread that ran the callback.
        methods: what came through ``on_method``: channel and method.
        replies: numbers of the channels that a method came for.
    """

    def __init__(self, core: Any, plain: bool, output: Any = None) -> None:
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(True)
        self.link = Link(ours, plain)
        self.channels = {number: Channel(core) for number in range(1, 10)}
        self.methods: list[tuple[int, tuple[int, int]]] = []
        self.replies: set[int] = set()
        self.got: list[tuple[Any, int]] = []
        self.channels[1].callbacks["c"] = self.take
        self.on_reply: Callable[[int], Any] = lambda channel_id: None
        self.receiver = core.drain.Receiver(self.link, self.channels, self.on_method, output)

    def take(self, message: Any) -> None:
        self.got.append((message.body, threading.get_ident()))

    def on_method(self, channel_id: int, method: tuple[int, int], payload: Any, content: Any) -> None:
        self.on_reply(channel_id)
        self.methods.append((channel_id, method))
        self.replies.add(channel_id)

    def send(self, data: bytes) -> None:
        self.peer.sendall(data)

    def reply(self, channel_id: int) -> None:
        self.send(wire.method("queue.purge-ok", channel_id))

    def wait_for_reply(self, channel_id: int, timeout: float | None = PATIENCE) -> None:
        channel = self.channels[channel_id]
        channel.waiting_threads += (threading.get_ident(),)
        try:
            self.receiver.wait_for(lambda: channel_id in self.replies, timeout)
        finally:
            channel.waiting_threads = ()

    @property
    def bodies(self) -> list[Any]:
        return [body for body, _ in self.got]

    def close(self) -> None:
        self.peer.close()
        self.link.closed = True
        self.link.sock.close()


@pytest.fixture(params=["fd", "object"])
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
    sender.result()
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
    wait_until(lambda: rig.link.waits)
    rig.send(delivery(b"at last"))
    drainer.result()
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
    talker.result()


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
    talker.result()


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
    talker.result()


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
            with pytest.raises(RecoverableConnectionError, match="already closed: Server unexpectedly closed") as raised:
                call(timeout)
            assert isinstance(raised.value.__cause__, OSError)
    with pytest.raises(RecoverableConnectionError):
        rig.receiver.serve_waiting()
    assert len(failures) == 1


def test_a_reset_is_raised_as_it_is_and_then_every_time(core):
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    try:
        for plain in (True, False):
            receiver = core.drain.Receiver(Link(client, plain), {}, lambda *event: None)
            if plain:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                server.close()
                expected: type[OSError] = ConnectionResetError
            else:
                expected = OSError  # a reset is reported once; then it is the end of the stream
            with pytest.raises(expected):
                receiver.drain_events(timeout=PATIENCE)
            with pytest.raises(RecoverableConnectionError, match="connection already closed"):
                receiver.drain_events(timeout=PATIENCE)
    finally:
        for sock in (listener, client, server):
            sock.close()


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
    Task(rig.wait_for_reply, 2).result()


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
    Task(rig.reply, 2).result()
    Task(rig.wait_for_reply, 2).result()


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
    Task(rig.receiver.drain_events, 1).result()
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
    Task(rig.wait_for_reply, 2).result()
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
    Task(rig.wait_for_reply, 3).result()


def test_serve_waiting_takes_all_that_is_there(rig):
    rig.receiver.serve_waiting()
    rig.send(delivery(b"1") + delivery(b"2") + delivery(b"3")[:30])
    rig.receiver.serve_waiting()
    assert rig.bodies == [b"1", b"2"]


# -- signals


class Interrupted(Exception):
    """Raised by a signal's handler."""


@contextmanager
def alarm(handler: Callable[..., Any], delay: float = 0.05, every: float = 0) -> Iterator[None]:
    # A handler that raises runs once, lest it raise again while this is undone.
    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, delay, every)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def interrupt(*_: Any) -> None:
    raise Interrupted


needs_alarm = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers on this platform")


@needs_alarm
@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_a_signal_that_raises_during_the_wait_loses_nothing(rig, timeout):
    data = delivery(b"whole")
    rig.send(data[:30])
    with alarm(interrupt), pytest.raises(Interrupted):
        rig.receiver.drain_events(timeout=timeout)
    rig.send(data[30:])
    rig.receiver.drain_events(timeout=1)
    assert rig.bodies == [b"whole"]
    # Whose turn it was has been undone, so that another thread may have it.
    rig.reply(2)
    Task(rig.wait_for_reply, 2).result()


@needs_alarm
def test_a_signal_that_raises_nothing_does_not_end_the_wait(rig):
    seen = []

    def note(*_: Any) -> None:
        seen.append(1)
        if len(seen) == 3:
            rig.send(delivery(b"after three"))

    with alarm(note, 0.02, 0.02):
        rig.receiver.drain_events(timeout=PATIENCE)
    assert rig.bodies == [b"after three"] and len(seen) >= 3
    with alarm(note, 0.02, 0.02), pytest.raises(socket.timeout):
        rig.receiver.drain_events(timeout=0.1)


@needs_alarm
def test_keyboard_interrupts_in_a_wait_for_a_reply_leave_the_turn_free(rig):
    def interrupt_as_keyboard(*_: Any) -> None:
        raise KeyboardInterrupt

    with alarm(interrupt_as_keyboard), pytest.raises(KeyboardInterrupt):
        rig.wait_for_reply(2)
    rig.reply(2)
    Task(rig.wait_for_reply, 2).result()


@needs_alarm
def test_signals_at_any_moment_leave_the_turn_free(rig):
    """What a handler raises may come up between any two steps, not in the wait alone."""
    stop = threading.Event()

    def chatter() -> None:
        while not stop.is_set():
            try:
                rig.send(delivery(b"x") * 3)
            except OSError:
                return

    talker = Task(chatter)
    raised = 0
    limit = time.monotonic() + PATIENCE
    while raised < 100 and rig.receiver.failure is None:
        try:
            with alarm(interrupt, 0.0007):
                while time.monotonic() < limit:
                    rig.receiver.drain_events(timeout=1)
        except Interrupted:
            raised += 1
    stop.set()
    assert raised
    if rig.receiver.failure is not None:
        # The handler ran while bytes were being read: better an end than a stream with a hole.
        assert "a read was interrupted by Interrupted()" in str(rig.receiver.failure)
        rig.peer.shutdown(socket.SHUT_RDWR)
        talker.result()
        with pytest.raises(RecoverableConnectionError, match="a read was interrupted"):
            Task(rig.receiver.drain_events).result()
        return
    done = threading.Event()

    def drain_rest() -> None:
        while True:
            try:
                rig.receiver.drain_events(timeout=0)
            except socket.timeout:
                if done.is_set():
                    return

    rest = Task(drain_rest)
    talker.result()
    done.set()
    rest.result()
    assert set(rig.bodies) == {b"x"}


def test_an_exception_out_of_the_read_itself_ends_the_connection(object_rig):
    rig = object_rig

    def recv_into(view: memoryview) -> int:
        raise KeyboardInterrupt  # after the bytes have come, for all anybody knows

    rig.link.recv_into = recv_into
    with pytest.raises(KeyboardInterrupt):
        rig.receiver.drain_events(timeout=1)
    with pytest.raises(RecoverableConnectionError, match=r"a read was interrupted by KeyboardInterrupt\(\)"):
        rig.receiver.drain_events(timeout=1)


# -- heartbeats


class Beats:
    """Count the heartbeats that a receiver sends."""

    def __init__(self, receiver: Any, interval: float) -> None:
        self.times: list[float] = []
        self.other_frames = 0
        receiver.send_heartbeat = lambda: self.times.append(time.monotonic())
        receiver.frames_sent = lambda: len(self.times) + self.other_frames
        receiver.heartbeat = interval
        assert receiver.heartbeat == interval


def test_heartbeats_are_sent_while_nothing_comes(rig):
    beats = Beats(rig.receiver, 0.5)
    started = time.monotonic()
    sender = Task(lambda: [rig.send(wire.HEARTBEAT_FRAME) or time.sleep(0.1) for _ in range(12)])
    with pytest.raises(socket.timeout):
        rig.receiver.drain_events(timeout=1.0)
    # One every half interval at least.
    assert len(beats.times) >= 4
    assert beats.times[0] - started < 1
    sender.result()


def test_heartbeats_are_sent_while_messages_keep_coming(rig):
    beats = Beats(rig.receiver, 0.2)
    stop = threading.Event()
    talker = Task(lambda: [rig.send(delivery(b"x") * 20) for _ in iter(stop.is_set, True)])
    limit = time.monotonic() + PATIENCE
    while len(beats.times) < 4:
        rig.receiver.drain_events(timeout=1)
        assert time.monotonic() < limit
    stop.set()
    while talker.running:
        rig.receiver.serve_waiting()
    talker.result()


def test_heartbeats_are_sent_while_a_body_of_one_message_comes(rig):
    beats = Beats(rig.receiver, 0.2)
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
    wait_until(lambda: len(beats.times) >= 3)
    stop.set()
    rig.peer.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OSError, match="unexpectedly closed"):
        drainer.result()
    talker.result()


def test_no_heartbeat_where_other_frames_were_sent(rig):
    beats = Beats(rig.receiver, 0.2)
    sender = Task(lambda: [rig.send(wire.HEARTBEAT_FRAME) or time.sleep(0.05) for _ in range(10)])

    def count() -> int:
        beats.other_frames += 1
        return beats.other_frames

    rig.receiver.frames_sent = count
    with pytest.raises(socket.timeout):
        rig.receiver.drain_events(timeout=0.4)
    assert beats.times == []
    sender.result()


def test_silence_for_two_intervals_is_the_end(rig):
    Beats(rig.receiver, 0.1)
    failures = []
    rig.receiver.on_failure = failures.append
    with pytest.raises(ConnectionForced, match=r"nothing received for 0\.\d seconds, the interval is 0\.1"):
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
    beats = Beats(rig.receiver, 0.1)

    def slow(message: Any) -> None:
        rig.take(message)
        time.sleep(0.3)

    rig.channels[1].callbacks["c"] = slow
    rig.send(delivery(b"1"))
    for number in (1, 2, 3):
        rig.receiver.drain_events(timeout=PATIENCE)
        # What came meanwhile has not been read yet.
        rig.send(delivery(b"%d" % (number + 1)))
    rig.receiver.drain_events(timeout=PATIENCE)
    assert rig.bodies == [b"1", b"2", b"3", b"4"]
    assert beats.times


def test_a_frame_that_comes_slowly_is_no_silence(rig):
    Beats(rig.receiver, 0.1)
    data = delivery(b"x" * 12)

    def trickle() -> None:
        for octet in data:
            rig.send(bytes([octet]))
            time.sleep(0.02)

    sender = Task(trickle)
    rig.receiver.drain_events(timeout=PATIENCE)
    assert rig.bodies == [b"x" * 12]
    sender.result()


def test_without_a_heartbeat_nothing_ticks(rig):
    beats = Beats(rig.receiver, 0)
    with pytest.raises(socket.timeout):
        rig.receiver.drain_events(timeout=0.1)
    rig.receiver.tick()
    assert beats.times == [] and rig.receiver.failure is None


# -- the buffer


def test_the_buffer_grows_while_much_waits_and_shrinks_afterwards(rig):
    data = b"".join(delivery(b"x" * 1000) for _ in range(2000))
    sender = Task(rig.send, data)
    largest = 0
    while len(rig.got) < 2000:
        rig.receiver.drain_events(timeout=PATIENCE)
        largest = max(largest, rig.receiver.buffer_size)
    sender.result()
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


@pytest.fixture(params=["fd", "object"])
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


# -- threads


def test_a_reply_reaches_its_thread_through_the_one_that_drains(object_rig):
    rig = object_rig
    drainer = Task(rig.receiver.drain_events, PATIENCE)
    wait_until(lambda: rig.link.waits == [drainer.ident])
    waiter = Task(rig.wait_for_reply, 2)
    rig.reply(2)
    waiter.result()
    drainer.result()
    assert rig.methods == [(2, (50, 31))]


def test_a_reply_dispatched_while_its_thread_is_awake_is_not_waited_for_again(object_rig):
    rig = object_rig
    drains = [0]

    def drain() -> None:
        for _ in range(2):
            rig.receiver.drain_events(PATIENCE)
            drains[0] += 1

    drainer = Task(drain)
    wait_until(lambda: rig.link.waits == [drainer.ident])
    waiter = Task(rig.wait_for_reply, 2)
    entered = threading.Event()

    def hesitate(channel_id: int) -> None:
        if channel_id == 2:
            entered.set()
            # Time for the waiter to begin to read, if it were let.
            limit = time.monotonic() + 0.2
            while time.monotonic() < limit and waiter.ident not in rig.link.waits:
                time.sleep(0.005)

    rig.on_reply = hesitate
    rig.reply(2)
    assert entered.wait(PATIENCE)
    waiter.result()
    wait_until(lambda: drains == [1])
    rig.reply(3)
    drainer.result()


def test_a_waiter_reads_while_the_drainer_is_in_a_callback(rig):
    busy, leave = threading.Event(), threading.Event()

    def work(message: Any) -> None:
        rig.take(message)
        if message.body == b"1":
            busy.set()
            assert leave.wait(PATIENCE)

    rig.channels[1].callbacks["c"] = work
    drainer = Task(lambda: [rig.receiver.drain_events(PATIENCE) for _ in range(4)])
    rig.send(delivery(b"1"))
    assert busy.wait(PATIENCE)
    waiter = Task(rig.wait_for_reply, 2)
    # What stands before the reply belongs to the drainer.
    rig.send(
        delivery(b"2")
        + delivery(b"3")
        + wire.method("basic.cancel", 1, consumer_tag="c")
        + wire.method("queue.purge-ok", 2)
    )
    waiter.result()
    assert rig.bodies == [b"1"] and rig.methods == [(2, (50, 31))]
    assert rig.receiver.buffered
    leave.set()
    drainer.result()
    assert rig.got == [(body, drainer.ident) for body in (b"1", b"2", b"3")]
    assert rig.methods == [(2, (50, 31)), (1, (60, 30))]
    assert not rig.receiver.buffered


def test_a_channel_closed_by_the_peer_is_told_to_the_thread_that_uses_it(rig):
    busy, leave = threading.Event(), threading.Event()
    where = {}

    def note(channel_id: int) -> None:
        where[channel_id] = threading.get_ident()

    def work(message: Any) -> None:
        busy.set()
        assert leave.wait(PATIENCE)

    rig.on_reply = note
    rig.channels[1].callbacks["c"] = work
    drainer = Task(lambda: [rig.receiver.drain_events(PATIENCE) for _ in range(2)])
    rig.send(delivery(b"1"))
    assert busy.wait(PATIENCE)
    waiter = Task(rig.wait_for_reply, 2)
    # Channel 3 is nobody's that waits, so whoever drains has to hear of it.
    rig.send(wire.method("channel.close", 3, reply_code=404) + wire.method("channel.close", 2, reply_code=406))
    waiter.result()
    assert where == {2: waiter.ident}
    leave.set()
    drainer.result()
    assert where == {2: waiter.ident, 3: drainer.ident}


def test_a_drainer_that_waits_for_a_reply_itself_gets_it_through_an_assistant(rig):
    busy, leave = threading.Event(), threading.Event()

    def work(message: Any) -> None:
        busy.set()
        assert leave.wait(PATIENCE)
        rig.wait_for_reply(3)

    rig.channels[1].callbacks["c"] = work
    drainer = Task(rig.receiver.drain_events, PATIENCE)
    rig.send(delivery(b"1"))
    assert busy.wait(PATIENCE)
    waiter = Task(rig.wait_for_reply, 2)
    leave.set()
    rig.reply(3)
    drainer.result()
    rig.reply(2)
    waiter.result()


@pytest.mark.parametrize("draining", [True, False])
def test_many_waiters_get_each_its_own(rig, draining):
    stop = threading.Event()

    def drain() -> None:
        while not stop.is_set():
            try:
                rig.receiver.drain_events(timeout=0.05)
            except socket.timeout:
                pass

    drainer = Task(drain) if draining else None
    for _ in range(20):
        rig.replies.clear()
        waiters = [Task(rig.wait_for_reply, number) for number in range(2, 10)]
        for number in (9, 2, 5, 3, 8, 4, 6, 7):
            rig.send(delivery(b"between") if draining else b"")
            rig.reply(number)
        for waiter in waiters:
            waiter.result()
    stop.set()
    if drainer is not None:
        drainer.result()
        rig.receiver.serve_waiting()
        assert len(rig.got) == 160
        assert {thread for _, thread in rig.got} <= {drainer.ident, threading.get_ident()}


def test_a_waiter_goes_on_when_the_drainer_leaves(rig):
    drainer = Task(rig.receiver.drain_events, 0.2)
    waiter = Task(rig.wait_for_reply, 2)
    with pytest.raises(socket.timeout):
        drainer.result()
    rig.reply(2)
    waiter.result()


def test_a_drainer_goes_on_when_the_waiter_leaves(rig):
    waiter = Task(rig.wait_for_reply, 2, 0.1)
    drainer = Task(rig.receiver.drain_events, PATIENCE)
    with pytest.raises(socket.timeout):
        waiter.result()
    rig.send(delivery(b"1"))
    drainer.result()
    assert rig.bodies == [b"1"]


def test_waiting_for_the_turn_has_a_deadline_too(object_rig):
    rig = object_rig
    drainer = Task(rig.receiver.drain_events, PATIENCE)
    wait_until(lambda: rig.link.waits == [drainer.ident])
    for call in (rig.receiver.drain_events, lambda timeout: rig.receiver.wait_for(lambda: False, timeout)):
        for timeout in (0, 0.05):
            with pytest.raises(socket.timeout):
                call(timeout)
    rig.receiver.serve_waiting()
    rig.send(delivery(b"1"))
    drainer.result()
    assert rig.got == [(b"1", drainer.ident)]


def test_an_end_wakes_everybody(object_rig):
    rig = object_rig
    tasks = [Task(rig.receiver.drain_events, PATIENCE)]
    wait_until(lambda: rig.link.waits)
    tasks += [Task(rig.wait_for_reply, number) for number in (2, 3, 4)]
    tasks += [Task(rig.receiver.drain_events, PATIENCE)]
    rig.peer.close()
    errors = []
    for task in tasks:
        with pytest.raises((OSError, RecoverableConnectionError)) as raised:
            task.result()
        errors.append(str(raised.value))
    assert errors[0] == "Server unexpectedly closed connection"
    assert set(errors[1:]) == {"connection already closed: Server unexpectedly closed connection"}


def test_an_end_from_outside_wakes_everybody(object_rig):
    rig = object_rig

    def hang_up(error: BaseException) -> None:
        rig.link.closed = True
        rig.link.sock.shutdown(socket.SHUT_RDWR)

    rig.receiver.on_failure = hang_up
    tasks = [Task(rig.receiver.drain_events)]
    wait_until(lambda: rig.link.waits)
    tasks += [Task(rig.wait_for_reply, number, None) for number in (2, 3)]
    rig.receiver.fail(RecoverableConnectionError("enough"))
    for task in tasks:
        with pytest.raises(RecoverableConnectionError, match="connection already closed: enough"):
            task.result()


def test_what_was_parked_before_the_end_is_still_served(rig):
    busy, leave = threading.Event(), threading.Event()

    def work(message: Any) -> None:
        rig.take(message)
        busy.set()
        assert leave.wait(PATIENCE)

    rig.channels[1].callbacks["c"] = work
    drainer = Task(lambda: [rig.receiver.drain_events(PATIENCE) for _ in range(3)])
    rig.send(delivery(b"1"))
    assert busy.wait(PATIENCE)
    waiter = Task(rig.wait_for_reply, 2)
    rig.send(delivery(b"2"))
    rig.peer.close()
    with pytest.raises(OSError, match="unexpectedly closed"):
        waiter.result()
    leave.set()
    with pytest.raises(RecoverableConnectionError, match="unexpectedly closed"):
        drainer.result()
    assert rig.bodies == [b"1", b"2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_can_forget_whose_turn_it_was(object_rig):
    rig = object_rig
    drainer = Task(rig.receiver.drain_events, PATIENCE)
    wait_until(lambda: rig.link.waits)
    # What a child does, done here: afterwards no lock of the parent's threads is in the way.
    rig.receiver.reset_locks()
    rig.receiver.failure = RecoverableConnectionError("the parent's")
    with pytest.raises(RecoverableConnectionError, match="the parent's"):
        rig.receiver.drain_events(timeout=1)
    rig.send(delivery(b"1"))
    with pytest.raises(RecoverableConnectionError):
        drainer.result()
