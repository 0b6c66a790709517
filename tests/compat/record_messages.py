"""Record the octets that a publish is on the wire, and what a delivery is to its consumer.

Run where kombu 5.7.0 is installed, from the root of the project, to make the record anew::

    python tests/compat/record_messages.py

It overwrites ``recorded/messages.json`` beside this file.  ``test_messages_recorded.py`` asks the kombu under test the
same questions.  The other side of the wire is ``tests/support/peer.py``.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from amqp.basic_message import Message as AmqpMessage  # noqa: E402

import kombu  # noqa: E402
from kombu import Connection, Consumer, Exchange, Producer, Queue  # noqa: E402
from kombu.transport import base, pyamqp, virtual  # noqa: E402
from peer import Peer, Session  # noqa: E402
from wire import METHODS  # noqa: E402

RECORD = pathlib.Path(__file__).parent / "recorded" / "messages.json"

WHEN = datetime(2020, 2, 29, 12, 30, 15, tzinfo=timezone.utc)

#: Keyword arguments of ``publish``, and of the producer.
PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "json": ({"body": {"a": [1, None, True, "ü"]}}, {}),
    "text": ({"body": "grüße"}, {}),
    "bytes": ({"body": b"\x00\xff"}, {}),
    "empty text": ({"body": ""}, {}),
    "empty bytes": ({"body": b""}, {}),
    "none": ({"body": None}, {}),
    "number": ({"body": 17}, {}),
    "pickle": ({"body": {"a": 1}, "serializer": "pickle"}, {}),
    "yaml": ({"body": {"a": 1}, "serializer": "yaml"}, {}),
    "msgpack": ({"body": {"a": 1}, "serializer": "msgpack"}, {}),
    "raw": ({"body": b"raw", "serializer": "raw"}, {}),
    "own type": ({"body": b"<x/>", "content_type": "text/xml", "content_encoding": "latin-1"}, {}),
    "own type, text": ({"body": "<é/>", "content_type": "text/xml", "content_encoding": "latin-1"}, {}),
    "own type, no encoding": ({"body": "é", "content_type": "text/plain"}, {}),
    "routing": ({"body": 1, "exchange": "e", "routing_key": "r.k"}, {}),
    "exchange object": ({"body": 1, "exchange": Exchange("e", delivery_mode=1), "routing_key": "r"}, {}),
    "producer's exchange": ({"body": 1}, {"exchange": Exchange("own", delivery_mode="transient"), "routing_key": "k"}),
    "producer's serializer": ({"body": {"a": 1}}, {"serializer": "yaml"}),
    "mandatory": ({"body": 1, "mandatory": True}, {}),
    "immediate": ({"body": 1, "immediate": True}, {}),
    "transient": ({"body": 1, "delivery_mode": 1}, {}),
    "transient by name": ({"body": 1, "delivery_mode": "transient"}, {}),
    "persistent by name": ({"body": 1, "delivery_mode": "persistent"}, {}),
    "priority": ({"body": 1, "priority": 9}, {}),
    "priority 0": ({"body": 1, "priority": 0}, {}),
    "expiration": ({"body": 1, "expiration": 1.5}, {}),
    "expiration, whole": ({"body": 1, "expiration": 60}, {}),
    "expiration 0": ({"body": 1, "expiration": 0}, {}),
    "properties": (
        {
            "body": 1, "correlation_id": "c-1", "reply_to": "r", "message_id": "m-1", "timestamp": 1582979415,
            "type": "t", "user_id": "guest", "app_id": "a", "cluster_id": "x",
        },
        {},
    ),
    "a timestamp that is no number": ({"body": 1, "timestamp": WHEN}, {}),
    "some properties": ({"body": 1, "reply_to": "answers", "correlation_id": ""}, {}),
    "unicode properties": ({"body": 1, "correlation_id": "ü", "app_id": "世界"}, {}),
    "headers": ({"body": 1, "headers": {"a": 1, "b": "x", "ü": "é", "n": None, "t": True, "f": False}}, {}),
    "nested headers": ({"body": 1, "headers": {"l": [1, "x", None, [2]], "d": {"e": {"f": []}}, "z": {}}}, {}),
    "headers of numbers": (
        {
            "body": 1,
            "headers": {
                "0": 0, "-1": -1, "i8": 127, "i16": 32768, "i32": 2**31 - 1, "i33": 2**31, "-i33": -(2**31) - 1,
                "i64": 2**63 - 1, "-i64": -(2**63), "f": 1.5, "-f": -0.0, "big": 1e300,
                "dec": Decimal("3.14"), "decn": Decimal("-2"),
            },
        },
        {},
    ),
    "headers of octets": ({"body": 1, "headers": {"b": b"\x00\x01", "e": b"", "s": ""}}, {}),
    "headers of times": ({"body": 1, "headers": {"w": WHEN}}, {}),
    "headers of others": ({"body": 1, "headers": {"o": (1, 2)}}, {}),
    "empty headers": ({"body": 1, "headers": {}}, {}),
    "headers that cannot be": ({"body": 1, "headers": {"o": object}}, {}),
    "a number that cannot be": ({"body": 1, "headers": {"n": 2**64}}, {}),
    "a long key": ({"body": 1, "routing_key": "k" * 255}, {}),
    "a key that is too long": ({"body": 1, "routing_key": "k" * 256}, {}),
    "a correlation id that is too long": ({"body": 1, "correlation_id": "k" * 256}, {}),
    "a serializer that is not there": ({"body": 1, "serializer": "strange"}, {}),
    "what cannot be serialized": ({"body": object(), "serializer": "json"}, {}),
    "a compression that is not there": ({"body": 1, "compression": "strange"}, {}),
    "declaring": (
        {"body": 1, "declare": [Queue("q", Exchange("e", "topic"), "k.#", max_length=5, expires=2)]},
        {"exchange": Exchange("e", "topic", durable=False)},
    ),
    "larger than a frame": ({"body": "x" * 9000, "serializer": "raw"}, {}),
}  # fmt: skip

#: Properties of a delivery, and its body.
DELIVERED: dict[str, tuple[dict[str, Any], bytes]] = {
    "nothing": ({}, b""),
    "body alone": ({}, b"octets"),
    "json": ({"content_type": "application/json", "content_encoding": "utf-8"}, b'{"a": [1, null]}'),
    "json without encoding": ({"content_type": "application/json"}, b'"x"'),
    "json that is not": ({"content_type": "application/json", "content_encoding": "utf-8"}, b"{"),
    "text": ({"content_type": "text/plain", "content_encoding": "utf-8"}, "grüße".encode()),
    "text, latin": ({"content_type": "text/plain", "content_encoding": "latin-1"}, "grüße".encode("latin-1")),
    "text that is not": ({"content_type": "text/plain", "content_encoding": "utf-8"}, b"\xff\xfe"),
    "binary": ({"content_type": "application/data", "content_encoding": "binary"}, b"\x00\xff"),
    "unknown type": ({"content_type": "a/b", "content_encoding": "us-ascii"}, b"x"),
    "pickle": ({"content_type": "application/x-python-serialize", "content_encoding": "binary"}, b"\x80\x02K\x01."),
    "yaml": ({"content_type": "application/x-yaml", "content_encoding": "utf-8"}, b"a: 1"),
    "msgpack": ({"content_type": "application/x-msgpack", "content_encoding": "binary"}, b"\x81\xa1a\x01"),
    "every property": (
        {
            "content_type": "application/json", "content_encoding": "utf-8",
            "application_headers": {"a": 1, "l": [1, "x", None], "d": {"e": True}, "ü": "é"}, "delivery_mode": 2,
            "priority": 9, "correlation_id": "c", "reply_to": "r", "expiration": "1500", "message_id": "m",
            "timestamp": 1582979415, "type": "t", "user_id": "u", "app_id": "app", "cluster_id": "x",
        },
        b"1",
    ),
    "headers of all kinds": (
        {
            "application_headers": {
                "i": 2**40, "n": -5, "f": 2.5, "dec": Decimal("3.14"), "w": WHEN, "none": None, "t": True, "b": b"\xff",
                "s": "", "deep": {"l": [{"x": [1]}]},
            },
        },
        b"",
    ),
    "empty headers": ({"application_headers": {}}, b"x"),
    "zlib": (
        {
            "content_type": "text/plain", "content_encoding": "utf-8",
            "application_headers": {"compression": "application/x-gzip"},
        },
        bytes.fromhex("789ccb48cdc9c95728cf2fca4901001a0b045d"),
    ),
    "compressed by something unknown": ({"application_headers": {"compression": "a/b"}}, b"x"),
    "compressed, and damaged": ({"application_headers": {"compression": "application/x-gzip"}}, b"x"),
    "larger than a frame": ({"content_type": "text/plain", "content_encoding": "utf-8"}, b"y" * 9000),
}  # fmt: skip

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def plain(value: Any) -> Any:
    """Return *value* in the terms of JSON, without losing its type."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, str) and len(value) > 500:
        return f"{len(value)} times {value[0]}"
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value)
        return f"{len(value)} octets of {value[:1]!r}" if len(value) > 500 else repr(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return repr(value)


def failure(exc: BaseException) -> dict[str, Any]:
    """Return the class of an exception, and its text where that is the library's."""
    told = {"raises": f"{type(exc).__module__}.{type(exc).__qualname__}"}
    if type(exc).__module__.partition(".")[0] == "kombu" and exc.__cause__ is None and exc.__context__ is None:
        told["text"] = ADDRESS.sub("", str(exc))
    return told


def attempt(function: Any, *arguments: Any) -> Any:
    try:
        return plain(function(*arguments))
    except Exception as exc:
        return failure(exc)


def arrived(session: Session, since: int) -> list[Any]:
    """Return the methods that have come after the first *since*, with the octets of the properties."""
    seen = []
    for method in session.methods[since:]:
        letters = dict(zip(METHODS[method.name].arguments, METHODS[method.name].format, strict=True))
        entry: list[Any] = [
            method.name,
            {name: bool(value) if letters[name] == "b" else plain(value) for name, value in method.args.items()},
        ]
        if method.body is not None:
            entry += [method.header.hex(), plain(method.body)]
        seen.append(entry)
    return seen


def published() -> dict[str, Any]:
    """Return what each publish is on the wire, or what it raises."""
    answers: dict[str, Any] = {}
    with Peer(frame_max=4096) as peer:
        for title, (arguments, made_with) in PUBLISHED.items():
            with Connection(peer.url, transport_options={"confirm_publish": False}) as connection:
                channel = connection.channel()
                session = peer.sessions[-1]
                since = len(session.methods)
                try:
                    Producer(channel, **made_with).publish(**arguments)
                except Exception as exc:
                    answers[title] = failure(exc)
                    continue
                session.wait_for("basic.publish", 1)
                answers[title] = arrived(session, since)
    return answers


def describe(message: Any) -> dict[str, Any]:
    """Return all that a message says of itself, before and after it is settled."""
    said = {
        "class": [f"{cls.__module__}.{cls.__qualname__}" for cls in (base.Message,) if isinstance(message, cls)],
        "body": plain(message.body),
        "headers": plain(message.headers),
        "properties": plain(message.properties),
        "delivery_info": plain(message.delivery_info),
        "delivery_tag": message.delivery_tag,
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "accept": plain(message.accept),
        "payload": attempt(lambda: message.payload),
        "again": attempt(lambda: message.payload),
        "decode": attempt(message.decode),
        "errors": [type(exc).__name__ for exc in message.errors],
        "acknowledged": [message.acknowledged],
    }
    message.accept = {"application/json", "text/plain"}
    said["decode accepted"] = attempt(message._decode)
    said["states"] = []
    for step in ("ack", "ack", "reject", "requeue", "ack_log_error"):
        try:
            arguments = (None, (OSError,)) if step == "ack_log_error" else ()
            getattr(message, step)(*arguments)
            said["states"].append([step, message.acknowledged, message._state])
        except Exception as exc:
            said["states"].append([step, failure(exc)])
    return said


def delivered() -> dict[str, Any]:
    """Return what each delivery is to the consumer."""
    answers: dict[str, Any] = {}
    with Peer(frame_max=4096) as peer, Connection(peer.url) as connection:
        seen: list[Any] = []
        channel = connection.channel()
        session = peer.sessions[-1]
        with Consumer(channel, Queue("q"), on_message=seen.append, auto_declare=False, tag_prefix="t"):
            for title, (properties, body) in DELIVERED.items():
                session.send_delivery(
                    body, properties=properties, exchange="e", routing_key="r.k", redelivered=title == "json"
                )
                try:
                    connection.drain_events(timeout=10)
                except Exception as exc:
                    answers[title] = failure(exc)
                    continue
                said = describe(seen.pop())
                # The consumer's number counts all of the process.
                said["delivery_info"]["consumer_tag"] = said["delivery_info"]["consumer_tag"].rstrip("0123456789")
                answers[title] = said
    return answers


def gotten() -> dict[str, Any]:
    """Return what an answer to ``basic.get`` is."""
    with Peer() as peer, Connection(peer.url) as connection:

        def answer(session: Session, method: Any) -> None:
            session.send_content(
                "basic.get-ok", b'{"a": 1}', channel=method.channel, delivery_tag=5, redelivered=True,
                exchange="e", routing_key="k", message_count=3,
                properties={"content_type": "application/json", "content_encoding": "utf-8", "priority": 1},
            )  # fmt: skip

        peer.on("basic.get", answer)
        queue = Queue("q")(connection.channel())
        return {"message": describe(queue.get()), "no ack": describe(queue.get(no_ack=True))}


def prepared() -> dict[str, Any]:
    """Return what ``prepare_message`` makes, of AMQP and of an emulated broker."""

    class Client:
        transport_options: dict[str, Any] = {}
        virtual_host = "/"

    ways: dict[str, dict[str, Any]] = {
        "body": {"body": "x"},
        "all": {
            "body": b"x", "priority": 3, "content_type": "a/b", "content_encoding": "binary", "headers": {"h": 1},
            "properties": {"correlation_id": "c", "delivery_mode": 2},
        },
        "properties": {"body": "x", "properties": {"reply_to": "r"}, "headers": {}},
    }  # fmt: skip
    answers: dict[str, Any] = {}
    emulated = virtual.Channel(virtual.Transport(Client()))
    for title, arguments in ways.items():
        message = pyamqp.Channel.prepare_message(None, **arguments)
        answers[f"amqp {title}"] = [
            isinstance(message, AmqpMessage), plain(message.body), plain(message.properties), plain(message.headers)
        ]
        made = emulated.prepare_message(**arguments)
        made["properties"].get("delivery_info", {}).pop("priority", None)
        answers[f"virtual {title}"] = plain(made)
    return answers


def answers() -> dict[str, Any]:
    """Ask everything."""
    return {"published": published(), "delivered": delivered(), "got": gotten(), "prepared": prepared()}


def lines(record: dict[str, Any]) -> str:
    """Return *record* as JSON with a line for each answer."""
    sections = []
    for section, content in sorted(record.items()):
        entries = [f"{json.dumps(key)}: {json.dumps(each, sort_keys=True)}" for key, each in content.items()]
        sections.append(f'"{section}": {{\n' + ",\n".join(entries) + "\n}")
    return "{\n" + ",\n".join(sections) + "\n}\n"


if __name__ == "__main__":
    if kombu.__version__ != "5.7.0":
        sys.exit(f"this is kombu {kombu.__version__}, from {kombu.__file__}: the answers wanted are those of 5.7.0")
    RECORD.write_text(lines(answers()), encoding="ascii")
