"""Consumers: what they start, how a message gets to its callback, and where errors go."""

from __future__ import annotations

import pytest

from kombu.entity import Exchange, Queue
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.message import Message
from kombu.messaging import Consumer
from recording import ConnectionLost, RecordingChannel, RecordingConnection


def never(*args):
    """Stand where nothing must arrive."""
    pytest.fail(f"called with {args}")


class OtherMessage(Message):
    """What a transport of somebody else's delivers."""


def message(
    channel, body=b'{"a": 1}', content_type="application/json", content_encoding="utf-8", cls=Message, **kwargs,
):
    return cls(body, 1, content_type, content_encoding, channel=channel, **kwargs)


@pytest.fixture
def connection():
    return RecordingConnection()


@pytest.fixture
def channel(connection):
    return connection.channel()


@pytest.fixture
def received():
    return []


class TestReceive:
    def test_callbacks_get_body_and_message_one_after_the_other(self, channel, received):
        callbacks = [lambda *args: received.append(("first", *args)), lambda *args: received.append(("second", *args))]
        Consumer(channel, Queue("q"), callbacks=callbacks).consume()
        delivered = message(channel)
        channel.deliver(delivered)
        assert received == [("first", {"a": 1}, delivered), ("second", {"a": 1}, delivered)]

    def test_without_callbacks_it_is_an_error(self, channel):
        Consumer(channel, Queue("q")).consume()
        with pytest.raises(NotImplementedError, match="does not have any callbacks"):
            channel.deliver(message(channel))

    def test_an_exception_of_a_callback_comes_through_and_is_no_decode_error(self, channel, received):
        def callback(body, message):
            raise DecodeError("by the callback")

        Consumer(
            channel, Queue("q"), callbacks=[callback], on_decode_error=lambda *args: received.append(args),
        ).consume()
        with pytest.raises(DecodeError, match="by the callback"):
            channel.deliver(message(channel))
        assert received == []

    def test_on_message_gets_what_is_not_decoded(self, channel, received):
        Consumer(channel, Queue("q"), on_message=received.append).consume()
        channel.deliver(message(channel, b"{not json"))
        assert [each.body for each in received] == [b"{not json"]

    def test_on_message_may_be_set_later(self, channel, received):
        consumer = Consumer(channel, Queue("q"), callbacks=[never])
        consumer.consume()
        consumer.on_message = received.append
        channel.deliver(message(channel))
        assert len(received) == 1

    def test_a_subclass_may_override_receive(self, channel, received):
        class Own(Consumer):
            def receive(self, body, message):
                received.append(body)

        Own(channel, Queue("q")).consume()
        channel.deliver(message(channel))
        assert received == [{"a": 1}]

    @pytest.mark.parametrize("body", [b"null", b"0", b"[]", b'""', b"false"])
    def test_a_body_that_is_false_is_a_body(self, channel, received, body):
        Consumer(channel, Queue("q"), callbacks=[lambda body, message: received.append(body)]).consume()
        channel.deliver(message(channel, body))
        assert len(received) == 1 and not received[0]


class TestConversion:
    def test_a_raw_message_is_converted_by_the_channel(self, channel, received):
        channel.message_to_python = lambda raw: message(channel, raw)
        Consumer(channel, Queue("q"), callbacks=[lambda body, message: received.append(body)]).consume()
        channel.deliver(b"[1]")
        assert received == [[1]]

    def test_a_message_class_of_another_transport_is_converted_too(self, channel, received):
        converted = []

        def message_to_python(raw):
            converted.append(raw)
            return raw

        channel.message_to_python = message_to_python
        Consumer(channel, Queue("q"), callbacks=[lambda body, message: received.append(body)]).consume()
        channel.deliver(message(channel, cls=OtherMessage))
        assert len(converted) == 1 and received == [{"a": 1}]

    def test_a_finished_message_is_taken_as_it_is(self, channel, received):
        channel.message_to_python = never
        Consumer(channel, Queue("q"), on_message=received.append).consume()
        delivered = message(channel)
        channel.deliver(delivered)
        assert received[0] is delivered

    def test_a_channel_needs_no_conversion(self, channel, received):
        channel.message_to_python = None
        Consumer(channel, Queue("q"), on_message=received.append).consume()
        channel.deliver(message(channel, cls=OtherMessage))
        assert len(received) == 1

    def test_a_conversion_that_fails_is_a_decode_error_with_the_raw_message(self, channel, received):
        def message_to_python(raw):
            raise DecodeError("cannot convert")

        channel.message_to_python = message_to_python
        Consumer(channel, Queue("q"), on_decode_error=lambda *args: received.append(args)).consume()
        channel.deliver(b"raw")
        assert received[0][0] == b"raw" and str(received[0][1]) == "cannot convert"


