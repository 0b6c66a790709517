"""What a message consists of arrives as it was sent: headers, properties, bodies of all sizes, serializers."""

from __future__ import annotations

import hashlib
import random
import struct
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from kombu import Connection, Consumer, Message, Producer, Queue, serialization
from kombu.exceptions import ContentDisallowed, DecodeError
from methods import require_method
from patience import drain_until


@pytest.fixture
def queue(connection: Connection, queue_name: str) -> Queue:
    queue = Queue(queue_name, durable=False)(connection.default_channel)
    queue.declare()
    return queue


@pytest.fixture
def producer(connection: Connection, queue: Queue) -> Producer:
    return Producer(connection, routing_key=queue.name)


def receive(connection: Connection, queue: Queue, **options: Any) -> Message:
    """Return the next message through a consumer, acknowledged."""
    messages: list[Message] = []
    with Consumer(connection.channel(), queue, on_message=messages.append, prefetch_count=1, **options):
        drain_until(connection, lambda: messages)
    # Only now, or the broker would send the next one to a consumer that leaves.
    messages[0].ack()
    return messages[0]


HEADERS = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "small": -5,
    "short": 1 << 14,
    "long": -(1 << 31),
    "unsigned": (1 << 32) - 1,
    "long-long": (1 << 62) + 1,
    "smallest": -(1 << 63),
    "double": 3.141592653589793,
    "negative-double": -1e300,
    "decimal": Decimal("-12.345"),
    "text": "grüße, 世界 \N{GRINNING FACE}",
    "empty text": "",
    "long text": "x" * 5000,
    "timestamp": datetime(2024, 2, 29, 12, 30, 15),
    "list": [1, "two", None, [3.5, [True, {}]], {"deep": [Decimal("1")]}],
    "empty list": [],
    "table": {"a": {"b": {"c": [{"d": {}}]}}, "ключ": 1},
    "empty table": {},
    "k" * 128: "a long key",
}


def test_headers_of_every_type_arrive_equal(connection: Connection, queue: Queue, producer: Producer) -> None:
    producer.publish("x", headers=HEADERS)
    message = receive(connection, queue)
    assert message.headers == HEADERS
    types = {name: type(value) for name, value in message.headers.items()}
    assert types == {name: type(value) for name, value in HEADERS.items()}


def test_bytes_in_headers_arrive(connection: Connection, queue: Queue, producer: Producer) -> None:
    producer.publish("x", headers={"valid": b"caf\xc3\xa9", "invalid": b"\xff\x00\xfe"})
    headers = receive(connection, queue).headers
    # The type for bytes is the one for text on the wire, so text is what comes back where it is text.
    assert headers["invalid"] == b"\xff\x00\xfe"
    assert headers["valid"] in ("café", b"caf\xc3\xa9")


def test_every_property_arrives_equal(connection: Connection, queue: Queue, producer: Producer) -> None:
    properties = {
        "correlation_id": "c-1",
        "reply_to": "somewhere",
        "message_id": "m-1",
        "type": "kind",
        "user_id": "guest",
        "app_id": "app",
        "cluster_id": "cluster",
        "timestamp": 1700000000,
    }
    producer.publish({"x": 1}, priority=7, expiration=60, delivery_mode=1, **properties)
    message = receive(connection, queue)
    found = dict(message.properties)
    assert found.pop("timestamp") in (1700000000, datetime.fromtimestamp(1700000000, timezone.utc).replace(tzinfo=None))
    del properties["timestamp"]
    assert found == {
        **properties,
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "application_headers": {},
        "delivery_mode": 1,
        "priority": 7,
        "expiration": "60000",
    }
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")


def test_messages_without_any_property_arrive(connection: Connection, queue: Queue) -> None:
    channel = connection.default_channel
    channel.basic_publish(channel.prepare_message(b"bare", None, None, None, None, {}), "", queue.name)
    message = receive(connection, queue)
    assert message.body == b"bare"
    assert message.headers == {}
    assert message.content_type is None


@pytest.mark.parametrize("key", ["", "a" * 255, "ключ.世界"])
def test_routing_keys_of_any_text_arrive(key: str, connection: Connection, queue: Queue, producer: Producer) -> None:
    queue.bind_to("amq.topic", "#")
    producer.publish("x", exchange="amq.topic", routing_key=key)
    assert receive(connection, queue).delivery_info["routing_key"] == key


def test_a_routing_key_that_is_too_long_is_refused_before_anything_is_sent(
    connection: Connection, queue: Queue, producer: Producer
) -> None:
    with pytest.raises(struct.error):
        producer.publish("x", routing_key="a" * 256)
    producer.publish("after it")
    assert receive(connection, queue).payload == "after it"


# Frames carry frame_max - 8 bytes of a body; RabbitMQ's frame_max is 131072.
@pytest.mark.parametrize("size", [0, 1, 16384, 131063, 131064, 131065, 262128, 262129, 1 << 20])
def test_bodies_around_the_frame_size_arrive_whole(
    size: int, connection: Connection, queue: Queue, producer: Producer
) -> None:
    body = random.Random(size).randbytes(size)
    producer.publish(body, content_type="application/data", content_encoding="binary")
    producer.publish("the next one")
    message = receive(connection, queue)
    assert message.body == body or (not body and not message.body)
    assert receive(connection, queue).payload == "the next one"
    assert queue.get() is None


