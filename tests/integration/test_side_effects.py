"""What is handed to kombu is not changed, and neither is the process around it."""

from __future__ import annotations

import copy
import logging
import socket
from typing import Any

import pytest

from kombu import Connection, Consumer, Exchange, Producer, Queue
from patience import drain_until


def test_publish_changes_none_of_its_arguments(connect: Any, queue_name: str) -> None:
    options = {"confirm_publish": True, "max_retries": 2, "client_properties": {"k": "v"}}
    policy = {"max_retries": 3, "interval_start": 0.1, "interval_step": 0.1, "interval_max": 1}
    headers = {"nested": {"list": [1, 2]}}
    declare = [Queue(queue_name, Exchange(queue_name, "direct", durable=False), queue_name, durable=False)]
    body = {"b": [1, {"c": 2}]}
    given = (options, policy, headers, body)
    before = copy.deepcopy(given)
    entities = list(declare)
    connection = connect(transport_options=options)
    producer = Producer(connection, exchange=declare[0].exchange, routing_key=queue_name)
    for _ in range(2):
        producer.publish(
            body, headers=headers, declare=declare, retry=True, retry_policy=policy, compression="gzip", expiration=60
        )
    assert given == before
    assert declare == entities
    assert connection.transport_options == before[0]


def test_tls_options_are_left_alone(rabbit: Any) -> None:
    options = {**rabbit.tls_options(), "server_hostname": None}
    before = dict(options)
    # Without a name the host's is checked, which the certificate has too.
    with Connection(rabbit.tls_url(), ssl=options) as connection:
        assert connection.connect().connected
    assert options == before


@pytest.mark.parametrize("way", ["release", "collect"])
def test_the_default_timeout_of_sockets_is_left_alone(way: str, connect: Any) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(12.5)
    try:
        connection = connect()
        assert connection.default_channel
        getattr(connection, way)()
        connection.collect(socket_timeout=0.1)
        assert socket.getdefaulttimeout() == 12.5
    finally:
        socket.setdefaulttimeout(before)


def test_a_default_timeout_of_sockets_does_not_limit_reading(connect: Any, queue_name: str) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.2)
    try:
        connection = connect()
        connection.connect()
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.6)
        with connection.SimpleQueue(queue_name) as queue:
            queue.put("fine")
            assert queue.get(timeout=10).payload == "fine"
    finally:
        socket.setdefaulttimeout(before)


def test_ordinary_work_logs_no_warning(connect: Any, queue_name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    seen: list[Any] = []
    with connect() as connection:
        queue = Queue(queue_name, durable=False)
        with Consumer(connection, queue, callbacks=[lambda body, message: (seen.append(body), message.ack())]):
            for n in range(10):
                Producer(connection, routing_key=queue_name).publish(n)
            drain_until(connection, lambda: len(seen) == 10)
    assert caplog.records == []
