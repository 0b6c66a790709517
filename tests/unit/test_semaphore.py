"""A semaphore whose waiters are callbacks."""

from __future__ import annotations

from kombu.asynchronous.semaphore import DummyLock, LaxBoundedSemaphore


def test_callbacks_beyond_the_value_wait_their_turn():
    semaphore, called = LaxBoundedSemaphore(2), []
    assert [semaphore.acquire(called.append, number) for number in range(4)] == [True, True, False, False]
    assert called == [0, 1]
    semaphore.release()
    assert called == [0, 1, 2]
    semaphore.release()
    assert (called, semaphore.value) == ([0, 1, 2, 3], 0)
    semaphore.release()
    assert semaphore.value == 1


def test_keywords_are_passed_on():
    semaphore, called = LaxBoundedSemaphore(0), []

    def callback(*args, **kwargs):
        called.append((args, kwargs))

    semaphore.acquire(callback, 1, a=2)
    semaphore.release()
    assert called == [((1,), {"a": 2})]


def test_releasing_too_often_is_harmless():
    semaphore = LaxBoundedSemaphore(2)
    for _ in range(5):
        semaphore.release()
    assert semaphore.value == 2


def test_growing_calls_those_who_wait():
    semaphore, called = LaxBoundedSemaphore(1), []
    for number in range(4):
        semaphore.acquire(called.append, number)
    semaphore.grow(2)
    assert called == [0, 1, 2]
    assert semaphore.initial_value == 3
    assert "waiting:1" in repr(semaphore)


def test_shrinking_stops_at_nothing():
    semaphore = LaxBoundedSemaphore(3)
    semaphore.acquire(lambda: None)
    semaphore.shrink(2)
    assert (semaphore.value, semaphore.initial_value) == (0, 1)
    semaphore.shrink(5)
    assert (semaphore.value, semaphore.initial_value) == (0, 0)
    semaphore.release()
    assert semaphore.value == 0


def test_clearing_forgets_who_waits():
    semaphore, called = LaxBoundedSemaphore(1), []
    for number in range(3):
        semaphore.acquire(called.append, number)
    semaphore.clear()
    assert semaphore.value == 1
    semaphore.release()
    assert called == [0]


def test_a_dummy_lock_locks_nothing():
    with DummyLock() as one, one:
        pass
