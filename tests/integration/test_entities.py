"""Declaring on a real broker: arguments, conflicts, access, names."""

from __future__ import annotations

import time
from typing import Any

import pytest
from amqp import AccessRefused

from kombu import Connection, Consumer, Exchange, Message, Producer, Queue
from patience import drain_until, until


def take_all(connection: Connection, queue: Queue, count: int) -> list[Any]:
    payloads: list[Any] = []

    def on_message(message: Message) -> None:
        payloads.append(message.payload)
        message.ack()

    with Consumer(connection.channel(), queue, on_message=on_message, auto_declare=False, prefetch_count=1):
        drain_until(connection, lambda: len(payloads) == count)
    return payloads


def test_higher_priorities_come_first(connection: Connection, queue_name: str) -> None:
    queue = Queue(queue_name, max_priority=5)(connection.default_channel)
    queue.declare()
    producer = Producer(connection, routing_key=queue_name)
    for priority in (0, 5, 2, 5, 1):
        producer.publish(priority, priority=priority)
    until(lambda: queue.queue_declare(passive=True).message_count == 5)
    assert take_all(connection, queue, 5) == [5, 5, 2, 1, 0]


def test_a_bounded_queue_drops_its_oldest_messages(connection: Connection, queue_name: str) -> None:
    queue = Queue(queue_name, max_length=3)(connection.default_channel)
    queue.declare()
    producer = Producer(connection, routing_key=queue_name)
    for n in range(10):
        producer.publish(n)
    assert take_all(connection, queue, 3) == [7, 8, 9]


def test_expired_messages_go_to_the_dead_letter_exchange(connection: Connection, queue_name: str) -> None:
    channel = connection.default_channel
    dead = Queue(f"{queue_name}-dead", Exchange(f"{queue_name}-dlx", "fanout"))(channel)
    dead.declare()
    queue = Queue(queue_name, message_ttl=0.05, queue_arguments={"x-dead-letter-exchange": f"{queue_name}-dlx"})
    queue(channel).declare()
    Producer(connection, routing_key=queue_name).publish("old")
    message = until(dead.get)
    assert message.payload == "old"
    assert message.headers["x-death"][0]["reason"] == "expired"


def test_a_queue_expires_when_nobody_uses_it(connection: Connection, queue_name: str) -> None:
    queue = Queue(queue_name, expires=0.1)(connection.channel())
    queue.declare()


    def gone() -> bool:
        # Each look would count as a use, so the question is put rarely.
        time.sleep(0.25)
        try:
            queue.queue_declare(passive=True)
        except connection.channel_errors as exc:
            return exc.reply_code == 404
        return False

    until(gone, what="the queue to expire")


def test_an_alternate_exchange_gets_what_has_no_queue(connection: Connection, queue_name: str) -> None:
    channel = connection.default_channel
    rest = Queue(f"{queue_name}-rest", Exchange(f"{queue_name}-alternate", "fanout"))(channel)
    rest.declare()
    exchange = Exchange(queue_name, "direct", arguments={"alternate-exchange": f"{queue_name}-alternate"})
    Producer(connection, exchange).publish("stray", routing_key="nowhere")
    message = until(rest.get)
    assert message.payload == "stray"
    assert message.delivery_info["exchange"] == queue_name


def test_a_queue_without_a_name_gets_one_from_the_broker(connection: Connection) -> None:
    queue = Queue("", exclusive=True, auto_delete=True)(connection.default_channel)
    queue.declare()
    assert queue.name.startswith("amq.gen-")
    Producer(connection).publish("here", routing_key=queue.name)
    assert take_all(connection, queue, 1) == ["here"]


def test_declaring_a_queue_differently_is_refused_with_the_reason(connection: Connection, queue_name: str) -> None:
    Queue(queue_name, durable=True)(connection.default_channel).declare()
    with pytest.raises(connection.channel_errors) as caught:
        Queue(queue_name, durable=False)(connection.channel()).declare()
    assert caught.value.reply_code == 406
    assert "durable" in caught.value.reply_text
    assert isinstance(caught.value, connection.transport.channel_errors)


def test_an_exchange_of_another_type_is_refused_with_the_reason(connection: Connection, queue_name: str) -> None:
    Exchange(queue_name, "direct")(connection.default_channel).declare()
    with pytest.raises(connection.channel_errors) as caught:
        Exchange(queue_name, "fanout")(connection.channel()).declare()
    assert caught.value.reply_code == 406


def test_an_exclusive_queue_is_closed_to_other_connections(connect: Any, queue_name: str) -> None:
    owner, other = connect(), connect()
    Queue(queue_name, exclusive=True)(owner.default_channel).declare()
    with pytest.raises(other.channel_errors) as caught:
        Queue(queue_name)(other.default_channel).queue_declare(passive=True)
    assert caught.value.reply_code == 405
    # The channel had nothing to lose, so it is fit for use again.
    assert Queue(f"{queue_name}-own", durable=False)(other.default_channel).queue_declare().message_count == 0


def test_an_exchange_is_deleted_only_when_unused_if_so_wished(connection: Connection, queue_name: str) -> None:
    exchange = Exchange(queue_name, "direct")
    queue = Queue(queue_name, exchange, "key")(connection.default_channel)
    queue.declare()
    bound = exchange(connection.channel())
    with pytest.raises(connection.channel_errors) as caught:
        bound.delete(if_unused=True)
    assert caught.value.reply_code == 406
    queue.unbind_from(exchange, "key")
    bound.delete(if_unused=True)
    with pytest.raises(connection.channel_errors) as caught:
        bound.declare(passive=True)
    assert caught.value.reply_code == 404


def test_an_unknown_virtual_host_is_refused_by_name(rabbit: Any, connect: Any) -> None:
    connection = connect(rabbit.url("no-such-host"), ssl=False)
    with pytest.raises(connection.connection_errors, match="no-such-host"):
        connection.connect()


def test_a_wrong_password_is_refused_as_such(connect: Any, broker: Any) -> None:
    connection = connect(broker.url.replace("guest:guest", "guest:wrong"))
    with pytest.raises(AccessRefused) as caught:
        connection.connect()
    assert caught.value.reply_code == 403
    assert not connection.connected


def test_a_queue_declared_by_its_consumer_is_bound_everywhere(connection: Connection, queue_name: str) -> None:
    exchange = Exchange(queue_name, "topic", durable=False)
    queue = Queue(queue_name, exchange, "a.#", durable=False)
    seen: list[Any] = []
    with Consumer(connection, queue, callbacks=[lambda body, message: seen.append(body)], no_ack=True):
        producer = Producer(connection, exchange)
        producer.publish("no", routing_key="b")
        producer.publish("yes", routing_key="a.b.c")
        drain_until(connection, lambda: seen)
    assert seen == ["yes"]
