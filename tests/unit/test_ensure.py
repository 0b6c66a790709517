"""What ``ensure`` and ``autoretry`` do about each kind of error (C10): calls, sleeps, reconnects, final exception."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from amqp.exceptions import (
    NotAllowed,
    NotFound,
    RecoverableChannelError,
    RecoverableConnectionError,
)

from kombu import link
from kombu.exceptions import OperationalError
from kombu.utils import functional
from scripted_transport import Broker, Clock, Undecided, connection_to


class Retried(LookupError):
    """What ``retry_errors`` names."""


class Revived:
    """What is to be revived."""

    def __init__(self):
        self.channels = []

    def revive(self, channel):
        self.channels.append(channel)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(functional, "sleep", clock.sleep)
    monkeypatch.setattr(functional, "monotonic", clock.monotonic)
    monkeypatch.setattr(link, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def connection(broker):
    connection = connection_to(broker)
    connection.connect()
    broker.log.clear()
    return connection


class Failing:
    """An operation that raises *error* the first *times* times that it is called."""

    __name__ = "failing"

    def __init__(self, error, times=1000, broker=None):
        self.error, self.times, self.broker = error, times, broker
        self.calls = 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls > self.times:
            return args, kwargs
        if self.broker is not None:
            self.broker.cut()
        raise self.error


# error, max_retries, (start, step, max) -> calls, sleeps, reconnects, what is raised
TABLE = [
    (OSError("lost"), 0, (1, 1, 1), 1, 0, 0, OperationalError),
    (OSError("lost"), 1, (1, 1, 1), 2, 1, 1, OperationalError),
    (OSError("lost"), 3, (1, 1, 1), 4, 3, 3, OperationalError),
    (OSError("lost"), 3, (0, 0, 0), 4, 0, 3, OperationalError),
    (OSError("lost"), 3, (0, 0.5, 5), 4, 1.5, 3, OperationalError),
    (OSError("lost"), 4, (1, 2, 4), 5, 12, 4, OperationalError),
    (RecoverableConnectionError("lost"), 3, (1, 1, 1), 4, 3, 3, OperationalError),
    (RecoverableChannelError("closed"), 0, (1, 1, 1), 1, 0, 0, OperationalError),
    (RecoverableChannelError("closed"), 3, (1, 1, 1), 4, 3, 0, OperationalError),
    (RecoverableChannelError("closed"), 3, (0, 1, 2), 4, 3, 0, OperationalError),
    (Retried("again"), 0, (1, 1, 1), 1, 0, 0, Retried),
    (Retried("again"), 2, (1, 1, 1), 3, 2, 0, Retried),
    (Retried("again"), 3, (0.25, 0.25, 0.5), 4, 1.25, 0, Retried),
    (NotFound("no queue"), 3, (1, 1, 1), 1, 0, 0, NotFound),
    (NotAllowed("no vhost"), 3, (1, 1, 1), 1, 0, 0, NotAllowed),
    (ZeroDivisionError(), 3, (1, 1, 1), 1, 0, 0, ZeroDivisionError),
    (OperationalError("from elsewhere"), 3, (1, 1, 1), 1, 0, 0, OperationalError),
    (KeyboardInterrupt(), 3, (1, 1, 1), 1, 0, 0, KeyboardInterrupt),
]


@pytest.mark.parametrize(("error", "max_retries", "interval", "calls", "slept", "reconnects", "raised"), TABLE)
def test_table(connection, broker, clock, error, max_retries, interval, calls, slept, reconnects, raised):
    start, step, most = interval
    operation = Failing(error)
    ensured = connection.ensure(
        Revived(),
        operation,
        max_retries=max_retries,
        interval_start=start,
        interval_step=step,
        interval_max=most,
        retry_errors=[Retried],
    )
    with pytest.raises(raised) as caught:
        ensured()
    assert operation.calls == calls
    assert clock.slept == pytest.approx(slept)
    assert len(broker.seen("connect")) == reconnects
    if raised is OperationalError and not isinstance(error, OperationalError):
        assert caught.value.__cause__ is error
        assert caught.value.errors == (error,)
        assert str(caught.value) == str(error)
    else:
        assert caught.value is error


@pytest.mark.parametrize("error", [OSError("lost"), RecoverableChannelError("closed"), Retried("again")])
def test_without_max_retries_it_goes_on_until_it_succeeds(connection, clock, error):
    operation = Failing(error, times=50)
    ensured = connection.ensure(Revived(), operation, retry_errors=(Retried,))
    assert ensured(1, a=2) == ((1,), {"a": 2})
    assert operation.calls == 51
    assert clock.slept == 50


def test_what_succeeds_at_once_touches_nothing(connection, broker, clock):
    revived = Revived()
    assert connection.ensure(revived, lambda: 7, max_retries=3)() == 7
    assert (broker.log, revived.channels, clock.slept) == ([], [], 0)


@pytest.mark.parametrize("error", [OSError("lost"), RecoverableChannelError("closed"), Retried("again")])
def test_errback_gets_each_failure_and_the_interval_that_is_slept(connection, clock, error):
    reported = []
    ensured = connection.ensure(
        Revived(),
        Failing(error, times=3),
        errback=lambda exc, interval: reported.append((exc, interval)),
        max_retries=3,
        interval_start=1,
        interval_step=2,
        interval_max=4,
        retry_errors=(Retried,),
    )
    ensured()
    assert reported == [(error, 1), (error, 3), (error, 4)]
    assert clock.slept == 8


def test_what_errback_raises_ends_it(connection, clock):
    def errback(exc, interval):
        raise ZeroDivisionError

    operation = Failing(OSError())
    with pytest.raises(ZeroDivisionError):
        connection.ensure(Revived(), operation, errback)()
    assert operation.calls == 1


def test_one_budget_holds_for_calls_and_reconnects(connection, broker, clock):
    # The first call loses the connection, two attempts to reconnect fail, the next succeeds, the call fails again.
    operation = Failing(OSError("lost"), broker=broker)
    broker.failures["connect"] = [OSError("down"), OSError("down")]
    with pytest.raises(OperationalError, match="lost"):
        connection.ensure(Revived(), operation, max_retries=3)()
    assert operation.calls == 2
    assert len(broker.seen("connect")) == 3
    assert clock.slept == 3


def test_a_broker_that_stays_away_uses_the_budget_up(connection, broker, clock):
    broker.down.add("one")
    operation = Failing(OSError("lost"), broker=broker)
    with pytest.raises(OperationalError, match="one is down"):
        connection.ensure(Revived(), operation, max_retries=3)()
    assert operation.calls == 1
    assert len(broker.seen("connect")) == 3
    assert clock.slept == 3


@pytest.mark.parametrize("attempt", ["first", "second"])
@pytest.mark.parametrize("max_retries", [0, 2])
def test_the_first_connection_is_made_within_the_budget(broker, clock, attempt, max_retries):
    broker.down.add("one")
    connection = connection_to(broker)
    ensured = connection.ensure(Revived(), lambda: connection.default_channel, max_retries=max_retries)
    if attempt == "second":
        with pytest.raises(OperationalError):
            ensured()
        broker.log.clear()
        clock.naps.clear()
    with pytest.raises(OperationalError):
        ensured()
    assert len(broker.seen("connect")) == max_retries + 1
    assert clock.slept == max_retries


def test_without_max_retries_the_first_connection_is_bounded_by_connect_timeout(broker, clock):
    broker.down.add("one")
    connection = connection_to(broker, connect_timeout=5)
    with pytest.raises(OperationalError):
        connection.ensure(Revived(), lambda: connection.default_channel)()
    assert clock.slept <= 5


def test_nested_operations_share_the_budget(connection, broker, clock):
    inner = Failing(OSError("lost"))
    outer_calls = []

    def outer():
        outer_calls.append(1)
        return connection.ensure(Revived(), inner, max_retries=3)()

    with pytest.raises(OperationalError):
        connection.ensure(Revived(), outer, max_retries=3)()
    assert (len(outer_calls), inner.calls) == (4, 4)
    assert clock.slept == 3


def test_nested_operations_on_another_connection_have_their_own_budget(connection, clock):
    other = connection_to(Broker())
    other.connect()
    inner = Failing(OSError("lost"))
    outer_calls = []

    def outer():
        outer_calls.append(1)
        return other.ensure(Revived(), inner, max_retries=2)()

    with pytest.raises(OperationalError):
        connection.ensure(Revived(), outer, max_retries=5)()
    assert (len(outer_calls), inner.calls) == (1, 3)


def test_an_operation_within_that_of_another_connection_shares_the_budget_of_its_own(connection, clock):
    other = connection_to(Broker())
    other.connect()
    error = RecoverableChannelError("closed")
    innermost = Failing(error)

    def between():
        return other.ensure(Revived(), connection.ensure(Revived(), innermost, max_retries=7), max_retries=2)()

    with pytest.raises(OperationalError):
        connection.ensure(Revived(), between, max_retries=7)()
    assert innermost.calls == 3


def test_an_operation_that_has_ended_leaves_nothing_behind(connection, clock):
    for _ in range(2):
        operation = Failing(OSError("lost"))
        with pytest.raises(OperationalError):
            connection.ensure(Revived(), operation, max_retries=2)()
        assert operation.calls == 3


def test_after_a_reconnect_the_object_is_revived_with_the_new_default_channel(connection, broker, clock):
    revived, told = Revived(), []
    before = connection.default_channel
    connection.ensure(revived, Failing(OSError("lost"), times=2, broker=broker), on_revive=told.append)()
    assert len(revived.channels) == 2
    assert revived.channels == told
    assert revived.channels[-1] is connection.default_channel
    assert before not in revived.channels


def test_after_a_channel_error_the_object_gets_a_new_channel_if_the_old_was_closed(connection, broker, clock):
    revived = Revived()
    first = connection.default_channel

    def operation():
        if first.is_open:
            first.cut()
            raise RecoverableChannelError("closed")
        return revived.channels[-1]

    assert connection.ensure(revived, operation, max_retries=1)().is_open
    assert revived.channels == [connection.default_channel]
    assert broker.seen("connect") == []


def test_after_a_channel_error_the_object_keeps_a_channel_that_is_open(connection, clock):
    _ = connection.default_channel
    revived = Revived()
    connection.ensure(revived, Failing(RecoverableChannelError("closed"), times=2))()
    assert revived.channels == []


def test_transport_that_cannot_tell_gives_up_when_reconnecting_does_not_help(broker, clock):
    connection = connection_to(broker, transport=Undecided)
    connection.connect()
    error = OSError("persists")
    operation = Failing(error)
    with pytest.raises(OperationalError):
        connection.ensure(Revived(), operation)()
    assert operation.calls == 2


def test_policy_does_not_stay_in_the_transport_options(connection, clock):
    before = dict(connection.transport_options)
    connection.ensure(Revived(), Failing(OSError(), times=1), max_retries=2, interval_start=0)()
    assert connection.transport_options == before


def test_the_function_is_named_after_the_operation(connection):
    def operation():
        """Do it."""

    ensured = connection.ensure(Revived(), operation)
    assert (ensured.__name__, ensured.__doc__) == ("operation(ensured)", "Do it.")
    assert ensured.__module__ == operation.__module__
    assert connection.ensure(Revived(), SimpleNamespace).__name__ == "SimpleNamespace(ensured)"
    assert connection.ensure(Revived(), Failing(OSError(), times=0))() == ((), {})


# -- library errors


@pytest.mark.parametrize("error", [OSError("lost"), RecoverableConnectionError("lost"), RecoverableChannelError("c")])
def test_recoverable_errors_become_those_of_the_library(connection, error):
    with pytest.raises(OperationalError) as caught, connection._reraise_as_library_errors():
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [NotFound("x"), NotAllowed("x"), ZeroDivisionError(), OperationalError("x")])
def test_other_errors_stay_what_they_are(connection, error):
    with pytest.raises(type(error)) as caught, connection._reraise_as_library_errors():
        raise error
    assert caught.value is error


# -- autoretry


def test_autoretry_passes_and_returns_the_channel(connection):
    mine = object()
    assert connection.autoretry(lambda *args, channel: (args, channel), mine)(1) == (((1,), mine), mine)


def test_autoretry_takes_the_default_channel_where_none_is_given(connection):
    result, channel = connection.autoretry(lambda channel: channel)()
    assert result is channel is connection.default_channel


def test_autoretry_goes_on_with_the_new_channel(connection, broker, clock):
    seen = []

    def operation(channel):
        seen.append(channel)
        if len(seen) < 3:
            broker.cut()
            raise OSError("lost")
        return "done"

    assert connection.autoretry(operation, max_retries=2)() == ("done", connection.default_channel)
    assert len(set(map(id, seen))) == 3


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_autoretry_counts_the_first_connection(broker, clock, max_retries):
    broker.down.add("one")
    connection = connection_to(broker)
    with pytest.raises(OperationalError):
        connection.autoretry(lambda channel: None, max_retries=max_retries)()
    assert len(broker.seen("connect")) == max_retries + 1
    assert clock.slept == max_retries


def test_autoretry_names_the_function(connection):
    def operation(channel):
        """Do it."""

    retried = connection.autoretry(operation)
    assert (retried.__name__, retried.__doc__) == ("operation(ensured)", "Do it.")
