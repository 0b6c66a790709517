"""What is agreed on at the start, and closing from any state."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from amqp.exceptions import ResourceError

from kombu import Connection, Consumer, Message, Producer, Queue
from patience import PATIENCE, drain_until, until
from proxy import Proxy
from rabbit import Rabbit

#: What RabbitMQ offers.
FRAME_MAX = 131072
CHANNEL_MAX = 2047


@pytest.mark.parametrize(
    ("asked", "agreed"), [(None, FRAME_MAX), (0, FRAME_MAX), (8192, 8192), (65536, 65536), (1 << 20, FRAME_MAX)]
)
def test_frame_max_may_be_lowered_and_never_raised(
    asked: int | None, agreed: int, connect: Any, connection: Connection, queue_name: str
) -> None:
    limited = connect(transport_options={"frame_max": asked} if asked is not None else {})
    assert limited.connect().frame_max == agreed
    body = random.Random(asked or 1).randbytes(300_000)
    queue = Queue(queue_name, durable=False)
    seen: list[Message] = []
    binary = {"content_type": "application/data", "content_encoding": "binary"}
    with Consumer(limited, queue, on_message=seen.append, no_ack=True):
        Producer(limited, routing_key=queue_name).publish(body, **binary)
        Producer(connection, routing_key=queue_name).publish(body, headers={"k": "v" * 2000}, **binary)
        drain_until(limited, lambda: len(seen) == 2)
    assert [message.body == body for message in seen] == [True, True]


@pytest.mark.parametrize(("asked", "agreed"), [(None, CHANNEL_MAX), (5, 5), (65000, CHANNEL_MAX)])
def test_channel_max_may_be_lowered_and_never_raised(asked: int | None, agreed: int, connect: Any) -> None:
    limited = connect(transport_options={"channel_max": asked} if asked is not None else {})
    assert limited.connect().channel_max == agreed
    if agreed > 10:
        return
    channels = [limited.channel() for _ in range(agreed)]
    with pytest.raises(ResourceError, match=f"channel_max={agreed}"):
        limited.channel()
    channels[2].close()
    assert limited.channel().channel_id == 3


def test_the_broker_tells_what_it_is(connection: Connection) -> None:
    properties = connection.connect().server_properties
    assert properties["product"] == "RabbitMQ"
    assert properties["capabilities"]["publisher_confirms"] is True
    assert connection.qos_semantics_matches_spec is (int(properties["version"].split(".")[0]) >= 4)


def test_the_client_tells_what_it_is(rabbit: Rabbit, connect: Any) -> None:
    name = f"named {random.random()}"
    connect(transport_options={"client_properties": {"connection_name": name}}).connect()
    rows = until(lambda: [r for r in rabbit.rows("list_connections", "client_properties") if name in str(r)], 30)
    assert "connection_name" in rows[0]["client_properties"]


STATES: dict[str, Callable[[Connection], Any]] = {
    "new": lambda connection: None,
    "connected": lambda connection: connection.connect(),
    "with channels": lambda connection: [connection.channel() for _ in range(5)],
    "consuming": lambda connection: Consumer(
        connection, Queue("", exclusive=True), on_message=lambda message: None
    ).consume(),
    "released": lambda connection: (connection.connect(), connection.release()),
    "collected": lambda connection: (connection.connect(), connection.collect()),
    "transport closed": lambda connection: connection.connect().close(),
    "transport collected": lambda connection: connection.connect().collect(),
    "socket closed": lambda connection: connection.connect().sock.close(),
}


@pytest.mark.parametrize("way", ["release", "close", "collect"])
@pytest.mark.parametrize("state", STATES)
def test_a_connection_may_be_closed_in_any_state_any_number_of_times(state: str, way: str, connect: Any) -> None:
    connection = connect(transport_options={"close_timeout": 1})
    STATES[state](connection)
    transport = connection._connection
    started = time.monotonic()
    for _ in range(3):
        getattr(connection, way)()
        assert not connection.connected
    if transport is not None:
        transport.close()
        transport.close()
        assert not transport.connected
    assert time.monotonic() - started < PATIENCE


@pytest.mark.parametrize("loss", ["close", "reset"])
def test_a_lost_connection_may_be_closed(loss: str, broker: Any, connect: Any, proxy: Proxy) -> None:
    connection = connect(proxy.url(broker.url))
    channel = connection.default_channel
    getattr(proxy.pair(), loss)()
    started = time.monotonic()
    channel.close()
    connection.release()
    connection.release()
    assert time.monotonic() - started < PATIENCE


def test_closing_is_bounded_when_the_broker_is_frozen(rabbit: Rabbit, connect: Any) -> None:
    connections = [connect(transport_options={"close_timeout": 0.3}) for _ in range(3)]
    channels = [each.default_channel for each in connections]
    rabbit.freeze()
    try:
        started = time.monotonic()
        connections[0].release()
        connections[1].connection.close()
        channels[2].close()
        channels[2].close()
        connections[2].collect()
        assert time.monotonic() - started < PATIENCE
        assert not any(each.connected for each in connections)
    finally:
        rabbit.thaw()


def test_closing_when_the_broker_is_gone_is_quick(broker: Any, connect: Any, proxy: Proxy) -> None:
    """The peer neither answers nor ends the stream."""
    connection = connect(proxy.url(broker.url), transport_options={"close_timeout": 0.3})
    channel = connection.default_channel
    pair = proxy.pair()
    pair.stall()
    pair.hold()
    started = time.monotonic()
    channel.close()
    connection.release()
    assert 0.29 <= time.monotonic() - started < PATIENCE


def test_a_closed_channel_can_not_be_used_and_says_so(connection: Connection) -> None:
    channel = connection.channel()
    channel.close()
    with pytest.raises(connection.recoverable_connection_errors):
        channel.basic_qos(0, 1, False)
    with pytest.raises(connection.recoverable_connection_errors):
        channel.basic_publish(channel.prepare_message(b"x"), "", "nowhere")
    with pytest.raises(connection.recoverable_connection_errors):
        channel.basic_ack(1)
    assert connection.connected


def test_a_released_connection_connects_again_when_it_is_used(connection: Connection, queue_name: str) -> None:
    for n in range(3):
        with connection.SimpleQueue(queue_name) as queue:
            queue.put(n)
            message = queue.get(timeout=10)
            assert message.payload == n
            message.ack()
        connection.release()
        assert not connection.connected


def test_closing_while_messages_stream_in_loses_nothing(connect: Any, queue_name: str) -> None:
    """What the consumer had not acknowledged is there for the next one."""
    queue = Queue(queue_name, durable=False)
    with connect() as publishing:
        queue(publishing.default_channel).declare()
        producer = Producer(publishing, routing_key=queue_name)
        for n in range(2000):
            producer.publish(n)
    acknowledged: list[int] = []
    while len(acknowledged) < 2000:
        with connect() as consuming:

            def on_message(message: Message) -> None:
                message.ack()
                acknowledged.append(message.payload)

            with Consumer(consuming, queue, on_message=on_message):
                goal = min(2000, len(acknowledged) + 500)
                drain_until(consuming, lambda goal=goal: len(acknowledged) >= goal)
    assert sorted(acknowledged) == list(range(2000))
