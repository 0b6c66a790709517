"""The cache and the functions that remember: bounded, exact, and safe among threads."""

from __future__ import annotations

import copy
import pickle
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu.utils.functional import LRUCache, memoize

METHODS = st.sampled_from(["set", "get", "pop", "del", "setdefault", "update", "contains"])
STEPS = st.lists(st.tuples(METHODS, st.integers(0, 6), st.integers()), max_size=40)


@given(st.sampled_from([None, 0, 1, 2, 4]), STEPS)
def test_it_behaves_as_an_ordered_dict_that_drops_the_oldest(limit, steps):
    cache = LRUCache(limit=limit)
    model: OrderedDict[int, int] = OrderedDict()
    for step, key, value in steps:
        if step in ("set", "update") or (step == "setdefault" and key not in model):
            if step == "update":
                cache.update({key: value})
            elif step == "set":
                cache[key] = value
            else:
                assert cache.setdefault(key, value) == value
            if limit and step != "update" and key not in model and len(model) >= limit:
                model.popitem(last=False)
            model[key] = value
            while limit and len(model) > limit:
                model.popitem(last=False)
        elif step in ("get", "setdefault"):
            assert (cache.get(key) if step == "get" else cache.setdefault(key, value)) == model.get(key)
            if key in model:
                model.move_to_end(key)
        elif step == "pop":
            assert cache.pop(key, "none") == model.pop(key, "none")
        elif step == "contains":
            assert (key in cache) is (key in model)
        elif key in model:
            del cache[key], model[key]
        else:
            with pytest.raises(KeyError):
                del cache[key]
        assert list(cache.items()) == list(model.items())
        assert list(cache) == list(cache.keys()) == list(model)
        assert list(cache.values()) == list(model.values())
        assert len(cache) == len(model)


@pytest.fixture
def cache():
    made = LRUCache(limit=3)
    made.update(a=1, b=2, c=3)
    return made


@pytest.mark.parametrize("method", ["items", "values", "keys", "iteritems", "itervalues", "iterkeys", "__iter__"])
def test_it_may_change_while_it_is_iterated(cache, method):
    seen = []
    for item in getattr(cache, method)():
        cache["new"] = len(seen)
        cache.pop("c", None)
        seen.append(item)
    assert len(seen) == 3


def test_an_iterator_left_half_way_holds_no_lock(cache):
    iterator = iter(cache.items())
    next(iterator)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(cache.__getitem__, "a").result(timeout=10) == 1


def test_items_and_values_are_iterators(cache):
    assert next(cache.items()) == ("a", 1)
    assert next(cache.values()) == 1


def test_keys_are_a_view(cache):
    keys = cache.keys()
    assert len(keys) == 3 and "a" in keys and list(reversed(keys)) == ["c", "b", "a"]
    cache["d"] = 4
    assert list(keys) == ["b", "c", "d"]


def test_iterating_uses_nothing(cache):
    assert list(cache.items()) and list(cache.values()) and list(cache)
    cache["d"] = 4
    assert "a" not in cache


def test_incr_keeps_a_str_and_returns_the_sum(cache):
    assert cache.incr("a", 5) == 6
    assert cache["a"] == "6"


def test_incr_of_no_number_changes_nothing(cache):
    cache["a"] = "text"
    with pytest.raises(ValueError):
        cache.incr("a")
    assert cache["a"] == "text"


@pytest.mark.parametrize("again", [copy.copy, LRUCache.copy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_a_copy_has_the_items_and_a_lock_of_its_own(cache, again):
    other = again(cache)
    assert (type(other), other.limit, list(other.items())) == (LRUCache, 3, list(cache.items()))
    assert other.mutex is not cache.mutex
    other["d"] = 4
    assert "a" in cache and "a" not in other


@pytest.mark.stress
def test_threads_never_see_more_than_the_limit_nor_lose_a_count():
    cache = LRUCache(limit=8)
    cache["count"] = 0
    start = threading.Barrier(4)

    def work(number: int) -> int:
        start.wait(timeout=30)
        most = 0
        for turn in range(2000):
            cache.incr("count")
            cache[number, turn % 5] = turn
            cache.get("count")
            most = max(most, len(cache), len(list(cache.items())))
        return most

    with ThreadPoolExecutor(4) as threads:
        assert max(threads.map(work, range(4))) <= 8
    # It was used all the time, so it was never the oldest.
    assert cache["count"] == "8000"


class TestMemoize:
    def test_calls_once_for_the_same_arguments(self):
        calls = []

        @memoize()
        def function(*args, **kwargs):
            calls.append((args, kwargs))
            return len(calls)

        assert [function(1), function(1), function(2), function(1, a=1), function(1, a=1)] == [1, 1, 2, 3, 3]
        assert (function.hits, function.misses) == (2, 3)

    def test_positional_and_keyword_arguments_are_told_apart(self):
        function = memoize()(lambda *args, **kwargs: (args, kwargs))
        assert function(("a", 1)) != function(a=1)

    def test_keeps_at_most_maxsize_results(self):
        function = memoize(maxsize=2)(lambda x: object())
        first = function(1)
        function(2)
        assert function(1) is first
        function(3)
        assert function(1) is first
        assert function.misses == 3
        function(2)
        assert function.misses == 4

    def test_keyfun_gives_the_key(self):
        function = memoize(keyfun=lambda args, kwargs: args[0])(lambda x, y: y)
        assert (function(1, 2), function(1, 3)) == (2, 2)

    def test_any_mapping_can_keep_the_results(self):
        function = memoize(1, Cache=dict)(lambda: object())
        assert function() is function()

    def test_clear_forgets_results_and_counts(self):
        function = memoize()(lambda: object())
        first = function()
        function.clear()
        assert (function.hits, function.misses) == (0, 0)
        assert function() is not first

    def test_an_exception_is_not_kept(self):
        outcomes = iter([ZeroDivisionError, None])

        @memoize()
        def function():
            exception = next(outcomes)
            if exception:
                raise exception
            return "fine"

        with pytest.raises(ZeroDivisionError):
            function()
        assert (function(), function.misses) == ("fine", 1)

    def test_it_looks_like_the_function(self):
        def function():
            """Do it."""

        memoized = memoize()(function)
        assert (memoized.__name__, memoized.__doc__, memoized.__wrapped__) == ("function", "Do it.", function)
        assert memoized.original_func is function

    def test_it_works_as_a_method(self):
        class Thing:
            @memoize()
            def method(self, x):
                return self, x

        thing = Thing()
        assert thing.method(1) == (thing, 1)
        assert Thing.method.misses == 1

    def test_it_may_call_itself(self):
        @memoize()
        def fibonacci(n):
            return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

        assert fibonacci(60) == 1548008755920

    def test_survives_pickling_by_name(self):
        assert pickle.loads(pickle.dumps(memoized_at_module_level)) is memoized_at_module_level

    @pytest.mark.stress
    def test_threads_lose_no_count(self):
        function = memoize(maxsize=4)(lambda x: x)

        def work(_):
            return [function(n % 8) for n in range(2000)]

        with ThreadPoolExecutor(4) as threads:
            results = list(threads.map(work, range(4)))
        assert all(result == [n % 8 for n in range(2000)] for result in results)
        assert function.hits + function.misses == 8000


@memoize()
def memoized_at_module_level():
    return 1
