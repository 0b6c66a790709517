"""From calls to octets: acknowledgements and publishes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from amqp.basic_message import Message as AmqpMessage
from amqp.method_framing import frame_writer
from amqp.serialization import dumps
from sources import CONTENTS, MESSAGES, Memory

ACK_OCTETS = 21


def bench_ack_encode(benchmark: Any, side: Any) -> None:
    """Encode 100 acknowledgements."""
    benchmark.group = f"{MESSAGES} acks to octets"
    if side.impl == "amqp":
        transport = Memory()
        write = frame_writer(SimpleNamespace(frame_max=131072, bytes_sent=0), transport)

        def encode() -> int:
            transport.written = 0
            for tag in range(MESSAGES):
                write(1, 1, (60, 80), dumps("Lb", (tag, False)), None)
            return transport.written
    else:
        encode_ack = side.frames.encode_ack

        def encode() -> int:
            return sum(len(encode_ack(1, tag, False)) for tag in range(MESSAGES))

    assert benchmark(encode) == MESSAGES * ACK_OCTETS


@pytest.mark.parametrize("kind", CONTENTS)
def bench_publish_encode(benchmark: Any, side: Any, kind: str) -> None:
    """Encode 100 publishes with their properties."""
    made = CONTENTS[kind]
    benchmark.group = f"{MESSAGES} publishes of {kind} to octets"
    properties = {
        "content_type": made.content_type,
        "content_encoding": "binary",
        "application_headers": made.headers,
        "delivery_mode": 2,
        "priority": 0,
    }
    if side.impl == "amqp":
        transport = Memory()
        write = frame_writer(SimpleNamespace(frame_max=131072, bytes_sent=0), transport)

        def encode() -> int:
            transport.written = 0
            for _ in range(MESSAGES):
                arguments = dumps("Bssbb", (0, "", "bench", False, False))
                write(1, 1, (60, 40), arguments, AmqpMessage(made.body, **properties))
            return transport.written
    else:
        frames = side.frames

        def encode() -> int:
            octets = 0
            for _ in range(MESSAGES):
                encoded = frames.encode_properties(properties)
                parts = frames.encode_publish(1, "", "bench", False, False, encoded, made.body, 131072)
                octets += sum(map(len, parts))
            return octets

    octets = benchmark(encode)
    assert octets > MESSAGES * len(made.body)
    assert octets % MESSAGES == 0
