"""What every transport is made of: refusals that name the transport, queue arguments, the reader of an event loop."""

from __future__ import annotations

import errno

import pytest
from amqp.exceptions import RecoverableConnectionError

from kombu import Consumer, Producer
from kombu.transport import base
from kombu.transport.base import Implements, StdChannel, Transport, to_rabbitmq_queue_arguments


class Bare(Transport):
    """A transport that brings nothing along."""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"expires": 1.5}, {"x-expires": 1500}),
        ({"message_ttl": 0.25}, {"x-message-ttl": 250}),
        ({"max_length": "7"}, {"x-max-length": 7}),
        ({"max_length_bytes": 8}, {"x-max-length-bytes": 8}),
        ({"max_priority": 9}, {"x-max-priority": 9}),
        ({"max_priority": 0}, {"x-max-priority": 0}),
        ({"max_priority": None, "expires": None}, {}),
    ],
)
def test_queue_options_become_x_arguments(options, expected):
    assert to_rabbitmq_queue_arguments({}, **options) == expected
    assert to_rabbitmq_queue_arguments({"x-own": 1}, **options) == {"x-own": 1, **expected}


def test_an_option_wins_over_an_argument_and_leaves_the_callers_dict_alone():
    arguments = {"x-expires": 1}
    assert to_rabbitmq_queue_arguments(arguments, expires=2) == {"x-expires": 2000}
    assert arguments == {"x-expires": 1}


def test_an_unknown_queue_option_is_refused():
    with pytest.raises(KeyError, match="nonsense"):
        to_rabbitmq_queue_arguments({}, nonsense=1)


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("establish_connection", ()),
        ("close_connection", (None,)),
        ("create_channel", (None,)),
        ("close_channel", (None,)),
        ("drain_events", (None,)),
    ],
)
def test_what_a_transport_has_to_bring_is_named(method, args):
    with pytest.raises(NotImplementedError, match=rf"Transport .*\.Bare does not implement {method}"):
        getattr(Bare(None), method)(*args)


def test_what_a_transport_may_leave_out_has_a_default():
    transport = Bare(client := object())
    assert transport.client is client
    assert transport.driver_version() == transport.driver_name == transport.driver_type == "N/A"
    assert transport.verify_connection(None) is True
    assert transport.qos_semantics_matches_spec(None) is True
    assert transport.get_heartbeat_interval(None) == 0
    assert transport.default_connection_params == {}
    assert (transport.supports_ev, transport.supports_heartbeats) == (False, False)
    for nothing in ("register_with_event_loop", "unregister_from_event_loop"):
        assert getattr(transport, nothing)(None, None) is None
    assert transport.heartbeat_check(None) is None
    with pytest.raises(NotImplementedError):
        transport.as_uri("x://")


def test_the_manager_is_made_once_and_get_manager_makes_another():
    transport = Bare(None)
    assert transport.manager is transport.manager
    assert transport.manager.transport is transport
    assert transport.get_manager() is not transport.manager
    with pytest.raises(NotImplementedError, match="get_bindings"):
        transport.manager.get_bindings()


def test_capabilities_are_attributes_and_extending_leaves_the_original_alone():
    original = Implements(asynchronous=False)
    extended = original.extend(asynchronous=True, heartbeats=True)
    assert (original.asynchronous, extended.asynchronous, extended.heartbeats) == (False, True, True)
    extended.extra = 1
    assert extended["extra"] == 1
    with pytest.raises(AttributeError, match="heartbeats"):
        _ = original.heartbeats


class Channel(StdChannel):
    closed = False

    class connection:
        client = None

    def close(self):
        self.closed = True


def test_a_channel_makes_consumers_and_producers_on_itself():
    channel = Channel()
    consumer, producer = channel.Consumer(), channel.Producer()
    assert isinstance(consumer, Consumer) and consumer.channel is channel
    assert isinstance(producer, Producer) and producer.channel is channel


def test_a_channel_is_closed_by_with():
    with Channel() as channel:
        assert not channel.closed
    assert channel.closed