#: Messages that cannot be decoded, and the exceptions they raise.
MALFORMED = {
    "not json": ({"body": b"{not json"}, DecodeError),
    "wrong encoding": ({"body": b"\xff\xfe\xff", "content_type": "text/plain"}, DecodeError),
    "unknown encoding": ({"content_type": "text/plain", "content_encoding": "nonesuch"}, (DecodeError, LookupError)),
    "not compressed": ({"headers": {"compression": "zlib"}}, Exception),
    "unknown compression": ({"headers": {"compression": "nonesuch"}}, KeyError),
    "not accepted": ({"content_type": "application/x-yaml"}, ContentDisallowed),
}


@pytest.mark.parametrize("malformed", MALFORMED)
class TestMalformed:
    def test_reaches_on_decode_error_once(self, channel, received, malformed):
        options, expected = MALFORMED[malformed]
        Consumer(
            channel, Queue("q"), callbacks=[never], accept=["json", "text/plain"],
            on_decode_error=lambda *args: received.append(args),
        ).consume()
        delivered = message(channel, **options)
        channel.deliver(delivered)
        ((given, error),) = received
        assert given is delivered and isinstance(error, expected)

    def test_is_raised_where_events_are_drained_without_it(self, channel, malformed):
        options, expected = MALFORMED[malformed]
        Consumer(channel, Queue("q"), callbacks=[never], accept=["json", "text/plain"]).consume()
        with pytest.raises(expected):
            channel.deliver(message(channel, **options))

    def test_an_error_of_on_decode_error_comes_through_and_it_is_not_called_again(self, channel, received, malformed):
        def on_decode_error(message, exc):
            received.append(exc)
            raise RuntimeError("handler failed") from exc

        Consumer(
            channel, Queue("q"), callbacks=[never], accept=["json", "text/plain"], on_decode_error=on_decode_error,
        ).consume()
        with pytest.raises(RuntimeError, match="handler failed"):
            channel.deliver(message(channel, **MALFORMED[malformed][0]))
        assert len(received) == 1

    def test_a_method_of_a_subclass_serves_as_well(self, channel, received, malformed):
        class Own(Consumer):
            def on_decode_error(self, message, exc):
                received.append(exc)

        Own(channel, Queue("q"), callbacks=[never], accept=["json", "text/plain"]).consume()
        channel.deliver(message(channel, **MALFORMED[malformed][0]))
        assert len(received) == 1


def test_an_undecodable_message_never_reaches_on_message(channel, received):
    Consumer(channel, Queue("q"), on_message=never, on_decode_error=lambda *args: received.append(args)).consume()
    channel.deliver(message(channel, headers={"compression": "zlib"}))
    assert len(received) == 1


class TestAccept:
    def test_every_message_gets_the_same_precomputed_set(self, channel, received):
        consumer = Consumer(channel, Queue("q"), on_message=received.append, accept=["json"])
        consumer.consume()
        for _ in range(2):
            channel.deliver(message(channel))
        assert consumer.accept == {"application/json"}
        assert all(each.accept is consumer.accept for each in received)

    def test_without_it_the_message_keeps_its_own(self, channel, received):
        Consumer(channel, Queue("q"), on_message=received.append).consume()
        own = {"text/plain"}
        channel.deliver(message(channel, accept=own))
        assert received[0].accept is own

    def test_an_empty_list_accepts_nothing(self, channel):
        Consumer(channel, Queue("q"), callbacks=[never], accept=[]).consume()
        with pytest.raises(Consumer.ContentDisallowed):
            channel.deliver(message(channel))


class TestCallbacks:
    def test_registering_does_not_change_the_callers_list(self, channel, received):
        mine = [lambda body, message: received.append(1)]
        consumer = Consumer(channel, Queue("q"), callbacks=mine)
        consumer.register_callback(lambda body, message: received.append(2))
        consumer.consume()
        channel.deliver(message(channel))
        assert received == [1, 2] and len(mine) == 1

    def test_registering_does_not_change_the_class(self, channel):
        class Own(Consumer):
            callbacks = [print]

        consumer = Own(channel, Queue("q"))
        consumer.register_callback(repr)
        assert consumer.callbacks == [print, repr] and Own.callbacks == [print]

    def test_registering_works_without_any_before(self, channel):
        consumer = Consumer(channel, Queue("q"))
        consumer.register_callback(print)
        assert consumer.callbacks == [print]


