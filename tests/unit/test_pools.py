"""Pools of connections, channels and producers, and the groups that the process shares."""

from __future__ import annotations

import gc
import os
import threading
import time

import pytest
from amqp.exceptions import NotFound, RecoverableConnectionError

import kombu.connection
from kombu import Connection, Producer, pools
from kombu.connection import ChannelPool, ConnectionPool, PooledConnection
from kombu.exceptions import ChannelLimitExceeded, ConnectionLimitExceeded, LimitExceeded
from kombu.pools import PoolGroup, ProducerPool
from pace import at_some_pace
from scripted_transport import Broker, connection_to, forked

# Most tests end with something still out.
pytestmark = pytest.mark.filterwarnings("ignore:.* dropped without release:ResourceWarning")

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def connection(broker):
    return connection_to(broker)


@pytest.fixture(autouse=True)
def no_shared_pools():
    limit = pools.get_limit()
    yield
    pools.reset()
    pools.set_limit(limit)
    # All at once: Python 3.14 collects in steps, and may find what a test left out in another, and not its pool.
    gc.collect()


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


# -- connections


def test_pooled_connections_are_like_the_one_they_come_from(connection):
    pool = connection.Pool(2)
    pooled = pool.acquire()
    assert isinstance(pool, ConnectionPool)
    assert isinstance(pooled, Connection)
    assert pooled._pool is pool
    assert pooled.info() == connection.info()
    assert pooled is not connection


def test_pooled_connections_are_connected_when_they_are_used(connection, broker):
    pool = connection.Pool(2)
    with pool.acquire() as pooled:
        assert broker.connections == []
        pooled.connect()
    assert len(broker.open) == 1
    with pool.acquire() as again:
        assert again is pooled
        assert again.connected


def test_the_limit_of_connections(connection):
    pool = connection.Pool(2)
    one, two = pool.acquire(), pool.acquire()
    with pytest.raises(ConnectionLimitExceeded, match="ConnectionPool: limit of 2 reached, 2 in use"):
        pool.acquire()
    one.release()
    assert pool.acquire() is one
    assert two is not one


def test_preload_makes_connection_objects(connection):
    pool = connection.Pool(limit=3, preload=2)
    assert len(pool._resource.queue) == 2
    assert all(isinstance(each, PooledConnection) for each in pool._resource.queue)


def test_release_is_harmless_when_repeated(connection):
    pool = connection.Pool(2)
    pooled = pool.acquire()
    for _ in range(3):
        pooled.release()
    first, second = pool.acquire(), pool.acquire()
    assert first is not second


def test_without_a_limit_release_closes(connection, broker):
    for limit in (None, 0):
        pool = connection.Pool(limit)
        pooled = pool.acquire()
        pooled.connect()
        pooled.release()
    assert broker.seen("close") == [True, True]


@pytest.mark.parametrize("end", [lambda pooled, broker: pooled.close(), lambda pooled, broker: broker.cut()])
@pytest.mark.parametrize("when", ["out", "idle"])
def test_a_closed_or_lost_connection_is_replaced_without_a_round_trip(connection, broker, end, when):
    pool = connection.Pool(1)
    pooled = pool.acquire()
    pooled.connect()
    if when == "out":
        end(pooled, broker)
    pooled.release()
    if when == "idle":
        end(pooled, broker)
    broker.log.clear()
    other = pool.acquire()
    assert other is not pooled
    assert set(broker.seen("connect", "channel", "close", "close channel")) == set()
    other.connect()
    assert len(broker.open) == 1
    with pytest.raises(ConnectionLimitExceeded):
        pool.acquire()


def test_a_connection_whose_peer_left_while_it_was_idle_is_replaced(connection, broker, monkeypatch):
    monkeypatch.setattr(kombu.connection, "LOOK_AFTER", 0.0)
    pool = connection.Pool(1)
    with pool.acquire() as pooled:
        raw = pooled.connect()
        raw.check_alive = lambda: None
    with pool.acquire() as again:
        assert again is pooled

    def left():
        raw.alive = False
        raise OSError("the peer has left")

    raw.check_alive = left
    with pool.acquire() as other:
        assert other is not pooled
        assert not other.connected


def test_a_connection_that_was_idle_for_a_moment_only_is_not_looked_at(connection, broker, monkeypatch):
    monkeypatch.setattr(kombu.connection, "LOOK_AFTER", 1000.0)
    pool = connection.Pool(1)
    with pool.acquire() as pooled:
        pooled.connect().check_alive = lambda: pytest.fail("was looked at")
    with pool.acquire() as again:
        assert again is pooled


