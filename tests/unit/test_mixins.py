"""Programs that consume for as long as they run."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from kombu import Connection, Queue, mixins
from kombu.message import Message
from kombu.mixins import ConsumerMixin, ConsumerProducerMixin
from recording import ChannelClosed, ConnectionLost, RecordingConnection


class Broker(RecordingConnection):
    """A connection whose clones the mixin works with; what happens to them is written down."""

    def __init__(self, events=()):
        super().__init__()
        self.script = [list(each) for each in events]
        self.clones = []
        self.log = []
        self.closed = False

    def clone(self):
        clone = type(self)()
        clone.log = self.log
        clone.events.extend(self.script.pop(0) if self.script else [])
        self.clones.append(clone)
        return clone

    def ensure_connection(self, errback, max_retries):
        self.log.append(("connect", max_retries))
        self.errback = errback
        return self

    def heartbeat_check(self):
        self.log.append("heartbeat")

    def as_uri(self):
        return "recording://"

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.close()

    def close(self):
        self.closed = True


class Program(ConsumerMixin):
    def __init__(self, connection, stop_after=None):
        self.connection = connection
        self.stop_after = stop_after
        self.log = []

    def get_consumers(self, Consumer, channel):
        self.channel = channel
        return [Consumer(queues=[Queue("q")], callbacks=[self.on_task]), Consumer(queues=[Queue("r")])]

    def on_task(self, body, message):
        self.log.append(body)

    def on_iteration(self):
        if self.stop_after is not None:
            self.should_stop = self.stop_after == 0
            self.stop_after -= 1

    def on_connection_revived(self):
        self.log.append("revived")

    def on_consume_ready(self, connection, channel, consumers, **kwargs):
        self.log.append(("ready", len(consumers), kwargs))

    def on_consume_end(self, connection, channel):
        self.log.append("end")


def deliver(program, body="x", **kwargs):
    def event():
        tag = next(iter(program.channel.callbacks))
        program.channel.deliver(Message(body, 1, "text/plain", "utf-8", channel=program.channel, **kwargs), tag)
    return event


class TestConsume:
    def test_goes_through_its_stages_in_order(self):
        broker = Broker()
        program = Program(broker, stop_after=3)
        broker.script = [[deliver(program, "a"), deliver(program, "b")]]
        assert len(list(program.consume(x=1))) == 2
        assert program.log == ["revived", ("ready", 2, {"x": 1}), "a", "b", "end"]
        assert broker.clones[0].closed and program.channel.names("basic_cancel") == ["basic_cancel"] * 2

    def test_limit_counts_what_it_waited_for(self):
        broker = Broker([[1, 2, 3]])
        assert len(list(Program(broker).consume(limit=2))) == 2
        assert len(broker.clones[0].events) == 1

    def test_waits_no_longer_than_the_safety_interval_and_checks_heartbeats(self):
        broker = Broker([[1]])
        program = Program(broker, stop_after=3)
        list(program.consume(safety_interval=0.25))
        assert broker.clones[0].timeouts == [0.25] * 4
        assert broker.log.count("heartbeat") == 3

    def test_timeout_is_the_time_without_any_event(self):
        idle = TimeoutError
        broker = Broker([[idle(), 1, idle(), idle(), 1]])
        seen = []
        with pytest.raises(TimeoutError):
            seen.extend(Program(broker).consume(timeout=2))
        assert len(broker.clones[0].timeouts) == 4

    def test_a_lost_connection_is_raised_but_not_while_stopping(self):
        program = Program(Broker([[ConnectionLost()]]))
        with pytest.raises(ConnectionLost):
            list(program.consume())
        assert program.log[-1] != "end"

        program = Program(broker := Broker())

        def stop():
            program.should_stop = True
            raise ConnectionLost

        broker.script = [[stop]]
        assert list(program.consume()) == []

    def test_extra_context_is_entered_around_consuming(self):
        class Extra(Program):
            @contextmanager
            def extra_context(self, connection, channel):
                self.log.append("enter")
                yield
                self.log.append("exit")

        program = Extra(Broker(), stop_after=0)
        list(program.consume())
        assert program.log == ["revived", "enter", ("ready", 2, {}), "exit", "end"]


class TestRun:
    def test_starts_over_after_connection_and_channel_errors(self, monkeypatch, caplog):
        slept = []
        monkeypatch.setattr(mixins, "sleep", slept.append)
        broker = Broker([[ConnectionLost()], [ChannelClosed()], [1]])
        program = Program(broker, stop_after=3)
        program.restart_limit = Bucket()
        program.run(y=2)
        assert len(broker.clones) == 3 and all(clone.closed for clone in broker.clones)
        assert program.log.count(("ready", 2, {"y": 2})) == 3
        assert caplog.text.count("Connection to broker lost") == 2
        assert slept == [7, 7, 7]

    def test_other_errors_end_it(self):
        with pytest.raises(ValueError):
            Program(Broker([[ValueError()]])).run()

    def test_does_nothing_when_told_to_stop_before(self):
        program = Program(broker := Broker())
        program.should_stop = True
        program.run()
        assert broker.clones == []

    def test_starts_over_about_once_a_second(self):
        assert Program(Broker()).restart_limit.fill_rate == 1

    def test_gives_up_connecting_as_told(self):
        class Impatient(Program):
            connect_max_retries = 4

        Impatient(broker := Broker(), stop_after=0).run()
        assert broker.log[0] == ("connect", 4)


class Bucket:
    """Let every second try through."""

    def __init__(self):
        self.asked = 0

    def can_consume(self, tokens):
        assert tokens == 1
        self.asked += 1
        return not self.asked % 2

    def expected_time(self, tokens):
        return 7


def test_consumers_have_to_be_given():
    with pytest.raises(NotImplementedError):
        ConsumerMixin().get_consumers(None, None)


def test_a_message_that_cannot_be_decoded_is_logged_and_acknowledged(caplog):
    broker = Broker()
    program = Program(broker, stop_after=1)
    broker.script = [[deliver(program, b"\xff\xfe")]]
    list(program.consume())
    assert len(program.channel.of("basic_ack")) == 1
    assert "Can't decode message body" in caplog.text and "text/plain" in caplog.text
    assert "a" not in program.log


def test_a_failed_try_to_connect_is_logged(caplog):
    Program(Broker()).on_connection_error(ConnectionLost("refused"), 3)
    assert "trying again in 3 seconds" in caplog.text and "refused" in caplog.text


def test_errors_are_those_of_the_connection():
    program = Program(Broker())
    assert program.connection_errors == (ConnectionLost,) and program.channel_errors == (ChannelClosed,)

    def lost():
        raise ConnectionLost

    assert program.maybe_conn_error(lost) is None


class TestProducer:
    class Both(ConsumerProducerMixin, Program):
        def on_consume_end(self, connection, channel):
            super().on_consume_end(connection, channel)

    def test_publishes_on_a_connection_of_its_own_which_it_keeps(self):
        program = self.Both(broker := Broker())
        program.producer.publish("x", routing_key="r")
        program.producer.publish("y", routing_key="r")
        (clone,) = broker.clones
        assert len(clone.default_channel.of("basic_publish")) == 2
        assert broker.log == [("connect", None)]

    def test_closes_it_when_consuming_ends(self):
        program = self.Both(broker := Broker(), stop_after=0)
        connection = program.producer_connection
        list(program.consume())
        assert connection.closed and len(broker.clones) == 2
        assert program.producer_connection is not connection

    def test_has_none_to_close_where_it_did_not_publish(self):
        program = self.Both(broker := Broker(), stop_after=0)
        list(program.consume())
        assert len(broker.clones) == 1


def test_a_program_consumes_and_answers_over_memory():
    class Echo(ConsumerProducerMixin):
        def __init__(self, connection):
            self.connection = connection
            self.ready = threading.Event()

        def get_consumers(self, Consumer, channel):
            return [Consumer(queues=[Queue("mixins.ask")], on_message=self.on_message, accept=["json"])]

        def on_consume_ready(self, connection, channel, consumers, **kwargs):
            self.ready.set()

        def on_message(self, message):
            self.producer.publish(message.payload, routing_key=message.properties["reply_to"], retry=True)
            message.ack()
            self.should_stop = True

    with Connection("memory://") as connection:
        program = Echo(connection)
        thread = threading.Thread(target=program.run)
        thread.start()
        assert program.ready.wait(10)
        answers = connection.SimpleQueue("mixins.answers")
        connection.Producer().publish({"a": 1}, routing_key="mixins.ask", reply_to="mixins.answers")
        assert answers.get(timeout=10).payload == {"a": 1}
        thread.join(10)
        assert not thread.is_alive()
