"""Pools of resources: acquiring, giving back, replacing, resizing, closing; also for classes written for kombu 5.7."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref

import pytest

from kombu import forks
from kombu.exceptions import LimitExceeded
from kombu.resource import Resource
from kombu.utils.functional import lazy
from scripted_transport import forked

# Most tests end with something still out.
pytestmark = pytest.mark.filterwarnings("ignore:.* dropped without release:ResourceWarning")


class Thing:
    """A resource that knows what was done to it."""

    def __init__(self, number=0):
        self.number = number
        self.log = []
        self.alive = True

    def __repr__(self):
        return f"<thing {self.number}>"

    def close(self):
        self.log.append("closed")


class Things(Resource):
    """A pool that makes things when they are needed."""

    def __init__(self, *args, **kwargs):
        self.made = []
        self.failures = []
        super().__init__(*args, **kwargs)

    def setup(self):
        self._preload()

    def new(self):
        try:
            failure = self.failures.pop()
        except IndexError:  # without a look before, since another thread may be faster
            failure = None
        if failure is not None:
            raise failure
        thing = Thing(len(self.made))
        self.made.append(thing)
        return thing

    def is_usable(self, resource):
        return isinstance(resource, lazy) or resource.alive

    def release_resource(self, resource):
        resource.log.append("released")

    def collect_resource(self, resource):
        if not isinstance(resource, lazy):
            resource.log.append("collected")


class LazyThings(Things):
    """A pool as they were written for kombu 5.7: filled with promises."""

    def setup(self):
        if self.limit:
            while len(self._resource.queue) < self.limit - len(self._dirty):
                self._resource.put_nowait(lazy(self.new))

    def prepare(self, resource):
        return resource() if callable(resource) else resource


@pytest.fixture(params=[Things, LazyThings])
def cls(request):
    return request.param


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


# -- acquire and release


def test_up_to_the_limit_can_be_acquired(cls):
    pool = cls(3)
    taken = [pool.acquire() for _ in range(3)]
    assert len(set(taken)) == 3
    with pytest.raises(LimitExceeded):
        pool.acquire()
    assert pool.made == taken


def test_limit_exceeded_names_the_limit_and_the_number_in_use(cls):
    pool = cls(2)
    pool.acquire(), pool.acquire()
    with pytest.raises(LimitExceeded, match="limit of 2 reached, 2 in use") as caught:
        pool.acquire()
    assert (caught.value.limit, caught.value.in_use) == (2, 2)


def test_the_exception_is_the_one_of_the_class():
    class Mine(LimitExceeded):
        pass

    class Special(Things):
        LimitExceeded = Mine

    pool = Special(1)
    pool.acquire()
    with pytest.raises(Mine):
        pool.acquire()


@pytest.mark.parametrize("release", [lambda pool, thing: thing.release(), lambda pool, thing: pool.release(thing)])
def test_what_was_released_is_acquired_again(cls, release):
    pool = cls(2)
    thing = pool.acquire()
    release(pool, thing)
    assert pool.acquire() is thing
    assert thing.log == ["released"]
    assert pool.made == [thing]


def test_the_one_released_last_is_acquired_first(cls):
    pool = cls(3)
    one, two, three = (pool.acquire() for _ in range(3))
    for thing in (three, one, two):
        thing.release()
    assert [pool.acquire() for _ in range(3)] == [two, one, three]


def test_releasing_twice_is_harmless(cls):
    pool = cls(2)
    thing = pool.acquire()
    for _ in range(3):
        thing.release()
        pool.release(thing)
    first, second = pool.acquire(), pool.acquire()
    assert first is not second
    assert thing.log == ["released"]
    with pytest.raises(LimitExceeded):
        pool.acquire()


def test_a_second_release_during_the_first_is_harmless(cls):
    pool = cls(1)
    thing = pool.acquire()
    release = pool.release_resource

    def release_meanwhile(resource):
        pool.release(resource)
        resource.release()
        release(resource)

    pool.release_resource = release_meanwhile
    thing.release()
    assert thing.log == ["released"]
    assert pool.acquire() is thing


def test_a_second_release_while_the_resource_is_on_its_way_to_the_next_is_harmless(cls):
    pool = cls(1)
    thing = pool.acquire()
    thing.release()
    prepare = pool.prepare

    def release_meanwhile(resource):
        thing.release()
        return prepare(resource)

    pool.prepare = release_meanwhile
    assert pool.acquire() is thing
    assert "closed" not in thing.log


def test_a_resource_is_not_known_to_others_while_it_is_out(cls):
    pool = cls(2)
    assert pool.acquire() is not pool.acquire()


def test_without_a_limit_each_is_made_anew_and_closed_in_the_end():
    for limit in (None, 0):
        pool = Things(limit)
        taken = [pool.acquire() for _ in range(20)]
        assert pool.made == taken
        taken[0].release()
        assert taken[0].log == ["closed"]


def test_what_the_pool_does_not_know_is_closed_when_it_is_released_here(cls):
    pool, stray = cls(1), Thing()
    pool.release(stray)
    assert stray.log == ["closed"]
    assert pool.acquire() is not stray


def test_release_makes_no_cycle_that_keeps_a_resource_alive():
    pool = Things()
    gc.disable()
    try:
        thing = pool.acquire()
        gone = weakref.ref(thing)
        pool.made.clear()
        thing.release()
        del thing
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "end",
    [
        lambda pool, thing: pool.replace(thing),
        lambda pool, thing: (setattr(thing, "alive", False), thing.release()),
        lambda pool, thing: (thing.release(), pool.resize(1, ignore_errors=True), pool.force_close_all()),
        lambda pool, thing: (pool.force_close_all(close_pool=False), thing.release()),
        lambda pool, thing: (pool.resize(1, ignore_errors=True), thing.release()),
    ],
)
def test_a_resource_that_left_the_pool_is_not_kept_alive_by_it(end):
    pool = Things(2)
    kept, thing = pool.acquire(), pool.acquire()
    gone = weakref.ref(thing)
    gc.disable()
    try:
        end(pool, thing)
        thing.release()  # still harmless
        pool.made.clear()
        del thing
        assert gone() is None
    finally:
        gc.enable()
    kept.release()


def test_release_may_be_all_that_is_held_of_a_resource(cls):
    pool = cls(1)
    for _ in range(3):
        pool.acquire().release()
    release = pool.acquire().release
    pool.made.clear()
    release()
    assert pool._slots.in_use == 0


def test_release_is_made_once_for_a_resource(cls):
    pool = cls(1)
    thing = pool.acquire()
    release = thing.release
    thing.release()
    assert pool.acquire().release is release


def test_a_resource_that_moves_to_another_pool_is_returned_there():
    one, two, thing = Things(1), Things(1), Thing()
    one._resource.put_nowait(thing)
    assert one.acquire() is thing
    one._dirty.discard(thing)
    two._resource.put_nowait(thing)
    assert two.acquire() is thing
    thing.release()
    assert two.acquire() is thing


def test_a_resource_without_room_for_release_is_returned_by_the_pool():
    class Slotted:
        __slots__ = ()

    class Pool(Things):
        def new(self):
            return Slotted()

        def is_usable(self, resource):
            return True

        def release_resource(self, resource):
            pass

    pool = Pool(1)
    thing = pool.acquire()
    pool.release(thing)
    assert pool.acquire() is thing


def test_a_resource_that_cannot_be_referred_to_weakly_has_release_too():
    class NoWeakReferences:
        __slots__ = ("alive", "log", "release")

        def __init__(self):
            self.alive, self.log = True, []

    class Pool(Things):
        def new(self):
            return NoWeakReferences()

    pool = Pool(1)
    thing = pool.acquire()
    thing.release()
    assert pool.acquire() is thing


# -- waiting


def test_acquire_waits_until_one_is_released(cls):
    pool = cls(1)
    thing = pool.acquire()
    got = []
    thread = threading.Thread(target=lambda: got.append(pool.acquire(block=True, timeout=60)))
    thread.start()
    wait_until(lambda: pool._slots.waiting)
    thing.release()
    thread.join()
    assert got == [thing]


def test_acquire_gives_up_after_the_timeout(cls):
    pool = cls(1)
    pool.acquire()
    before = time.monotonic()
    with pytest.raises(LimitExceeded):
        pool.acquire(block=True, timeout=0.05)
    assert 0.04 < time.monotonic() - before < 30


def test_who_waits_gets_a_new_one_when_the_old_was_replaced(cls):
    pool = cls(1)
    thing = pool.acquire()
    got = []
    thread = threading.Thread(target=lambda: got.append(pool.acquire(block=True, timeout=60)))
    thread.start()
    wait_until(lambda: pool._slots.waiting)
    pool.replace(thing)
    thread.join()
    assert got == [pool.made[1]]


def test_acquire_blocks_only_if_nothing_can_be_made(cls):
    pool = cls(1)
    pool.replace(pool.acquire())
    assert pool.acquire(block=True) is pool.made[1]


# -- the dead


def test_a_dead_one_is_not_handed_out_but_replaced(cls):
    pool = cls(1)
    thing = pool.acquire()
    thing.release()
    thing.alive = False
    other = pool.acquire()
    assert other is not thing
    assert thing.log == ["released", "collected"]
    assert not pool._slots.knows(thing)
    with pytest.raises(LimitExceeded):
        pool.acquire()


def test_one_that_is_dead_when_it_comes_back_is_not_kept(cls):
    pool = cls(1)
    thing = pool.acquire()
    thing.alive = False
    thing.release()
    assert thing.log == ["released", "collected"]
    thing.release()
    assert pool.acquire() is not thing


def test_failing_to_collect_a_dead_one_is_of_no_consequence(cls, caplog):
    pool = cls(1)
    pool.collect_resource = lambda resource: 1 / 0
    thing = pool.acquire()
    thing.release()
    thing.alive = False
    other = pool.acquire()
    assert other is not thing
    other.alive = False
    other.release()
    assert pool.acquire() not in (thing, other)
    assert caplog.text.count("cannot collect") == 2


def test_replace_closes_one_and_makes_room(cls):
    pool = cls(1)
    thing = pool.acquire()
    pool.replace(thing)
    assert thing.log == ["closed"]
    assert pool.acquire() is not thing
    thing.release()
    with pytest.raises(LimitExceeded):
        pool.acquire()


def test_replace_makes_room_even_if_closing_fails(cls):
    pool = cls(1)
    thing = pool.acquire()
    thing.close = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        pool.replace(thing)
    assert pool.acquire() is not thing


# -- failures


def test_a_failure_to_make_one_gives_the_place_back(cls):
    pool = cls(1)
    pool.failures = [OSError("no"), KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    with pytest.raises(OSError, match="no"):
        pool.acquire()
    assert pool.acquire() is pool.made[0]


def test_a_failure_to_prepare_one_closes_it_and_gives_the_place_back():
    class Unprepared(Things):
        fail = True

        def prepare(self, resource):
            if self.fail:
                raise OSError("not ready")
            return resource

    pool = Unprepared(1)
    with pytest.raises(OSError, match="not ready"):
        pool.acquire()
    assert pool.made[0].log == ["closed"]
    pool.fail = False
    assert pool.acquire() is pool.made[1]


def test_a_failure_to_prepare_is_told_even_if_closing_fails_too():
    class Hopeless(Things):
        def prepare(self, resource):
            raise OSError("not ready")

        def close_resource(self, resource):
            raise ZeroDivisionError

    pool = Hopeless(1)
    for _ in range(3):
        with pytest.raises(OSError, match="not ready"):
            pool.acquire()


def test_a_failure_in_releasing_gives_the_place_back(cls):
    pool = cls(1)
    thing = pool.acquire()
    thing.log = None  # release_resource fails
    with pytest.raises(AttributeError):
        thing.release()
    assert pool.acquire() is not thing


def test_who_waits_goes_on_after_a_failure_of_the_one_before(cls):
    pool = cls(1)
    thing = pool.acquire()
    outcomes = []

    def work():
        try:
            outcomes.append(pool.acquire(block=True, timeout=60))
        except OSError as exc:
            outcomes.append(exc)

    threads = []
    for number in range(2):
        threads.append(threading.Thread(target=work))
        threads[-1].start()
        wait_until(lambda number=number: pool._slots.waiting == number + 1)
    error = OSError("no")
    pool.failures = [error]
    pool.replace(thing)
    for thread in threads:
        thread.join()
    assert set(outcomes) == {error, pool.made[-1]}


# -- resizing


@pytest.mark.parametrize("limit", [1, 5, 20, 50])
def test_a_resized_pool_has_that_many(cls, limit):
    pool = cls(10)
    for thing in [pool.acquire() for _ in range(10)]:
        thing.release()
    for size in (20, 50, limit):
        pool.resize(size)
    assert pool.limit == limit
    taken = [pool.acquire() for _ in range(limit)]
    assert len(set(taken)) == limit
    with pytest.raises(LimitExceeded):
        pool.acquire()


def test_shrinking_lets_go_of_the_idle_that_are_too_many(cls):
    pool = cls(3)
    things = [pool.acquire() for _ in range(3)]
    for thing in things:
        thing.release()
    pool.resize(1)
    assert [thing.log[-1] for thing in things] == ["collected", "collected", "released"]
    assert pool.acquire() is things[2]


def test_a_pool_in_use_does_not_shrink_unless_it_is_told_to(cls):
    pool = cls(3)
    thing = pool.acquire()
    with pytest.raises(RuntimeError, match="Can't shrink pool when in use: was=3 now=1"):
        pool.resize(1)
    with pytest.raises(RuntimeError):
        pool.limit = 2
    assert pool.limit == 3
    pool.resize(1, ignore_errors=True)
    assert thing.log == []
    with pytest.raises(LimitExceeded):
        pool.acquire()


def test_with_force_a_pool_in_use_is_emptied(cls):
    pool = cls(3)
    thing = pool.acquire()
    pool.resize(1, force=True)
    assert thing.log == ["collected"]
    assert pool.acquire() is not thing


def test_with_ignore_errors_what_is_too_many_is_closed_when_it_comes_back(cls):
    pool = cls(3)
    things = [pool.acquire() for _ in range(3)]
    pool.resize(1, ignore_errors=True)
    for thing in things:
        thing.release()
    assert [thing.log for thing in things] == [["released", "closed"], ["released", "closed"], ["released"]]
    assert pool.acquire() is things[2]


def test_with_reset_a_pool_is_emptied_and_stays_of_use(cls):
    pool = cls(2)
    out, idle = pool.acquire(), pool.acquire()
    idle.release()
    pool.resize(5, reset=True)
    assert (out.log, idle.log) == (["collected"], ["released", "collected"])
    out.release()
    assert out.log == ["collected", "closed"]
    assert len({pool.acquire() for _ in range(5)}) == 5


def test_reset_goes_on_when_something_cannot_be_collected(cls):
    pool = cls(2)
    one, two = pool.acquire(), pool.acquire()
    one.log = None
    pool.collect_resource = lambda thing: thing.log.clear() if thing.log is not None else 1 / 0
    pool.resize(2, reset=True)
    assert len({pool.acquire(), pool.acquire(), one, two}) == 4


def test_a_limit_can_be_taken_away_and_set(cls):
    pool = cls(1)
    thing = pool.acquire()
    pool.limit = None
    others = [pool.acquire() for _ in range(5)]
    thing.release()
    assert thing.log == ["closed"]
    pool.limit = 2
    for other in others:
        other.release()
    # Three were too many when they came back.
    assert [other.log for other in others] == [["released", "closed"]] * 3 + [["released"]] * 2
    taken = pool.acquire(), pool.acquire()
    assert set(taken) == set(others[3:])
    with pytest.raises(LimitExceeded):
        pool.acquire()


@pytest.mark.parametrize("limit", [True, False])
def test_a_bool_is_no_limit(cls, limit):
    with pytest.raises(TypeError, match="not a bool"):
        cls(limit)
    pool = cls(1)
    with pytest.raises(TypeError, match="not a bool"):
        pool.resize(limit)
    with pytest.raises(TypeError, match="not a bool"):
        pool.limit = limit


# -- closing


def test_force_close_all_collects_all_and_closes_the_pool(cls):
    pool = cls(2)
    out, idle = pool.acquire(), pool.acquire()
    idle.release()
    pool.force_close_all()
    assert (out.log, idle.log) == (["collected"], ["released", "collected"])
    with pytest.raises(RuntimeError, match="Acquire on closed pool"):
        pool.acquire()
    pool.force_close_all()
    assert out.log == ["collected"]


def test_force_close_all_can_leave_the_pool_of_use(cls):
    pool = cls(1)
    thing = pool.acquire()
    pool.force_close_all(close_pool=False)
    assert pool.acquire() is not thing


def test_what_comes_back_to_a_closed_pool_is_closed(cls):
    pool = cls(1)
    thing = pool.acquire()
    pool.force_close_all()
    thing.release()
    assert thing.log == ["collected", "closed"]


def test_who_waits_is_told_that_the_pool_is_closed(cls):
    pool = cls(1)
    pool.acquire()
    raised = []

    def wait():
        try:
            pool.acquire(block=True, timeout=60)
        except RuntimeError as exc:
            raised.append(str(exc))

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: pool._slots.waiting)
    pool.force_close_all()
    thread.join()
    assert raised == ["Acquire on closed pool"]


def test_force_close_all_collects_all_before_it_raises(cls):
    pool = cls(3)
    things = [pool.acquire() for _ in range(3)]
    collected = []

    def collect(thing):
        collected.append(thing)
        if thing is things[0]:
            raise OSError("first")
        if thing is things[1]:
            raise AttributeError("half made")

    pool.collect_resource = collect
    with pytest.raises(OSError, match="first"):
        pool.force_close_all()
    assert set(things) <= set(collected)


# -- preloading


def test_preload_makes_some_in_advance():
    pool = Things(3, preload=2)
    assert len(pool.made) == 2
    assert {pool.acquire(), pool.acquire()} == set(pool.made)
    pool.acquire()
    assert len(pool.made) == 3


def test_no_more_than_the_limit_are_preloaded():
    assert len(Things(3, preload=5).made) == 3
    assert len(Things(None, preload=5).made) == 0


# -- what classes written for kombu 5.7 touch


def test_the_queue_and_the_set_can_be_looked_at(cls):
    pool = LazyThings(3)
    assert len(pool._resource.queue) == pool._resource.qsize() == 3
    thing = pool.acquire()
    assert len(pool._resource.queue) == 2 and not pool._resource.empty()
    assert len(pool._dirty) == 1 and thing in pool._dirty and list(pool._dirty) == [thing]
    assert all(isinstance(each, lazy) for each in pool._resource.queue)
    thing.release()
    assert pool._resource.queue[-1] is thing
    assert pool._resource.queue.pop() is thing
    assert thing not in pool._dirty and not pool._dirty
    while pool._resource.queue:
        pool._resource.queue.pop()
    with pytest.raises(IndexError):
        pool._resource.queue.pop()


def test_a_setup_that_always_puts_as_many_as_the_limit_does_no_harm():
    class Eager(LazyThings):
        def setup(self):
            for _ in range(self.limit):
                self._resource.put_nowait(lazy(self.new))

    pool = Eager(2)
    for limit in (4, 6, 3):
        pool.resize(limit)
        assert len(pool._resource.queue) == limit
    taken = [pool.acquire() for _ in range(3)]
    assert len(set(taken)) == 3
    with pytest.raises(LimitExceeded):
        pool.acquire()


def test_what_is_put_beyond_the_limit_is_closed():
    pool, surplus = Things(1), Thing()
    pool._resource.put_nowait(Thing())
    pool._resource.put_nowait(surplus)
    assert surplus.log == ["closed"]


def test_a_class_that_only_fills_the_queue_needs_no_new():
    class Fixed(Resource):
        def setup(self):
            for number in range(self.limit or 0):
                self._resource.put_nowait(Thing(number))

    pool = Fixed(2)
    assert {pool.acquire().number, pool.acquire().number} == {0, 1}


def test_a_class_has_to_say_how_it_is_filled_and_with_what():
    with pytest.raises(NotImplementedError):
        Resource(1)


# -- many threads


@pytest.mark.stress
@pytest.mark.parametrize("limit", [1, 4])
def test_the_limit_holds_under_many_threads_and_failures(cls, limit):
    pool = cls(limit)
    lock = threading.Lock()
    out, most, trouble = set(), [0], []

    def work(number):
        for step in range(20):
            try:
                thing = pool.acquire(block=True, timeout=60)
            except OSError:
                continue
            with lock:
                if thing in out:
                    trouble.append(thing)
                out.add(thing)
                most[0] = max(most[0], len(out))
            with lock:
                out.remove(thing)
            what = (number + step) % 5
            if what == 0:
                pool.replace(thing)
            elif what == 1:
                thing.alive = False
                pool.release(thing)
            elif what == 2:
                pool.failures.append(OSError())
                thing.release()
                thing.release()
            else:
                thing.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trouble == []
    assert most[0] <= limit
    assert pool._slots.in_use == 0
    pool.failures.clear()
    for _ in range(limit):
        pool.acquire()
    with pytest.raises(LimitExceeded):
        pool.acquire()


# -- forks


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")


@needs_fork
def test_a_pool_starts_empty_in_a_child_if_it_says_so(cls):
    pool = cls(2, close_after_fork=True)
    out, idle = pool.acquire(), pool.acquire()
    idle.release()

    def child():
        taken = {pool.acquire(), pool.acquire()}
        with pytest.raises(LimitExceeded):
            pool.acquire()
        return len(taken), taken & {out, idle}, out.log, idle.log

    assert forked(child) == (2, set(), ["collected"], ["released", "collected"])
    assert pool.acquire() is idle


@needs_fork
def test_what_a_parent_acquired_can_be_released_in_the_child(cls):
    pool = cls(1, close_after_fork=True)
    thing = pool.acquire()

    def child():
        thing.release()
        return thing.log, pool.acquire() is thing

    assert forked(child) == (["collected", "closed"], False)


@needs_fork
def test_a_fork_while_another_pool_starts_anew_does_not_block_the_child(cls):
    pool = cls(1, close_after_fork=True)
    with forks.renewal():
        assert forked(lambda: pool.acquire().number) == 0


@needs_fork
def test_a_pool_that_does_not_say_so_keeps_what_is_idle(cls):
    pool = cls(2)
    pool.acquire().release()
    assert forked(lambda: pool.acquire().number) == 0
