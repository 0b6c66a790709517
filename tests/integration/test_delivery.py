"""The way of a message through a real broker: exchange, binding, queue, consumer, and how it is settled."""

from __future__ import annotations

from typing import Any

import pytest
from amqp import spec

from kombu import Connection, Consumer, Exchange, Message, Producer, Queue
from patience import drain_until, until


def queue_of(connection: Connection, name: str, **options: Any) -> Queue:
    """Return a queue of that name, declared, bound to the default channel."""
    queue = Queue(name, **options)(connection.default_channel)
    queue.declare()
    return queue


def put(connection: Connection, queue: Queue, *bodies: Any, **options: Any) -> None:
    producer = Producer(connection)
    for body in bodies:
        producer.publish(body, routing_key=queue.name, **options)


def take(connection: Connection, queue: Queue, count: int, **options: Any) -> list[Message]:
    """Consume *count* messages on a channel of their own and return them unsettled."""
    messages: list[Message] = []
    with Consumer(connection.channel(), queue, on_message=messages.append, auto_declare=False, **options):
        drain_until(connection, lambda: len(messages) >= count, what=f"{count} messages")
    return messages


ROUTES = {
    "direct": ({"routing_key": "a.b"}, {"routing_key": "a.b"}, {"routing_key": "a.c"}),
    "topic": ({"routing_key": "a.*"}, {"routing_key": "a.b"}, {"routing_key": "b.a"}),
    "fanout": ({}, {"routing_key": "whatever"}, None),
    "headers": (
        {"binding_arguments": {"x-match": "all", "k": 1, "l": "m"}},
        {"headers": {"k": 1, "l": "m", "n": None}},
        {"headers": {"k": 1}},
    ),
}


@pytest.mark.parametrize("kind", ROUTES)
def test_an_exchange_routes_by_its_type(kind: str, connection: Connection, queue_name: str) -> None:
    binding, fitting, other = ROUTES[kind]
    exchange = Exchange(queue_name, kind, durable=False)
    queue = Queue(queue_name, exchange, **binding)(connection.default_channel)
    producer = Producer(connection, exchange)
    queue.declare()
    if other is not None:
        producer.publish("not for the queue", **other)
    producer.publish("for the queue", **fitting)

    [message] = take(connection, queue, 1)
    assert message.payload == "for the queue"
    assert message.delivery_info["exchange"] == queue_name
    assert message.delivery_info["routing_key"] == fitting.get("routing_key", "")
    assert message.delivery_info["redelivered"] is False
    assert queue.get() is None


def test_an_exchange_bound_to_an_exchange_passes_messages_on_until_it_is_unbound(
    connection: Connection, queue_name: str
) -> None:
    channel = connection.default_channel
    source = Exchange(f"{queue_name}-source", "fanout", durable=False)(channel)
    target = Exchange(f"{queue_name}-target", "fanout", durable=False)(channel)
    source.declare()
    target.declare()
    target.bind_to(source)
    queue = queue_of(connection, queue_name, exchange=target)
    producer = Producer(connection, source)
    producer.publish(1)
    target.unbind_from(source)
    producer.publish(2)
    Producer(connection, target).publish(3)
    assert [message.payload for message in take(connection, queue, 2)] == [1, 3]


def test_thousands_of_messages_arrive_whole_and_in_order(connection: Connection, queue_name: str) -> None:
    queue = queue_of(connection, queue_name)
    count = 3000
    put(connection, queue, *({"n": n, "pad": "x" * (n % 700)} for n in range(count)))
    seen: list[int] = []

    def on_task(body: Any, message: Message) -> None:
        assert body["pad"] == "x" * (body["n"] % 700)
        seen.append(body["n"])
        message.ack()

    with Consumer(connection, queue, callbacks=[on_task], prefetch_count=100):
        drain_until(connection, lambda: len(seen) == count)
    assert seen == list(range(count))
    assert queue.queue_declare(passive=True).message_count == 0


def test_the_broker_keeps_what_was_not_acknowledged(connect: Any, queue_name: str) -> None:
    with connect() as connection:
        queue = queue_of(connection, queue_name)
        put(connection, queue, *range(5))
        messages = take(connection, queue, 5)
        messages[1].ack()
        messages[3].ack()
    with connect() as connection:
        again = take(connection, queue(connection.default_channel), 3)
        assert [message.payload for message in again] == [0, 2, 4]
        assert all(message.delivery_info["redelivered"] for message in again)


def test_one_acknowledgement_may_stand_for_all_before_it(connect: Any, queue_name: str) -> None:
    with connect() as connection:
        queue = queue_of(connection, queue_name)
        put(connection, queue, *range(5))
        messages = take(connection, queue, 5)
        messages[2].ack(multiple=True)
    with connect() as connection:
        again = take(connection, queue(connection.default_channel), 2)
        assert [message.payload for message in again] == [3, 4]


