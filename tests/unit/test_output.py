"""The write path: when acknowledgements are held back, and what pushes them; frames whole whatever the socket takes."""

from __future__ import annotations

import importlib
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amqp.exceptions import RecoverableConnectionError

from kombu._pure.frames import encode_ack
from kombu.transport.amqp.sockets import Link
from patience import PATIENCE, Background, until

LINUX = sys.platform == "linux"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="socket pairs of another kind")


def channel_of(writer: Any) -> Any:
    """Return what the same core's writer asks of a channel."""
    package = type(writer).__module__.rpartition(".")[0]
    return importlib.import_module(f"{package}.deliveries").Deliveries(1, object)


class RecordingLink:
    """A link that keeps what is written; a write fails as the test says."""

    plain_fd = -1
    closed = False

    def __init__(self, can_gather: bool = True) -> None:
        self.can_gather = can_gather
        self.log: list[Any] = []
        self.failures: list[BaseException] = []

    def write_all(self, buffers: list[Any], deadline: float | None, more: bool = False) -> None:
        if self.failures:
            raise self.failures.pop()
        self.log.append((b"".join(buffers), more))

    def push(self) -> None:
        if self.failures:
            raise self.failures.pop()
        self.log.append("push")


def ack(tag: int) -> bytes:
    return encode_ack(1, tag)


@pytest.fixture
def link() -> RecordingLink:
    return RecordingLink()


def hold(writer: Any, *tags: int) -> None:
    for tag in tags:
        writer.write_ack(channel_of(writer), tag, False, True)


def within_a_millisecond(act: Callable[[], Any]) -> Any:
    """Return what *act()* gives, called until it takes less than the time for which anything is held back."""
    while True:
        began = time.monotonic()
        given = act()
        if time.monotonic() - began < 0.001:
            return given


def holding(core: Any, mode: str, *tags: int) -> tuple[Any, RecordingLink]:
    """Return a writer that holds acks back, and its link."""

    def act() -> tuple[Any, RecordingLink]:
        link = RecordingLink()
        writer = core.output.Writer(link, mode)
        hold(writer, *tags)
        return writer, link

    return within_a_millisecond(act)


def test_corked_acks_are_with_the_kernel_at_once_and_announce_more(core):
    writer, link = holding(core, "corked", 1, 2)
    assert link.log == [(ack(1), True), (ack(2), True)]
    assert writer.unpushed
    writer.write_ack(channel_of(writer), 3, False, False)
    assert link.log[2:] == [(ack(3), False)]
    assert not writer.unpushed


def test_coalesced_acks_leave_together(core):
    writer, link = holding(core, "coalesced", 1, 2)
    assert link.log == [] and writer.unpushed
    writer.write_ack(channel_of(writer), 3, True, False)
    assert link.log == [(ack(1) + ack(2) + encode_ack(1, 3, True), False)]
    assert not writer.unpushed


@pytest.mark.parametrize(("mode", "can_gather"), [("immediate", True), ("corked", False)])
def test_immediate_acks_are_never_held_back(core, mode, can_gather):
    link = RecordingLink(can_gather)
    writer = core.output.Writer(link, mode)
    hold(writer, 1, 2)
    assert link.log == [(ack(1), False), (ack(2), False)]
    assert not writer.unpushed


@pytest.mark.parametrize("mode", ["corked", "coalesced"])
def test_what_is_written_next_takes_them_along(core, link, mode):
    writer = core.output.Writer(link, mode)
    hold(writer, 1, 2)
    writer.write([b"frame"])
    assert b"".join(data for data, _ in link.log) == ack(1) + ack(2) + b"frame"
    assert link.log[-1][1] is False
    assert not writer.unpushed
    writer.push()
    assert "push" not in link.log


@pytest.mark.parametrize("mode", ["corked", "coalesced"])
def test_a_push_sends_them(core, link, mode):
    writer = core.output.Writer(link, mode)
    hold(writer, 1)
    writer.push()
    assert link.log == ([(ack(1), True), "push"] if mode == "corked" else [(ack(1), False)])
    assert not writer.unpushed
    writer.push()
    assert len(link.log) == (2 if mode == "corked" else 1)


