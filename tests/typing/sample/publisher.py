"""The shop's side: publishing orders, one by one, from a pool, and with retries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

from kombu import Connection, Message, Producer, producers
from kombu.exceptions import EncodeError, OperationalError

from .encoding import Order
from .entities import AUDIT, MAIL, ORDERS


class Trace(TypedDict):
    """Headers that go with every order."""

    trace: str
    lang: str


RETRY = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1.0}


def publish(connection: Connection, order: Order, trace: Trace) -> None:
    with producers[connection].acquire(block=True, timeout=5) as producer:
        producer.publish(
            order,
            exchange=ORDERS,
            routing_key="order.created",
            serializer="order",
            compression="zstd",
            headers=trace,
            declare=[ORDERS, MAIL],
            priority=5,
            expiration=60,
            delivery_mode="persistent",
            mandatory=True,
            retry=True,
            retry_policy=RETRY,
            confirm_timeout=10,
            correlation_id=trace["trace"],
        )


def returned(exc: Exception, exchange: str, routing_key: str, message: Any) -> None:
    print(f"nobody wanted {routing_key} of {exchange}: {exc}, {len(message.body)} bytes")


class Shop:
    """Publishes on one channel for as long as it lives."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.producer = Producer(connection, exchange=ORDERS, serializer="json", on_return=returned)

    def announce(self, text: str) -> int:
        """Publish *text* and return how many tries failed before."""
        failed = 0

        def on_error(exc: Exception, interval: float) -> None:
            nonlocal failed
            failed += 1

        ensured = self.connection.ensure(self.producer, self.producer.publish, errback=on_error, max_retries=3)
        ensured({"text": text}, routing_key="order.note", retry=False)
        return failed

    def many(self, orders: Iterable[Order]) -> int:
        published = 0
        with self.producer.batch(max_size=500) as batch:
            for order in orders:
                self.producer.publish(order, serializer="order", routing_key="order.created")
                published += 1
            batch.flush()
        return published

    def audit(self, what: dict[str, str]) -> bool:
        try:
            self.producer.publish(what, exchange=AUDIT, headers={"lang": "en"})
        except (EncodeError, OperationalError):
            return False
        return True

    def close(self) -> None:
        self.producer.release()
        self.connection.release()


def with_any_channel(connection: Connection) -> str:
    def declare(channel: Any, name: str) -> str:
        bound = MAIL(channel)
        bound.queue_declare(passive=True)
        return f"{name}: {bound.name}"

    result, channel = connection.autoretry(declare, max_retries=2)("check")
    channel.close()
    return str(result)


def first_waiting(connection: Connection) -> str | None:
    message: Message | None = MAIL(connection).get(accept=["json"])
    if message is None:
        return None
    message.ack()
    return message.content_type
