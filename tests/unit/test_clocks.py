"""Logical time."""

from __future__ import annotations

import heapq
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu.clocks import LamportClock, timetuple

EVENTS = st.builds(timetuple, st.integers(0, 3), st.integers(0, 3), st.sampled_from("abc"))


def test_a_timetuple_names_its_parts():
    event = timetuple(3, 1.5, "host:1", {"type": "x"})
    assert (event.clock, event.timestamp, event.id, event.obj) == (3, 1.5, "host:1", {"type": "x"}) == event
    assert repr(event) == "_lamport(clock=3, timestamp=1.5, id=host:1 {'type': 'x'})"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_timetuple_survives_pickling(protocol):
    event = timetuple(3, 1.5, "host:1", [1])
    again = pickle.loads(pickle.dumps(event, protocol))
    assert (type(again), again) == (timetuple, event)


def test_the_clock_comes_first_then_the_id_and_without_a_clock_the_time():
    assert timetuple(1, 9, "z") < timetuple(2, 1, "a")
    assert timetuple(1, 9, "a") < timetuple(1, 1, "b")
    assert timetuple(0, 1, "z") < timetuple(5, 2, "a")
    assert timetuple(None, 1, "z") < timetuple(None, 2, "a")


@given(EVENTS, EVENTS)
def test_the_comparisons_agree(a, b):
    assert (a > b) is (b < a)
    assert (a <= b) is not (b < a)
    assert (a >= b) is not (a < b)


def test_a_heap_of_them_gives_them_in_order():
    heap: list[timetuple] = []
    for clock in (5, 1, 4, 2, 3):
        heapq.heappush(heap, timetuple(clock, 0, "a"))
    assert [heapq.heappop(heap).clock for _ in range(5)] == [1, 2, 3, 4, 5]


def test_forward_advances_by_one():
    clock = LamportClock(4)
    assert (clock.forward(), clock.forward(), clock.value) == (5, 6, 6)
    assert (str(clock), repr(clock)) == ("6", "<LamportClock: 6>")


@given(st.integers(0, 100), st.integers(0, 100))
def test_adjust_goes_past_both_times(mine, theirs):
    assert LamportClock(mine).adjust(theirs) == max(mine, theirs) + 1


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from("abc")), min_size=1))
def test_sort_heap_gives_the_first_event(events):
    assert LamportClock().sort_heap(sorted(events)) == min(events)


@pytest.mark.stress
def test_no_two_threads_get_the_same_time():
    clock = LamportClock()
    with ThreadPoolExecutor(4) as threads:
        parts = threads.map(lambda _: [clock.forward() for _ in range(2000)], range(4))
        times = sum(parts, [])
    assert sorted(times) == list(range(1, 8001))
