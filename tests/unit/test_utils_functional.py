"""Helpers of kombu.utils.functional; what kombu 5.7 answers to many calls is in compat/test_recorded.py."""

from __future__ import annotations

import copy
import pickle
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu.utils import functional
from kombu.utils.functional import ChannelPromise, lazy, maybe_evaluate, retry_over_time


class Down(Exception):
    pass


class Clock:
    """Time that passes only while somebody sleeps or says so."""

    def __init__(self) -> None:
        self.now = 50.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(functional, "monotonic", made.monotonic)
    monkeypatch.setattr(functional, "sleep", made.sleep)
    return made


def failing(times: int, clock: Clock, takes: float = 0.0):
    """Return a function that fails some times, and the list of the times it was called at."""
    called_at: list[float] = []

    def function() -> str:
        called_at.append(clock.now)
        clock.now += takes
        if len(called_at) <= times:
            raise Down(len(called_at))
        return "up"

    return function, called_at


class TestRetryOverTime:
    @pytest.mark.parametrize("max_retries", [0, 1, 3])
    def test_max_retries_counts_the_calls_after_the_first(self, clock, max_retries):
        function, called_at = failing(99, clock)
        with pytest.raises(Down) as caught:
            retry_over_time(function, Down, max_retries=max_retries)
        assert len(called_at) == max_retries + 1
        assert caught.value.args == (max_retries + 1,)

    def test_no_retries_means_no_sleep_and_no_callbacks(self, clock):
        function, _ = failing(99, clock)
        calls = []
        with pytest.raises(Down):
            retry_over_time(
                function, Down, max_retries=0, callback=lambda: calls.append(1), errback=lambda *args: calls.append(2)
            )
        assert (clock.slept, calls) == ([], [])

    def test_other_exceptions_pass_at_once(self, clock):
        def function():
            raise KeyError("other")

        with pytest.raises(KeyError, match="other"):
            retry_over_time(function, Down)
        assert clock.slept == []

    def test_intervals_grow_up_to_the_maximum(self, clock):
        function, called_at = failing(5, clock)
        assert retry_over_time(function, Down, interval_start=1, interval_step=3, interval_max=7) == "up"
        assert [later - earlier for earlier, later in zip(called_at, called_at[1:], strict=False)] == [1, 4, 7, 7, 7]

    def test_callback_is_called_about_once_a_second_of_sleep(self, clock):
        function, _ = failing(1, clock)
        called_at: list[float] = []
        retry_over_time(function, Down, interval_start=4.5, callback=lambda: called_at.append(clock.now))
        # Once for the failure, then before each full second.
        assert called_at == [50, 50, 51, 52, 53]
        assert clock.slept == [1, 1, 1, 1, 0.5]

    def test_what_callback_raises_ends_it(self, clock):
        function, called_at = failing(99, clock)

        def stop():
            if clock.now >= 52:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            retry_over_time(function, Down, interval_start=30, callback=stop)
        assert (clock.now, len(called_at)) == (52, 1)

    def test_errback_says_how_long_to_sleep(self, clock):
        function, _ = failing(2, clock)
        seen = []

        def errback(exc, intervals, retries):
            seen.append((exc.args, retries))
            return 0.25

        retry_over_time(function, Down, errback=errback)
        assert seen == [((1,), 0), ((2,), 1)]
        assert clock.slept == [0.25, 0.25]

    @given(
        timeout=st.floats(0.01, 50),
        start=st.floats(0, 10),
        step=st.floats(0, 5),
        takes=st.floats(0.001, 5),
        with_callback=st.booleans(),
    )
    def test_timeout_is_one_budget_for_calls_and_sleeps(self, timeout, start, step, takes, with_callback):
        clock = Clock()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(functional, "monotonic", clock.monotonic)
            patch.setattr(functional, "sleep", clock.sleep)
            function, called_at = failing(10**9, clock, takes)
            callback = (lambda: None) if with_callback else None
            options = {"interval_start": start, "interval_step": step, "callback": callback}
            with pytest.raises(Down):
                retry_over_time(function, Down, timeout=timeout, **options)
        # Nothing is slept beyond the end, so the last call starts there at the latest (but for the first one).
        assert max(called_at) <= 50 + max(timeout, 0) + 1e-6
        assert clock.now <= 50 + timeout + takes + 1e-6
        # The budget is used: it is not given up before.
        assert clock.now >= 50 + timeout - 1e-6

    def test_callbacks_that_take_long_use_up_the_budget(self, clock):
        function, called_at = failing(99, clock)

        def callback():
            clock.now += 10

        with pytest.raises(Down):
            retry_over_time(function, Down, timeout=15, interval_start=5, callback=callback)
        assert called_at == [50, 70]
        assert clock.slept == []

    def test_no_timeout_is_no_limit(self, clock):
        function, called_at = failing(100, clock)
        assert retry_over_time(function, Down, timeout=0) == "up"
        assert len(called_at) == 101


class TestLazy:
    def test_is_evaluated_each_time(self):
        values = iter("abc")
        value = lazy(next, values)
        assert (str(value), value(), maybe_evaluate(value)) == ("a", "b", "c")

    def test_compares_by_value(self):
        assert lazy(lambda: 3) == 3
        assert lazy(lambda: 3) != 4

    def test_a_deep_copy_is_the_same(self):
        value = lazy(len, [1])
        assert copy.deepcopy([value])[0] is value

    def test_survives_pickling_with_its_arguments(self):
        assert pickle.loads(pickle.dumps(lazy(int, "ff", base=16)))() == 255


def test_a_channel_promise_calls_once():
    calls = []
    promise = ChannelPromise(lambda: calls.append(1))
    assert repr(promise).startswith("<promise: 0x")
    assert (promise(), promise(), calls) == (None, None, [1])
    assert repr(promise) == "None"


def test_shufflecycle_leaves_the_list_alone_and_picks_all():
    items = [1, 2, 3]
    assert set(islice(functional.shufflecycle(items), 200)) == {1, 2, 3}
    assert items == [1, 2, 3]


@given(st.dictionaries(st.text(), st.none() | st.integers()))
def test_dictfilter_leaves_the_dict_alone(d):
    before = dict(d)
    assert functional.dictfilter(d, more=1) == {**{k: v for k, v in d.items() if v is not None}, "more": 1}
    assert d == before


@given(
    st.floats(0, 10),
    st.none() | st.floats(0, 10),
    st.floats(0.5, 10),
    st.floats(0, 100),
)
def test_fxrangemax_sums_up_to_the_maximum(start, stop, step, maximum):
    values = list(islice(functional.fxrangemax(start, stop, step, maximum), 1000))
    if stop:
        assert all(value <= stop for value in values[1:])
    if maximum:
        assert values[0] == start
    else:
        assert values == []