def test_a_body_of_16_mib_arrives_whole_by_deliver_and_by_get(
    connection: Connection, queue: Queue, producer: Producer
) -> None:
    body = random.Random(16).randbytes(1 << 24)
    digest = hashlib.sha256(body).hexdigest()
    for view in (body, memoryview(body), bytearray(body)):
        producer.publish(view, content_type="application/data", content_encoding="binary", delivery_mode=1)
        producer.publish("behind it")
    message = receive(connection, queue)
    assert hashlib.sha256(message.body).hexdigest() == digest
    assert receive(connection, queue).payload == "behind it"
    message = queue.get(no_ack=True)
    assert hashlib.sha256(message.body).hexdigest() == digest
    assert queue.get(no_ack=True).payload == "behind it"
    assert hashlib.sha256(receive(connection, queue).body).hexdigest() == digest


def test_an_empty_body_is_decoded_to_nothing(connection: Connection, queue: Queue, producer: Producer) -> None:
    producer.publish("", content_type="text/plain")
    producer.publish(b"", content_type="application/data", content_encoding="binary")
    assert receive(connection, queue).payload in ("", b"")
    assert receive(connection, queue).payload in ("", b"")


@pytest.mark.parametrize("falsy", [0, "", [], {}, False, None, 0.0])
def test_a_falsy_payload_is_decoded_once(
    falsy: Any, connection: Connection, queue: Queue, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer.publish(falsy, serializer="json")
    message = receive(connection, queue)
    assert message.payload == falsy
    monkeypatch.setattr(message, "body", "no longer JSON", raising=False)
    assert message.payload == falsy
    assert message.decode() == falsy


VALUE = {"text": "grüße", "numbers": [1, 2.5, -3], "none": None, "nested": {"a": [True, False]}}


@pytest.mark.parametrize("method", [None, "gzip", "bzip2", "lzma", "zstd", "brotli"])
@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
def test_serializers_and_compressions_go_together(
    serializer: str, method: str | None, connection: Connection, queue: Queue, producer: Producer
) -> None:
    if method is not None:
        require_method(method)
    if serializer in ("yaml", "msgpack"):
        pytest.importorskip(serializer)
    producer.publish(VALUE, serializer=serializer, compression=method)
    message = receive(connection, queue, accept=[serializer])
    assert message.payload == VALUE
    assert message.content_type == serialization.registry.name_to_type[serializer]
    assert ("compression" in message.headers) is (method is not None)


def test_text_and_bytes_are_sent_as_they_are(connection: Connection, queue: Queue, producer: Producer) -> None:
    producer.publish("grüße", serializer="raw")
    producer.publish(b"\x00\xff", serializer="raw")
    producer.publish("grüße", content_type="text/plain", content_encoding="latin-1")
    assert receive(connection, queue).payload == "grüße"
    assert receive(connection, queue).payload == b"\x00\xff"
    assert receive(connection, queue).payload == "grüße"


def test_a_message_that_cannot_be_decoded_goes_to_on_decode_error_and_the_loop_goes_on(
    connection: Connection, queue: Queue, producer: Producer
) -> None:
    producer.publish(b"{not json", content_type="application/json", content_encoding="utf-8")
    producer.publish(b"\xff\xfe", content_type="application/json", content_encoding="utf-8")
    producer.publish(b"not gzip", content_type="text/plain", content_encoding="utf-8", headers={"compression": "gzip"})
    producer.publish(b"?", content_type="application/json", content_encoding="no-such-codec")
    producer.publish({"fine": 1})
    errors: list[tuple[Message, Exception]] = []
    bodies: list[Any] = []

    def on_decode_error(message: Message, exc: Exception) -> None:
        errors.append((message, exc))
        message.reject()

    def on_body(body: Any, message: Message) -> None:
        bodies.append(body)
        message.ack()

    with Consumer(connection, queue, callbacks=[on_body], on_decode_error=on_decode_error):
        drain_until(connection, lambda: bodies)
    assert bodies == [{"fine": 1}]
    assert len(errors) == 4
    assert all(message.acknowledged for message, _ in errors)


def test_without_on_decode_error_it_is_raised_and_the_next_message_comes(
    connection: Connection, queue: Queue, producer: Producer
) -> None:
    producer.publish(b"{not json", content_type="application/json", content_encoding="utf-8")
    producer.publish({"fine": 1})
    bodies: list[Any] = []
    with Consumer(connection, queue, callbacks=[lambda body, message: bodies.append(body)], no_ack=True):
        with pytest.raises(DecodeError):
            drain_until(connection, lambda: bodies)
        drain_until(connection, lambda: bodies)
    assert bodies == [{"fine": 1}]


def test_content_that_is_not_accepted_is_refused(connection: Connection, queue: Queue, producer: Producer) -> None:
    producer.publish(VALUE, serializer="pickle")
    messages: list[Message] = []
    with Consumer(connection, queue, on_message=messages.append, accept=["json"], no_ack=True):
        drain_until(connection, lambda: messages)
    with pytest.raises(ContentDisallowed):
        _ = messages[0].payload
