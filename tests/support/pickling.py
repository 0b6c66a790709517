"""Pickle and unpickle what programs keep of kombu, in a process of its own: ``python pickling.py < theirs > ours``.

Reads a JSON object of pickles (base64, by the expression that made them) and writes one: what each of them is here,
and the pickles that are made here.  The same code runs with kombu 5.7.0 and with the kombu under test.
"""

from __future__ import annotations

import base64
import json
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import kombu
from kombu import Connection, Exchange, Queue, binding
from kombu.common import Broadcast
from outcomes import NAMES

PROTOCOLS = (2, 3, 4, 5)

ENTITIES = (
    "Exchange()",
    "Exchange('e', 'topic', durable=False, auto_delete=True, delivery_mode=1, arguments={'a': 1})",
    "Exchange('e', passive=True, no_declare=True)",
    "Queue()",
    "Queue('q', Exchange('e', 'fanout'), 'k', queue_arguments={'x-a': 1}, binding_arguments={'y': 2})",
    "Queue('q', durable=False, exclusive=True, no_ack=True, expires=1.5, message_ttl=2, max_length=3, max_priority=4)",
    "Queue('q', bindings=[binding(Exchange('e'), 'a', {'x': 1})], alias='other')",
    "binding(Exchange('e'), 'k', {'a': 1}, {'u': 2})",
    "Broadcast('news', queue='bcast', auto_delete=False)",
    "[Queue('a', Exchange('e')), Queue('b', Exchange('e'))]",
    "Connection('memory://')",
    "Connection('amqp://u:p@h:1/v', heartbeat=3, ssl={'ca_certs': 'x'}, transport_options={'a': [1]})",
    "Connection(['amqp://a', 'amqp://b'], failover_strategy='shuffle', login_method='EXTERNAL')",
    "kombu.Producer",
    "kombu.Consumer",
    "kombu.Message",
    "kombu.exceptions.OperationalError",
)

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def expressions() -> list[str]:
    """Return all that is pickled, as expressions."""
    lines = (Path(__file__).resolve().parents[1] / "compat" / "questions" / "pickled.txt").read_text("utf-8")
    return [*ENTITIES, *lines.splitlines()]


def made(expression: str) -> Any:
    return eval(
        expression,
        {**NAMES, "kombu": kombu, "Connection": Connection, "Exchange": Exchange, "Queue": Queue, "binding": binding,
         "Broadcast": Broadcast},
    )  # fmt: skip


def dumps() -> dict[str, list[str]]:
    """Return the pickles of everything, one for each protocol."""
    return {
        expression: [base64.b64encode(pickle.dumps(made(expression), protocol)).decode() for protocol in PROTOCOLS]
        for expression in expressions()
    }


def describe(value: Any) -> Any:
    """Return what is to be the same on both sides."""
    if isinstance(value, list):
        return [describe(each) for each in value]
    cls = type(value)
    told: list[Any] = [f"{cls.__module__}.{cls.__qualname__}", ADDRESS.sub("", repr(value))]
    if hasattr(value, "as_dict"):
        told.append(json.loads(json.dumps(value.as_dict(recurse=True), default=repr)))
    if isinstance(value, Connection):
        told.append(json.loads(json.dumps(value.info(), default=repr)))
    if isinstance(value, BaseException):
        told.append(ADDRESS.sub("", repr([value.args, str(value)])))
    return told


def read(pickles: dict[str, list[str]]) -> dict[str, list[Any]]:
    """Return what pickles are here, or why they are nothing."""
    answers: dict[str, list[Any]] = {}
    for expression, data in pickles.items():
        answers[expression] = []
        for each in data:
            try:
                answers[expression].append(describe(pickle.loads(base64.b64decode(each))))
            except Exception as exc:
                answers[expression].append(f"cannot be read: {exc!r}")
    return answers


def expected() -> dict[str, list[Any]]:
    """Return what everything is that is made here."""
    return {expression: [describe(made(expression))] * len(PROTOCOLS) for expression in expressions()}


if __name__ == "__main__":
    answer = {"version": kombu.__version__, "read": read(json.load(sys.stdin)), "made": dumps()}
    json.dump(answer, sys.stdout)
