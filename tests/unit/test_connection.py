"""How a connection is made, used, lost, made again and released."""

from __future__ import annotations

import os
import pickle
import socket
import threading

import pytest
from amqp.exceptions import ConnectionForced, NotAllowed, RecoverableConnectionError

import kombu
from kombu import Connection, link
from kombu.exceptions import OperationalError
from kombu.utils import functional
from scripted_transport import Broker, Channel, Clock, ForkUnaware, NoCollect, Scripted, Trusted, connection_to, forked

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def connection(broker):
    return connection_to(broker)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(functional, "sleep", clock.sleep)
    monkeypatch.setattr(functional, "monotonic", clock.monotonic)
    monkeypatch.setattr(link, "monotonic", clock.monotonic)
    return clock


# -- connecting


def test_nothing_is_connected_before_it_is_needed(connection, broker):
    repr(connection), connection.info(), connection.as_uri(), connection.transport
    assert not connection.connected
    assert broker.log == []


@pytest.mark.parametrize(
    "use",
    [
        lambda connection: connection.connect(),
        lambda connection: connection.connection,
        lambda connection: connection.channel(),
        lambda connection: connection.default_channel,
        lambda connection: connection.ensure_connection(),
        lambda connection: connection.get_heartbeat_interval(),
        lambda connection: connection.qos_semantics_matches_spec,
        lambda connection: connection.register_with_event_loop([]),
        lambda connection: connection.heartbeat_check(),
        lambda connection: pytest.raises(socket.timeout, connection.drain_events, timeout=0),
    ],
)
def test_whatever_needs_a_connection_first_makes_it(connection, broker, use):
    use(connection)
    assert broker.seen("connect") == ["one"]
    assert connection.connected
    use(connection)
    assert broker.seen("connect") == ["one"]


def test_what_the_transport_made_is_the_connection(connection, broker):
    made = connection.connect()
    assert made is connection.connection is broker.connections[0]
    assert connection.ensure_connection() is connection


def test_connecting_again_changes_nothing(connection, broker):
    assert connection.connect() is connection.connect()
    assert len(broker.connections) == 1


def test_threads_that_connect_at_once_make_one_connection(connection, broker):
    inside, others = threading.Event(), threading.Event()

    def wait_for_others():
        inside.set()
        others.wait(30)

    broker.hooks["connect"] = wait_for_others
    first = threading.Thread(target=connection.connect)
    first.start()
    assert inside.wait(30)
    threads = [threading.Thread(target=connection.connect) for _ in range(4)]
    for thread in threads:
        thread.start()
    threads[0].join(0.05)  # long enough for them to find that there is no connection yet
    others.set()
    for thread in [first, *threads]:
        thread.join()
    assert len(broker.connections) == 1


def test_threads_that_open_the_default_channel_at_once_get_the_same(connection, broker):
    connection.connect()
    faster = []

    def overtake():
        thread = threading.Thread(target=lambda: faster.append(connection.default_channel))
        thread.start()
        thread.join()

    broker.hooks["channel"] = overtake
    channel = connection.default_channel
    assert [channel] == faster
    assert channel.is_open
    # The one that came too late with a channel of its own has closed it.
    assert len(broker.seen("close channel")) == 1


def test_arguments_of_drain_events_reach_the_transport_as_given(connection, broker):
    for arguments in ({}, {"timeout": None}, {"timeout": 3}, {"other": 1}, {"timeout": 0, "other": 1}):
        with pytest.raises(socket.timeout):
            connection.drain_events(**arguments)
        assert broker.seen("drain")[-1] == arguments


def test_drain_events_returns_what_the_transport_returns(connection, broker):
    connection.connect().waiting.append("event")
    assert connection.drain_events(timeout=1) == "event"


def test_a_timeout_does_not_lose_the_connection(connection, broker):
    for _ in range(3):
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0)
    assert connection.connected
    assert len(broker.connections) == 1


# -- losing (C1)


def lose(connection, broker):
    broker.cut_with("drain", OSError("reset by peer"))
    with pytest.raises(OSError, match="reset by peer"):
        connection.drain_events(timeout=1)