def test_a_rejected_message_is_dead_lettered_with_its_history(connection: Connection, queue_name: str) -> None:
    graveyard = queue_of(connection, f"{queue_name}-dead")
    queue = queue_of(
        connection,
        queue_name,
        queue_arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": graveyard.name},
    )
    put(connection, queue, "bad")
    take(connection, queue, 1)[0].reject()
    [dead] = take(connection, graveyard, 1)
    assert dead.payload == "bad"
    [death] = dead.headers["x-death"]
    assert (death["queue"], death["reason"], death["count"]) == (queue_name, "rejected", 1)
    assert death["time"].year >= 2020
    assert queue.get() is None


def test_a_requeued_message_comes_again_marked_as_redelivered(connection: Connection, queue_name: str) -> None:
    queue = queue_of(connection, queue_name)
    put(connection, queue, "once more")
    seen: list[bool] = []

    def on_message(message: Message) -> None:
        seen.append(message.delivery_info["redelivered"])
        if len(seen) < 3:
            message.requeue()
        else:
            message.ack()

    with Consumer(connection, queue, on_message=on_message):
        drain_until(connection, lambda: len(seen) == 3)
    assert seen == [False, True, True]
    assert queue.get() is None


def test_recover_has_unacknowledged_messages_delivered_again(connection: Connection, queue_name: str) -> None:
    queue = queue_of(connection, queue_name)
    put(connection, queue, 1, 2)
    messages: list[Message] = []
    with Consumer(connection.channel(), queue, on_message=messages.append) as consumer:
        drain_until(connection, lambda: len(messages) == 2)
        messages[0].ack()
        consumer.recover(requeue=True)
        drain_until(connection, lambda: len(messages) == 3)
        assert (messages[2].payload, messages[2].delivery_info["redelivered"]) == (2, True)
        messages[2].ack()
    assert queue.get() is None


def test_prefetch_count_bounds_what_is_unacknowledged(connection: Connection, queue_name: str) -> None:
    queue = queue_of(connection, queue_name)
    put(connection, queue, *range(10))
    messages: list[Message] = []
    with Consumer(connection.channel(), queue, on_message=messages.append, prefetch_count=3):
        drain_until(connection, lambda: len(messages) == 3)
        # The broker answers in order, so whatever it had sent before the answer would be here.
        queue.queue_declare(passive=True)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0)
        messages[0].ack()
        drain_until(connection, lambda: len(messages) == 4)
    assert [message.payload for message in messages] == [0, 1, 2, 3]


def test_without_acknowledgements_the_broker_forgets_at_once(connection: Connection, queue_name: str) -> None:
    queue = queue_of(connection, queue_name)
    put(connection, queue, *range(100))
    messages: list[Message] = []
    with Consumer(connection.channel(), queue, on_message=messages.append, no_ack=True):
        drain_until(connection, lambda: len(messages) == 100)
    assert queue.queue_declare(passive=True).message_count == 0
    assert queue.delete() == 0


def test_two_consumers_share_a_queue_and_each_gets_its_own(connection: Connection, queue_name: str) -> None:
    queue = queue_of(connection, queue_name)
    first: list[Any] = []
    second: list[Any] = []

    def into(found: list[Any]) -> Any:
        def on_message(message: Message) -> None:
            found.append(message.payload)
            message.ack()

        return on_message

    with (
        Consumer(connection.channel(), queue, on_message=into(first), prefetch_count=1),
        Consumer(connection.channel(), queue, on_message=into(second), prefetch_count=1),
    ):
        put(connection, queue, *range(100))
        drain_until(connection, lambda: len(first) + len(second) == 100)
    assert first and second
    assert sorted(first + second) == list(range(100))


def test_a_cancelled_consumer_gets_nothing_more(connection: Connection, queue_name: str) -> None:
    queue = queue_of(connection, queue_name)
    seen: list[Any] = []
    consumer = Consumer(connection.channel(), queue, on_message=seen.append, no_ack=True)
    consumer.consume()
    put(connection, queue, 1)
    drain_until(connection, lambda: seen)
    consumer.cancel()
    put(connection, queue, 2)
    assert queue.get(no_ack=True).payload == 2
    assert len(seen) == 1


def test_get_takes_one_message_with_the_number_left(connection: Connection, queue_name: str) -> None:
    queue = queue_of(connection, queue_name)
    assert queue.get() is None
    put(connection, queue, "a", "b", "c")
    message = queue.get()
    assert message.payload == "a"
    assert message.delivery_info["message_count"] == 2
    assert message.delivery_info["routing_key"] == queue_name
    assert message.delivery_info["exchange"] == ""
    message.ack()
    assert queue.get(no_ack=True).payload == "b"
    queue.get().requeue()
    assert queue.get().delivery_info["redelivered"] is True


