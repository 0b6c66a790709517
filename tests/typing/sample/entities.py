"""What the service declares on the broker."""

from __future__ import annotations

from kombu import Exchange, Queue, binding
from kombu.common import Broadcast

ORDERS = Exchange("orders", type="topic", durable=True)
AUDIT = Exchange("audit", "headers", delivery_mode="transient")

#: RabbitMQ's names for what becomes of a message that nobody could handle.
DEAD_LETTERS = {"x-dead-letter-exchange": "orders.dead"}

MAIL = Queue("mail", ORDERS, routing_key="order.created", queue_arguments=DEAD_LETTERS, max_priority=9)
EVERYTHING = Queue(
    "everything",
    [binding(ORDERS, routing_key="order.#"), binding(AUDIT, arguments={"x-match": "any", "lang": "en"})],
    message_ttl=3600.0,
    max_length=100_000,
)
STATUS = Queue("status", routing_key="status", durable=False, auto_delete=True)
RELOAD = Broadcast("reload", unique=True)


def queue_of(tenant: str) -> Queue:
    """Return the queue of one tenant, which goes away when it is not used."""
    return Queue(f"mail.{tenant}", exchange=ORDERS, routing_key=f"order.created.{tenant}", expires=600)


def names() -> list[str]:
    """Return the names of all queues."""
    return [queue.name for queue in (MAIL, EVERYTHING, STATUS, RELOAD)]
