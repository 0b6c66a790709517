"""What is particular to TLS: deadlines, certificates, records that OpenSSL holds."""

from __future__ import annotations

import ssl
import time
from typing import Any

import pytest

from kombu import Connection, Consumer, Producer, Queue
from patience import PATIENCE, Background, drain_until
from rabbit import Rabbit


@pytest.fixture
def tls(rabbit: Rabbit) -> Any:
    return {"hostname": rabbit.tls_url(), "ssl": rabbit.tls_options()}


def test_connect_timeout_is_no_limit_for_reading_later(tls: Any, rabbit: Rabbit, queue_name: str) -> None:
    with Connection(**tls, connect_timeout=2) as consuming, Connection(rabbit.url()) as publishing:
        seen: list[Any] = []
        queue = Queue(queue_name, durable=False)
        with Consumer(consuming, queue, callbacks=[lambda body, message: seen.append(body)], no_ack=True):

            def publish_late() -> None:
                time.sleep(2.3)
                Producer(publishing, routing_key=queue_name).publish("late")

            with Background(publish_late):
                consuming.drain_events()
        assert seen == ["late"]


def test_a_server_that_is_not_trusted_is_refused(tls: Any) -> None:
    options = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "localhost"}
    with Connection(tls["hostname"], ssl=options) as connection:
        with pytest.raises(ssl.SSLError):
            connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        assert not connection.connected


def test_a_server_of_another_name_is_refused(tls: Any) -> None:
    options = {**tls["ssl"], "server_hostname": "elsewhere.example"}
    with Connection(tls["hostname"], ssl=options) as connection:
        with pytest.raises(ssl.SSLError):
            connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)


def test_a_context_can_be_described_instead(tls: Any, rabbit: Rabbit) -> None:
    options = {"context": {"cafile": tls["ssl"]["ca_certs"]}, "server_hostname": "localhost"}
    with Connection(tls["hostname"], ssl=options) as connection:
        assert connection.connect().connected


def test_plain_text_to_a_tls_port_ends_with_an_error(rabbit: Rabbit) -> None:
    with Connection(f"amqp://guest:guest@127.0.0.1:{rabbit.tls_port}//", connect_timeout=3) as connection:
        started = time.monotonic()
        with pytest.raises(connection.connection_errors):
            connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        assert time.monotonic() - started < PATIENCE


def test_tls_to_a_plain_port_ends_with_an_error(rabbit: Rabbit, tls: Any) -> None:
    with Connection(f"amqps://guest:guest@127.0.0.1:{rabbit.port}//", ssl=tls["ssl"], connect_timeout=3) as connection:
        started = time.monotonic()
        with pytest.raises(connection.recoverable_connection_errors):
            connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        assert time.monotonic() - started < PATIENCE


def test_records_that_openssl_holds_are_served_before_waiting(tls: Any, rabbit: Rabbit, queue_name: str) -> None:
    """One large message fills records larger than a read; no poll shows what is left of them."""
    with Connection(**tls) as consuming, Connection(rabbit.url()) as publishing:
        sizes = [5, 16384, 100_000, 3, 200_000, 1, 16385, 40_000] * 5
        seen: list[int] = []
        queue = Queue(queue_name, durable=False)
        with Consumer(consuming, queue, on_message=lambda message: seen.append(len(message.body)), no_ack=True):
            producer = Producer(publishing, routing_key=queue_name)
            for size in sizes:
                producer.publish(bytes(size), content_type="application/data", content_encoding="binary")
            drain_until(consuming, lambda: len(seen) == len(sizes))
        assert seen == sizes


def test_both_directions_at_once_do_not_disturb_each_other(tls: Any, queue_name: str) -> None:
    """A thread reads the session that another one writes."""
    with Connection(**tls) as connection:
        queue = Queue(queue_name, durable=False)
        seen: list[bytes] = []
        body = bytes(range(256)) * 1000

        def publish() -> None:
            producer = Producer(connection.channel(), routing_key=queue_name)
            for _ in range(60):
                producer.publish(body, content_type="application/data", content_encoding="binary")

        with Consumer(connection.channel(), queue, on_message=lambda message: seen.append(message.body), no_ack=True):
            with Background(publish, timeout=60):
                drain_until(connection, lambda: len(seen) == 60, timeout=60)
        assert all(each == body for each in seen)