def test_a_connection_with_a_channel_error_waiting_is_kept(connection, broker, monkeypatch):
    monkeypatch.setattr(kombu.connection, "LOOK_AFTER", 0.0)

    def closed():
        raise NotFound("the channel was closed")

    pool = connection.Pool(1)
    with pool.acquire() as pooled:
        pooled.connect().check_alive = closed
    with pool.acquire() as again:
        assert again is pooled


def test_a_connection_that_was_never_used_is_kept(connection):
    pool = connection.Pool(1)
    pooled = pool.acquire()
    pooled.release()
    assert pool.acquire() is pooled


@pytest.mark.parametrize("error", [ZeroDivisionError(), NotFound("no such queue")])
def test_an_exception_that_is_not_about_the_connection_keeps_it(connection, broker, error):
    pool = connection.Pool(1)
    with pytest.raises(type(error)):
        with pool.acquire() as pooled:
            pooled.connect()
            raise error
    assert len(broker.connections) == len(broker.open) == 1
    with pool.acquire() as again:
        assert again is pooled


@pytest.mark.parametrize("error", [RecoverableConnectionError(), ConnectionResetError(), TimeoutError()])
def test_after_a_connection_error_the_connection_is_closed_and_replaced(connection, broker, error):
    pool = connection.Pool(1)
    with pytest.raises(type(error)):
        with pool.acquire() as pooled:
            pooled.connect()
            raise error
    assert broker.open == []
    with pool.acquire() as other:
        assert other is not pooled
        pooled.release()
        with pytest.raises(ConnectionLimitExceeded):
            pool.acquire()


def test_after_an_interrupt_the_connection_is_closed_and_replaced(connection, broker):
    # Half a frame may have been sent.
    pool = connection.Pool(1)
    with pytest.raises(KeyboardInterrupt):
        with pool.acquire() as pooled:
            pooled.connect()
            raise KeyboardInterrupt
    assert broker.open == []
    with pool.acquire() as other:
        assert other is not pooled


def test_copies_of_a_pooled_connection_belong_to_no_pool(connection):
    pooled = connection.Pool(1).acquire()
    copy = pooled.clone()
    assert type(copy) is Connection
    assert copy._pool is None
    cls, arguments = pooled.__reduce__()[:2]
    assert cls(*arguments).info() == pooled.info()


def test_a_lost_pooled_connection_says_so(connection, broker):
    pooled = connection.Pool(1).acquire()
    pooled.connect()
    broker.cut()
    with pytest.raises(RecoverableConnectionError):
        pooled.drain_events(timeout=0)


def test_acquire_channel_gives_a_connection_and_its_channel(connection, broker):
    pool = connection.Pool(1)
    with pool.acquire_channel() as (pooled, channel):
        assert channel is pooled.default_channel
        with pytest.raises(ConnectionLimitExceeded):
            pool.acquire()
    assert pool.acquire() is pooled


def test_force_close_all_collects_without_talking_to_the_broker(connection, broker):
    pool = connection.Pool(2)
    for pooled in (pool.acquire(), pool.acquire()):
        pooled.connect()
    pooled.release()
    pool.force_close_all()
    assert broker.open == []
    assert broker.seen("close") == []
    with pytest.raises(RuntimeError):
        pool.acquire()


def test_what_was_in_use_when_the_pool_was_reset_is_closed_when_it_comes_back(connection, broker):
    pool = connection.Pool(1)
    pooled = pool.acquire()
    pooled.connect()
    pool.force_close_all(close_pool=False)
    pooled.connect()  # its user does not know
    with pool.acquire() as other:
        assert other is not pooled
    pooled.release()
    assert broker.open == []
    assert pool.acquire() is other