def test_a_lost_connection_keeps_raising_and_is_never_replaced_silently(connection, broker):
    connection.connect()
    lose(connection, broker)
    for _ in range(3):
        with pytest.raises(connection.recoverable_connection_errors, match="reset by peer.*consume again") as caught:
            connection.drain_events(timeout=1)
        assert isinstance(caught.value, RecoverableConnectionError)
    assert not connection.connected
    assert broker.seen("silent reconnect") == []
    assert len(broker.connections) == 1


@pytest.mark.parametrize(
    "use",
    [
        lambda connection: connection.heartbeat_check(),
        lambda connection: connection.get_heartbeat_interval(),
        lambda connection: connection.register_with_event_loop([]),
        lambda connection: connection.qos_semantics_matches_spec,
        lambda connection: connection.connection,
    ],
)
def test_nothing_else_replaces_a_lost_connection_by_the_way(connection, broker, use):
    connection.connect()
    lose(connection, broker)
    with pytest.raises(RecoverableConnectionError):
        use(connection)
    assert len(broker.connections) == 1


@pytest.mark.parametrize(
    "reconnect",
    [
        lambda connection: connection.connect(),
        lambda connection: connection.ensure_connection(),
        lambda connection: connection.channel(),
        lambda connection: connection.default_channel,
    ],
)
def test_a_lost_connection_comes_back_when_it_is_asked_for(connection, broker, reconnect):
    connection.connect()
    lose(connection, broker)
    reconnect(connection)
    assert connection.connected
    assert len(broker.connections) == 2
    with pytest.raises(socket.timeout):
        connection.drain_events(timeout=0)


def test_a_failed_heartbeat_loses_the_connection_if_the_transport_says_so(connection, broker):
    connection.connect()
    broker.cut_with("heartbeat", ConnectionForced("Too many heartbeats missed"))
    with pytest.raises(ConnectionForced):
        connection.heartbeat_check()
    with pytest.raises(RecoverableConnectionError, match="heartbeats missed"):
        connection.drain_events(timeout=1)


def test_a_loss_that_was_not_seen_by_draining_is_noticed(connection, broker):
    connection.connect()
    broker.cut()
    for _ in range(2):
        with pytest.raises(RecoverableConnectionError):
            connection.drain_events(timeout=1)
    assert broker.seen("silent reconnect") == []


