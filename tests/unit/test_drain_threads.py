"""Several threads at one receive loop: who reads, who runs callbacks, and how each gets its own."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from amqp.exceptions import RecoverableConnectionError

import wire
from patience import PATIENCE, until
from rig import LINKS, Rig, Task
from streams import delivery


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


def test_a_reply_reaches_its_thread_through_the_one_that_drains(object_rig):
    rig = object_rig
    drainer = Task(rig.receiver.drain_events, PATIENCE)
    until(lambda: rig.link.waits == [drainer.ident])
    waiter = Task(rig.wait_for_reply, 2)
    rig.reply(2)
    waiter.join()
    drainer.join()
    assert rig.methods == [(2, (50, 31))]


def test_a_reply_dispatched_while_its_thread_is_awake_is_not_waited_for_again(object_rig):
    rig = object_rig
    drains = [0]

    def drain() -> None:
        for _ in range(2):
            rig.receiver.drain_events(PATIENCE)
            drains[0] += 1

    drainer = Task(drain)
    until(lambda: rig.link.waits == [drainer.ident])
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
    waiter.join()
    until(lambda: drains == [1])
    rig.reply(3)
    drainer.join()


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
    waiter.join()
    assert rig.bodies == [b"1"] and rig.methods == [(2, (50, 31))]
    assert rig.receiver.buffered
    leave.set()
    drainer.join()
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
    waiter.join()
    assert where == {2: waiter.ident}
    leave.set()
    drainer.join()
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
    drainer.join()
    rig.reply(2)
    waiter.join()


@pytest.mark.parametrize("draining", [True, False])
def test_many_waiters_get_each_its_own(rig, draining):
    stop = threading.Event()

    def drain() -> None:
        while not stop.is_set():
            try:
                rig.receiver.drain_events(timeout=0.05)
            except TimeoutError:
                pass

    drainer = Task(drain) if draining else None
    for _ in range(20):
        rig.replies.clear()
        waiters = [Task(rig.wait_for_reply, number) for number in range(2, 10)]
        for number in (9, 2, 5, 3, 8, 4, 6, 7):
            rig.send(delivery(b"between") if draining else b"")
            rig.reply(number)
        for waiter in waiters:
            waiter.join()
    stop.set()
    if drainer is not None:
        drainer.join()
        rig.receiver.serve_waiting()
        # Between two calls of the draining thread a waiter may find nobody at it, and dispatches then.
        assert len(rig.got) == 160


def test_a_waiter_goes_on_when_the_drainer_leaves(rig):
    drainer = Task(rig.receiver.drain_events, 0.2)
    waiter = Task(rig.wait_for_reply, 2)
    with pytest.raises(socket.timeout):
        drainer.join()
    rig.reply(2)
    waiter.join()


def test_a_drainer_goes_on_when_the_waiter_leaves(rig):
    waiter = Task(rig.wait_for_reply, 2, 0.1)
    drainer = Task(rig.receiver.drain_events, PATIENCE)
    with pytest.raises(socket.timeout):
        waiter.join()
    rig.send(delivery(b"1"))
    drainer.join()
    assert rig.bodies == [b"1"]


def test_waiting_for_the_turn_has_a_deadline_too(object_rig):
    rig = object_rig
    drainer = Task(rig.receiver.drain_events, PATIENCE)
    until(lambda: rig.link.waits == [drainer.ident])
    for call in (rig.receiver.drain_events, lambda timeout: rig.receiver.wait_for(lambda: False, timeout)):
        for timeout in (0, 0.05):
            with pytest.raises(socket.timeout):
                call(timeout)
    rig.receiver.serve_waiting()
    rig.send(delivery(b"1"))
    drainer.join()
    assert rig.got == [(b"1", drainer.ident)]


def test_any_number_of_seconds_can_be_waited(object_rig):
    rig = object_rig
    for call in (rig.receiver.drain_events, lambda timeout: rig.wait_for_reply(2, timeout)):
        drainer = Task(rig.receiver.drain_events, 1e12)
        until(lambda: rig.link.waits)
        other = Task(call, 1e12)
        rig.send(delivery(b"1"))
        drainer.join()
        rig.send(wire.method("queue.purge-ok", 2))
        other.join()


def test_an_end_wakes_everybody(object_rig):
    rig = object_rig
    tasks = [Task(rig.receiver.drain_events, PATIENCE)]
    until(lambda: rig.link.waits)
    tasks += [Task(rig.wait_for_reply, number) for number in (2, 3, 4)]
    tasks += [Task(rig.receiver.drain_events, PATIENCE)]
    rig.peer.close()
    errors = []
    for task in tasks:
        with pytest.raises((OSError, RecoverableConnectionError)) as raised:
            task.join()
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
    until(lambda: rig.link.waits)
    tasks += [Task(rig.wait_for_reply, number, None) for number in (2, 3)]
    rig.receiver.fail(RecoverableConnectionError("enough"))
    for task in tasks:
        with pytest.raises(RecoverableConnectionError, match="connection already closed: enough"):
            task.join()


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
        waiter.join()
    leave.set()
    with pytest.raises(RecoverableConnectionError, match="unexpectedly closed"):
        drainer.join()
    assert rig.bodies == [b"1", b"2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_can_forget_whose_turn_it_was(object_rig):
    rig = object_rig
    drainer = Task(rig.receiver.drain_events, PATIENCE)
    until(lambda: rig.link.waits)
    # What a child does, done here: afterwards no lock of the parent's threads is in the way.
    rig.receiver.reset_locks()
    rig.receiver.failure = RecoverableConnectionError("the parent's")
    with pytest.raises(RecoverableConnectionError, match="the parent's"):
        rig.receiver.drain_events(timeout=1)
    rig.send(delivery(b"1"))
    with pytest.raises(RecoverableConnectionError):
        drainer.join()