def test_a_channel_has_defaults():
    channel = Channel()
    arguments = {"x": 1}
    assert channel.prepare_queue_arguments(arguments, expires=3) is arguments
    assert channel.after_reply_message_received("q") is None
    assert channel.no_ack_consumers is None
    with pytest.raises(NotImplementedError, match="Channel does not implement get_bindings"):
        channel.get_bindings()
    with pytest.raises(NotImplementedError, match="close"):
        StdChannel().close()


class Loop:
    """An event loop as far as a reader needs it."""

    def __init__(self):
        self.soon = []

    def call_soon(self, callback, *args):
        self.soon.append((callback, args))

    def run(self):
        """Call until nothing is left, and return how often."""
        calls = 0
        while self.soon:
            callback, args = self.soon.pop()
            callback(*args)
            calls += 1
        return calls


class Connection:
    """A connection with so many messages in its buffer."""

    def __init__(self, buffered=0, error=None):
        self.buffered, self.error = buffered, error
        self.connected = True
        self.timeouts = []

    def drain_events(self, timeout=None):
        self.timeouts.append(timeout)
        if self.error is not None:
            raise self.error
        if not self.buffered:
            raise TimeoutError()
        self.buffered -= 1


def test_a_reader_goes_on_until_the_buffer_is_empty():
    connection, loop = Connection(buffered=5), Loop()
    Bare(None).on_readable(connection, loop)
    loop.run()
    assert connection.buffered == 0
    assert connection.timeouts == [0] * 6
    assert loop.soon == []


def test_a_reader_lets_the_others_of_the_loop_have_their_turn(monkeypatch):
    monkeypatch.setattr(base.EventReader, "turn", 0)
    connection, loop = Connection(buffered=5), Loop()
    Bare(None).on_readable(connection, loop)
    assert connection.buffered == 4
    assert loop.run() == 5
    assert connection.buffered == 0


def test_a_consumer_that_raises_does_not_keep_the_others_from_being_served():
    connection, loop = Connection(buffered=2), Loop()
    drain, failures = connection.drain_events, [ValueError("of a consumer")]

    def fail_once(timeout=None):
        drain(timeout)
        if failures:
            raise failures.pop()

    connection.drain_events = fail_once
    with pytest.raises(ValueError, match="of a consumer"):
        Bare(None).on_readable(connection, loop)
    loop.run()
    assert connection.buffered == 0


def test_a_reader_with_nothing_to_read_is_not_called_again():
    loop = Loop()
    Bare(None).on_readable(Connection(), loop)
    assert loop.soon == []


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EINTR])
def test_a_reader_takes_unavailability_for_nothing(code):
    loop = Loop()
    Bare(None).on_readable(Connection(error=OSError(code, "unavailable")), loop)
    assert loop.soon == []


def test_a_reader_raises_other_errors():
    loop = Loop()
    with pytest.raises(ConnectionResetError):
        Bare(None).on_readable(Connection(error=ConnectionResetError(errno.ECONNRESET, "reset")), loop)
    assert loop.soon == []


def test_a_reader_of_a_lost_connection_raises_a_recoverable_error():
    connection = Connection(buffered=1)
    connection.connected = False
    with pytest.raises(RecoverableConnectionError, match="disconnected"):
        Bare(None).on_readable(connection, Loop())
    assert connection.timeouts == []


def test_each_connection_of_a_transport_has_its_own_reader():
    transport, old, new = Bare(None), Connection(), Connection(buffered=1)
    transport.on_readable(old, Loop())
    old.connected = False
    transport.on_readable(new, Loop())
    assert new.buffered == 0


def test_a_transport_may_make_its_own_reader():
    seen = []

    class Own(Transport):
        made = 0

        def _make_reader(self, connection):
            self.made += 1
            return lambda loop: seen.append((connection, loop))

    transport, connection, loop = Own(None), Connection(), Loop()
    transport.on_readable(connection, loop)
    transport.on_readable(connection, loop)
    assert seen == [(connection, loop)] * 2
    assert transport.made == 1


def test_the_message_is_the_packages_own():
    import kombu

    assert base.Message is kombu.Message