def test_a_transport_that_refuses_lost_connections_itself_is_trusted(broker):
    class Counting(Trusted):
        verified = 0

        def verify_connection(self, connection):
            self.verified += 1
            return super().verify_connection(connection)

    connection = connection_to(broker, transport=Counting)
    connection.connect().waiting.extend(range(5))
    before = connection.transport.verified
    assert [connection.drain_events(timeout=0) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert connection.transport.verified == before
    lose(connection, broker)
    with pytest.raises(RecoverableConnectionError):
        connection.drain_events(timeout=1)


def test_an_exception_of_the_application_does_not_lose_the_connection(connection, broker):
    connection.connect()
    broker.failures["drain"] = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        connection.drain_events(timeout=1)
    assert connection.connected
    with pytest.raises(socket.timeout):
        connection.drain_events(timeout=0)


def test_what_is_raised_for_a_lost_connection_is_what_the_transport_can_recover_from(broker):
    class Gone(Exception):
        pass

    class Peculiar(Scripted):
        connection_errors = recoverable_connection_errors = (Gone,)

    connection = connection_to(broker, transport=Peculiar)
    connection.connect()
    broker.cut_with("drain", Gone("so long"))
    for _ in range(2):
        with pytest.raises(Gone, match="so long"):
            connection.drain_events(timeout=0)


def test_the_dead_connection_is_let_go_of_when_the_next_is_made(connection, broker):
    connection.connect()
    lose(connection, broker)
    connection.connect()
    assert broker.seen("collect") == [True]


def test_declared_entities_are_forgotten_with_the_connection(connection, broker):
    connection.connect()
    connection.declared_entities.add(1)
    lose(connection, broker)
    connection.connect()
    assert connection.declared_entities == set()


# -- the default channel (C2)


def test_default_channel_stays_the_same_while_it_is_open(connection):
    assert connection.default_channel is connection.default_channel


@pytest.mark.parametrize("end", [Channel.cut, Channel.close])
def test_default_channel_is_a_fresh_one_after_the_old_was_closed(connection, broker, end):
    first = connection.default_channel
    end(first)
    second = connection.default_channel
    assert second is not first
    assert second.is_open
    assert len(broker.connections) == 1


def test_default_channel_is_a_fresh_one_on_a_fresh_connection(connection, broker):
    first = connection.default_channel
    broker.cut()
    second = connection.default_channel
    assert second is not first
    assert second.connection is broker.connections[1]


def test_revive_closes_a_default_channel_that_is_not_the_new_one(connection):
    channel = connection.default_channel
    connection.revive(channel)
    assert connection.default_channel is channel
    connection.revive(object())
    assert not channel.is_open
    assert connection.default_channel is not channel


def test_errors_in_closing_a_channel_are_of_no_interest(connection):
    class Failing:
        def __init__(self, exc):
            self.exc = exc

        def close(self):
            raise self.exc

    connection.maybe_close_channel(Failing(OSError()))
    connection.maybe_close_channel(Failing(RecoverableConnectionError()))
    with pytest.raises(ZeroDivisionError):
        connection.maybe_close_channel(Failing(ZeroDivisionError()))


# -- bounds (C11)


def test_connect_retries_once_and_raises_the_transports_own_error(broker, clock):
    broker.down.add("one")
    with pytest.raises(ConnectionRefusedError):
        connection_to(broker).connect()
    assert len(broker.seen("connect")) == 2
    assert clock.slept == 2


@pytest.mark.parametrize("attempt", ["first", "second"])
def test_max_retries_0_makes_one_attempt_without_sleep(broker, clock, attempt):
    broker.down.add("one")
    connection = connection_to(broker, transport_options={"max_retries": 0})
    if attempt == "second":
        with pytest.raises(OperationalError):
            _ = connection.default_channel
        broker.log.clear()
    with pytest.raises(OperationalError, match="one is down") as caught:
        _ = connection.default_channel
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert len(broker.seen("connect")) == 1
    assert clock.slept == 0


def test_max_retries_0_holds_after_the_connection_was_lost(broker, clock):
    connection = connection_to(broker, transport_options={"max_retries": 0})
    _ = connection.default_channel
    broker.cut()
    broker.down.add("one")
    broker.log.clear()
    with pytest.raises(OperationalError):
        _ = connection.default_channel
    assert len(broker.seen("connect")) == 1
    assert clock.slept == 0


@pytest.mark.parametrize("attempt", ["first", "second"])
def test_connect_timeout_bounds_all_attempts_of_default_channel_together(broker, clock, attempt):
    broker.down.add("one")
    connection = connection_to(broker, connect_timeout=5)
    if attempt == "second":
        with pytest.raises(OperationalError):
            _ = connection.default_channel
    before = clock.now
    with pytest.raises(OperationalError):
        _ = connection.default_channel
    assert clock.now - before <= 5


def test_connect_retries_timeout_wins_over_connect_timeout(broker, clock):
    broker.down.add("one")
    connection = connection_to(broker, connect_timeout=50, transport_options={"connect_retries_timeout": 3})
    with pytest.raises(OperationalError):
        _ = connection.default_channel
    assert clock.slept <= 3


def test_transport_options_say_how_default_channel_connects(broker, clock):
    broker.down.add("one")
    reported, called = [], []
    connection = connection_to(
        broker,
        connect_timeout=None,
        transport_options={
            "max_retries": 3,
            "interval_start": 1,
            "interval_step": 2,
            "interval_max": 4,
            "errback": lambda exc, interval: reported.append(interval),
            "callback": lambda: called.append(clock.now),
        },
    )
    with pytest.raises(OperationalError):
        _ = connection.default_channel
    assert len(broker.seen("connect")) == 4
    assert reported == [1, 3, 4]
    assert clock.slept == 8
    assert len(called) >= 8  # once for each failure, and once a second


def test_a_callback_can_end_the_retries(broker, clock):
    broker.down.add("one")

    def stop():
        raise SystemExit

    with pytest.raises(SystemExit):
        connection_to(broker).ensure_connection(callback=stop)
    assert len(broker.seen("connect")) == 1


def test_an_error_that_is_not_recoverable_is_not_retried(broker, clock):
    broker.failures["connect"] = [NotAllowed("no access")]
    with pytest.raises(NotAllowed):
        connection_to(broker).ensure_connection()
    assert len(broker.seen("connect")) == 1


# -- closing


@pytest.mark.parametrize("close", [Connection.release, Connection.close])
def test_release_closes_channel_and_connection(connection, broker, close):
    _ = connection.default_channel
    close(connection)
    assert broker.log[-2:] == [("close channel", 1), ("close", True)]
    assert not connection.connected
    assert connection.connection is None


def test_release_of_what_was_never_connected_does_nothing(connection, broker):
    connection.release()
    connection.release()
    assert broker.log == []


def test_release_twice_closes_once(connection, broker):
    connection.connect()
    connection.release()
    connection.release()
    assert broker.seen("close") == [True]


def test_leaving_the_context_releases(connection, broker):
    with connection as entered:
        assert entered is connection
        connection.connect()
    assert broker.seen("close") == [True]


def test_errors_in_closing_are_of_no_interest(connection, broker):
    connection.connect()
    broker.failures["close"] = [OSError("already gone")]
    connection.release()
    assert connection.connection is None


def test_draining_a_released_connection_says_that_it_was_released(connection, broker):
    connection.connect()
    connection.release()
    with pytest.raises(RecoverableConnectionError, match="released"):
        connection.drain_events(timeout=0)
    connection.connect()
    with pytest.raises(socket.timeout):
        connection.drain_events(timeout=0)


def test_the_transport_lets_go_of_the_connection(connection):
    transport = connection.transport
    connection.release()
    assert transport.client is None
    assert connection.transport is not transport


@pytest.mark.parametrize("transport", [Scripted, NoCollect])
def test_collect_leaves_the_default_timeout_of_sockets_alone(broker, monkeypatch, transport):
    monkeypatch.setattr(socket, "setdefaulttimeout", lambda timeout: pytest.fail("setdefaulttimeout was called"))
    connection = connection_to(broker, transport=transport)
    _ = connection.default_channel
    connection.collect(socket_timeout=0.1)
    assert not broker.open
    assert not connection.connected


def test_collect_does_not_talk_to_the_broker_where_the_transport_can_do_without(connection, broker):
    _ = connection.default_channel
    connection.collect()
    assert broker.seen("collect") == [True]
    assert broker.seen("close", "close channel") == []


def test_a_collected_connection_is_lost_until_it_is_asked_for(connection, broker):
    connection.connect()
    connection.collect()
    with pytest.raises(RecoverableConnectionError):
        connection.drain_events(timeout=0)
    assert connection.default_channel.is_open


# -- forks (C20)


@needs_fork
def test_a_child_is_not_connected_and_the_parent_stays_so(connection, broker):
    connection.connect()
    assert forked(lambda: connection.connected) is False
    assert connection.connected


@needs_fork
@pytest.mark.parametrize("transport", [Scripted, Trusted])
def test_a_child_has_to_connect_before_it_drains(broker, transport):
    connection = connection_to(broker, transport=transport)
    connection.connect()

    def child():
        with pytest.raises(RecoverableConnectionError, match="another process"):
            connection.drain_events(timeout=0)
        with pytest.raises(RecoverableConnectionError, match="another process"):
            connection.heartbeat_check()
        connection.ensure_connection()
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0)
        return [made.pid == os.getpid() for made in broker.connections]

    assert forked(child) == [False, True]


