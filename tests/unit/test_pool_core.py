"""Places of a pool: the limit, the order of those who wait, giving back, resizing, clearing; on both cores."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import weakref

import pytest

from scripted_transport import forked


class Thing:
    """A resource."""


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def started(function, *args):
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def take(core, slots):
    """Take a place and fill it, as a pool does."""
    thing = slots.acquire()
    assert thing is not core.places.FULL
    if thing is core.places.VACANT:
        thing = Thing()
    slots.occupy(thing)
    return thing


def give(slots, thing):
    assert slots.withdraw(thing)
    return slots.vacate(thing)


# -- the limit


@pytest.mark.parametrize("limit", [-1, 0, 1, 3])
def test_there_are_as_many_places_as_the_limit(core, limit):
    slots = core.places.SlotPool(limit)
    for _ in range(max(limit, 0)):
        assert slots.acquire() is core.places.VACANT
    assert slots.in_use == max(limit, 0)
    assert slots.acquire() is core.places.FULL
    assert slots.in_use == max(limit, 0)


def test_a_place_given_back_can_be_taken_again(core):
    slots = core.places.SlotPool(1)
    assert slots.acquire() is core.places.VACANT
    assert slots.vacate() is core.places.VACANT
    assert slots.in_use == 0
    assert slots.acquire() is core.places.VACANT


def test_the_resource_returned_last_goes_out_first(core):
    slots = core.places.SlotPool(3)
    one, two, three = (take(core, slots) for _ in range(3))
    for thing in (two, three, one):
        give(slots, thing)
    assert slots.idle_resources() == [two, three, one]
    assert [slots.acquire() for _ in range(3)] == [one, three, two]


def test_a_resource_is_known_to_be_out_from_occupy_to_withdraw(core):
    slots = core.places.SlotPool(1)
    thing = Thing()
    assert not slots.is_out(thing)
    slots.acquire()
    slots.occupy(thing)
    assert slots.is_out(thing)
    assert slots.out_resources() == [thing]
    assert slots.withdraw(thing)
    assert not slots.is_out(thing)
    assert not slots.withdraw(thing)
    assert slots.in_use == 1
    slots.vacate(thing)
    assert slots.idle_resources() == [thing]
    assert (slots.in_use, slots.out_resources()) == (0, [])


def test_resources_are_told_apart_by_identity(core):
    class Equal:
        def __eq__(self, other):
            raise AssertionError("was compared")

        __hash__ = None

    slots = core.places.SlotPool(2)
    one, two = Equal(), Equal()
    for thing in (one, two):
        slots.acquire()
        slots.occupy(thing)
    assert slots.withdraw(one)
    assert slots.vacate(one) is core.places.VACANT
    assert not slots.withdraw(one)
    assert slots.is_out(two) and not slots.is_out(one)
    assert slots.knows(one) and slots.knows(two) and not slots.knows(Equal())


def test_a_resource_is_known_all_the_way_round(core):
    slots, thing, seen = core.places.SlotPool(1), Thing(), []
    assert not slots.knows(thing)
    slots.acquire()
    slots.occupy(thing)
    for _ in range(2):
        seen.append(slots.knows(thing))
        slots.withdraw(thing)
        seen.append(slots.knows(thing))
        slots.vacate(thing)
        seen.append(slots.knows(thing))
        item = slots.acquire()
        seen.append(slots.knows(thing))
        slots.occupy(thing, item)
    assert seen == [True] * 8
    slots.withdraw(thing)
    slots.vacate(thing, keep=False)
    assert not slots.knows(thing)


def test_a_resource_on_its_way_to_who_waits_is_known(core):
    slots, thing, got = core.places.SlotPool(1), Thing(), []
    slots.acquire()
    slots.occupy(thing)
    thread = started(lambda: got.append(slots.acquire(True)))
    wait_until(lambda: slots.waiting == 1)
    give(slots, thing)
    thread.join(30)
    assert slots.knows(thing) and not slots.is_out(thing)
    assert (got, slots.in_use) == ([thing], 1)
    slots.vacate(thing, keep=False)
    assert not slots.knows(thing)
    assert slots.in_use == 0


def test_what_stood_for_a_resource_is_forgotten_when_the_resource_is_out(core):
    slots, promise, thing = core.places.SlotPool(1), Thing(), Thing()
    slots.put(promise)
    assert slots.acquire() is promise
    slots.occupy(thing, promise)
    assert slots.knows(thing) and not slots.knows(promise)


def test_put_fills_places_and_no_more(core):
    slots = core.places.SlotPool(2)
    slots.acquire()
    assert slots.put("a")
    assert not slots.put("b")
    assert slots.acquire() == "a"
    assert slots.take() is core.places.VACANT
    slots.vacate("a")
    assert slots.take() == "a"
    assert slots.take() is core.places.VACANT


# -- waiting


@pytest.mark.parametrize("timeout", [0, 0.0, 0.01])
def test_waiting_ends_with_the_timeout(core, timeout):
    slots = core.places.SlotPool(1)
    slots.acquire()
    before = time.monotonic()
    assert slots.acquire(True, timeout) is core.places.FULL
    assert timeout <= time.monotonic() - before < timeout + 30
    assert (slots.in_use, slots.waiting) == (1, 0)


def test_a_timeout_without_block_is_of_no_effect(core):
    slots = core.places.SlotPool(1)
    slots.acquire()
    assert slots.acquire(False, 1000) is core.places.FULL
    assert slots.acquire(timeout=1000) is core.places.FULL


def test_a_negative_timeout_is_refused(core):
    slots = core.places.SlotPool(1)
    with pytest.raises(ValueError, match="must not be negative: -1"):
        slots.acquire(True, -1)
    assert slots.in_use == 0


def test_an_enormous_timeout_is_a_long_one(core):
    slots = core.places.SlotPool(1)
    slots.acquire()
    got = []
    thread = started(lambda: got.append(slots.acquire(True, 1e300)))
    wait_until(lambda: slots.waiting == 1)
    slots.vacate("it")
    thread.join(30)
    assert got == ["it"]


def test_who_waits_is_served_in_order(core):
    slots = core.places.SlotPool(1)
    slots.acquire()
    order = []

    def wait(number):
        answer = slots.acquire(True)
        order.append((number, answer))
        slots.vacate(answer)

    threads = []
    for number in range(20):
        threads.append(started(wait, number))
        wait_until(lambda number=number: slots.waiting == number + 1)
    slots.vacate("it")
    for thread in threads:
        thread.join(30)
    assert order == [(number, "it") for number in range(20)]


def test_nobody_overtakes_who_waits(core):
    slots = core.places.SlotPool(1)
    slots.acquire()
    answers = []
    thread = started(lambda: answers.append(slots.acquire(True)))
    wait_until(lambda: slots.waiting == 1)
    slots.vacate("it")
    # The place belongs to the waiter already, whether it has woken up or not.
    assert slots.acquire() is core.places.FULL
    thread.join(30)
    assert answers == ["it"]


def test_a_vacant_place_goes_to_who_waits_too(core):
    slots = core.places.SlotPool(1)
    slots.acquire()
    answers = []
    thread = started(lambda: answers.append(slots.acquire(True)))
    wait_until(lambda: slots.waiting == 1)
    slots.vacate()
    thread.join(30)
    assert answers == [core.places.VACANT]
    assert slots.in_use == 1


def test_who_has_given_up_gets_nothing(core):
    slots = core.places.SlotPool(1)
    slots.acquire()
    assert slots.acquire(True, 0.01) is core.places.FULL
    slots.vacate("it")
    assert slots.idle_resources() == ["it"]


def test_who_is_interrupted_while_waiting_leaves_the_queue(core, monkeypatch):
    class Gate:
        """A lock of which waiting is interrupted."""

        def __init__(self):
            self.acquired = False

        def acquire(self, timeout=-1):
            if self.acquired:
                raise KeyboardInterrupt
            self.acquired = True

        def release(self):
            pass

    slots = core.places.SlotPool(1)
    slots.acquire()
    monkeypatch.setattr(threading, "Lock", Gate)
    with pytest.raises(KeyboardInterrupt):
        slots.acquire(True)
    assert (slots.in_use, slots.waiting) == (1, 0)


def test_who_is_interrupted_just_when_it_is_served_passes_the_place_on(core, monkeypatch):
    slots = core.places.SlotPool(1)
    slots.acquire()

    class Gate:
        def __init__(self):
            self.acquired = False

        def acquire(self, timeout=-1):
            if self.acquired:
                slots.vacate("it")
                raise KeyboardInterrupt
            self.acquired = True

        def release(self):
            pass

    monkeypatch.setattr(threading, "Lock", Gate)
    with pytest.raises(KeyboardInterrupt):
        slots.acquire(True)
    assert (slots.in_use, slots.idle_resources()) == (0, ["it"])


# -- many threads


@pytest.mark.stress
def test_the_limit_holds_under_a_thousand_threads(core):
    limit = 7
    slots = core.places.SlotPool(limit)
    lock = threading.Lock()
    alive, most, done, twice = set(), [0], [0], []
    out = set()
    go = threading.Event()

    def work():
        go.wait()
        for _ in range(5):
            thing = slots.acquire(True)
            if thing is core.places.VACANT:
                thing = Thing()
                with lock:
                    alive.add(thing)
                    most[0] = max(most[0], len(alive))
            with lock:
                if thing in out:
                    twice.append(thing)
                out.add(thing)
            slots.occupy(thing)
            with lock:
                out.remove(thing)
            assert slots.withdraw(thing)
            assert not slots.withdraw(thing)
            assert slots.vacate(thing) is core.places.VACANT
            with lock:
                done[0] += 1

    before = threading.stack_size(256 * 1024)
    try:
        threads = [started(work) for _ in range(1000)]
    finally:
        threading.stack_size(before)
    go.set()
    for thread in threads:
        thread.join(60)
    assert done[0] == 5000
    assert twice == []
    assert most[0] <= limit
    assert (slots.in_use, slots.waiting) == (0, 0)
    assert len(slots.idle_resources()) == len(alive)


# -- resizing


def test_growing_makes_places_and_serves_who_waits(core):
    slots = core.places.SlotPool(1)
    slots.acquire()
    answers = []
    threads = [started(lambda: answers.append(slots.acquire(True))) for _ in range(3)]
    wait_until(lambda: slots.waiting == 3)
    assert slots.resize(3) == []
    wait_until(lambda: len(answers) == 2)
    assert (slots.in_use, slots.waiting) == (3, 1)
    slots.vacate("it")
    for thread in threads:
        thread.join(30)
    assert sorted(map(str, answers)) == ["VACANT", "VACANT", "it"]


def test_shrinking_returns_the_idle_resources_that_have_no_place(core):
    slots = core.places.SlotPool(5)
    for name in "abcd":
        slots.put(name)
    assert slots.acquire() == "d"
    # One is out, so two of the others may stay: those that would go out next.
    assert slots.resize(3) == ["a"]
    assert slots.idle_resources() == ["b", "c"]


def test_what_is_out_when_a_pool_shrinks_is_not_kept_when_it_comes_back(core):
    slots = core.places.SlotPool(3)
    for _ in range(3):
        slots.acquire()
    assert slots.resize(1) == []
    assert slots.acquire() is core.places.FULL
    assert slots.vacate("a") == "a"
    assert slots.vacate("b", keep=False) is core.places.VACANT
    assert slots.in_use == 1
    assert slots.vacate("c") is core.places.VACANT
    assert slots.idle_resources() == ["c"]
    assert slots.acquire() == "c"


@pytest.mark.parametrize("limit", [0, 1, 2, 20, 50])
def test_resizing_to_and_fro_leaves_that_many_places(core, limit):
    slots = core.places.SlotPool(10)
    for size in (20, 5, 50, limit):
        slots.resize(size)
    assert slots.limit == limit
    places = 0
    while slots.acquire() is not core.places.FULL:
        places += 1
    assert places == limit


# -- clearing


def test_clear_forgets_and_returns_what_is_out_and_what_is_idle(core):
    slots = core.places.SlotPool(3)
    thing = take(core, slots)
    slots.put("idle")
    assert slots.clear() == ([thing], ["idle"])
    assert slots.in_use == 0
    assert not slots.withdraw(thing)
    assert slots.acquire() is core.places.VACANT


def test_clear_leaves_places_whose_resource_is_being_made(core):
    slots = core.places.SlotPool(1)
    slots.acquire()
    assert slots.clear() == ([], [])
    assert slots.acquire() is core.places.FULL
    thing = Thing()
    slots.occupy(thing)
    assert give(slots, thing) is core.places.VACANT


def test_clear_serves_who_waits(core):
    slots = core.places.SlotPool(1)
    thing = take(core, slots)
    answers = []
    thread = started(lambda: answers.append(slots.acquire(True)))
    wait_until(lambda: slots.waiting == 1)
    assert slots.clear() == ([thing], [])
    thread.join(30)
    assert answers == [core.places.VACANT]


def test_closing_tells_who_waits_and_who_comes(core):
    slots = core.places.SlotPool(1)
    thing = take(core, slots)
    answers = []
    threads = [started(lambda: answers.append(slots.acquire(True))) for _ in range(3)]
    wait_until(lambda: slots.waiting == 3)
    assert slots.clear(close=True) == ([thing], [])
    for thread in threads:
        thread.join(30)
    assert answers == [core.places.CLOSED] * 3
    assert slots.acquire() is core.places.CLOSED
    assert not slots.put("late")


def test_what_was_being_made_when_the_pool_closed_is_not_kept(core):
    slots = core.places.SlotPool(1)
    slots.acquire()
    slots.clear(close=True)
    slots.occupy("made")
    assert slots.withdraw("made")
    assert slots.vacate("made") == "made"
    assert (slots.in_use, slots.idle_resources()) == (0, [])


# -- memory, finalizers, forks


def test_resources_that_came_back_and_were_taken_away_are_not_kept_alive(core):
    slots = core.places.SlotPool(2)
    thing = take(core, slots)
    gone = weakref.ref(thing)
    give(slots, thing)
    slots.clear()
    del thing
    gc.collect()
    assert gone() is None


def test_a_pool_in_a_cycle_is_collected(core):
    thing = Thing()
    thing.slots = core.places.SlotPool(1)
    thing.slots.put(thing)
    gone = weakref.ref(thing)
    del thing
    gc.collect()
    assert gone() is None


@pytest.mark.leak
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts allocated blocks")
def test_going_round_leaves_no_memory_behind(core):
    slots = core.places.SlotPool(2)

    def go_round():
        for _ in range(1000):
            give(slots, take(core, slots))
            items = slots.acquire(), slots.acquire()
            assert slots.acquire(True, 0) is core.places.FULL
            for item in items:
                slots.vacate(item, keep=False)
            slots.clear()
        gc.collect()
        return sys.getallocatedblocks()

    go_round()
    counts = [go_round() for _ in range(6)]
    # The smallest of several: what other threads have at the time comes and goes.
    assert min(counts[3:]) - min(counts[:3]) < 50


def test_a_finalizer_may_give_a_resource_back(core):
    slots = core.places.SlotPool(2)

    class Finalized:
        def __del__(self):
            slots.vacate("given back")

    slots.acquire()
    slots.put(Finalized())
    # The only reference to the resource goes away within the pool.
    slots.clear()
    assert slots.in_use == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_what_was_inherited_can_be_seen_although_the_lock_is_held(core):
    slots = core.places.SlotPool(3)
    slots.acquire()
    slots.occupy("out")
    slots.put("idle")
    assert forked(slots.inherited) == (["out"], ["idle"])


def test_a_hashed_list_is_equal_by_its_items_and_hashed_by_its_hashvalue(core):
    first, second = core.shared.Hashed([1, 2]), core.shared.Hashed([1, 2])
    first.hashvalue = second.hashvalue = 7
    assert hash(first) == 7
    assert first == second and first == [1, 2] and not first != second
    assert first < [1, 3] and first != [1]
    assert {first: "found"}[second] == "found"


def test_what_was_lent_is_released_after_its_context_unless_that_replaced_it(core):
    class Thing(core.pool.Lent):
        def __init__(self):
            self.seen = []

        def _replaced_after(self, exc):
            self.seen.append(exc)
            return isinstance(exc, OSError)

        def release(self):
            self.seen.append("released")

    thing, wrong, lost = Thing(), ValueError(), OSError()
    with thing as entered:
        assert entered is thing
    for error in (wrong, lost):
        with pytest.raises(type(error)), thing:
            raise error
    assert thing.seen == ["released", wrong, "released", lost]
