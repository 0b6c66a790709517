"""Mailboxes for processes."""

from __future__ import annotations

import json
import socket
import threading
import warnings
from time import time

import pytest

from kombu import Connection, pidbox
from kombu.clocks import LamportClock
from kombu.entity import Exchange
from kombu.exceptions import InconsistencyError
from kombu.message import Message
from kombu.messaging import Producer
from recording import ChannelClosed, RecordingConnection


@pytest.fixture
def connection():
    return RecordingConnection()


@pytest.fixture
def channel(connection):
    return connection.channel()


@pytest.fixture
def mailbox(connection):
    return pidbox.Mailbox("app", type="fanout", connection=connection)


@pytest.fixture
def node(mailbox, channel):
    node = mailbox.Node("me", state={"n": 1}, channel=channel)

    @node.handler
    def add(state, a=0, b=0):
        return state["n"] + a + b

    @node.handler
    def fail(state):
        raise ValueError("handler failed")

    @node.handler
    def leave(state):
        raise SystemExit(3)

    return node


def sent(channel):
    """Return (body, headers, keywords of basic_publish) for each published message."""
    return [
        (json.loads(call.args[0][0]), call.args[0][4], call.kwargs) for call in channel.of("basic_publish")
    ]


class TestMailbox:
    def test_names_follow_the_namespace(self, mailbox):
        assert mailbox.exchange == Exchange("app.pidbox", "fanout", durable=False, delivery_mode="transient")
        assert mailbox.reply_exchange == Exchange("reply.app.pidbox", durable=False, delivery_mode="transient")
        queue = mailbox.get_queue("me")
        assert (queue.name, queue.exchange) == ("me.app.pidbox", mailbox.exchange)
        assert (queue.durable, queue.exclusive, queue.auto_delete) == (False, True, True)

    def test_queues_have_the_options_given(self):
        mailbox = pidbox.Mailbox(
            "app", queue_ttl=1, queue_expires=2, reply_queue_ttl=3, reply_queue_expires=4,
            queue_durable=True, queue_exclusive=False,
        )
        queue, replies = mailbox.get_queue("me"), mailbox.reply_queue
        assert (queue.message_ttl, queue.expires) == (1, 2)
        assert (replies.message_ttl, replies.expires) == (3, 4)
        assert (queue.durable, queue.exclusive, queue.auto_delete) == (True, False, False)

    def test_durable_and_exclusive_exclude_each_other(self):
        with pytest.raises(ValueError, match="cannot both be True"):
            pidbox.Mailbox("app", queue_durable=True)

    def test_calling_it_binds_a_copy_to_a_connection(self, mailbox):
        other = RecordingConnection()
        bound = mailbox(other)
        assert bound.connection is other is not mailbox.connection
        assert bound.exchange is mailbox.exchange

    def test_a_node_is_called_like_the_host_if_not_named(self, mailbox):
        assert mailbox.Node().hostname == socket.gethostname()

    def test_each_thread_gets_its_replies_in_a_queue_of_its_own(self, mailbox):
        names = [mailbox.reply_queue.name, mailbox.reply_queue.name]
        assert mailbox.reply_queue.routing_key == mailbox.oid
        thread = threading.Thread(target=lambda: names.append(mailbox.reply_queue.name))
        thread.start()
        thread.join()
        assert names[0] == names[1] != names[2]

    def test_class_attributes_are_defaults(self, connection):
        class Own(pidbox.Mailbox):
            accept = ["yaml"]
            serializer = "yaml"

        assert (Own("app").accept, Own("app").serializer) == (["yaml"], "yaml")
        assert Own("app", accept=["json"], serializer="json").serializer == "json"


