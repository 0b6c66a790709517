"""Races of pools, forced by hooks and barriers; time limits; interrupts; hooks replaced while a pool is in use."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from textwrap import dedent

import pytest

import interpreter
from kombu import Connection, pools
from kombu.exceptions import LimitExceeded
from kombu.pools import ProducerPool
from kombu.resource import Resource
from scripted_transport import Broker, connection_to


class Thing:
    """A resource that knows whether it was closed."""

    closed = False

    def close(self):
        self.closed = True


class Things(Resource):
    """A pool of things."""

    def setup(self):
        pass

    def new(self):
        return Thing()


@pytest.fixture
def connection():
    return connection_to(Broker())


@pytest.fixture(autouse=True)
def no_shared_pools():
    yield
    pools.reset()


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def in_threads(*functions):
    """Run all at once; raise what the first raised."""
    errors = []

    def run(function):
        try:
            function()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


# -- shrinking while resources come back


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_pool_resized_while_resources_come_back_keeps_exactly_the_new_size(size):
    all_inside = threading.Barrier(5)
    resized = threading.Event()

    class Slow(Things):
        def release_resource(self, resource):
            all_inside.wait(30)
            assert resized.wait(30)

    pool = Slow(4)
    taken = [pool.acquire() for _ in range(4)]

    def resize():
        all_inside.wait(30)
        pool.resize(size, ignore_errors=True)
        resized.set()

    in_threads(resize, *[thing.release for thing in taken])
    stats = pool.stats()
    assert (stats["limit"], stats["idle"], stats["in_use"]) == (size, size, 0)
    assert sorted(thing.closed for thing in taken) == [False] * size + [True] * (4 - size)


def test_many_sizes_while_many_threads_come_and_go_leave_no_resource_too_many(core):
    slots = core.places.SlotPool(6)
    sizes = [6, 1, 4, 2, 5, 3]
    closed, made, lock, over = [], [], threading.Lock(), threading.Event()

    def use():
        while not over.is_set():
            thing = slots.acquire(True, 30)
            if thing is core.places.VACANT:
                thing = Thing()
                with lock:
                    made.append(thing)
                slots.occupy(thing)
            else:
                slots.occupy(thing, thing)
            assert slots.withdraw(thing)
            surplus = slots.vacate(thing)
            if surplus is not core.places.VACANT:
                with lock:
                    closed.append(surplus)

    def resize():
        for step in range(300):
            dropped = slots.resize(sizes[step % len(sizes)])
            with lock:
                closed.extend(dropped)
        over.set()

    in_threads(resize, *[use] * 6)
    assert (slots.limit, slots.in_use, slots.waiting) == (3, 0, 0)
    idle = slots.idle_resources()
    assert len(idle) <= 3
    assert len(set(map(id, closed))) == len(closed)
    assert set(map(id, made)) == set(map(id, closed)) | set(map(id, idle))
    assert not set(map(id, closed)) & set(map(id, idle))


def test_a_limit_that_becomes_smaller_just_before_a_place_is_free_is_seen_after_it():
    core = pytest.importorskip("kombu._pure.places")
    slots = core.SlotPool(2)

    class Late(deque):
        """Is told of the new limit between the look at it and what follows from that."""

        def append(self, place):
            if slots.limit == 2:
                assert slots.resize(1) == []
            super().append(place)

    one, two = Thing(), Thing()
    for thing in (one, two):
        assert slots.acquire() is core.VACANT
        slots.occupy(thing)
    assert slots.withdraw(one)
    slots._free = Late()
    assert slots.vacate(one) is one
    assert (slots.idle_resources(), slots.in_use) == ([], 1)
    assert slots.withdraw(two)
    assert slots.vacate(two) is core.VACANT
    assert slots.idle_resources() == [two]


def test_who_begins_to_wait_just_before_a_place_is_free_is_served():
    core = pytest.importorskip("kombu._pure.places")
    slots, got = core.SlotPool(1), []
    thing = Thing()
    assert slots.acquire() is core.VACANT
    slots.occupy(thing)
    waiter = threading.Thread(target=lambda: got.append(slots.acquire(True, 30)))

    class Late(deque):
        """Lets somebody wait between the look for who waits and what follows from that."""

        def append(self, place):
            if not waiter.ident:
                waiter.start()
                wait_until(lambda: slots.waiting)
            super().append(place)

    assert slots.withdraw(thing)
    slots._free = Late()
    assert slots.vacate(thing) is core.VACANT
    waiter.join(30)
    assert got == [thing]


# -- time limits


def test_who_may_not_wait_longer_is_told_within_fifty_milliseconds(connection):
    for pool in (Things(2), connection.Pool(2), connection.ChannelPool(2), ProducerPool(connection.Pool(2), limit=2)):
        held = [pool.acquire(), pool.acquire()]
        late = []
        # The best of several: what another process does to this one is no fault of the pool's.
        for timeout in (0.01, 0.02, 0.05, 0.1, 0.01, 0.02, 0.05):
            before = time.monotonic()
            with pytest.raises(pool.LimitExceeded, match=r": limit of 2 reached, 2 in use\. ") as caught:
                pool.acquire(block=True, timeout=timeout)
            waited = time.monotonic() - before
            assert waited >= timeout * 0.99
            assert (caught.value.limit, caught.value.in_use) == (2, 2)
            late.append(waited - timeout)
        assert min(late) < 0.05, late
        for resource in held:
            resource.release()


def test_a_search_for_dropped_channels_makes_nobody_late_however_many_are_out():
    with Connection("memory://") as connection:
        pool = connection.ChannelPool(3000)
        held = [pool.acquire() for _ in range(3000)]
        late = []
        for timeout in (0.01, 0.02, 0.05) * 2:
            before = time.monotonic()
            with pytest.raises(pool.LimitExceeded):
                pool.acquire(block=True, timeout=timeout)
            late.append(time.monotonic() - before - timeout)
        assert min(late) < 0.05, late
        while held:
            held.pop().release()


# -- interrupts


@pytest.mark.skipif(os.name == "nt", reason="no signal reaches a thread that waits for a lock there")
def test_ctrl_c_while_waiting_leaves_nothing_behind(core):
    done = interpreter.run(
        dedent(f"""
        import signal, threading, time
        from kombu import Connection
        from kombu.pools import ProducerPool
        # Ignored by what was started in the background by a shell without job control.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        connection = Connection("memory://")
        for pool in connection.Pool(1), connection.ChannelPool(1), ProducerPool(connection.Pool(1), limit=1):
            held = pool.acquire()
            main = threading.main_thread().ident
            raised = []

            def once(*_):
                if not raised:
                    raised.append(True)
                    raise KeyboardInterrupt

            def interrupt():
                while not pool.stats()["waiting"]:
                    time.sleep(0.001)
                # One that comes just before the wait does not end it, where no GIL keeps it from coming then.
                while not raised:
                    signal.pthread_kill(main, {int(signal.SIGINT)})
                    time.sleep(0.05)

            signal.signal({int(signal.SIGINT)}, once)
            thread = threading.Thread(target=interrupt)
            thread.start()
            try:
                pool.acquire(block=True, timeout=60)
            except KeyboardInterrupt:
                pass
            else:
                raise AssertionError("was not interrupted")
            thread.join()
            stats = pool.stats()
            assert (stats["in_use"], stats["waiting"], stats["waits"]) == (1, 0, 1), stats
            held.release()
            again = pool.acquire(block=True, timeout=60)
            assert again is held
            again.release()
        """),
        KOMBU_IMPL=core.impl,
    )
    assert done.returncode == 0, done.stderr


# -- many threads


@pytest.mark.stress
def test_a_thousand_threads_share_three_connections(connection):
    limit = 3
    pool = connection.Pool(limit)
    lock, out, most, wrong, done = threading.Lock(), set(), [0], [], []

    def work():
        for _ in range(3):
            with pool.acquire(block=True, timeout=120) as pooled:
                with lock:
                    if id(pooled) in out:
                        wrong.append(pooled)
                    out.add(id(pooled))
                    most[0] = max(most[0], len(out))
                pooled.default_channel  # noqa: B018 (connects)
                with lock:
                    out.remove(id(pooled))
        done.append(1)

    before = threading.stack_size(256 * 1024)
    try:
        threads = [threading.Thread(target=work, daemon=True) for _ in range(1000)]
        for thread in threads:
            thread.start()
    finally:
        threading.stack_size(before)
    for thread in threads:
        thread.join(120)
    assert (len(done), wrong) == (1000, [])
    assert most[0] <= limit
    stats = pool.stats()
    assert (stats["in_use"], stats["waiting"], stats["replaced"]) == (0, 0, 0)
    assert stats["made"] == stats["idle"] <= limit


# -- hooks


def test_hooks_replaced_in_a_pool_in_use_are_called(monkeypatch):
    pool, calls = Things(1), []
    pool.acquire().release()
    monkeypatch.setattr(pool, "prepare", lambda thing: calls.append("prepare") or thing)
    monkeypatch.setattr(pool, "release_resource", lambda thing: calls.append("release_resource"))
    monkeypatch.setattr(pool, "is_usable", lambda thing: calls.append("is_usable") or True)
    pool.acquire().release()
    assert calls == ["is_usable", "prepare", "release_resource", "is_usable"]
    monkeypatch.undo()
    calls.clear()
    pool.acquire().release()
    assert calls == []


def test_hooks_replaced_in_the_class_of_a_pool_in_use_are_called(monkeypatch):
    pool, calls = Things(1), []
    pool.acquire().release()
    monkeypatch.setattr(Things, "prepare", lambda self, thing: calls.append("prepare") or thing)
    monkeypatch.setattr(Resource, "release_resource", lambda self, thing: calls.append("release_resource"))
    pool.acquire().release()
    monkeypatch.undo()
    pool.acquire().release()
    assert calls == ["prepare", "release_resource"]


def test_hooks_of_a_pool_of_producers_are_called(connection, monkeypatch):
    class Counting(ProducerPool):
        def prepare(self, p):
            calls.append("prepare")
            return super().prepare(p)

        def release_resource(self, resource):
            calls.append("release_resource")
            super().release_resource(resource)

    calls = []
    pool = Counting(connection.Pool(1), limit=1)
    for _ in range(2):
        with pool.acquire(block=True, timeout=5) as producer:
            assert producer.connection is not None
    assert calls == ["prepare", "release_resource"] * 2
    plain = ProducerPool(connection.Pool(1), limit=1)
    with plain.acquire():
        pass
    acquire = plain.connections.acquire
    monkeypatch.setattr(plain.connections, "acquire", lambda *args: calls.append(args) or acquire(*args))
    calls.clear()
    with plain.acquire(block=True):
        pass
    assert calls == [(True, None)]


def test_a_producer_class_with_its_own_revive_has_it_called(connection):
    from kombu import Producer

    revived = []

    class Reviving(Producer):
        def revive(self, channel):
            revived.append(channel)
            super().revive(channel)

    pool = ProducerPool(connection.Pool(1), limit=1, Producer=Reviving)
    for _ in range(3):
        with pool.acquire() as producer:
            assert producer.channel.is_open
    assert len(revived) == 3


# -- pools by connection


def test_a_connection_whose_parameters_change_belongs_to_another_pool():
    connection = Connection("memory://one", transport_options={"a": 1})
    first = pools.connections[connection]
    assert pools.connections[connection] is first
    for change in (
        lambda: setattr(connection, "hostname", "two"),
        lambda: setattr(connection, "port", 17),
        lambda: setattr(connection, "userid", "me"),
        lambda: setattr(connection, "password", "secret"),
        lambda: setattr(connection, "virtual_host", "/there"),
        lambda: connection.transport_options.update(a=2),
        lambda: connection.transport_options.update(b=[1]),
        lambda: connection.transport_options["b"].append(2),
        lambda: connection.transport_options.clear(),
        lambda: setattr(connection, "transport_options", {"c": 1}),
    ):
        before = pools.connections[connection]
        assert pools.connections[connection] is before
        change()
        assert pools.connections[connection] is not before
    assert pools.connections[Connection("memory://one", transport_options={"a": 1})] is first


def test_a_connection_with_another_idea_of_equality_is_filed_by_that():
    class Odd(Connection):
        def __eqhash__(self):
            return "odd"

    one, two = Odd("memory://"), Odd("amqp://elsewhere")
    assert pools.connections[one] is pools.connections[two]
    assert pools.connections[one] is not pools.connections[Connection("memory://")]
    assert "odd" in list(pools.connections)


# -- deadlocks


@pytest.mark.stress
@pytest.mark.parametrize("connections", [1, 2, 3, 10, None])
@pytest.mark.parametrize("producers", [1, 2, 3, 10, None])
def test_both_pools_never_lock_each_other_whatever_their_limits(connection, producers, connections):
    connection_pool = connection.Pool(connections)
    pool = ProducerPool(connection_pool, limit=producers)
    done = []

    def work(number):
        for step in range(10):
            source = pool if (number + step) % 3 else connection_pool
            with source.acquire(block=True, timeout=60):
                if step % 4 == 0:
                    time.sleep(0)
            done.append(1)

    in_threads(*[lambda number=number: work(number) for number in range(15)])
    assert len(done) == 150
    assert (pool.stats()["in_use"], connection_pool.stats()["in_use"]) == (0, 0)
    assert (pool.stats()["waiting"], connection_pool.stats()["waiting"]) == (0, 0)


def test_a_producer_without_a_place_for_its_connection_leaves_its_own_place(connection):
    connection_pool = connection.Pool(1)
    pool = ProducerPool(connection_pool, limit=1)
    with connection_pool.acquire():
        for _ in range(3):
            with pytest.raises(LimitExceeded, match="ConnectionPool: limit of 1 reached, 1 in use"):
                pool.acquire(block=True, timeout=0.01)
            assert pool.stats()["in_use"] == 0
    with pool.acquire(block=True, timeout=30) as producer:
        assert producer.connection is not None
