"""What the micro benchmarks feed: deliveries as a broker sends them, and a transport of ``amqp`` on memory."""

from __future__ import annotations

import struct
from io import BytesIO
from types import SimpleNamespace
from typing import Any

from amqp.method_framing import frame_handler
from amqp.transport import _AbstractTransport
from contents import Content, content

import wire

#: What is measured at a time, so that the loop around it does not count.
MESSAGES = 100

CONTENTS = {"raw 256 B": content("raw", 256), "task 256 B": content("task", 256)}


def deliveries(made: Content) -> bytes:
    """Return the octets of :data:`MESSAGES` deliveries of *made*."""
    octets = []
    for tag in range(1, MESSAGES + 1):
        method = wire.method(
            "basic.deliver", 1, consumer_tag="c", delivery_tag=tag, redelivered=False, exchange="", routing_key="bench"
        )
        header = struct.pack(">HHQ", 60, 0, len(made.body)) + made.properties
        octets += [method, wire.frame(wire.HEADER, 1, header), wire.frame(wire.BODY, 1, made.body)]
    return b"".join(octets)


class Memory(_AbstractTransport):
    """A transport of ``amqp`` that reads from, and writes to, memory."""

    def __init__(self, octets: bytes = b"") -> None:
        self.source = BytesIO(octets)
        self.written = 0
        self.connected = False  # __del__ looks at these two
        self.sock = None

    def _read(self, n: int, initial: bool = False) -> bytes:
        return self.source.read(n)

    def write(self, octets: Any) -> None:
        self.written += len(octets)


def amqp_events(octets: bytes, callback: Any) -> Any:
    """Return a function that has ``amqp`` cut all frames of *octets* and put the contents together."""

    def run() -> None:
        transport = Memory(octets)
        on_frame = frame_handler(SimpleNamespace(bytes_recv=0), callback)
        for _ in range(3 * MESSAGES):
            on_frame(transport.read_frame())

    return run
