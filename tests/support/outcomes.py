"""Evaluate an expression over kombu and say what came of it, in words that can be kept and compared.

The same code runs over kombu 5.7, when answers are recorded, and over the kombu under test, when they are replayed.
"""

from __future__ import annotations

import base64
import io
import pickle
import re
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from itertools import islice
from types import SimpleNamespace
from typing import Any
from unittest import mock
from uuid import UUID

from kombu import clocks, compression, exceptions, log, matcher, serialization, utils
from kombu.utils import (
    amq_manager,
    collections,
    compat,
    encoding,
    functional,
    imports,
    json,
    limits,
    objects,
    scheduling,
    text,
    url,
)
from kombu.utils.time import maybe_s_to_ms

__all__ = ("outcome",)


class Color(str, Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Point:
    """An object that says what JSON it is."""

    x: int
    y: int

    def __json__(self) -> dict[str, int]:
        return {"x": self.x, "y": self.y}


class Celsius(float):
    """A float of a class of its own."""


class Unknown:
    """An object that no serializer but pickle knows anything of."""


class Broken:
    """An object without a representation."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class BrokenTwice(Broken):
    """An object without any text at all."""

    def __str__(self) -> str:
        raise RuntimeError("no str")


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.log: list[Any] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.log.append(("sleep", round(seconds, 6)))
        self.now += seconds


def retries(failures: int, *, errback: Any = None, callback: bool = False, takes: float = 0.0, **options: Any) -> Any:
    """Run retry_over_time on a function that fails *failures* times; return all that happened, in order."""
    clock = Clock()

    def fun(*args: Any, **kwargs: Any) -> str:
        clock.log.append(("call", args, kwargs))
        clock.now += takes
        calls = sum(1 for entry in clock.log if entry[0] == "call")
        if calls <= failures:
            raise KeyError(calls)
        return "done"

    def note_error(exc: BaseException, intervals: Any, count: int) -> float:
        interval = errback(intervals)
        clock.log.append(("errback", repr(exc), count, interval))
        return interval

    if errback is not None:
        options["errback"] = note_error
    if callback:
        options["callback"] = lambda: clock.log.append(("callback",))
    with ExitStack() as patches:
        for name, replacement in (("time", clock.time), ("monotonic", clock.time), ("sleep", clock.sleep)):
            if hasattr(functional, name):
                patches.enter_context(mock.patch.object(functional, name, replacement))
        try:
            clock.log.append(("result", functional.retry_over_time(fun, KeyError, **options)))
        except Exception as exc:
            clock.log.append(("raised", repr(exc)))
    return clock.log


def cache(limit: int | None, *steps: Any) -> Any:
    """Make an LRUCache, take *steps* (method, arguments...) and return their results and what is in it then."""
    lru = functional.LRUCache(limit=limit)
    results = []
    for method, *arguments in steps:
        try:
            results.append(getattr(lru, method)(*arguments))
        except Exception as exc:
            results.append(repr(exc))
    return results, list(lru.items()), len(lru)


def unpickled(data: str) -> Any:
    return pickle.loads(base64.b64decode(data))


def content(obj: Any) -> Any:
    """Return the class and the state of an object, by which two of them can be compared."""
    cls = type(obj)
    state = {} if isinstance(obj, type) else getattr(obj, "__dict__", {})
    shown = {name: _plain(value) for name, value in sorted(state.items()) if name != "mutex"}
    return f"{cls.__module__}.{cls.__qualname__}", _plain(obj), shown


def _plain(obj: Any) -> Any:
    # What an OrderedDict looks like depends on the version of Python.
    return list(obj.items()) if isinstance(obj, (OrderedDict, functional.LRUCache)) else obj


def registry() -> Any:
    """Return a serializer registry apart from the global one, with some serializers in it."""
    made = serialization.SerializerRegistry()
    made.register("json", json.dumps, json.loads, "application/json", "utf-8")
    made.register("upper", str.upper, str.lower, "text/upper", "us-ascii")
    made.register("decode-only", None, bytes.hex, "application/hex", "binary")
    made.register("encode-only", repr, None, "application/repr", "utf-8")
    made.register("absent", unavailable, unavailable, "application/absent", "binary")
    made.register("broken", failing, failing, "application/broken", "binary")
    made._set_default_serializer("json")
    made.disable("upper")
    return made


def unavailable(data: Any) -> Any:
    raise exceptions.SerializerNotInstalled("not there")


def failing(data: Any) -> Any:
    raise LookupError("cannot do", 7)


# Where something lies in memory is different every time.
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")

#: What an expression may speak of.
NAMES: dict[str, Any] = {
    thing.__name__.rpartition(".")[2]: thing
    for thing in (
        *(clocks, compression, exceptions, log, matcher, serialization, utils),
        *(amq_manager, collections, compat, encoding, functional, imports, json),
        *(limits, objects, scheduling, text, url),
        *(OrderedDict, SimpleNamespace, date, datetime, io, islice, pickle, time, timedelta, timezone),
        *(Decimal, Fraction, UUID, BrokenTwice, Celsius, Color, Level, Point, Unknown),
        *(cache, content, failing, maybe_s_to_ms, registry, retries, unpickled),
    )
}


def outcome(expression: str) -> dict[str, Any]:
    """Return what *expression* gives: its ``repr`` under ``value``, or the class and text of an exception.

    For what a serializer failed with is under ``because``: the class of the cause or context of the exception.
    """
    try:
        return {"value": ADDRESS.sub("", repr(eval(expression, dict(NAMES))))}
    except Exception as exc:
        cause = exc.__cause__ or exc.__context__
        told: dict[str, Any] = {"raises": _name(exc), "text": ADDRESS.sub("", str(exc))}
        if isinstance(exc, exceptions.SerializationError) and cause is not None:
            told["because"] = _name(cause)
        return told


def _name(exc: BaseException) -> str:
    return f"{type(exc).__module__}.{type(exc).__qualname__}"