@pytest.mark.stress
def test_no_more_connections_are_open_than_the_limit_allows(connection, broker):
    pool = connection.Pool(3)
    most, lock = [0], threading.Lock()

    def work():
        for step in range(10):
            with pool.acquire(block=True, timeout=60) as pooled:
                pooled.connect()
                with lock:
                    most[0] = max(most[0], len(broker.open))
                if step == 5:
                    pooled.close()

    threads = [threading.Thread(target=work) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 3
    assert len(broker.open) <= 3


@needs_fork
def test_a_child_has_a_pool_of_its_own_and_leaves_the_parents_connections_alone(connection, broker):
    pool = connection.Pool(2)
    out, idle = pool.acquire(), pool.acquire()
    out.connect(), idle.connect()
    idle.release()

    def child():
        with pool.acquire() as one, pool.acquire() as two:
            one.connect(), two.connect()
            fresh = not {one, two} & {out, idle}
        out.release()
        return fresh, broker.seen("close", "close channel")

    assert forked(child) == (True, [])
    assert out.connected and idle.connected
    assert pool.acquire() is idle


# -- channels


def test_channels_of_one_connection_are_shared(connection, broker):
    pool = connection.ChannelPool(2)
    one, two = pool.acquire(), pool.acquire()
    assert isinstance(pool, ChannelPool)
    assert one is not two
    assert len(broker.connections) == 1
    with pytest.raises(ChannelLimitExceeded, match="limit of 2 reached"):
        pool.acquire()
    one.release()
    assert pool.acquire() is one


def test_preloaded_channels_are_open(connection, broker):
    pool = connection.ChannelPool(limit=3, preload=2)
    assert len(broker.seen("channel")) == 2
    assert pool.acquire().is_open


def test_a_closed_channel_is_replaced(connection):
    pool = connection.ChannelPool(1)
    channel = pool.acquire()
    channel.release()
    channel.cut()
    other = pool.acquire()
    assert other is not channel
    assert other.is_open


def test_a_channel_of_a_lost_connection_is_replaced(connection, broker):
    pool = connection.ChannelPool(1)
    channel = pool.acquire()
    channel.release()
    connection.collect()
    other = pool.acquire()
    assert other is not channel
    assert other.connection is broker.connections[1]


def test_without_a_limit_a_channel_is_closed_when_it_is_released(connection, broker):
    channel = connection.ChannelPool().acquire()
    channel.release()
    assert not channel.is_open


# -- producers


@pytest.fixture
def connection_pool(connection):
    return connection.Pool(3)


def test_a_producer_has_a_connection_while_it_is_in_use(connection_pool):
    pool = ProducerPool(connection_pool, limit=3)
    producer = pool.acquire()
    assert isinstance(producer, Producer)
    pooled = producer.__connection__
    assert pooled._pool is connection_pool
    assert pooled in connection_pool._dirty
    producer.release()
    assert pooled not in connection_pool._dirty
    assert producer.__connection__ is None
    assert producer._channel is None
    again = pool.acquire()
    assert again is producer
    assert again.__connection__ is pooled


def test_a_producer_pool_has_a_place_for_each_producer_to_come(connection_pool):
    pool = ProducerPool(connection_pool, limit=2)
    assert len(pool._resource.queue) == 2
    first, second = pool.acquire(), pool.acquire()
    assert not pool._resource.queue
    first.release()
    second.release()
    assert [pool.acquire(), pool.acquire()] == [second, first]
    assert not ProducerPool(connection_pool, limit=None)._resource.queue


def test_a_producer_publishes_on_the_default_channel_of_its_connection(connection_pool):
    with ProducerPool(connection_pool, limit=1).acquire() as producer:
        assert producer.channel is producer.__connection__.default_channel


def test_releasing_a_producer_twice_does_not_take_the_connection_from_who_has_it_then(connection_pool):
    pool = ProducerPool(connection_pool, limit=2)
    producer = pool.acquire()
    pooled = producer.__connection__
    producer.release()
    assert connection_pool.acquire() is pooled
    for _ in range(3):
        producer.release()
        pool.release(producer)
    assert pooled in connection_pool._dirty


def test_leaving_the_context_releases_producer_and_connection(connection_pool):
    pool = ProducerPool(connection_pool, limit=1)
    for _ in range(5):
        with pool.acquire():
            assert len(connection_pool._dirty) == 1
        assert len(connection_pool._dirty) == 0


def test_replacing_a_producer_gives_its_connection_back(connection_pool):
    pool = ProducerPool(connection_pool, limit=1)
    for _ in range(5):
        pool.replace(pool.acquire())
    assert len(connection_pool._dirty) == 0
    assert pool.acquire()


def test_without_a_limit_a_released_producer_gives_its_connection_back(connection_pool):
    pool = ProducerPool(connection_pool)
    for _ in range(5):
        pool.acquire().release()
    assert len(connection_pool._dirty) == 0


def test_another_class_of_producers_can_be_shared(connection_pool):
    class Mine(Producer):
        pass

    assert type(ProducerPool(connection_pool, limit=1, Producer=Mine).acquire()) is Mine

    class MyPool(ProducerPool):
        Producer = Mine

    assert type(MyPool(connection_pool, limit=1).acquire()) is Mine


@pytest.mark.parametrize("limit", [20, 5, 10])
def test_a_resized_pool_of_producers_has_that_many(connection, limit):
    pool = ProducerPool(connection.Pool(100), limit=10)
    pool.resize(50)
    pool.resize(limit)
    taken = [pool.acquire() for _ in range(limit)]
    with pytest.raises(LimitExceeded):
        pool.acquire()
    assert len(set(taken)) == limit


def test_a_failure_to_make_a_producer_gives_connection_and_place_back(connection_pool):
    class Failing(Producer):
        failures = 1

        def __init__(self, *args, **kwargs):
            if type(self).failures:
                type(self).failures -= 1
                raise OSError("no")
            super().__init__(*args, **kwargs)

    pool = ProducerPool(connection_pool, limit=1, Producer=Failing)
    with pytest.raises(OSError, match="no"):
        pool.acquire()
    assert len(connection_pool._dirty) == 0
    assert pool.acquire()


# Producers and connections must not lock each other: whoever wants both waits for neither longer than it said.


def test_acquiring_a_producer_without_block_does_not_wait_for_a_connection(connection):
    connection_pool = connection.Pool(1)
    pool = ProducerPool(connection_pool, limit=1)
    with connection_pool.acquire():
        with pytest.raises(ConnectionLimitExceeded):
            pool.acquire()
    assert pool.acquire()


def test_the_timeout_for_a_producer_is_one_for_its_connection_too(connection):
    connection_pool = connection.Pool(1)
    pool = ProducerPool(connection_pool, limit=1)
    with connection_pool.acquire():
        before = time.monotonic()
        with pytest.raises(ConnectionLimitExceeded):
            pool.acquire(block=True, timeout=0.05)
        assert 0.04 < time.monotonic() - before < 30
    assert pool.acquire()


def test_waiting_for_a_producer_and_then_for_a_connection_takes_one_timeout(connection):
    def attempt(pace):
        connection_pool = connection.Pool(1)
        pool = ProducerPool(connection_pool, limit=1)
        producer = pool.acquire()
        outcome, taken = [], []

        def wait():
            before = time.monotonic()
            try:
                pool.acquire(block=True, timeout=0.5 * pace)
            except LimitExceeded as exc:
                outcome.append((exc, time.monotonic() - before))

        thread = threading.Thread(target=wait)
        thread.start()
        wait_until(lambda: pool._slots.waiting or outcome)
        # The producer's place becomes free, but somebody is in between and has the connection.
        taker = threading.Thread(target=lambda: taken.append(connection_pool.acquire(block=True, timeout=60)))
        taker.start()
        wait_until(lambda: connection_pool._slots.waiting)
        producer.release()
        thread.join()
        taker.join()
        assert isinstance(outcome[0][0], ConnectionLimitExceeded)
        assert outcome[0][1] < 30
        assert pool._slots.in_use == 0

    at_some_pace(attempt)


def test_after_an_acquire_the_patience_is_what_it_was(connection_pool):
    pool = ProducerPool(connection_pool, limit=2)
    taken = pool.acquire(block=True, timeout=1)
    assert taken.__connection__ is not None
    # Made by hand, a producer waits for its connection as long as it takes.
    made = pool.create_producer()
    assert made.__connection__ is not None
    made.__connection__.release()
    taken.release()


@pytest.mark.stress
def test_threads_that_hold_a_connection_and_want_a_producer_are_not_locked_for_ever(connection):
    # Two connections, and two threads that hold one each and want a producer, which needs a third.
    connection_pool = connection.Pool(2)
    pool = ProducerPool(connection_pool, limit=2)
    barrier = threading.Barrier(2)
    outcomes = []

    def work():
        with connection_pool.acquire():
            barrier.wait()
            try:
                pool.acquire(block=True, timeout=0.05)
            except LimitExceeded as exc:
                outcomes.append(exc)
            barrier.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 2
    with pool.acquire() as one, pool.acquire() as two:
        assert one is not two


@needs_fork
def test_a_child_has_producers_of_its_own(connection_pool):
    pool = ProducerPool(connection_pool, limit=1)
    producer = pool.acquire()

    def child():
        with pool.acquire() as mine:
            return mine is producer, mine.__connection__ is producer.__connection__

    assert forked(child) == (False, False)


# -- groups


def test_equal_connections_share_a_pool(broker):
    one, two, other = connection_to(broker), connection_to(broker), connection_to(broker, "other")
    assert pools.connections[one] is pools.connections[two]
    assert pools.connections[one] is not pools.connections[other]
    assert pools.producers[one] is pools.producers[two]
    assert pools.producers[one].connections is pools.connections[two]


def test_threads_that_ask_at_once_get_one_pool(broker):
    class Slow(PoolGroup):
        def create(self, resource, limit):
            time.sleep(0.01)
            return object()

    group, got = Slow(), []
    connection = connection_to(broker)
    threads = [threading.Thread(target=lambda: got.append(group[connection])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, got))) == 1


