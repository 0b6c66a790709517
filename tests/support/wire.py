"""AMQP 0-9-1 frames and methods by name, for the scripted peer.

Independent of kombu's own codec, which is what the peer helps to test: values are coded by the ``amqp`` package.
Method and argument names are the specification's, with ``_`` for ``-`` in arguments: ``basic.deliver`` has
``consumer_tag``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from amqp.basic_message import Message
from amqp.serialization import dumps, loads

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"
OVERHEAD = 8

# name: (class, method, "argument:type ..."); types are the letters of amqp.serialization, b for a bit.
_TABLE = """
connection.start       10 10  version_major:o version_minor:o server_properties:F mechanisms:S locales:S
connection.start-ok    10 11  client_properties:F mechanism:s response:x locale:s
connection.secure      10 20  challenge:x
connection.secure-ok   10 21  response:x
connection.tune        10 30  channel_max:B frame_max:l heartbeat:B
connection.tune-ok     10 31  channel_max:B frame_max:l heartbeat:B
connection.open        10 40  virtual_host:s reserved_1:s reserved_2:b
connection.open-ok     10 41  reserved_1:s
connection.close       10 50  reply_code:B reply_text:s class_id:B method_id:B
connection.close-ok    10 51
connection.blocked     10 60  reason:s
connection.unblocked   10 61
connection.update-secret     10 70  new_secret:x reason:s
connection.update-secret-ok  10 71
channel.open           20 10  reserved_1:s
channel.open-ok        20 11  reserved_1:S
channel.flow           20 20  active:b
channel.flow-ok        20 21  active:b
channel.close          20 40  reply_code:B reply_text:s class_id:B method_id:B
channel.close-ok       20 41
exchange.declare       40 10  reserved_1:B exchange:s type:s passive:b durable:b auto_delete:b internal:b nowait:b arguments:F
exchange.declare-ok    40 11
exchange.delete        40 20  reserved_1:B exchange:s if_unused:b nowait:b
exchange.delete-ok     40 21
exchange.bind          40 30  reserved_1:B destination:s source:s routing_key:s nowait:b arguments:F
exchange.bind-ok       40 31
exchange.unbind        40 40  reserved_1:B destination:s source:s routing_key:s nowait:b arguments:F
exchange.unbind-ok     40 51
queue.declare          50 10  reserved_1:B queue:s passive:b durable:b exclusive:b auto_delete:b nowait:b arguments:F
queue.declare-ok       50 11  queue:s message_count:l consumer_count:l
queue.bind             50 20  reserved_1:B queue:s exchange:s routing_key:s nowait:b arguments:F
queue.bind-ok          50 21
queue.purge            50 30  reserved_1:B queue:s nowait:b
queue.purge-ok         50 31  message_count:l
queue.delete           50 40  reserved_1:B queue:s if_unused:b if_empty:b nowait:b
queue.delete-ok        50 41  message_count:l
queue.unbind           50 50  reserved_1:B queue:s exchange:s routing_key:s arguments:F
queue.unbind-ok        50 51
basic.qos              60 10  prefetch_size:l prefetch_count:B global_:b
basic.qos-ok           60 11
basic.consume          60 20  reserved_1:B queue:s consumer_tag:s no_local:b no_ack:b exclusive:b nowait:b arguments:F
basic.consume-ok       60 21  consumer_tag:s
basic.cancel           60 30  consumer_tag:s nowait:b
basic.cancel-ok        60 31  consumer_tag:s
basic.publish          60 40  reserved_1:B exchange:s routing_key:s mandatory:b immediate:b
basic.return           60 50  reply_code:B reply_text:s exchange:s routing_key:s
basic.deliver          60 60  consumer_tag:s delivery_tag:L redelivered:b exchange:s routing_key:s
basic.get              60 70  reserved_1:B queue:s no_ack:b
basic.get-ok           60 71  delivery_tag:L redelivered:b exchange:s routing_key:s message_count:l
basic.get-empty        60 72  reserved_1:s
basic.ack              60 80  delivery_tag:L multiple:b
basic.reject           60 90  delivery_tag:L requeue:b
basic.recover-async    60 100 requeue:b
basic.recover          60 110 requeue:b
basic.recover-ok       60 111
basic.nack             60 120 delivery_tag:L multiple:b requeue:b
tx.select              90 10
tx.select-ok           90 11
tx.commit              90 20
tx.commit-ok           90 21
tx.rollback            90 30
tx.rollback-ok         90 31
confirm.select         85 10  nowait:b
confirm.select-ok      85 11
"""  # noqa: E501

_EMPTY: dict[str, Any] = {"b": False, "F": {}, "s": "", "S": "", "x": b""}
WITH_CONTENT = frozenset({"basic.publish", "basic.return", "basic.deliver", "basic.get-ok"})


@dataclass(frozen=True)
class Definition:
    """How one method is coded."""

    name: str
    class_id: int
    method_id: int
    arguments: tuple[str, ...]
    format: str


def _definitions() -> dict[str, Definition]:
    found = {}
    for line in _TABLE.strip().splitlines():
        name, class_id, method_id, *arguments = line.split()
        pairs = [argument.split(":") for argument in arguments]
        letters = "".join(letter for _, letter in pairs)
        found[name] = Definition(name, int(class_id), int(method_id), tuple(n for n, _ in pairs), letters)
    return found


METHODS = _definitions()
BY_ID = {(d.class_id, d.method_id): d for d in METHODS.values()}


class ProtocolViolation(Exception):
    """The other side sent what AMQP 0-9-1 does not allow."""


@dataclass(frozen=True)
class Frame:
    """One frame as it came: type, channel, payload and the monotonic time of its arrival."""

    type: int
    channel: int
    payload: bytes
    time: float


@dataclass
class Method:
    """One method as it came; for ``basic.publish`` complete with its content.

    Attributes:
        name: the specification's, such as ``"basic.ack"``.
        channel: number of the channel it came on.
        args: its arguments by name.
        time: monotonic time at which its last frame arrived.
        properties, body: the content's; ``None`` for a method without one.
        header: the payload of its header frame, as it came.
    """

    name: str
    channel: int
    args: dict[str, Any]
    time: float
    properties: dict[str, Any] | None = None
    body: bytes | None = None
    header: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["args"][name]
        except KeyError:
            raise AttributeError(f"{self.__dict__.get('name')} has no argument {name!r}") from None


def frame(type_: int, channel: int, payload: bytes, end: int = FRAME_END) -> bytes:
    """Return one frame; *end* is the octet it ends with."""
    return struct.pack(">BHI", type_, channel, len(payload)) + payload + bytes([end])


def method_payload(name: str, **args: Any) -> bytes:
    """Return a method frame's payload; an argument that is not given is empty, zero or false.

    Raises:
        TypeError: the method has no such argument.
    """
    definition = METHODS[name]
    unknown = set(args) - set(definition.arguments)
    if unknown:
        raise TypeError(f"{name} takes {', '.join(definition.arguments) or 'nothing'}, not {', '.join(unknown)}")
    values = [
        args.get(argument, _EMPTY.get(letter, 0))
        for argument, letter in zip(definition.arguments, definition.format, strict=True)
    ]
    head = struct.pack(">HH", definition.class_id, definition.method_id)
    return head + (dumps(definition.format, values) if values else b"")


def method(name: str, channel: int = 0, **args: Any) -> bytes:
    """Return the frame of one method without content."""
    return frame(METHOD, channel, method_payload(name, **args))


def properties_block(properties: dict[str, Any]) -> bytes:
    """Return flags and values of basic properties (``content_type``, ``application_headers``, ...)."""
    return bytes(Message("", **properties)._serialize_properties()) if properties else b"\x00\x00"


def content(channel: int, properties: dict[str, Any], body: bytes, frame_max: int) -> list[bytes]:
    """Return the header frame and the body frames, each of at most *frame_max* octets."""
    head = struct.pack(">HHQ", 60, 0, len(body)) + properties_block(properties)
    step = frame_max - OVERHEAD
    pieces = [body[i : i + step] for i in range(0, len(body), step)]
    return [frame(HEADER, channel, head)] + [frame(BODY, channel, piece) for piece in pieces]


def parse_method(arrived: Frame) -> Method:
    """Return the method of a method frame.

    Raises:
        ProtocolViolation: it is unknown, or its arguments end early or late.
    """
    class_id, method_id = struct.unpack_from(">HH", arrived.payload)
    definition = BY_ID.get((class_id, method_id))
    if definition is None:
        raise ProtocolViolation(f"unknown method ({class_id}, {method_id})")
    values: list[Any] = []
    offset = 4
    if definition.format:
        values, offset = loads(definition.format, arrived.payload, offset)
    if offset != len(arrived.payload):
        raise ProtocolViolation(f"{definition.name} has {len(arrived.payload)} octets, {offset} of them arguments")
    return Method(
        definition.name, arrived.channel, dict(zip(definition.arguments, values, strict=True)), arrived.time
    )


@dataclass
class Assembly:
    """A method whose content is still arriving on its channel."""

    method: Method
    size: int | None = None
    pieces: list[bytes] = field(default_factory=list)

    def add(self, arrived: Frame) -> bool:
        """Take a header or body frame; return whether the content is complete.

        Raises:
            ProtocolViolation: the frame is not the one due.
        """
        expected = HEADER if self.size is None else BODY
        if arrived.type != expected:
            raise ProtocolViolation(f"a frame of type {arrived.type} where {expected} was due ({self.method.name})")
        if self.size is None:
            class_id, weight, self.size = struct.unpack_from(">HHQ", arrived.payload)
            if (class_id, weight) != (60, 0):
                raise ProtocolViolation(f"content header of class {class_id}, weight {weight}")
            holder = Message()
            holder._load_properties(class_id, arrived.payload, 12)
            self.method.properties = holder.properties
            self.method.header = arrived.payload
        else:
            self.pieces.append(arrived.payload)
        have = sum(map(len, self.pieces))
        if have > self.size:
            raise ProtocolViolation(f"{have} octets of body where {self.size} were announced")
        if have < self.size:
            return False
        self.method.body = b"".join(self.pieces)
        self.method.time = arrived.time
        return True