@pytest.mark.parametrize("mode", ["corked", "coalesced"])
def test_a_millisecond_after_the_first_the_next_one_pushes(core, link, mode):
    writer = core.output.Writer(link, mode)
    hold(writer, 1)
    time.sleep(0.002)
    hold(writer, 2)
    assert not writer.unpushed
    assert b"".join(data for data, _ in link.log) == ack(1) + ack(2)
    assert link.log[-1][1] is False


def publish(writer: Any, *frames: bytes) -> None:
    for frame in frames:
        writer.write([frame], windowed=True)


def holding_publishes(core: Any, mode: str = "corked") -> tuple[Any, RecordingLink]:
    """Return a writer that holds the second of two publishes in a window back, and its link."""

    def act() -> tuple[Any, RecordingLink]:
        link = RecordingLink()
        writer = core.output.Writer(link, mode)
        publish(writer, b"first", b"second")
        return writer, link

    return within_a_millisecond(act)


def test_a_publish_in_a_window_announces_more_when_it_follows_another_closely(core):
    writer, link = holding_publishes(core)
    assert link.log == [(b"first", False), (b"second", True)]
    assert writer.unpushed
    time.sleep(0.002)
    publish(writer, b"third")
    assert link.log[2:] == [(b"third", False)]
    assert not writer.unpushed


@pytest.mark.parametrize(("mode", "can_gather"), [("immediate", True), ("corked", False)])
def test_else_a_publish_in_a_window_is_a_write_like_any_other(core, mode, can_gather):
    link = RecordingLink(can_gather)
    writer = core.output.Writer(link, window_writes=mode)
    publish(writer, *[b"frame"] * 100)
    assert link.log == [(b"frame", False)] * 100
    assert not writer.unpushed


@pytest.mark.parametrize("mode", ["corked", "coalesced"])
def test_one_push_sends_publishes_and_acks(core, mode):
    def publish_and_hold() -> tuple[Any, RecordingLink]:
        writer, link = holding_publishes(core, mode)
        hold(writer, 1)
        return writer, link

    writer, link = within_a_millisecond(publish_and_hold)
    assert writer.unpushed
    writer.push()
    assert not writer.unpushed
    if mode == "corked":
        assert link.log[-1] == "push"
    else:
        assert link.log[-1] == (ack(1), False)


@pytest.mark.parametrize("mode", ["corked", "coalesced"])
def test_a_push_sends_publishes_alone_as_well(core, mode):
    writer, link = holding_publishes(core, mode)
    writer.push()
    assert link.log[-1] == "push" and not writer.unpushed


def test_what_the_kernel_holds_is_pushed_while_another_thread_writes(core):
    writer, link = holding_publishes(core)
    # Held by whoever writes, and may have to wait for the peer to read.
    with writer.lock:
        writer.push()
    assert link.log[-1] == "push"


@pytest.mark.parametrize("option", ["ack_writes", "window_writes"])
def test_an_unknown_way_of_writing_is_refused(core, link, option):
    with pytest.raises(ValueError, match=f"{option} has to be one of corked, immediate.*; it is 'lazy'"):
        core.output.Writer(link, **{option: "lazy"})


def test_coalesced_acks_do_not_pile_up(core, link):
    writer = core.output.Writer(link, "coalesced")
    count = 5000
    for tag in range(1, count + 1):
        writer.write_ack(channel_of(writer), tag, False, True)
    assert len(link.log) >= count * len(ack(1)) // (20 * 1024)
    writer.push()
    assert b"".join(data for data, _ in link.log) == b"".join(map(ack, range(1, count + 1)))


def test_a_write_that_did_not_begin_keeps_them(core):
    from kombu.transport.amqp.sockets import WriteTimedOut

    writer, link = holding(core, "coalesced", 1, 2)
    link.failures.append(WriteTimedOut(0))
    with pytest.raises(TimeoutError):
        writer.write([b"frame"], 0.01)
    writer.write([b"other"])
    assert link.log == [(ack(1) + ack(2) + b"other", False)]


