"""What the messages of the workloads hold; shared by the runner, which has them streamed, and the clients, which check.

Every body holds a number of ten digits, 1,000,000,000 for the first message, one more for each that follows.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

FIRST_NUMBER = 1_000_000_000
DIGITS = 10
_TASK_ID = "3f2b8a52-6f0e-4d2b-9d5c-0a8c6d1f7e11"


@dataclass(frozen=True)
class Content:
    """One kind of message.

    Args:
        body: of the first message.
        properties: content properties as in a header frame, flags first.
        content_type: of the body.
        headers: application headers.
    """

    body: bytes
    properties: bytes
    content_type: str
    headers: dict[str, Any]

    @property
    def number_at(self) -> int:
        """The offset of the number in the body."""
        return self.body.index(str(FIRST_NUMBER).encode())

    def body_of(self, number: int) -> bytes:
        """Return the body of message *number*, counted from 0."""
        at = self.number_at
        return self.body[:at] + str(FIRST_NUMBER + number).encode() + self.body[at + DIGITS :]


def content(kind: str, size: int) -> Content:
    """Return the content of *kind* (``raw``, ``json``, ``task``) with a body of *size* octets.

    ``json`` is an object with a nested one and a list, ``task`` the same with headers such as a task queue sends.

    Raises:
        ValueError: there is no such kind, or *size* is too small for it.
    """
    if kind == "raw":
        body = str(FIRST_NUMBER).encode().ljust(size, b"x")
        properties = _properties("application/data", "binary", {})
        return _checked(Content(body, properties, "application/data", {}), size)
    if kind in ("json", "task"):
        body = json.dumps(document(size)).encode()
        headers = task_headers() if kind == "task" else {}
        properties = _properties("application/json", "utf-8", headers)
        return _checked(Content(body, properties, "application/json", headers), size)
    raise ValueError(f"there is no content {kind!r}: raw, json, task")


def document(size: int) -> dict[str, Any]:
    """Return an object that is JSON of *size* octets."""
    made: dict[str, Any] = {
        "id": FIRST_NUMBER,
        "event": "order.created",
        "customer": {"name": "Ada Lovelace", "tier": 3, "verified": True},
        "lines": [17, 4, 2],
        "total": 129.5,
        "coupon": None,
        "note": "",
    }
    made["note"] = "x" * (size - len(json.dumps(made)))
    return made


def task_headers() -> dict[str, Any]:
    """Return headers such as a task queue sends."""
    return {
        "lang": "py",
        "task": "shop.tasks.create_order",
        "id": _TASK_ID,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": _TASK_ID,
        "parent_id": None,
        "argsrepr": "(1000000000, 'order.created')",
        "kwargsrepr": "{}",
        "origin": "gen4711@shop.example",
        "ignore_result": False,
    }


def fnv(data: bytes) -> str:
    """Return the 64-bit FNV-1a hash of *data*, as the streaming peer prints it."""
    value = 0xCBF29CE484222325
    for octet in data:
        value = (value ^ octet) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def _checked(made: Content, size: int) -> Content:
    if len(made.body) != size:
        raise ValueError(f"a body of {size} octets is too small for this content, which needs {len(made.body)}")
    return made


# -- the wire


def _short(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _value(value: Any) -> bytes:
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t" + bytes([value])
    if isinstance(value, int):
        return b"I" + struct.pack(">i", value)
    if isinstance(value, str):
        data = value.encode()
        return b"S" + struct.pack(">I", len(data)) + data
    if isinstance(value, list):
        data = b"".join(map(_value, value))
        return b"A" + struct.pack(">I", len(data)) + data
    raise TypeError(f"a header of type {type(value).__name__} is not provided for: {value!r}")


def _properties(content_type: str, content_encoding: str, headers: dict[str, Any]) -> bytes:
    table = b"".join(_short(key) + _value(value) for key, value in headers.items())
    # Content type, content encoding, headers, delivery mode, priority: what kombu publishes.
    flags = 0xF800
    return b"".join(
        [
            struct.pack(">H", flags),
            _short(content_type),
            _short(content_encoding),
            struct.pack(">I", len(table)),
            table,
            b"\2\0",
        ]
    )