class TestConsuming:
    def test_only_the_last_queue_waits_for_an_answer(self, channel):
        Consumer(channel, [Queue("a"), Queue("b"), Queue("c")]).consume()
        assert [(call.kwargs["queue"], call.kwargs["nowait"]) for call in channel.of("basic_consume")] == [
            ("a", True), ("b", True), ("c", False),
        ]

    def test_consuming_again_starts_added_queues_alone(self, channel):
        consumer = Consumer(channel, Queue("a"))
        consumer.consume()
        consumer.add_queue(Queue("b"))
        consumer.consume()
        assert [call.kwargs["queue"] for call in channel.of("basic_consume")] == ["a", "b"]
        assert consumer.consuming_from("b") and consumer.consuming_from(Queue("a"))

    def test_tags_are_unique_and_begin_with_the_prefix(self, channel):
        Consumer(channel, [Queue("a"), Queue("b")], tag_prefix="worker-").consume()
        tags = [call.kwargs["consumer_tag"] for call in channel.of("basic_consume")]
        assert len(set(tags)) == 2 and all(tag.startswith("worker-") for tag in tags)

    def test_nothing_to_consume_from_is_no_error(self, channel):
        Consumer(channel).consume()
        assert channel.calls == []

    def test_an_unnamed_queue_is_known_by_the_name_that_the_broker_chose(self, channel):
        consumer = Consumer(channel, Queue(""))
        consumer.consume()
        assert consumer.consuming_from("amq.gen-1")

    def test_a_callback_may_cancel_while_all_are_being_cancelled(self, channel):
        consumer = Consumer(channel, [Queue("a"), Queue("b")])
        consumer.consume()
        real = channel.basic_cancel

        def basic_cancel(tag):
            consumer.cancel_by_queue("b")
            real(tag)

        channel.basic_cancel = basic_cancel
        consumer.cancel()
        assert not consumer.consuming_from("a") and not consumer.consuming_from("b")

    def test_cancel_by_queue_forgets_the_queue_even_if_cancelling_fails(self, channel):
        consumer = Consumer(channel, [Queue("a"), Queue("b")])
        consumer.consume()
        channel.failures["basic_cancel"] = [ConnectionLost()]
        with pytest.raises(ConnectionLost):
            consumer.cancel_by_queue(Queue("a"))
        assert [queue.name for queue in consumer.queues] == ["b"]
        assert not consumer.consuming_from("a")


class TestRevive:
    def test_declares_sets_the_prefetch_count_and_consumes_again(self, connection, channel, received):
        consumer = Consumer(
            channel, [Queue("a", Exchange("e")), Queue("b")], prefetch_count=5, on_message=received.append,
        )
        consumer.add_queue(Queue("never consumed from"))
        consumer._basic_consume(consumer.queues[0], no_ack=True, nowait=False)
        consumer._basic_consume(consumer.queues[1], no_ack=False, nowait=False)
        new = connection.channel()
        consumer.revive(new)
        assert new.of("exchange_declare") and len(new.of("queue_declare")) == 3
        assert new.of("basic_qos")[0].args == (0, 5, False)
        assert [(call.kwargs["queue"], call.kwargs["no_ack"]) for call in new.of("basic_consume")] == [
            ("a", True), ("b", False),
        ]
        tag = new.of("basic_consume")[0].kwargs["consumer_tag"]
        new.deliver(message(new), tag)
        assert len(received) == 1

    def test_a_consumer_that_did_not_consume_does_not_start_to(self, connection, channel):
        consumer = Consumer(channel, Queue("a"))
        new = connection.channel()
        consumer.revive(new)
        assert new.of("basic_consume") == [] and consumer.channel is new

    @pytest.mark.parametrize("operation", ["queue_declare", "basic_qos", "basic_consume"])
    def test_a_connection_that_is_lost_meanwhile_ends_no_consumer(self, connection, channel, operation):
        consumer = Consumer(channel, [Queue("a"), Queue("b")], prefetch_count=5)
        consumer.consume()
        failing, new = connection.channel(), connection.channel()
        failing.failures[operation] = [None, ConnectionLost()] if operation != "basic_qos" else [ConnectionLost()]
        with pytest.raises(ConnectionLost):
            consumer.revive(failing)
        consumer.revive(new)
        assert [call.kwargs["queue"] for call in new.of("basic_consume")] == ["a", "b"]

    def test_a_queue_that_was_replaced_is_forgotten(self, connection, channel):
        consumer = Consumer(channel, Queue("a"))
        consumer.consume()
        consumer.queues = [Queue("b")]
        consumer.revive(connection.channel())
        consumer.add_queue(Queue("a"))
        new = connection.channel()
        consumer.revive(new)
        assert new.of("basic_consume") == []

    def test_takes_the_default_channel_of_a_connection(self, connection):
        assert Consumer(connection, Queue("q")).channel is connection.default_channel

    def test_leaves_the_queue_that_was_given_unbound(self, channel):
        queue = Queue("q", Exchange("e"))
        Consumer(channel, queue)
        assert not queue.is_bound and not queue.exchange.is_bound


