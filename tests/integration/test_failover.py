"""Several hosts, dead hosts, hosts that come back: one cycle, bounded, all errors kept."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kombu import Connection, Consumer, Message, Producer, Queue
from kombu.exceptions import OperationalError
from patience import PATIENCE, Background, drain_until
from ports import free_ports
from rabbit import Rabbit

#: Far more than any of this takes, far less than a back-off that comes too early.
BACK_OFF = {"interval_start": 100, "interval_step": 100, "interval_max": 100}


@pytest.fixture
def dead() -> list[str]:
    """Give the URLs of two ports on which nobody listens."""
    return [f"amqp://guest:guest@127.0.0.1:{port}//" for port in free_ports(2)]


@pytest.fixture
def live(rabbit: Rabbit) -> str:
    return rabbit.url()


def kept_queue(rabbit: Rabbit, name: str) -> Queue:
    """Return a queue that survives a kill, which one that was declared a moment before may not."""
    queue = Queue(name, durable=True)
    with Connection(rabbit.url()) as connection:
        queue(connection.default_channel).declare()
    rabbit.put_on_disk()
    return queue


@pytest.mark.parametrize("written", ["list", "one string", "alternates"])
def test_the_third_host_is_reached_within_one_cycle(written: str, dead: list[str], live: str) -> None:
    hosts = [*dead, live]
    if written == "list":
        connection = Connection(hosts)
    elif written == "one string":
        connection = Connection(";".join(hosts))
    else:
        connection = Connection(hosts[0], alternates=hosts)
    failed: list[tuple[str, float]] = []
    started = time.monotonic()
    with connection:
        connection.ensure_connection(
            errback=lambda exc, interval: failed.append((connection.as_uri(), interval)), max_retries=5, **BACK_OFF
        )
        assert connection.connected
        assert connection.as_uri() == live.replace("guest:guest", "guest:**")
        assert time.monotonic() - started < PATIENCE
        # No back-off before all of them were tried.
        assert failed == [(url.replace("guest:guest", "guest:**"), 0) for url in dead]


def test_using_the_connection_finds_the_live_host(dead: list[str], live: str, queue_name: str) -> None:
    with Connection([*dead, live]) as connection:
        with connection.SimpleQueue(queue_name) as queue:
            queue.put("found")
            assert queue.get(timeout=10).payload == "found"


def test_when_all_are_dead_each_error_is_kept(dead: list[str]) -> None:
    with Connection(dead) as connection:
        started = time.monotonic()
        with pytest.raises(OperationalError) as caught:
            connection.ensure_connection(max_retries=1, interval_start=0.1, interval_max=0.1)
        assert time.monotonic() - started < PATIENCE
        assert len(caught.value.errors) == 2
        assert all(isinstance(error, ConnectionRefusedError) for error in caught.value.errors)


def test_back_off_comes_after_a_full_cycle(dead: list[str]) -> None:
    intervals: list[float] = []
    with Connection(dead) as connection:
        with pytest.raises(OperationalError):
            connection.ensure_connection(
                errback=lambda exc, interval: intervals.append(interval),
                max_retries=4,
                interval_start=0.05,
                interval_step=0.05,
                interval_max=1,
            )
    assert intervals == [0, 0.05, 0, pytest.approx(0.1)]


def test_a_callers_list_of_hosts_is_left_alone(dead: list[str], live: str) -> None:
    alternates = [*dead, live]
    before = list(alternates)
    with Connection(dead[0], alternates=alternates) as connection:
        connection.ensure_connection(max_retries=3)
    assert alternates == before


@pytest.mark.parametrize("round", [1, 2])
def test_without_retries_a_dead_broker_fails_at_once_each_time(round: int, dead: list[str], queue_name: str) -> None:
    connection = Connection(dead[0], connect_timeout=1, transport_options={"max_retries": 0})
    producer = Producer(connection)
    queue = Queue(queue_name)
    uses = (
        lambda: connection.ensure_connection(max_retries=0),
        lambda: connection.default_channel,
        lambda: connection.SimpleQueue(queue_name),
        lambda: producer.publish("x", routing_key=queue_name, retry=False),
        lambda: producer.publish("x", routing_key=queue_name, retry=True, retry_policy={"max_retries": 0}),
        lambda: queue(connection).declare(),
    )
    with connection:
        for _ in range(round):
            for use in uses:
                started = time.monotonic()
                with pytest.raises((OperationalError, *connection.recoverable_connection_errors)):
                    use()
                assert time.monotonic() - started < PATIENCE


def test_publishing_fails_over_to_a_live_host(rabbit: Rabbit, dead: list[str], live: str, queue_name: str) -> None:
    queue = Queue(queue_name, durable=False)
    with Connection([*dead, live]) as connection:
        producer = Producer(connection)
        producer.publish(
            "there", routing_key=queue_name, declare=[queue], retry=True, retry_policy={"max_retries": 5, **BACK_OFF}
        )
        assert queue(connection.default_channel).get(no_ack=True).payload == "there"


def test_no_confirmed_message_is_lost_when_the_broker_is_killed_and_comes_back(
    rabbit: Rabbit, live: str, queue_name: str
) -> None:
    """Publishes that returned are there afterwards; the one under way may be there twice, in order all the same."""
    queue = kept_queue(rabbit, queue_name)
    published: list[int] = []
    stop = False

    def publish() -> None:
        with Connection(live, transport_options={"confirm_publish": True}, connect_timeout=5) as connection:
            producer = Producer(connection)
            while not stop:
                producer.publish(
                    len(published),
                    routing_key=queue_name,
                    delivery_mode=2,
                    declare=[queue],
                    retry=True,
                    retry_policy={"max_retries": 300, "interval_start": 0.1, "interval_step": 0, "interval_max": 0.1},
                )
                published.append(len(published))

    with Background(publish, timeout=180) as publisher:
        try:
            _wait_for(lambda: len(published) > 200 or not publisher.alive)
            rabbit.restart(kill=True)
            before = len(published)
            _wait_for(lambda: len(published) > before + 200 or not publisher.alive)
        finally:
            stop = True
    seen: list[int] = []

    def on_message(message: Message) -> None:
        seen.append(message.payload)
        message.ack()

    with Connection(live) as connection, Consumer(connection, queue, on_message=on_message, prefetch_count=200):
        drain_until(connection, lambda: bool(seen) and seen[-1] == published[-1], timeout=60)
    assert set(published) <= set(seen)
    assert sorted(set(seen)) == list(range(len(published)))


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ensure_revives_what_it_is_given_after_a_kill(rabbit: Rabbit, live: str, queue_name: str) -> None:
    queue = kept_queue(rabbit, queue_name)
    with Connection(live, connect_timeout=5, transport_options={"confirm_publish": True}) as connection:
        producer = Producer(connection.default_channel, routing_key=queue_name)
        revived: list[Any] = []
        failures: list[BaseException] = []
        publish = connection.ensure(
            producer,
            producer.publish,
            errback=lambda exc, interval: failures.append(exc),
            max_retries=200,
            interval_start=0.1,
            interval_step=0,
            interval_max=0.1,
            on_revive=revived.append,
        )
        publish("before", delivery_mode=2)
        with Background(lambda: rabbit.restart(kill=True), timeout=180):
            _wait_for(lambda: not rabbit.running or _fails(connection))
            publish("after", delivery_mode=2)
        assert failures and revived
        assert all(isinstance(error, connection.recoverable_connection_errors) for error in failures)
        taken = [queue(connection.default_channel).get(no_ack=True).payload for _ in range(2)]
        assert taken == ["before", "after"]


def _fails(connection: Connection) -> bool:
    try:
        connection.drain_events(timeout=0.01)
    except TimeoutError:
        return False
    except connection.recoverable_connection_errors:
        return True
    return False
