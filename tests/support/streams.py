"""Byte streams for the receive buffer, and what came out of it in a form that can be compared."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import wire
from core import Core


class Channel:
    """As much of a channel as the receive buffer and the receive loop use.

    Attributes:
        deliveries: what the core keeps of it; ``callbacks``, ``no_ack_consumers`` and ``unacked`` are in there.
        unclaimed: ``(consumer tag, message)`` of deliveries without a callback.
        waiting_threads: the threads that wait for a reply on it.
    """

    def __init__(self, core: Core, number: int = 1) -> None:
        self.deliveries = core.deliveries.Deliveries(number, core.message.Message)
        self.callbacks = self.deliveries.callbacks
        self.no_ack_consumers = self.deliveries.no_ack_consumers
        self.unclaimed: list[tuple[str, Any]] = []
        self.waiting_threads: tuple[int, ...] = ()

    @property
    def unacked(self) -> set[int]:
        unacked: set[int] = self.deliveries.unacked
        return unacked

    def on_unclaimed_delivery(self, consumer_tag: str, message: Any) -> None:
        self.unclaimed.append((consumer_tag, message))


def make_inbound(core: Core, channels: Iterable[int] = (1,), **options: Any) -> Any:
    """Return a receive buffer of *core* for open channels of these numbers."""
    module = import_module(f"{core.package}.inbound")
    return module.Inbound({number: Channel(core, number) for number in channels}, **options)


def delivery(
    body: bytes = b"",
    *,
    channel: int = 1,
    consumer_tag: str = "c",
    delivery_tag: int = 1,
    redelivered: bool = False,
    exchange: str = "",
    routing_key: str = "",
    properties: dict[str, Any] | None = None,
    frame_max: int = 131072,
) -> bytes:
    """Return the octets of a ``basic.deliver`` with its content."""
    method = wire.method(
        "basic.deliver",
        channel,
        consumer_tag=consumer_tag,
        delivery_tag=delivery_tag,
        redelivered=redelivered,
        exchange=exchange,
        routing_key=routing_key,
    )
    return method + b"".join(wire.content(channel, properties or {}, body, frame_max))


def facts(message: Any) -> dict[str, Any]:
    """Return everything that a message says, as values."""
    return {
        "body": message.body,
        "properties": dict(message.properties),
        "headers": message.headers,
        "delivery_info": dict(message.delivery_info),
        "delivery_tag": message.delivery_tag,
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "state": message._state,
        "errors": [str(error[1]) for error in message.errors],
    }


def described(event: tuple[int, tuple[int, int], Any, Any]) -> tuple[Any, ...]:
    """Return *event* with its message, if it has one, as :func:`facts`."""
    channel_id, method, payload, content = event
    return channel_id, method, payload, None if content is None else facts(content)


def cut_at(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return *data* in pieces, cut at *places*; a piece may be empty."""
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


def pump(inbound: Any, pieces: Iterable[bytes]) -> tuple[list[tuple[Any, ...]], tuple[type, str] | None]:
    """Feed *pieces*; return the events and, when one could not be cut, the error's class and text."""
    events: list[tuple[Any, ...]] = []
    for piece in pieces:
        inbound.feed(piece)
        try:
            while (event := inbound.next_event()) is not None:
                events.append(described(event))
        except Exception as error:
            return events, (type(error), str(error))
    return events, None
