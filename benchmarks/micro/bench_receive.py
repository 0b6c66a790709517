"""From octets to messages: 100 deliveries at a time."""

from __future__ import annotations

from typing import Any

import pytest
from amqp.basic_message import Message as AmqpMessage
from amqp.serialization import loads
from sources import CONTENTS, MESSAGES, amqp_events, deliveries

from kombu.transport.pyamqp import Message as KombuMessage
from streams import make_inbound

kinds = pytest.mark.parametrize("kind", CONTENTS)


def _names(benchmark: Any, work: str, kind: str) -> None:
    benchmark.group = f"{work}, {MESSAGES} of {kind}"


@kinds
def bench_frame_parse(benchmark: Any, side: Any, kind: str) -> None:
    """Cut the frames and put the contents together; nothing of the properties is looked at."""
    _names(benchmark, "frames to contents", kind)
    octets = deliveries(CONTENTS[kind])
    got: list[Any] = []
    if side.impl == "amqp":
        run = amqp_events(octets, lambda *event: got.append(event))
    else:

        def run() -> None:
            inbound = make_inbound(side)
            inbound.feed(octets)
            while (event := inbound.next_event()) is not None:
                got.append(event)

    def cleared() -> None:
        got.clear()
        run()

    benchmark(cleared)
    assert len(got) == MESSAGES


@kinds
def bench_delivery_to_message(benchmark: Any, side: Any, kind: str) -> None:
    """The same, and what a consumer looks at: content type, headers, delivery information, body."""
    _names(benchmark, "deliveries to messages, fields read", kind)
    made = CONTENTS[kind]
    octets = deliveries(made)
    seen: list[tuple[Any, ...]] = []

    def look(message: Any) -> None:
        seen.append((message.content_type, message.headers, message.delivery_info["routing_key"], message.body))

    if side.impl == "amqp":

        def deliver(channel: Any, method: Any, arguments: Any, made: AmqpMessage) -> None:
            # What amqp and kombu 5.7 do for each delivery, with the Message class that is installed here.
            consumer_tag, tag, redelivered, exchange, key = loads("sLbss", arguments, 4)[0]
            made.channel = None
            made.delivery_info = {
                "consumer_tag": consumer_tag,
                "delivery_tag": tag,
                "redelivered": redelivered,
                "exchange": exchange,
                "routing_key": key,
            }
            look(KombuMessage(made))

        run = amqp_events(octets, deliver)
    else:

        def run() -> None:
            inbound = make_inbound(side)
            inbound.feed(octets)
            while (event := inbound.next_event()) is not None:
                look(event[3])

    def cleared() -> None:
        seen.clear()
        run()

    benchmark(cleared)
    assert len(seen) == MESSAGES
    content_type, headers, routing_key, body = seen[-1]
    assert (content_type, headers, routing_key) == (made.content_type, made.headers, "bench")
    assert (body.encode() if isinstance(body, str) else bytes(body)) == made.body


@kinds
def bench_property_decode(benchmark: Any, side: Any, kind: str) -> None:
    """Decode the property list of one content header."""
    benchmark.group = f"properties of {kind}"
    made = CONTENTS[kind]
    if side.impl == "amqp":

        def decode() -> dict[str, Any]:
            message = AmqpMessage()
            message._load_properties(60, made.properties, 0)
            return message.properties

        properties = benchmark(decode)
    else:
        properties = benchmark(side.frames.decode_properties, made.properties)
    assert properties["content_type"] == made.content_type
    assert properties["application_headers"] == made.headers