class TestCancelledByTheBroker:
    def test_without_on_cancel_the_channel_is_asked_as_ever(self, channel):
        Consumer(channel, Queue("q")).consume()
        assert channel.of("basic_consume")[0].kwargs["on_cancel"] is None

    def test_on_cancel_is_told_the_tag_and_the_others_go_on(self, channel, received):
        told = []
        consumer = Consumer(channel, [Queue("a"), Queue("b")], on_message=received.append, on_cancel=told.append)
        consumer.consume()
        tag, other = channel.callbacks
        channel.on_cancel[tag](tag)
        assert told == [tag]
        assert not consumer.consuming_from("a") and consumer.consuming_from("b")
        channel.deliver(message(channel), other)
        assert len(received) == 1

    def test_consume_starts_it_again(self, channel):
        consumer = Consumer(channel, Queue("a"), on_cancel=lambda tag: None)
        consumer.consume()
        (tag,) = channel.callbacks
        channel.on_cancel[tag](tag)
        consumer.consume()
        assert len(channel.of("basic_consume")) == 2

    def test_it_is_not_cancelled_once_more(self, channel):
        consumer = Consumer(channel, Queue("a"), on_cancel=lambda tag: None)
        with consumer:
            (tag,) = channel.callbacks
            channel.on_cancel[tag](tag)
        assert channel.of("basic_cancel") == []

    def test_a_method_of_a_subclass_serves_as_well(self, channel):
        told = []

        class Own(Consumer):
            def on_cancel(self, consumer_tag):
                told.append(consumer_tag)

        Own(channel, Queue("a")).consume()
        (tag,) = channel.callbacks
        channel.on_cancel[tag](tag)
        assert told == [tag]


class TestContext:
    def test_consumes_within_and_cancels_afterwards(self, channel):
        with Consumer(channel, Queue("q")) as consumer:
            assert consumer.consuming_from("q")
        assert channel.names("basic_consume", "basic_cancel") == ["basic_consume", "basic_cancel"]

    def test_cancels_after_an_error_of_the_application(self, channel):
        with pytest.raises(ValueError), Consumer(channel, Queue("q")):
            raise ValueError
        assert channel.names("basic_cancel") == ["basic_cancel"]

    def test_does_not_try_to_cancel_on_a_lost_connection(self, channel):
        with pytest.raises(ConnectionLost), Consumer(channel, Queue("q")):
            raise ConnectionLost
        assert channel.of("basic_cancel") == []

    def test_does_not_try_to_cancel_on_a_closed_channel(self, channel):
        with Consumer(channel, Queue("q")):
            channel.connection = None
        assert channel.of("basic_cancel") == []

    def test_an_error_while_cancelling_is_logged_and_not_raised(self, channel, caplog):
        caplog.set_level("DEBUG", "kombu.messaging")
        channel.failures["basic_cancel"] = [ConnectionLost("too late")]
        with Consumer(channel, Queue("q")):
            pass
        assert "too late" in caplog.text


def test_connection_is_none_once_the_channel_is_closed(connection, channel):
    consumer = Consumer(channel, Queue("q"))
    assert consumer.connection is connection
    channel.connection = None
    assert consumer.connection is None


def test_a_consumer_without_a_channel_waits_for_one():
    channel = RecordingChannel()
    consumer = Consumer(None, Queue("q"))
    consumer.revive(channel)
    consumer.consume()
    assert consumer.consuming_from("q")
