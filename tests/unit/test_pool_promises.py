"""What pools promise: no churn, no loss, what is dropped is found, tracing, numbers; races forced by barriers."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import warnings

import pytest
from amqp.exceptions import NotFound

import kombu
import kombu.connection
from kombu import Connection, Queue, pools
from kombu.exceptions import ChannelLimitExceeded, LimitExceeded
from kombu.pools import ProducerPool
from kombu.resource import Resource
from scripted_transport import Broker, connection_to, forked


class Thing:
    """A resource."""

    def close(self):
        pass


class Things(Resource):
    """A pool whose members are made when they are needed."""

    def setup(self):
        pass

    def new(self):
        return Thing()


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def connection(broker):
    return connection_to(broker)


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


# -- the dead


def test_the_transport_is_asked_whether_a_connection_lives_also_if_that_was_replaced_in_the_transport_alone():
    pool = Connection("memory://").Pool(1)
    first = pool.acquire()
    first.connect()
    first.release()
    assert pool.acquire() is first
    first.release()
    first.transport.verify_connection = lambda raw: False
    other = pool.acquire()
    assert other is not first
    other.release()


# -- churn


def test_ten_thousand_publishes_with_errors_open_no_more_connections_than_the_limit(connection, broker):
    limit, threads = 3, 5
    pool = connection.Pool(limit)
    producers = ProducerPool(pool, limit=limit)
    seen, lock = {"fine": 0, "application": 0, "channel": 0}, threading.Lock()

    def work(number):
        for step in range(2000):
            what = "application" if step % 100 == 0 else "channel" if step % 100 == 50 else "fine"
            try:
                with producers.acquire(block=True, timeout=60) as producer:
                    channel = producer.channel
                    assert channel.is_open
                    if what == "application":
                        raise ZeroDivisionError
                    if what == "channel":
                        channel.cut()
                        raise NotFound("no such exchange")
            except (ZeroDivisionError, NotFound):
                pass
            with lock:
                seen[what] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert seen == {"fine": 9800, "application": 100, "channel": 100}
    assert len(broker.connections) <= limit
    assert len(broker.open) == len(broker.connections)


def test_a_channel_that_the_broker_closed_never_comes_out_again(connection):
    pool = connection.ChannelPool(2)
    for when in ("out", "idle"):
        channel = pool.acquire()
        if when == "out":
            channel.cut()
        channel.release()
        if when == "idle":
            channel.cut()
        taken = pool.acquire(), pool.acquire()
        assert channel not in taken and all(each.is_open for each in taken)
        with pytest.raises(ChannelLimitExceeded):
            pool.acquire()
        for each in taken:
            each.release()


# -- strays and losses


def test_releasing_what_came_from_another_pool_is_an_error_that_says_so():
    one, two = Things(1), Things(1)
    thing = one.acquire()
    with pytest.raises(ValueError, match="belongs to .*Things object.*, not to .*: release it there"):
        two.release(thing)
    assert one._slots.is_out(thing)
    thing.release()
    assert one.acquire() is thing
    thing.release()


def test_releasing_a_connection_to_another_pool_is_an_error_that_says_so(connection):
    one, two = connection.Pool(1), connection.Pool(1)
    with one.acquire() as pooled:
        with pytest.raises(ValueError, match="belongs to"):
            two.release(pooled)
    assert (one._slots.in_use, two._slots.in_use) == (0, 0)


def test_a_resource_dropped_without_release_is_reclaimed_and_reported_once(connection):
    pool = connection.Pool(1)
    for _ in range(3):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pooled = pool.acquire()
            del pooled
            gc.collect()
        assert [each.category for each in caught] == [ResourceWarning]
        assert "ConnectionPool: a resource was dropped without release()" in str(caught[0].message)
        assert pool._slots.in_use == 0
    assert pool.stats()["replaced"] == 3


@pytest.mark.skipif(not hasattr(sys, "getrefcount"), reason="this interpreter does not count references")
@pytest.mark.parametrize("looked_into", [False, True])
def test_a_channel_dropped_without_release_is_closed_and_reported_once_when_its_place_is_needed(looked_into):
    with Connection("memory://") as connection:
        pool = connection.ChannelPool(2)
        held = pool.acquire()
        for _ in range(3):
            dropped = pool.acquire()
            dropped.queue_declare("dropped")
            if looked_into:
                # From now on the interpreter keeps its attributes in a dict, and not in the object.
                assert vars(dropped)
            with pytest.raises(ChannelLimitExceeded):
                pool.acquire()
            number, dropped = dropped.channel_id, None
            with pytest.warns(ResourceWarning, match="ChannelPool: a resource was dropped without release") as caught:
                again = pool.acquire()
            assert len(caught) == 1
            assert pool._slots.is_out(held) and pool._slots.is_out(again)
            assert number not in [each.channel_id for each in connection.connection.channels if each is not again]
            again = again.release()
        assert pool.stats()["replaced"] == 3
        held.release()
        assert (pool.stats()["in_use"], pool.stats()["idle"]) == (0, 2)


@pytest.mark.skipif(not hasattr(sys, "getrefcount"), reason="this interpreter does not count references")
def test_who_waits_gets_the_place_of_a_dropped_channel():
    with Connection("memory://") as connection:
        pool, got = connection.ChannelPool(1), []
        dropped = pool.acquire()

        def wait():
            with warnings.catch_warnings(record=True):
                warnings.simplefilter("always")
                got.append(pool.acquire(block=True, timeout=60))

        waiter = threading.Thread(target=wait)
        waiter.start()
        wait_until(lambda: pool.stats()["waiting"])
        del dropped
        waiter.join(60)
        assert len(got) == 1 and got[0].connection is not None
        got.pop().release()


class Owner:
    """Has a channel, and may be what a channel calls."""

    def __init__(self, channel):
        self.channel = channel

    def on_return(self, *args):
        pass


@pytest.mark.parametrize(
    "how",
    [
        "channel", "release", "method", "consumer", "container", "closure", "owner", "own container", "listener",
        "generator",
    ],
)
def test_a_channel_that_somebody_holds_in_any_way_is_not_taken_for_dropped(how):
    with Connection("memory://") as connection:
        pool = connection.ChannelPool(1)
        channel = pool.acquire()
        if how == "channel":
            held = channel
        elif how == "release":
            held = channel.release
        elif how == "method":
            held = channel.basic_publish
        elif how == "consumer":
            connection.Consumer([Queue("held")], channel=channel, callbacks=[lambda body, message: None]).consume()
            held = None
        elif how == "container":
            held = {"here": [channel]}
        elif how == "owner":
            channel.owner = held = Owner(channel)
        elif how == "own container":
            channel.container = held = [channel]
        elif how == "listener":
            held = Owner(channel)
            channel.listeners = {"basic_return": {held.on_return}}
        elif how == "generator":
            held = (each for each in [channel] * 2)
            next(held)
        else:
            def held(channel=channel):
                return channel
        del channel
        for _ in range(2):
            with pytest.raises(ChannelLimitExceeded):
                pool.acquire()
            with pytest.raises(ChannelLimitExceeded):
                pool.acquire(block=True, timeout=0.01)
        assert pool.stats()["replaced"] == 0
        del held
        for each in list(connection.connection.channels):
            each.release()


@pytest.mark.skipif(not hasattr(sys, "getrefcount"), reason="this interpreter does not count references")
@pytest.mark.parametrize("how", ["owner", "container", "listener", "bound queue"])
def test_a_channel_that_only_what_it_has_itself_refers_to_is_found_as_well(how):
    with Connection("memory://") as connection:
        pool = connection.ChannelPool(1)
        channel = pool.acquire()
        if how == "owner":
            channel.owner = Owner(channel)
        elif how == "container":
            channel.container = [channel, {"again": channel}]
        elif how == "listener":
            channel.listeners = {"basic_return": {Owner(channel).on_return}}
        else:
            channel.queue = Queue("mine")(channel)
        del channel
        with pytest.warns(ResourceWarning, match="dropped without release"):
            pool.acquire().release()


def test_who_waits_gets_the_place_of_what_was_dropped():
    pool, got = Things(1), []
    thing = pool.acquire()
    waiter = threading.Thread(target=lambda: got.append(pool.acquire(block=True, timeout=60)))
    waiter.start()
    wait_until(lambda: pool.stats()["waiting"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del thing
        gc.collect()
    waiter.join()
    assert len(got) == 1
    got[0].release()


def test_what_was_released_may_be_dropped_without_a_word():
    pool = Things(2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            pool.acquire().release()
        pool.replace(pool.acquire())
        pool.force_close_all()
        gc.collect()
    assert caught == []


def test_an_acquire_makes_no_cycle(connection):
    pool = connection.Pool(2)
    producers = ProducerPool(pool, limit=2)
    for _ in range(3):
        with producers.acquire():
            pass
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            with producers.acquire():
                pass
            pool.acquire().release()
        assert gc.collect() == 0
    finally:
        gc.enable()


# -- time


@pytest.mark.parametrize(("idle", "replaced"), [(5, False), (11, True)])
def test_a_connection_idle_past_its_heartbeat_is_replaced(connection, broker, monkeypatch, idle, replaced):
    monkeypatch.setattr(kombu.connection, "LOOK_AFTER", 0.0)
    pool = connection.Pool(1)
    with pool.acquire() as pooled:
        pooled.connect()
        monkeypatch.setattr(type(pooled.transport), "get_heartbeat_interval", lambda self, raw: 10)
    monkeypatch.setattr(pool, "_idle_seconds", lambda resource: idle, raising=True)
    broker.log.clear()
    with pool.acquire() as again:
        assert (again is not pooled) is replaced
    assert broker.seen("connect", "close") == []


def test_who_may_not_wait_longer_is_told_limit_and_number_out(connection):
    pool = connection.Pool(2)
    with pool.acquire(), pool.acquire():
        with pytest.raises(LimitExceeded, match="ConnectionPool: limit of 2 reached, 2 in use") as caught:
            pool.acquire(block=True, timeout=0.02)
    assert (caught.value.limit, caught.value.in_use) == (2, 2)


# -- races, forced


def test_a_slow_prepare_does_not_let_anybody_in_beyond_the_limit():
    inside, most, lock = [0], [0], threading.Lock()
    meeting, working = threading.Barrier(2), [4]

    class Slow(Things):
        def prepare(self, resource):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            try:
                meeting.wait(30)  # two are in here at once, never three
            except threading.BrokenBarrierError:
                pass  # the last is alone
            return resource

    pool = Slow(2)

    def work():
        for _ in range(10):
            thing = pool.acquire(block=True, timeout=60)
            with lock:
                inside[0] -= 1
            thing.release()
        with lock:
            working[0] -= 1
            if working[0] == 1:
                meeting.abort()

    threads = [threading.Thread(target=work) for _ in range(working[0])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 2


def test_prepare_may_use_the_pool_itself():
    class Reentrant(Things):
        depth = 0

        def prepare(self, resource):
            if not self.depth:
                self.depth = 1
                with pytest.raises(LimitExceeded):
                    self.acquire()
                self.depth = 0
            return resource

    pool = Reentrant(1)
    for _ in range(3):
        pool.acquire().release()
    assert pool.stats()["in_use"] == 0


@pytest.mark.parametrize("limit", [2, None])
def test_where_nobody_waits_no_lock_is_taken(limit):
    if limit is None and kombu.__impl__ != "c":
        pytest.skip("the pure core counts what it makes under its lock")
    pool, done = Things(limit), threading.Event()
    # The first of all makes room.
    pool.acquire().release()

    def use():
        for _ in range(10):
            pool.acquire(block=True).release()
        done.set()

    user = threading.Thread(target=use)
    with pool._slots._lock:
        user.start()
        assert done.wait(60)
    user.join()


def test_a_pool_of_producers_may_get_another_pool_of_connections(connection):
    first, second = connection.Pool(1), connection.Pool(1)
    producers = ProducerPool(first, limit=1)
    with producers.acquire() as producer:
        assert producer.connection._pool is first
    producers.connections = second
    with producers.acquire() as producer:
        assert producer.connection._pool is second


def test_one_of_two_who_release_at_once_does(broker):
    pool, calls = Things(2), []
    pool.release_resource = calls.append
    for _ in range(50):
        thing, start = pool.acquire(), threading.Barrier(2)

        def release(thing=thing, start=start):
            start.wait()
            thing.release()

        threads = [threading.Thread(target=release) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(calls) == 50
    assert pool.stats()["idle"] == 1


# -- forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_child_forked_while_another_thread_held_the_lock_can_use_the_pool():
    pool = Things(1, close_after_fork=True)
    thing = pool.acquire()
    held, let_go = threading.Event(), threading.Event()

    def hold():
        with pool._slots._lock:
            held.set()
            let_go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)

    def child():
        mine = pool.acquire()
        return mine is thing, pool.stats()["in_use"]

    assert forked(child) == (False, 1)
    let_go.set()
    thread.join()
    assert pool._slots.is_out(thing)
    thing.release()


# -- to look at


def test_numbers_for_people_who_run_it():
    pool = Things(2)
    one, two = pool.acquire(), pool.acquire()
    one.release()
    pool.replace(two)
    two = pool.acquire()
    assert two is one
    started = threading.Event()

    def wait():
        started.set()
        pool.acquire(block=True, timeout=60).release()

    three = pool.acquire()
    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: pool.stats()["waiting"] == 1)
    three.release()
    thread.join()
    stats = pool.stats()
    waited = stats.pop("waited")
    assert 0 < waited < 60
    assert stats == {"limit": 2, "idle": 1, "in_use": 1, "waiting": 0, "made": 3, "replaced": 1, "waits": 1}
    two.release()
    assert Things(None).stats()["limit"] is None


def test_without_a_limit_what_is_out_is_counted_and_closed_when_it_comes_back():
    pool = Things()
    taken = [pool.acquire() for _ in range(100)]
    assert (pool.stats()["in_use"], pool.stats()["idle"]) == (100, 0)
    for thing in taken:
        thing.release()
    assert (pool.stats()["in_use"], pool.stats()["idle"]) == (0, 0)
    assert pool.stats()["made"] == 100


def test_tracing_tells_of_each_acquire_and_release():
    code = (
        "from kombu import Connection\n"
        "pool = Connection('memory://').Pool(1)\n"
        "pooled = pool.acquire()\n"
        "assert 'pool.acquire()' in ''.join(pooled.acquired_by[0]) or len(pooled.acquired_by) == 1\n"
        "pooled.release()\n"
        "pooled = pool.acquire()\n"
        "assert len(pooled.acquired_by) == 2\n"
        "pooled.release()\n"
    )
    environment = {**os.environ, "KOMBU_DEBUG_POOL": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert lines[:4] == [
        "+1 ACQUIRE ConnectionPool",
        "-1 ACQUIRE ConnectionPool",
        "+1 RELEASE ConnectionPool",
        "-1 RELEASE ConnectionPool",
    ]


@pytest.fixture(autouse=True)
def no_shared_pools():
    yield
    pools.reset()
