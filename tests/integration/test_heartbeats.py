"""Heartbeats: sent while messages keep coming, and missed when the broker falls silent."""

from __future__ import annotations

import time
from typing import Any

import pytest
from amqp.exceptions import ConnectionForced

from kombu import Connection, Consumer, Message, Producer, Queue
from pace import at_some_pace
from patience import PATIENCE, Background
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

    def attempt(pace: float) -> None:
        consuming = connect(proxy.url(broker.url), heartbeat=pace)
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
                    while time.monotonic() < began + 3.5 * pace:
                        consuming.drain_events(timeout=PATIENCE)
                finally:
                    stop = True
            ended = time.monotonic()
            assert seen > 100
            times = [at for at in proxy.pair().sent_at if began <= at <= ended]
            gaps = [after - before for before, after in zip([began, *times], [*times, ended], strict=True)]
            # Half an interval is what is wanted.
            assert max(gaps) < 0.6 * pace, gaps
            assert consuming.connected

    at_some_pace(attempt, paces=(1, 4))


def test_they_are_sent_while_nothing_comes(broker: Any, connect: Any, proxy: Proxy) -> None:
    def attempt(pace: float) -> None:
        connection = connect(proxy.url(broker.url), heartbeat=pace)
        connection.connect()
        before = len(proxy.pair().sent_at)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=2.7 * pace)
        assert len(proxy.pair().sent_at) - before >= 4
        assert connection.connected

    at_some_pace(attempt, paces=(1, 4))


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
    # The broker says nothing before this.
    started = time.monotonic()
    connection = connect(heartbeat=1, transport_options={"close_timeout": 0.2})
    channel = connection.default_channel
    rabbit.freeze()
    try:
        with pytest.raises(ConnectionForced, match="heartbeat") as caught:
            if way == "drain":
                connection.drain_events(timeout=40)
            elif way == "request":
                channel.basic_qos(0, 1, False)
            else:
                while time.monotonic() < started + 40:
                    connection.heartbeat_check()
                    time.sleep(0.1)
        elapsed = time.monotonic() - started
        assert isinstance(caught.value, connection.recoverable_connection_errors)
        with pytest.raises(connection.recoverable_connection_errors):
            connection.drain_events(timeout=1)
        assert not connection.connected
    finally:
        rabbit.thaw()
    assert 2 < elapsed < 40