@pytest.mark.parametrize("mode", ["corked", "coalesced"])
def test_a_push_that_fails_ends_the_connection(core, link, mode):
    told: list[Any] = []
    writer = core.output.Writer(link, mode)
    writer.on_failure = told.append
    hold(writer, 1)
    link.failures.append(BrokenPipeError("gone"))
    with pytest.raises(BrokenPipeError):
        writer.push()
    assert len(told) == 1
    with pytest.raises(RecoverableConnectionError, match="gone"):
        writer.write([b"frame"])
    with pytest.raises(RecoverableConnectionError, match="gone"):
        hold(writer, 2)
    writer.push()
    assert not writer.unpushed


# -- on a socket


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    yield ours, theirs
    ours.close()
    theirs.close()


def received(theirs: socket.socket, size: int, timeout: float = 10) -> bytes:
    theirs.settimeout(timeout)
    data = b""
    while len(data) < size:
        data += theirs.recv(size - len(data))
    return data


@pytest.mark.skipif(not LINUX, reason="MSG_MORE is Linux's")
def test_the_kernel_sends_corked_acks_by_itself(core, pair):
    ours, theirs = pair
    writer = core.output.Writer(Link(ours), "corked")
    hold(writer, 1)
    # The promise is 0.25; what nobody pushes never comes.
    assert received(theirs, len(ack(1)), timeout=PATIENCE) == ack(1)


@pytest.mark.parametrize("size", [1, 1000, 70_000, 1_000_000])
def test_a_write_arrives_whole_whatever_the_socket_takes_at_once(core, pair, size):
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    writer = core.output.Writer(Link(ours), "immediate")
    data = bytes(range(256)) * (size // 256 + 1)
    task = Background(writer.write, [data[:size]]).start()
    assert received(theirs, size) == data[:size]
    task.join()
    assert writer.frames_sent == 1


@pytest.mark.parametrize("more", [True, False])
def test_acks_arrive_whole_though_the_peer_reads_slowly(core, more):
    """Where the kernel's buffer is full it takes a part of a frame, and the rest has to follow."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        ours.connect(listener.getsockname())
        theirs, _ = listener.accept()
        with theirs:
            theirs.settimeout(PATIENCE)
            writer = core.output.Writer(Link(ours), "corked")
            channel = channel_of(writer)
            count = 60_000

            def work() -> None:
                for tag in range(1, count + 1):
                    writer.write_ack(channel, tag, False, more)
                writer.push()

            task = Background(work).start()
            expected = b"".join(map(ack, range(1, count + 1)))
            got = bytearray()
            while len(got) < len(expected):
                # In pieces that no frame ends with.
                got += theirs.recv(4097)
                assert expected.startswith(got[-4097:], max(0, len(got) - 4097))
            task.join()


def test_a_write_cut_short_by_its_time_limit_ends_the_connection(core, pair):
    ours, _ = pair
    writer = core.output.Writer(Link(ours), "immediate")
    with pytest.raises(RecoverableConnectionError, match="the peer took [1-9][0-9]* bytes and no more within"):
        writer.write([bytes(50_000_000)], 0.1)
    with pytest.raises(RecoverableConnectionError, match="already closed"):
        writer.write([b"x"])


def test_a_write_for_which_there_is_no_room_leaves_the_connection_alone(core, pair):
    ours, theirs = pair
    writer = core.output.Writer(Link(ours), "immediate")
    filled = 0
    # The kernel makes room for more for a while.
    while select.select([], [ours], [], 0.2)[1]:
        filled += ours.send(bytes(65536))
    # What is too little to be called writable may be room for a frame.
    with pytest.raises(BlockingIOError):
        while True:
            filled += ours.send(bytes(10))
    with pytest.raises(TimeoutError):
        writer.write([b"frame"], 0.05)
    received(theirs, filled)
    writer.write([b"frame"], 5)
    assert received(theirs, 5) == b"frame"


def test_a_peer_that_has_left_is_an_error(core, pair):
    ours, theirs = pair
    theirs.close()
    writer = core.output.Writer(Link(ours), "immediate")

    def lost() -> bool:
        try:
            writer.write([bytes(1000)])
        except OSError:
            return True
        return False

    until(lost)
    with pytest.raises(RecoverableConnectionError, match="already closed"):
        writer.write([b"x"])
