"""Locks that are released, whatever the handler of a signal raises."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from alarms import Interrupted, alarm, interrupt, needs_alarm
from kombu._locks import Attempt, Busy, new_lock, new_reentrant_lock
from kombu.forks import ProcessLock
from patience import PATIENCE

MAKERS = [new_lock, new_reentrant_lock, threading.Lock, threading.RLock]


def process_lock() -> Any:
    return ProcessLock().current()


def is_free(lock: Any) -> bool:
    """Return whether another thread can have it; called in one."""
    if not lock.acquire(False):
        return False
    lock.release()
    return True


def plainly(lock: Any) -> AbstractContextManager[Any]:
    return lock


@needs_alarm
@pytest.mark.parametrize(
    ("make", "take"),
    [
        (new_lock, plainly),
        (new_reentrant_lock, plainly),
        (process_lock, plainly),
        (new_lock, Attempt),
        (new_lock, lambda lock: Attempt(lock, timeout=PATIENCE)),
        (new_lock, lambda lock: Attempt(lock, blocking=False)),
    ],
    ids=["lock", "reentrant", "process", "attempt", "patient", "impatient"],
)
def test_what_a_handler_raises_leaves_no_lock_taken(
    make: Callable[[], Any], take: Callable[[Any], AbstractContextManager[Any]]
) -> None:
    lock = make()

    def work() -> None:
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            with take(lock):
                pass

    with ThreadPoolExecutor(1) as other:
        for _ in range(200):
            with pytest.raises(Interrupted), alarm(interrupt, 0.0005):
                # In a function of its own: Python 3.13 does not find the handlers around a loop that a signal ends.
                work()
            assert other.submit(is_free, lock).result(PATIENCE)


@pytest.mark.parametrize("make", [new_lock, new_reentrant_lock])
def test_a_lock_keeps_others_out_until_its_block_ends(make: Callable[[], Any]) -> None:
    lock = make()
    with ThreadPoolExecutor(1) as other:
        with lock:
            assert not other.submit(is_free, lock).result(PATIENCE)
        assert other.submit(is_free, lock).result(PATIENCE)
        with pytest.raises(KeyError, match="within"), lock:
            raise KeyError("within")
        assert other.submit(is_free, lock).result(PATIENCE)


def test_a_reentrant_lock_is_taken_as_often_as_its_thread_likes() -> None:
    lock = new_reentrant_lock()
    with ThreadPoolExecutor(1) as other:
        with lock:
            with lock:
                pass
            assert not other.submit(is_free, lock).result(PATIENCE)
        assert other.submit(is_free, lock).result(PATIENCE)


def test_a_condition_waits_on_such_a_lock() -> None:
    lock = new_lock()
    condition = threading.Condition(lock)
    told = []

    def tell() -> None:
        with lock:
            told.append(1)
            condition.notify()

    with ThreadPoolExecutor(1) as other, lock:
        assert lock.locked()
        other.submit(tell)
        assert condition.wait_for(lambda: told, PATIENCE)
    assert not lock.locked()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("waiting", [{"blocking": False}, {"timeout": 0.01}])
def test_an_attempt_fails_where_another_thread_has_the_lock(make: Callable[[], Any], waiting: dict[str, Any]) -> None:
    lock = make()

    def attempt() -> str:
        try:
            with Attempt(lock, **waiting):
                return "taken"
        except Busy:
            return "busy"

    with ThreadPoolExecutor(1) as other:
        with lock:
            assert other.submit(attempt).result(PATIENCE) == "busy"
        assert other.submit(attempt).result(PATIENCE) == "taken"
        assert other.submit(attempt).result(PATIENCE) == "taken"


@needs_alarm
@pytest.mark.parametrize("wrap", [plainly, Attempt])
def test_a_handler_that_raises_stop_iteration_does_not_pass_for_having_the_lock(wrap: Any) -> None:
    def stop(*_: Any) -> None:
        raise StopIteration

    lock = new_lock()
    lock.acquire()
    held = wrap(lock)
    with pytest.raises((StopIteration, InterruptedError)), alarm(stop):
        with held:
            raise AssertionError("nobody has released it")
    assert lock.locked()