class TestSending:
    def test_a_cast_is_published_with_destination_clock_and_serializer(self, mailbox, channel):
        mailbox.cast(["me", "you"], "add", {"a": 1})
        ((body, headers, options),) = sent(channel)
        assert body == {
            "method": "add", "arguments": {"a": 1}, "destination": ["me", "you"], "pattern": None, "matcher": None,
        }
        assert headers == {"clock": 1, "expires": headers["expires"]} and headers["expires"] > time()
        assert (options["exchange"], options["routing_key"]) == ("app.pidbox", "")
        assert channel.names("exchange_declare") == ["exchange_declare"]

    def test_an_abcast_is_for_all(self, mailbox, channel):
        assert mailbox.abcast("add") is None
        assert sent(channel)[0][0]["destination"] is None

    @pytest.mark.parametrize("destination", ["me", {"me"}, 3])
    def test_a_destination_that_is_no_list_is_refused(self, mailbox, destination):
        with pytest.raises(ValueError, match="destination must be a list/tuple"):
            mailbox.cast(destination, "add")

    @pytest.mark.parametrize("options", [{"pattern": 1, "matcher": "glob"}, {"pattern": "*", "matcher": 1}])
    def test_a_pattern_that_is_no_text_is_refused(self, mailbox, options):
        with pytest.raises(ValueError, match="pattern and matcher must be strings"):
            mailbox._broadcast("add", **options)

    def test_the_arguments_given_are_not_changed(self, mailbox):
        arguments = {"a": 1}
        mailbox.abcast("add", arguments)
        assert arguments == {"a": 1}

    def test_a_producer_of_the_pool_is_used(self, connection):
        class Pool:
            acquired = 0

            def acquire(self):
                self.acquired += 1
                return Producer(connection)

        pool = Pool()
        mailbox = pidbox.Mailbox("app", connection=connection, producer_pool=lambda: pool)
        mailbox = pidbox.Mailbox("app", connection=connection, producer_pool=pool)
        mailbox.abcast("add")
        assert pool.acquired == 1 and len(sent(connection.default_channel)) == 1

    def test_a_producer_that_is_given_is_used(self, mailbox):
        producer = object()
        with mailbox.producer_or_acquire(producer) as used:
            assert used is producer


class TestReplies:
    def reply(self, mailbox, channel, ticket, body, **headers):
        def event():
            sent_along = {"ticket": ticket, **headers}
            channel.deliver(
                Message(json.dumps(body), 1, "application/json", "utf-8", channel=channel, headers=sent_along),
            )
        return event

    def ticket(self, monkeypatch):
        monkeypatch.setattr(pidbox, "uuid", lambda: "T")

    def test_a_call_collects_one_reply_from_each_destination(self, mailbox, connection, channel, monkeypatch):
        self.ticket(monkeypatch)
        connection.events.extend(self.reply(mailbox, channel, "T", {name: 1}, clock=20) for name in ("a", "b", "c"))
        seen = []
        assert mailbox.call(["a", "b"], "add", timeout=3, callback=seen.append) == [{"a": 1}, {"b": 1}] == seen
        ((body, _, _),) = sent(channel)
        assert body["ticket"] == "T"
        assert body["reply_to"] == {"exchange": "reply.app.pidbox", "routing_key": mailbox.oid}
        assert mailbox.clock.value > 20
        assert channel.of("after_reply_message_received")[0].args == (mailbox.reply_queue.name,)

    def test_other_traffic_is_not_counted_as_replies(self, mailbox, connection, channel, monkeypatch):
        self.ticket(monkeypatch)
        connection.events.extend([1, self.reply(mailbox, channel, "T", "a"), 2, self.reply(mailbox, channel, "T", "b")])
        assert mailbox.multi_call("add", limit=2) == ["a", "b"]

    def test_waits_until_no_reply_comes_for_the_timeout(self, mailbox, connection, channel, monkeypatch):
        self.ticket(monkeypatch)
        now = [100.0]
        monkeypatch.setattr(pidbox, "monotonic", lambda: now[0])

        def after(seconds, event=lambda: None):
            def happens():
                now[0] += seconds
                event()
            return happens

        reply = self.reply(mailbox, channel, "T", "a")
        connection.events.extend([after(2, reply), after(2), after(0.5), *[after(1)] * 9])
        assert mailbox.multi_call("add", timeout=3) == ["a"]
        assert connection.timeouts == [3, 3, 1, 0.5]

    def test_replies_to_others_are_kept_for_them(self, mailbox, connection, channel, monkeypatch):
        self.ticket(monkeypatch)
        connection.events.extend([self.reply(mailbox, channel, "U", "u"), self.reply(mailbox, channel, "T", "t")])
        assert mailbox.multi_call("add", limit=1) == ["t"]
        assert list(mailbox._collect("U")) == ["u"]
        assert not mailbox.unclaimed

    def test_an_expired_reply_is_dropped(self, mailbox, connection, channel, monkeypatch):
        self.ticket(monkeypatch)
        connection.events.extend([
            self.reply(mailbox, channel, "T", "late", expires=time() - 1),
            self.reply(mailbox, channel, "T", "good", expires=time() + 60),
        ])
        assert mailbox.multi_call("add") == ["good"]

    def test_what_is_not_accepted_is_raised(self, mailbox, connection, channel, monkeypatch):
        self.ticket(monkeypatch)
        message = Message(b"", 1, "application/x-yaml", "utf-8", channel=channel)
        connection.events.append(lambda: channel.deliver(message))
        with pytest.raises(Exception, match="yaml"):
            mailbox.multi_call("add")