def test_the_global_limit_is_that_of_pools_and_can_be_changed(connection):
    assert pools.get_limit() == 10
    pool, producers = pools.connections[connection], pools.producers[connection]
    assert pool.limit == producers.limit == 10
    assert pools.set_limit(3) == 3
    assert pools.get_limit() == pool.limit == producers.limit == 3
    assert pools.connections[connection_to(Broker(), "other")].limit == 3
    assert pools.set_limit(None) == 0
    assert pool.limit == 0


def test_a_limit_that_does_not_change_touches_no_pool(connection):
    pool = pools.connections[connection]
    pool.resize(4)
    pools.set_limit(pools.get_limit())
    assert pool.limit == 4


@pytest.mark.parametrize("limit", [True, False])
def test_a_bool_is_no_limit(limit):
    with pytest.raises(TypeError, match="not a bool"):
        pools.set_limit(limit)
    assert pools.get_limit() == 10


def test_pools_in_use_shrink_only_when_told_to(connection):
    pool = pools.connections[connection]
    taken = [pool.acquire()]
    with pytest.raises(RuntimeError, match="Can't shrink"):
        pools.set_limit(2)
    pools.set_limit(10)
    pools.set_limit(2, force=True)
    assert pool.limit == 2
    taken += pool.acquire(), pool.acquire()
    pools.set_limit(1, ignore_errors=True)
    assert pool.limit == 1


