"""Which host is tried next, and what is told when none can be reached (C23)."""

from __future__ import annotations

from itertools import cycle, repeat

import pytest

from kombu import Connection, link
from kombu.exceptions import OperationalError
from kombu.utils import functional
from scripted_transport import Broker, Clock, connection_to

HOSTS = "one;two;three"


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(functional, "sleep", clock.sleep)
    monkeypatch.setattr(functional, "monotonic", clock.monotonic)
    monkeypatch.setattr(link, "monotonic", clock.monotonic)
    return clock


@pytest.mark.parametrize(
    "connect",
    [
        lambda connection: connection.connect(),
        lambda connection: connection.channel(),
        lambda connection: connection.connection,
        lambda connection: connection.default_channel,
        lambda connection: connection.ensure_connection(),
        lambda connection: connection.ensure_connection(max_retries=0),
        lambda connection: connection.ensure_connection(max_retries=1),
        lambda connection: connection.ensure_connection(max_retries=10),
        lambda connection: connection.autoretry(lambda channel: None, max_retries=0)(),
    ],
)
def test_of_three_hosts_with_two_dead_the_third_is_found_in_one_cycle_without_sleep(clock, connect):
    broker = Broker("one", "two")
    connect(connection_to(broker, HOSTS))
    assert broker.seen("connect") == ["one", "two", "three"]
    assert clock.slept == 0


@pytest.mark.parametrize(
    "connect", [lambda connection: connection.default_channel, lambda c: c.ensure_connection(timeout=5)]
)
def test_hosts_that_do_not_answer_do_not_use_up_the_time_before_all_were_tried(clock, connect):
    broker = Broker("one", "two")
    connection = connection_to(broker, HOSTS, connect_timeout=5)
    establish = connection._establish_connection

    def slowly():
        if connection.hostname in broker.down:
            clock.now += 5
        return establish()

    connection._establish_connection = slowly
    connect(connection)
    assert broker.seen("connect") == ["one", "two", "three"]

    broker.down.add("three")
    broker.cut()
    broker.log.clear()
    before = clock.now
    with pytest.raises(OperationalError):
        connect(connection)
    assert sorted(broker.seen("connect")) == ["one", "three", "two"]
    assert clock.now - before == 15


def test_back_off_comes_only_after_a_full_cycle(clock):
    broker = Broker("one", "two", "three")
    reported = []
    with pytest.raises(OperationalError):
        connection_to(broker, HOSTS).ensure_connection(
            lambda exc, interval: reported.append((str(exc), interval)),
            max_retries=7,
            interval_start=2,
            interval_step=3,
            interval_max=30,
        )
    assert broker.seen("connect") == ["one", "two", "three"] * 2 + ["one", "two"]
    assert [interval for _, interval in reported] == [0, 0, 2, 0, 0, 5, 0]
    assert clock.slept == 7


def test_all_hosts_are_tried_even_with_fewer_retries_than_hosts(clock):
    broker = Broker("one", "two", "three")
    with pytest.raises(OperationalError):
        connection_to(broker, HOSTS).ensure_connection(max_retries=0)
    assert broker.seen("connect") == ["one", "two", "three"]


@pytest.mark.parametrize("retries", [0, 4])
def test_the_error_has_those_of_all_hosts(clock, retries):
    broker = Broker("one", "two", "three")
    with pytest.raises(OperationalError) as caught:
        connection_to(broker, HOSTS).ensure_connection(max_retries=retries)
    said = [str(exc) for exc in caught.value.errors]
    assert sorted(said) == [f"[Errno 111] {host} is down" for host in ("one", "three", "two")]
    assert caught.value.__cause__ is caught.value.errors[-1]
    for host in ("one", "two", "three"):
        assert f"@{host}:4000//: [Errno 111] {host} is down" in str(caught.value)


def test_the_error_of_the_only_host_is_told_as_it_is(clock):
    with pytest.raises(OperationalError) as caught:
        connection_to(Broker("one")).ensure_connection(max_retries=0)
    assert str(caught.value) == "[Errno 111] one is down"
    assert caught.value.errors == (caught.value.__cause__,)


def test_passwords_are_not_told(clock):
    broker = Broker("one", "two")
    with pytest.raises(OperationalError) as caught:
        connection_to(broker, "one;two", userid="me", password="secret").ensure_connection(max_retries=0)
    assert "secret" not in str(caught.value)


def test_the_errback_sees_the_host_that_failed_and_may_raise(clock):
    broker = Broker("one")
    connection = connection_to(broker, HOSTS)

    def errback(exc, interval):
        assert connection.hostname == "one"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        connection.ensure_connection(errback)
    # It goes on with the next host all the same.
    connection.ensure_connection()
    assert broker.seen("connect") == ["one", "two"]


def test_after_a_loss_the_next_host_is_tried_in_a_retried_operation(clock):
    broker = Broker()
    connection = connection_to(broker, HOSTS)
    calls = []

    def operation():
        _ = connection.default_channel
        calls.append(connection.hostname)
        if len(calls) == 1:
            broker.cut()
            raise OSError

    connection.ensure(connection, operation, max_retries=2)()
    assert calls == ["one", "two"]


def test_a_strategy_may_be_any_callable_that_returns_an_iterator(clock):
    broker = Broker("one", "two")
    connection = connection_to(broker, HOSTS, failover_strategy=lambda urls: cycle([None, urls[2], urls[1]]))
    connection.ensure_connection()
    assert broker.seen("connect") == ["one", "three"]


def test_shuffle_goes_to_some_host_of_the_list(clock):
    broker = Broker("one")
    connection = connection_to(broker, HOSTS, failover_strategy="shuffle")
    connection.ensure_connection()
    assert connection.hostname in ("two", "three")


def test_a_strategy_gets_a_list_of_its_own(clock):
    alternates = ["two", "three"]

    def strategy(urls):
        urls.reverse()
        return repeat(urls[0])

    connection_to(Broker(), "one", alternates=alternates, failover_strategy=strategy)
    assert alternates == ["two", "three"]


def test_a_copy_fails_over_too(clock):
    broker = Broker("one", "two")
    connection = connection_to(broker, HOSTS).clone()
    connection.connect()
    assert connection.hostname == "three"


def test_completes_cycle_counts_hosts():
    assert [Connection("a;b;c").completes_cycle(n) for n in range(6)] == [False, False, True] * 2
    assert Connection("a").completes_cycle(0)


def test_switch_closes_and_takes_the_new_parameters_without_connecting():
    broker = Broker()
    connection = connection_to(broker)
    connection.connect()
    connection.switch("two")
    assert broker.seen("close") == [True]
    assert (connection.hostname, connection.connected) == ("two", False)
    connection.connect()
    assert broker.seen("connect") == ["one", "two"]


def test_a_url_cannot_name_an_import_path():
    url = "os.path://host"
    for make in (Connection, lambda url: Connection(["amqp://a", url]), lambda url: Connection().switch(url)):
        with pytest.raises(ValueError, match="Invalid transport scheme"):
            make(url)