class TestNode:
    def test_listens_on_its_queue_without_acknowledging(self, node, channel):
        consumer = node.listen()
        (call,) = channel.of("basic_consume")
        assert (call.kwargs["queue"], call.kwargs["no_ack"]) == ("me.app.pidbox", True)
        assert consumer.accept == {"application/json"}

    def test_warns_when_another_node_has_the_same_name(self, node, channel, monkeypatch):
        monkeypatch.setattr(channel, "queue_declare", lambda **kwargs: (kwargs["queue"], 0, 1))
        with pytest.warns(UserWarning, match="A node named me is already using this process mailbox"):
            node.Consumer()

    def test_a_queue_that_another_node_has_to_itself_is_an_inconsistency(self, node, channel):
        locked = ChannelClosed()
        locked.code = 405
        channel.failures["queue_declare"] = [locked, ChannelClosed()]
        with pytest.raises(InconsistencyError, match="A node named me"):
            node.Consumer()
        with pytest.raises(ChannelClosed):
            node.Consumer()

    def test_a_command_for_it_is_dispatched_and_others_are_not(self, node):
        command = {"method": "add", "arguments": {"a": 1}}
        for address, expected in (
            ({}, 2),
            ({"destination": ["me"]}, 2),
            ({"destination": ["you"]}, None),
            ({"pattern": "m*", "matcher": "glob"}, 2),
            ({"pattern": "y*", "matcher": "glob"}, None),
            ({"destination": ["me"], "pattern": "y*", "matcher": "glob"}, 2),
            ({"pattern": "y*"}, 2),
        ):
            assert node.handle_message({**command, **address}) == expected
        assert node.dispatch_from_message(command) == 2

    def test_the_clock_follows_the_message(self, node, mailbox, channel):
        node.handle_message({"method": "add"}, Message(b"", channel=channel, headers={"clock": 41}))
        assert mailbox.clock.value == 42

    def test_a_reply_is_sent_where_the_command_says(self, node, channel):
        reply_to = {"exchange": "reply.app.pidbox", "routing_key": "rk"}
        node.handle_message({"method": "add", "arguments": {"b": 5}, "reply_to": reply_to, "ticket": "T"})
        ((body, headers, options),) = sent(channel)
        assert body == {"me": 6} and headers["ticket"] == "T" and headers["clock"]
        assert (options["exchange"], options["routing_key"]) == ("reply.app.pidbox", "rk")

    def test_a_reply_nobody_waits_for_is_given_up(self, node, channel):
        channel.failures["basic_publish"] = [InconsistencyError("no queue")]
        node.dispatch("add", reply_to={"exchange": "e", "routing_key": "rk"}, ticket="T")

    def test_a_failed_handler_is_logged_and_replied(self, node, channel, caplog):
        reply = node.dispatch("fail", reply_to={"exchange": "e", "routing_key": "rk"}, ticket="T")
        assert reply == {"error": "ValueError('handler failed')"}
        assert sent(channel)[0][0] == {"me": reply}
        assert "pidbox command error" in caplog.text

    def test_an_unknown_command_is_such_a_failure(self, node):
        assert "nonesuch" in node.dispatch("nonesuch")["error"]

    def test_leaving_is_no_failure(self, node):
        with pytest.raises(SystemExit):
            node.dispatch("leave")

    def test_calls_and_casts_are_handled_apart(self, node, monkeypatch):
        monkeypatch.setattr(node, "handle_call", lambda method, arguments: "called")
        monkeypatch.setattr(node, "handle_cast", lambda method, arguments: "cast")
        assert node.dispatch("add") == "cast"
        assert node.dispatch("add", reply_to={"exchange": "e", "routing_key": "k"}, ticket="T") == "called"

    def test_what_cannot_be_decoded_is_logged(self, node, channel, caplog):
        node.listen()
        channel.deliver(Message(b"{", 1, "application/json", "utf-8", channel=channel))
        assert "Cannot decode message" in caplog.text

    def test_handlers_may_be_given(self, mailbox):
        node = mailbox.Node("me", handlers={"ping": lambda state: "pong"})
        assert node.handle("ping") == "pong"


def test_nodes_answer_over_memory():
    with Connection("memory://") as connection, warnings.catch_warnings():
        warnings.simplefilter("error")
        mailbox = pidbox.Mailbox("over-memory", type="fanout", connection=connection, clock=LamportClock())
        answers = {"a": 1, "b": 2}
        for name, answer in answers.items():
            node = mailbox.Node(name, state=answer, channel=connection.channel(), handlers={"n": lambda state: state})
            node.listen()
        assert sorted(mailbox.multi_call("n", timeout=5, limit=2), key=str) == [{"a": 1}, {"b": 2}]
        assert mailbox.call(["b"], "n", timeout=5) == [{"b": 2}]
        assert mailbox._broadcast("n", reply=True, timeout=5, limit=1, pattern="a*", matcher="glob") == [{"a": 1}]