def test_reset_closes_the_pools_and_forgets_them(connection, broker):
    pool = pools.connections[connection]
    pooled = pool.acquire()
    pooled.connect()
    pools.reset()
    assert broker.open == []
    assert pools.connections[connection] is not pool
    with pools.connections[connection].acquire() as other:
        other.connect()
    with pytest.raises(RuntimeError):
        pool.acquire()


def test_set_limit_with_reset_after_empties_pools(connection, broker):
    pooled = pools.connections[connection].acquire()
    pooled.connect()
    pooled.release()
    pools.set_limit(20, reset_after=True)
    assert broker.open == []
    assert pools.connections[connection].acquire() is not pooled


def test_a_group_of_ones_own_takes_part(connection):
    class Channels(PoolGroup):
        def create(self, resource, limit):
            return resource.ChannelPool(limit=limit)

    group = pools.register_group(Channels(limit=pools.use_global_limit))
    try:
        pool = group[connection]
        assert isinstance(pool, ChannelPool)
        pools.set_limit(4)
        assert pool.limit == 4
        pools.reset()
        assert not group
    finally:
        # By identity: empty groups are equal, as dicts are.
        pools._groups[:] = [each for each in pools._groups if each is not group]


def test_a_group_has_to_say_how_pools_are_made():
    with pytest.raises(NotImplementedError):
        PoolGroup()["anything"]


def test_a_group_may_have_a_limit_of_its_own(connection):
    assert pools.Connections(limit=7)[connection].limit == 7


@needs_fork
def test_in_a_child_the_shared_pools_are_empty(connection, broker):
    with pools.producers[connection].acquire() as producer:
        producer.__connection__.connect()
        pooled = producer.__connection__

    def child():
        with pools.producers[connection].acquire() as mine:
            mine.__connection__.connect()
            return mine is producer, mine.__connection__ is pooled, broker.seen("close")

    assert forked(child) == (False, False, [])
    assert pooled.connected


@needs_fork
def test_in_a_child_a_group_forgets_pools_that_are_not_ready_for_that(connection):
    class Channels(PoolGroup):
        def create(self, resource, limit):
            return resource.ChannelPool(limit=2)

    forgetful, faithful = Channels(), Channels(close_after_fork=False)
    before = forgetful[connection], faithful[connection]
    assert forked(lambda: (forgetful[connection] is before[0], faithful[connection] is before[1])) == (False, True)