@needs_fork
@pytest.mark.parametrize("end", [Connection.release, Connection.close, Connection.collect, Connection.connect])
def test_a_child_never_closes_the_parents_connection(connection, broker, end):
    _ = connection.default_channel

    def child():
        end(connection)
        connection.release()
        return broker.seen("close", "close channel"), broker.seen("collect")

    closed, collected = forked(child)
    # What the child closed in the end is what it made itself.
    assert False not in closed
    assert collected == [False]


@needs_fork
@pytest.mark.parametrize("end", [Connection.release, Connection.collect, Connection.connect])
def test_a_transport_that_knows_nothing_of_forks_is_not_finalized_in_the_child(broker, end):
    connection = connection_to(broker, transport=ForkUnaware)
    _ = connection.default_channel

    def child():
        end(connection)
        return broker.seen("close", "close channel"), broker.seen("finalized")

    closed, finalized = forked(child)
    assert False not in closed
    assert finalized == []


@needs_fork
def test_a_lock_that_a_thread_held_in_the_parent_does_not_block_the_child(connection):
    with connection._establishing.current():
        inside = threading.Event()

        def child():
            made = threading.Thread(target=lambda: (connection.connect(), inside.set()), daemon=True)
            made.start()
            return inside.wait(30)

        assert forked(child)


