"""Heartbeats: sent while messages keep coming, and missed when the broker falls silent."""

from __future__ import annotations

import time
from typing import Any

import pytest
from amqp.exceptions import ConnectionForced

from kombu import Connection, Consumer, Message, Producer, Queue
from patience import Background
from proxy import Proxy
from rabbit import Rabbit


def test_the_shorter_interval_is_agreed_on(connect: Any) -> None:
    for asked in (2, 30):
        connection = connect(heartbeat=asked)
        connection.connect()
        assert connection.get_heartbeat_interval() == asked
    connection = connect(heartbeat=0)
    connection.connect()
    assert connection.get_heartbeat_interval() == 0


def test_they_are_sent_while_messages_keep_coming(
    broker: Any, connect: Any, connection: Connection, proxy: Proxy, queue_name: str
) -> None:
    """A consumer that has nothing to send of its own, and never waits, is kept alive all the same."""
    consuming = connect(proxy.url(broker.url), heartbeat=1)
    queue = Queue(queue_name, durable=False)
    stop = False
    seen = 0

    def on_message(message: Message) -> None:
        nonlocal seen
        seen += 1
        time.sleep(0.002)

    def publish() -> None:
        producer = Producer(connection, routing_key=queue_name)
        while not stop:
            producer.publish("x")
            time.sleep(0.001)

    with Consumer(consuming, queue, on_message=on_message, no_ack=True):
        with Background(publish):
            began = time.monotonic()
            try:
                while time.monotonic() < began + 3.5:
                    consuming.drain_events(timeout=5)
            finally:
                stop = True
        ended = time.monotonic()
        assert seen > 100
        times = [at for at in proxy.pair().sent_at if began <= at <= ended]
        gaps = [after - before for before, after in zip([began, *times], [*times, ended], strict=True)]
        # Half an interval is what is wanted; a busy machine may add to it.
        assert max(gaps) < 1, gaps
        assert consuming.connected


def test_they_are_sent_while_nothing_comes(broker: Any, connect: Any, proxy: Proxy) -> None:
    connection = connect(proxy.url(broker.url), heartbeat=1)
    connection.connect()
    before = len(proxy.pair().sent_at)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=2.7)
    assert len(proxy.pair().sent_at) - before >= 4
    assert connection.connected


@pytest.mark.parametrize("broker", ["tcp"], indirect=True)
def test_they_can_be_sent_by_the_application_where_nothing_drains(broker: Any, connect: Any, proxy: Proxy) -> None:
    connection = connect(proxy.url(broker.url), heartbeat=1)
    connection.connect()
    deadline = time.monotonic() + 2.7
    while time.monotonic() < deadline:
        connection.heartbeat_check()
        time.sleep(0.2)
    connection.default_channel.basic_qos(0, 1, False)


@pytest.mark.parametrize(
    ("way", "broker"), [("drain", "tcp"), ("drain", "tls"), ("check", "tcp"), ("request", "tcp")], indirect=["broker"]
)
def test_a_silent_broker_is_noticed(way: str, rabbit: Rabbit, connect: Any) -> None:
    connection = connect(heartbeat=1, transport_options={"close_timeout": 0.2})
    channel = connection.default_channel
    rabbit.freeze()
    started = time.monotonic()
    try:
        with pytest.raises(ConnectionForced, match="heartbeat") as caught:
            if way == "drain":
                connection.drain_events(timeout=20)
            elif way == "request":
                # The first ones may still be answered, as a process takes a moment to stop.
                while time.monotonic() < started + 20:
                    channel.basic_qos(0, 1, False)
            else:
                while time.monotonic() < started + 20:
                    connection.heartbeat_check()
                    time.sleep(0.1)
        elapsed = time.monotonic() - started
        assert isinstance(caught.value, connection.recoverable_connection_errors)
        with pytest.raises(connection.recoverable_connection_errors):
            connection.drain_events(timeout=1)
        assert not connection.connected
    finally:
        rabbit.thaw()
    assert 1 < elapsed < 8
