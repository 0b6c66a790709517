"""Attributes that are computed once, by one thread."""

from __future__ import annotations

import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kombu.utils import objects
from kombu.utils.objects import cached_property


class Thing:
    def __init__(self) -> None:
        self.calls: list[object] = []

    @cached_property
    def plain(self):
        """Say what it is."""
        self.calls.append("get")
        return object()

    @cached_property
    def full(self):
        return 1

    @full.setter
    def full(self, value):
        self.calls.append(("set", value))
        return value * 2

    @full.deleter
    def full(self, value):
        self.calls.append(("delete", value))


@pytest.fixture
def thing():
    return Thing()


@pytest.fixture(autouse=True)
def nothing_left_busy():
    yield
    assert objects._busy == {}


def test_is_computed_once(thing):
    assert thing.plain is thing.plain
    assert thing.calls == ["get"]


def test_the_value_is_in_the_dict_of_the_instance(thing):
    assert "plain" not in vars(thing)
    assert thing.plain is vars(thing)["plain"]


def test_is_computed_again_after_deletion(thing):
    first = thing.plain
    del thing.plain
    assert thing.plain is not first


def test_can_be_assigned(thing):
    thing.plain = 5
    assert (thing.plain, thing.calls) == (5, [])


def test_deleting_what_is_not_there_is_nothing(thing):
    del thing.plain
    del thing.full
    assert thing.calls == []


def test_the_setter_gives_the_value_kept(thing):
    thing.full = 4
    assert (thing.full, thing.calls) == (8, [("set", 4)])


def test_the_deleter_gets_the_value_kept(thing):
    assert thing.full == 1
    del thing.full
    assert (thing.calls, thing.full) == ([("delete", 1)], 1)


def test_none_is_a_value(thing):
    thing.plain = None
    assert thing.plain is None
    assert thing.calls == []


def test_the_class_gives_the_property_itself():
    assert isinstance(Thing.plain, cached_property)
    assert isinstance(Thing.plain, functools.cached_property)
    assert Thing.plain.__doc__ == "Say what it is."


def test_an_exception_is_not_kept(thing):
    class Fails:
        outcomes = iter([ZeroDivisionError, None])

        @cached_property
        def value(self):
            exception = next(self.outcomes)
            if exception:
                raise exception
            return "fine"

    fails = Fails()
    with pytest.raises(ZeroDivisionError):
        _ = fails.value
    assert fails.value == "fine"


def test_a_class_without_a_dict_is_told():
    class Slotted:
        __slots__ = ()

        @cached_property
        def value(self):
            return 1

    with pytest.raises(TypeError, match="No '__dict__' attribute on 'Slotted' instance to cache 'value'"):
        _ = Slotted().value


def test_a_property_without_a_name_is_told(thing):
    unnamed = cached_property(lambda self: 1)
    with pytest.raises(TypeError, match="never given a name"):
        unnamed.__get__(thing)


def test_the_getter_may_assign_and_read_its_own_attribute():
    class Own:
        @cached_property
        def value(self):
            self.value = 1
            return self.value + 1

    own = Own()
    assert (own.value, own.value) == (2, 2)


@pytest.mark.stress
def test_threads_compute_it_once():
    for _ in range(50):
        thing = Thing()
        start = threading.Barrier(8)

        def read(thing=thing, start=start):
            start.wait(timeout=30)
            return thing.plain

        with ThreadPoolExecutor(8) as threads:
            values = {future.result() for future in [threads.submit(read) for _ in range(8)]}
        assert (len(values), thing.calls) == (1, ["get"])


def test_instances_do_not_wait_for_each_other():
    entered, leave = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, slow):
            self.slow = slow

        @cached_property
        def value(self):
            if self.slow:
                entered.set()
                assert leave.wait(timeout=30)
            return self.slow

    slow, quick = Slow(True), Slow(False)
    with ThreadPoolExecutor(1) as other:
        future = other.submit(lambda: slow.value)
        assert entered.wait(timeout=30)
        try:
            assert quick.value is False
        finally:
            leave.set()
        assert future.result(timeout=30) is True


def test_an_assignment_waits_for_the_getter_and_wins():
    entered, assigning = threading.Event(), threading.Event()

    class Slow:
        @cached_property
        def value(self):
            entered.set()
            assert assigning.wait(timeout=30)
            return "computed"

    slow = Slow()
    with ThreadPoolExecutor(1) as other:
        future = other.submit(lambda: slow.value)
        assert entered.wait(timeout=30)
        assigning.set()
        slow.value = "assigned"
        assert future.result(timeout=30) == "computed"
    assert slow.value == "assigned"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_does_not_wait_for_a_thread_of_its_parent():
    entered, leave = threading.Event(), threading.Event()
    parent = os.getpid()

    class Slow:
        @cached_property
        def value(self):
            if os.getpid() == parent:
                entered.set()
                assert leave.wait(timeout=30)
            return 1

    slow = Slow()
    with ThreadPoolExecutor(1) as other:
        future = other.submit(lambda: slow.value)
        assert entered.wait(timeout=30)
        child = os.fork()
        if child == 0:
            os._exit(0 if slow.value == 1 else 1)
        try:
            status = wait_for(child)
        finally:
            leave.set()
        assert status == 0
        assert future.result(timeout=30) == 1


def wait_for(child: int) -> int:
    """Return the exit code of *child*; kill it after a while, should it hang."""
    killer = threading.Timer(30, os.kill, (child, 9))
    killer.start()
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        killer.cancel()
        killer.join()


def test_a_property_used_through_its_class_is_itself():
    prop = cached_property(lambda self: 1)
    assert prop.__get__(None) is prop
    assert prop.__set__(None, 1) is prop
    assert prop.__delete__(None) is prop
