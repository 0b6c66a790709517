"""A signal whose handler raises in the middle of the receive loop."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from amqp.exceptions import RecoverableConnectionError

from alarms import Interrupted, alarm, interrupt, needs_alarm
from patience import PATIENCE
from rig import LINKS, Rig, Task
from streams import delivery


@pytest.fixture(params=LINKS)
def rig(core, request) -> Iterator[Rig]:
    made = Rig(core, request.param == "fd")
    yield made
    made.close()


@needs_alarm
@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_a_signal_that_raises_during_the_wait_loses_nothing(rig, timeout):
    data = delivery(b"whole")
    rig.send(data[:30])
    with pytest.raises(Interrupted), alarm(interrupt):
        rig.receiver.drain_events(timeout=timeout)
    rig.send(data[30:])
    rig.receiver.drain_events(timeout=1)
    assert rig.bodies == [b"whole"]
    # Whose turn it was has been undone, so that another thread may have it.
    rig.reply(2)
    Task(rig.wait_for_reply, 2).join()


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

    with pytest.raises(KeyboardInterrupt), alarm(interrupt_as_keyboard):
        rig.wait_for_reply(2)
    rig.reply(2)
    Task(rig.wait_for_reply, 2).join()


@needs_alarm
def test_signals_at_any_moment_leave_whole_messages_or_an_end(rig, request):
    """What a handler raises may come up between any two steps, not in the wait alone."""
    stop = threading.Event()

    def chatter() -> None:
        while not stop.is_set():
            try:
                rig.send(delivery(b"x") * 3)
            except OSError:
                return

    talker = Task(chatter)
    # What a handler raises within a callback of the collector is lost.
    gc.disable()
    request.addfinalizer(gc.enable)
    raised = 0
    limit = time.monotonic() + PATIENCE

    def drain() -> None:
        while time.monotonic() < limit:
            rig.receiver.drain_events(timeout=1)

    while raised < 100 and rig.receiver.failure is None and time.monotonic() < limit:
        try:
            with alarm(interrupt, 0.0007):
                # In a function of its own: Python 3.13 does not find the handlers around a loop that a signal ends.
                drain()
        except Interrupted:
            raised += 1
    stop.set()
    assert raised
    if rig.receiver.failure is not None:
        # The handler ran while bytes were being read: better an end than a stream with a hole.
        assert "a read was interrupted by Interrupted()" in str(rig.receiver.failure)
        rig.peer.shutdown(socket.SHUT_RDWR)
        talker.join()
        with pytest.raises(RecoverableConnectionError, match="a read was interrupted"):
            rig.receiver.drain_events(timeout=PATIENCE)
        return
    while talker.alive:
        rig.receiver.serve_waiting()
    talker.join()
    rig.receiver.serve_waiting()
    assert set(rig.bodies) == {b"x"}


def test_an_exception_out_of_the_read_itself_ends_the_connection(core):
    rig = Rig(core, plain=False)

    def recv_into(view: memoryview) -> int:
        raise KeyboardInterrupt  # after the bytes have come, for all anybody knows

    rig.link.recv_into = recv_into
    with pytest.raises(KeyboardInterrupt):
        rig.receiver.drain_events(timeout=1)
    with pytest.raises(RecoverableConnectionError, match=r"a read was interrupted by KeyboardInterrupt\(\)"):
        rig.receiver.drain_events(timeout=1)
    rig.close()