# -- copies


def test_the_callers_alternates_are_left_alone(broker):
    alternates = ["two"]
    connection_to(broker, ["one", "three"], alternates=alternates)
    connection_to(broker, "one;three", alternates=alternates)
    assert alternates == ["two"]


def test_a_copy_is_not_connected(connection):
    connection.connect()
    assert not connection.clone().connected


def test_a_subclass_clones_itself(broker):
    class Mine(Connection):
        pass

    assert type(Mine("memory://").clone()) is Mine
    assert isinstance(pickle.loads(pickle.dumps(Connection("memory://"))), Connection)


# -- the rest


def test_what_connections_make_uses_them(connection):
    assert connection.Producer().__connection__ is connection
    channel = connection.channel()
    assert connection.Producer(channel).channel is channel
    assert connection.Consumer(channel=channel).channel is channel
    assert connection.ChannelPool(3).limit == 3
    assert connection.Pool(2).limit == 2


def test_what_the_transport_can_do(connection, broker):
    assert connection.supports_heartbeats
    assert not connection.is_evented
    assert connection.supports_exchange_type("topic")
    assert not connection.supports_exchange_type("strange")
    assert connection.get_heartbeat_interval() == 7.5
    assert connection.manager == "the manager"
    assert connection.get_manager(1, a=2) == ((1,), {"a": 2})
    loop = []
    connection.register_with_event_loop(loop)
    assert loop == broker.connections
    connection.heartbeat_check(rate=3)
    assert broker.seen("heartbeat") == [3]


def test_the_errors_are_those_of_the_present_transport(broker):
    class Other(Scripted):
        connection_errors = recoverable_connection_errors = (LookupError,)

    connection = connection_to(broker)
    assert connection.connection_errors == Scripted.connection_errors
    assert connection.recoverable_channel_errors == Scripted.recoverable_channel_errors
    connection._initial_params["transport"] = Other
    connection.switch("two")
    assert connection.connection_errors == (LookupError,)


def test_librabbitmq_is_another_name_of_amqp():
    assert Connection("librabbitmq://").get_transport_cls() is Connection("amqp://").get_transport_cls()


def test_version_is_that_of_5_7_and_says_what_this_is():
    assert kombu.__version__.startswith("5.7.0+")
    assert kombu.VERSION == kombu.version_info == (5, 7, 0, kombu.__version__.removeprefix("5.7.0"), "")
    assert kombu.VERSION >= (5, 7, 0)
    assert (kombu.VERSION.major, kombu.VERSION.minor, kombu.VERSION.micro) == (5, 7, 0)
    assert kombu.__impl__ in ("c", "python")


def test_all_public_names_are_there():
    assert all(getattr(kombu, name) is not None for name in kombu.__all__)
    assert set(kombu.__all__) <= set(dir(kombu))
    with pytest.raises(AttributeError, match="nosuch"):
        _ = kombu.nosuch