def test_purge_and_delete_tell_how_many_messages_went(connection: Connection, queue_name: str) -> None:
    queue = queue_of(connection, queue_name)
    put(connection, queue, *range(7))
    assert queue.purge() == 7
    assert queue.purge() == 0
    put(connection, queue, *range(3))
    assert queue.delete() == 3
    with pytest.raises(connection.channel_errors, match=queue_name.replace("[", r"\[").replace("]", r"\]")):
        queue.queue_declare(passive=True)


def test_a_declaration_tells_messages_and_consumers(connection: Connection, queue_name: str) -> None:
    queue = queue_of(connection, queue_name)
    put(connection, queue, 1, 2)
    # The broker answers this question before it has put away what was published just now.
    until(lambda: tuple(queue.queue_declare(passive=True)) == (queue_name, 2, 0))
    with Consumer(connection.channel(), queue, on_message=lambda message: None):
        assert queue.queue_declare(passive=True).consumer_count == 1


def test_a_callback_may_publish_declare_and_drain(connection: Connection, queue_name: str) -> None:
    queue = queue_of(connection, queue_name)
    other = queue_of(connection, f"{queue_name}-other")
    seen: list[Any] = []

    def on_other(message: Message) -> None:
        seen.append(message.payload)
        message.ack()

    def on_message(message: Message) -> None:
        Queue(f"{queue_name}-made")(connection.default_channel).declare()
        put(connection, other, f"for {message.payload}")
        before = len(seen)
        drain_until(connection, lambda: len(seen) > before)
        seen.append(message.payload)
        message.ack()

    with (
        Consumer(connection.channel(), other, on_message=on_other),
        Consumer(connection.channel(), queue, on_message=on_message, prefetch_count=1),
    ):
        put(connection, queue, 1, 2, 3)
        drain_until(connection, lambda: len(seen) == 6)
    assert seen == ["for 1", 1, "for 2", 2, "for 3", 3]


def test_an_error_in_a_callback_leaves_the_loop_with_every_other_message(
    connection: Connection, queue_name: str
) -> None:
    queue = queue_of(connection, queue_name)
    seen: list[int] = []

    def on_message(message: Message) -> None:
        message.ack()
        seen.append(message.payload)
        if message.payload % 3 == 0:
            raise ZeroDivisionError(message.payload)

    put(connection, queue, *range(30))
    failed: list[int] = []
    with Consumer(connection, queue, on_message=on_message):
        while len(seen) < 30:
            try:
                connection.drain_events(timeout=10)
            except ZeroDivisionError as exc:
                failed.append(exc.args[0])
    assert seen == list(range(30))
    assert failed == list(range(0, 30, 3))


def test_a_mandatory_message_without_a_queue_is_returned_as_it_was(connect: Any, queue_name: str) -> None:
    connection = connect()
    returned: list[tuple[Any, ...]] = []
    producer = Producer(connection, on_return=lambda *args: returned.append(args))
    producer.publish(
        {"a": 1}, routing_key=queue_name, mandatory=True, headers={"x": [1, "2"]}, correlation_id="c-1"
    )
    drain_until(connection, lambda: returned)
    [(error, exchange, routing_key, message)] = returned
    assert (error.reply_code, error.reply_text) == (312, "NO_ROUTE")
    assert (exchange, routing_key) == ("", queue_name)
    assert message.properties["correlation_id"] == "c-1"
    assert message.properties["application_headers"] == {"x": [1, "2"]}
    assert message.body in ('{"a": 1}', b'{"a": 1}')


def test_a_return_that_nobody_handles_is_raised_while_draining(connection: Connection, queue_name: str) -> None:
    Producer(connection).publish("lost", routing_key=queue_name, mandatory=True)
    with pytest.raises(connection.channel_errors) as caught:
        connection.drain_events(timeout=10)
    assert caught.value.reply_code == 312
    assert caught.value.method_sig == spec.Basic.Return
    assert connection.default_channel.is_open


def test_a_transaction_shows_its_publishes_when_it_is_committed(connection: Connection, queue_name: str) -> None:
    queue = queue_of(connection, queue_name)
    channel = connection.channel()
    channel.tx_select()
    producer = Producer(channel)
    producer.publish("undone", routing_key=queue_name)
    channel.tx_rollback()
    producer.publish("done", routing_key=queue_name)
    assert queue.get() is None
    channel.tx_commit()
    assert queue.get().payload == "done"
    assert queue.get() is None
