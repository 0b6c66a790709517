"""Pools of connections to a real broker: no churn, what went idle is replaced, no message lost."""

from __future__ import annotations

import sys
import time

import pytest
from amqp.exceptions import NotFound

from kombu import Queue
from kombu.exceptions import LimitExceeded
from kombu.pools import ProducerPool
from patience import Background, until


def ready(rabbit, name):
    """Return how many messages the broker has ready in a queue."""
    rows = rabbit.rows("list_queues", "name", "messages_ready")
    return next(int(row["messages_ready"]) for row in rows if row["name"] == name)


@pytest.mark.stress
def test_ten_thousand_publishes_with_errors_open_no_more_connections_than_the_limit(
    rabbit, proxy, connect, broker, queue_name
):
    limit, threads, publishes = 3, 5, 10_000
    connection = connect(proxy.url(broker.url))
    queue = Queue(queue_name)
    with connect() as direct:
        queue(direct.default_channel).declare()
    before = len(proxy.pairs)
    producers = ProducerPool(connection.Pool(limit), limit=limit)
    application, channel = [], []

    def publish():
        for step in range(publishes // threads):
            try:
                with producers.acquire(block=True, timeout=60) as producer:
                    producer.publish("x", routing_key=queue_name, delivery_mode=1)
                    if step % 100 == 0:
                        raise ZeroDivisionError
                    if step % 100 == 50:
                        producer.channel.queue_declare("no such queue", passive=True)
            except ZeroDivisionError as exc:
                application.append(exc)
            except NotFound as exc:
                channel.append(exc)

    workers = [Background(publish, timeout=300).start() for _ in range(threads)]
    for worker in workers:
        worker.join()
    assert (len(application), len(channel)) == (100, 100)
    assert 0 < len(proxy.pairs) - before <= limit
    until(lambda: ready(rabbit, queue_name) == publishes, what="all messages")
    producers.connections.force_close_all()


def test_after_five_heartbeats_without_use_the_first_publish_is_not_lost(rabbit, connect, queue_name):
    heartbeat = 1
    pool = connect(heartbeat=heartbeat).Pool(1)
    producers = ProducerPool(pool, limit=1)
    with producers.acquire() as producer:
        producer.publish("before", routing_key=queue_name, declare=[Queue(queue_name)])
        first = producer.connection
        assert first.get_heartbeat_interval() == heartbeat
    # Time itself is what this is about; the broker hangs up after two or three intervals without a sign of life.
    time.sleep(5 * heartbeat + 0.2)
    with producers.acquire() as producer:
        producer.publish("after", routing_key=queue_name)
        assert producer.connection is not first
    until(lambda: ready(rabbit, queue_name) == 2, what="both messages")
    assert pool.stats()["replaced"] == 1
    pool.force_close_all()


def test_a_connection_that_the_broker_closed_meanwhile_is_replaced_and_the_first_publish_is_not_lost(
    rabbit, proxy, connect, broker, queue_name
):
    pool = connect(proxy.url(broker.url)).Pool(1)
    producers = ProducerPool(pool, limit=1)
    with producers.acquire() as producer:
        producer.publish("before", routing_key=queue_name, declare=[Queue(queue_name)])
        first = producer.connection
    pair = proxy.pair()
    received = pair.received
    rabbit.close_connections()
    until(lambda: pair.received > received, what="what the broker says when it closes")
    # The connection is looked at only if it was idle for longer than a moment.
    time.sleep(0.05)
    with producers.acquire() as producer:
        producer.publish("after", routing_key=queue_name)
        assert producer.connection is not first
    until(lambda: ready(rabbit, queue_name) == 2, what="both messages")
    pool.force_close_all()


def test_a_connection_in_use_within_its_heartbeat_is_kept(connect, queue_name):
    pool = connect(heartbeat=30).Pool(1)
    with pool.acquire() as pooled:
        pooled.default_channel.queue_declare(queue_name)
    for _ in range(3):
        time.sleep(0.1)
        with pool.acquire() as again:
            assert again is pooled
            again.default_channel.queue_declare(queue_name, passive=True)
    assert pool.stats()["replaced"] == 0
    pool.force_close_all()


def test_a_channel_that_the_broker_closed_never_comes_out_again(connect):
    with connect() as connection:
        pool = connection.ChannelPool(2)
        closed = []
        for _ in range(4):
            channel = pool.acquire()
            assert channel not in closed and channel.is_open
            with pytest.raises(NotFound):
                channel.queue_declare("no such queue", passive=True)
            channel.release()
            closed.append(channel)
            taken = pool.acquire(), pool.acquire()
            assert not set(map(id, taken)) & set(map(id, closed))
            with pytest.raises(LimitExceeded, match="limit of 2 reached, 2 in use"):
                pool.acquire()
            for channel in taken:
                channel.release()


@pytest.mark.skipif(not hasattr(sys, "getrefcount"), reason="this interpreter does not count references")
def test_channels_dropped_without_release_are_closed_and_their_places_used_again(connect, queue_name):
    with connect() as connection:
        pool = connection.ChannelPool(2)
        held = pool.acquire()
        for _ in range(3):
            dropped = pool.acquire()
            dropped.queue_declare(queue_name)
            dropped.basic_publish(dropped.prepare_message("x"), routing_key=queue_name)
            assert dropped.basic_get(queue_name, no_ack=True).body
            with pytest.raises(LimitExceeded):
                pool.acquire()
            del dropped
            with pytest.warns(ResourceWarning, match="dropped without release"):
                again = pool.acquire(block=True, timeout=30)
            again.queue_declare(queue_name, passive=True)
            # Channel 0 is the connection itself.
            assert len(connection.connection.channels) == 3
            again = again.release()
        assert held.is_open
        held.release()
