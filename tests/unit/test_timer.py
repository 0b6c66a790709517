"""Callbacks in the order in which they are due."""

from __future__ import annotations

import gc
import weakref
from datetime import datetime, timedelta, timezone
from time import monotonic

import pytest

from kombu.asynchronous.timer import Entry, Timer, to_timestamp


class Clock:
    """A clock that a test sets."""

    def __init__(self, now=100.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("kombu.asynchronous.timer.monotonic", clock)
    return clock


def due(timer, now):
    """Apply what is due at *now*, and return what the timer then says to wait."""
    schedule = timer.__iter__(nowfun=lambda: now)
    while True:
        wait, entry = next(schedule)
        if entry is None:
            return wait
        timer.apply_entry(entry)


def test_entries_are_applied_when_they_are_due_and_in_order():
    timer, called = Timer(max_interval=50), []
    for eta in (30, 10, 20):
        timer.call_at(eta, called.append, (eta,))
    assert due(timer, 5) == 5
    assert called == []
    assert due(timer, 25) == 5
    assert called == [10, 20]
    assert len(timer) == 1
    assert due(timer, 30) is None
    assert called == [10, 20, 30]


def test_the_wait_is_limited():
    timer = Timer(max_interval=3)
    timer.call_at(1000, print)
    assert due(timer, 0) == 3
    assert Timer().max_interval == 2


def test_an_empty_timer_says_so():
    assert next(iter(Timer())) == (None, None)


def test_call_after_counts_from_now(clock):
    timer, called = Timer(), []
    timer.call_after(5, called.append, (1,), {})
    assert due(timer, 104.9) > 0
    due(timer, 105)
    assert called == [1]


def test_cancelled_entries_are_not_applied(clock):
    timer, called = Timer(), []
    entry = timer.call_after(1, called.append, (1,))
    other = timer.call_after(1, called.append, (2,))
    timer.cancel(entry)
    other.tref.cancelled = True
    assert entry.cancelled and entry.canceled and other.canceled
    assert due(timer, 1000) is None
    assert called == []


def test_repetition(clock):
    timer, called = Timer(max_interval=100), []
    entry = timer.call_repeatedly(10, called.append, (1,))
    for now, times in ((105, 0), (110, 1), (115, 1), (120, 2), (171, 3), (181, 4)):
        clock.now = now
        due(timer, now)
        assert len(called) == times, now
    entry.cancel()
    clock.now = 500
    assert due(timer, 500) is None
    assert len(called) == 4


def test_a_repetition_called_too_early_is_put_off(clock):
    timer, called = Timer(max_interval=100), []
    entry = timer.call_repeatedly(10, called.append, (1,))
    entry()
    timer.clear()
    clock.now = 104
    entry()
    assert called == [1]
    assert due(timer, 104) == 6


def test_a_repetition_that_raises_goes_on(clock, caplog):
    timer, called = Timer(), []

    def fail():
        called.append(clock.now)
        raise ValueError("broken")

    timer.call_repeatedly(10, fail)
    for now in (110, 120):
        clock.now = now
        due(timer, now)
    assert called == [110, 120]
    assert "broken" in caplog.text


def test_a_repetition_that_cancels_itself_ends(clock):
    timer, called = Timer(), []
    entry = timer.call_repeatedly(10, lambda: (called.append(1), entry.cancel()))
    clock.now = 110
    assert due(timer, 110) is None
    assert called == [1]


def test_a_repetition_leaves_no_garbage():
    def callback():
        pass

    timer = Timer()
    timer.call_repeatedly(10, callback)
    watched = weakref.ref(callback)
    gc.collect()
    gc.disable()
    try:
        del callback
        timer.clear()
        assert watched() is None
    finally:
        gc.enable()


def test_errors_go_to_on_error_or_to_the_log(caplog):
    seen = []

    def fail():
        raise KeyError("x")

    Timer(on_error=seen.append).apply_entry(Entry(fail))
    assert isinstance(seen[0], KeyError) and not caplog.records
    Timer().apply_entry(Entry(fail))
    assert "Error in timer: KeyError('x')" in caplog.text


def test_a_date_that_is_out_of_range_goes_to_on_error(monkeypatch):
    def fail(eta):
        raise OverflowError("far away")

    monkeypatch.setattr("kombu.asynchronous.timer.to_timestamp", fail)
    seen = []
    timer = Timer(on_error=seen.append)
    assert timer.call_at(datetime.now(timezone.utc), print) is None
    assert isinstance(seen[0], OverflowError) and len(timer) == 0
    with pytest.raises(OverflowError):
        Timer().call_at(datetime.now(timezone.utc), print)


def test_dates_are_on_the_monotonic_clock():
    now = datetime.now(timezone.utc)
    assert to_timestamp(now + timedelta(seconds=10)) == pytest.approx(monotonic() + 10, abs=5)
    assert to_timestamp(now.replace(tzinfo=None)) == pytest.approx(monotonic(), abs=5)
    assert to_timestamp(now.astimezone(timezone(timedelta(hours=5)))) == pytest.approx(monotonic(), abs=5)
    assert to_timestamp(datetime(1970, 1, 1)) == 0
    assert to_timestamp(3.5) == 3.5


def test_an_earlier_entry_added_meanwhile_is_seen():
    timer, called = Timer(), []
    timer.call_at(10, lambda: (called.append("first"), timer.call_at(5, called.append, ("earlier",))))
    timer.call_at(11, called.append, ("second",))
    due(timer, 20)
    assert called == ["first", "earlier", "second"]


def test_without_eta_an_entry_is_due_now(clock):
    timer, called = Timer(), []
    timer.enter_at(Entry(called.append, (1,)))
    due(timer, 100)
    assert called == [1]


def test_the_queue_is_a_sorted_copy():
    timer = Timer()
    for eta in (3, 1, 2):
        timer.call_at(eta, print)
    assert [each.eta for each in timer.queue] == [1, 2, 3]
    timer.queue.clear()
    assert len(timer) == 3
    timer.clear()
    assert len(timer) == 0
    assert timer.schedule is timer


def test_a_timer_is_stopped_by_with(monkeypatch):
    stopped = []
    monkeypatch.setattr(Timer, "stop", lambda timer: stopped.append(timer))
    with Timer() as timer:
        assert not stopped
    assert stopped == [timer]


def test_entries_are_ordered_hashable_and_equal_to_themselves_alone():
    one, two = Entry(print), Entry(print)
    assert one == one and one != two
    assert (one < two) != (two < one)
    assert one <= one and one >= one
    assert len({one, two, one}) == 2


def test_an_entry_calls_and_shows_itself():
    called = []

    def callback(*args, **kwargs):
        called.append((args, kwargs))

    entry = Entry(callback, (1, 2), {"a": 3})
    entry()
    assert called == [((1, 2), {"a": 3})]
    assert "callback(*(1, 2), **{'a': 3})" in repr(entry)
    assert "print" in repr(Timer().call_repeatedly(1, print))
