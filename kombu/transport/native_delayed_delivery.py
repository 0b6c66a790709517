"""Delayed delivery by RabbitMQ alone: a ladder of queues whose time to live halves at each step.

A delay of up to 2**28 - 1 seconds is written as 28 bits into the routing key, most significant first. Level *n* of the
ladder is a topic exchange; a message whose bit *n* is 1 waits in the queue of that level for 2**n seconds, one whose
bit is 0 goes straight to the next level. From level 0 it comes to the delivery exchange, which the queues that want
delayed messages are bound to by the rest of the routing key.
"""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

from kombu.entity import Exchange, Queue, binding
from kombu.log import get_logger

if TYPE_CHECKING:
    from kombu.connection import Connection

__all__ = (
    "CELERY_DELAYED_DELIVERY_EXCHANGE",
    "MAX_LEVEL",
    "MAX_NUMBER_OF_BITS_TO_USE",
    "bind_queue_to_native_delayed_delivery_exchange",
    "calculate_routing_key",
    "declare_native_delayed_delivery_exchanges_and_queues",
    "level_name",
)

logger = get_logger(__name__)

#: Number of levels, which is the number of bits of a delay.
MAX_NUMBER_OF_BITS_TO_USE = 28

#: The level that a delayed message enters by.
MAX_LEVEL = MAX_NUMBER_OF_BITS_TO_USE - 1

#: Name of the exchange that messages come out of, before any prefix.
CELERY_DELAYED_DELIVERY_EXCHANGE = "celery_delayed_delivery"

_QUEUE_TYPES = ("classic", "quorum")

#: The bits of a delay at the start of a routing key.
_delay_prefix = re.compile(rf"(?:[01]\.){{{MAX_NUMBER_OF_BITS_TO_USE}}}")


def level_name(level: int, prefix: str | None = None) -> str:
    """Return the name that the exchange and the queue of *level* share.

    Raises:
        ValueError: *level* is negative.
    """
    if level < 0:
        raise ValueError(f"level must be a non-negative number, not {level!r}")
    return _prefixed(f"celery_delayed_{level}", prefix)


def _prefixed(name: str, prefix: str | None) -> str:
    return f"{prefix}_{name}" if prefix else name


def _delivery_exchange(prefix: str | None) -> str:
    return _prefixed(CELERY_DELAYED_DELIVERY_EXCHANGE, prefix)


def _level_key(level: int, bit: int) -> str:
    """Return the binding key of messages that have *bit* at *level*, whatever the bits before it."""
    return "*." * (MAX_LEVEL - level) + f"{bit}.#"


def declare_native_delayed_delivery_exchanges_and_queues(
    connection: Connection, queue_type: str, prefix: str | None = None
) -> None:
    """Declare the ladder and the delivery exchange; what is there already stays.

    Arguments:
        connection: A connection to RabbitMQ.
        queue_type: ``"classic"``, or ``"quorum"``, which loses no message between two levels.
        prefix: Put before every name, with an underscore, to keep ladders apart.

    Raises:
        ValueError: *queue_type* is neither.
    """
    if queue_type not in _QUEUE_TYPES:
        raise ValueError(f"queue_type must be either classic or quorum, not {queue_type!r}")

    with closing(connection.channel()) as channel:
        for level in range(MAX_LEVEL, -1, -1):
            name = level_name(level, prefix)
            Exchange(name, type="topic").bind(channel).declare()
            queue = Queue(name, queue_arguments=_queue_arguments(level, queue_type, prefix)).bind(channel)
            queue.declare()
            queue.bind_to(name, _level_key(level, 1))

        for level in range(MAX_LEVEL, 0, -1):
            below = Exchange(level_name(level - 1, prefix), type="topic").bind(channel)
            below.bind_to(level_name(level, prefix), _level_key(level, 0))

        delivery = Exchange(_delivery_exchange(prefix), type="topic").bind(channel)
        delivery.declare()
        delivery.bind_to(level_name(0, prefix), _level_key(0, 0))


def _queue_arguments(level: int, queue_type: str, prefix: str | None) -> dict[str, Any]:
    arguments = {
        "x-queue-type": queue_type,
        "x-overflow": "reject-publish",
        "x-message-ttl": 2**level * 1000,
        "x-dead-letter-exchange": level_name(level - 1, prefix) if level else _delivery_exchange(prefix),
    }
    if queue_type == "quorum":
        arguments["x-dead-letter-strategy"] = "at-least-once"
    return arguments


def bind_queue_to_native_delayed_delivery_exchange(
    connection: Connection, queue: Queue, prefix: str | None = None
) -> None:
    """Have *queue* receive the messages that were delayed, as it receives the others.

    The exchange of the queue (each one, if it has several bindings) is bound to the delivery exchange, and the queue
    to its exchange, both by a key that skips the bits of the delay. A direct exchange cannot do that: it is left
    out with a warning.

    Arguments:
        connection: A connection to RabbitMQ.
        queue: The queue; bound to a channel or not.
        prefix: As the ladder was declared with.
    """
    with closing(connection.channel()) as channel:
        bound_queue = queue.bind(channel)
        if bound_queue.exchange:
            own = binding(
                bound_queue.exchange,
                routing_key=bound_queue.routing_key,
                arguments=bound_queue.binding_arguments,
            )
            bindings = (own,)
        else:
            bindings = tuple(bound_queue.bindings or ())

        for entry in bindings:
            exchange = entry.exchange.bind(channel)
            if exchange.type == "direct":
                logger.warning(
                    "Exchange %s is a direct exchange and native delayed delivery do not support direct exchanges.\n"
                    "ETA tasks published to this exchange will block the worker until the ETA arrives.",
                    exchange.name,
                )
                continue
            key = entry.routing_key
            if not key.startswith("#"):
                key = f"#.{key}"
            exchange.bind_to(_delivery_exchange(prefix), routing_key=key)
            bound_queue.bind_to(exchange.name, routing_key=key)


def calculate_routing_key(countdown: int, routing_key: str) -> str:
    """Return the routing key that delays a message by *countdown* seconds and then is *routing_key*.

    The bits of an earlier delay at its start are replaced: a task that is retried again and again keeps a key of
    the same length, instead of growing beyond the 255 bytes of a short string.

    Raises:
        ValueError: *countdown* is less than 1, or *routing_key* is empty.
    """
    if countdown < 1:
        raise ValueError(f"countdown must be a positive number, not {countdown!r}")
    if not routing_key:
        raise ValueError("routing_key must be non-empty")
    earlier = _delay_prefix.match(routing_key)
    if earlier:
        routing_key = routing_key[earlier.end() :]
    bits = f"{countdown:0{MAX_NUMBER_OF_BITS_TO_USE}b}"
    return f"{'.'.join(bits)}.{routing_key}"
