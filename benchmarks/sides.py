"""The libraries that are compared, and where each runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import environments
from streamer import CannotCompile, compiled

#: What all ratios are to.
BASE = "kombu57"


class Unavailable(Exception):
    """A side cannot run here; the text says why, and what would help."""


@dataclass(frozen=True)
class Side:
    """One library, in one build.

    Args:
        key: its name on the command line and in the results.
        title: its name in tables.
        program: file of ``clients/`` that does its workloads; empty: the consumer in C.
        prepare: makes its environment and returns the interpreter (or the program in C).
        environment: variables to set.
    """

    key: str
    title: str
    program: str
    prepare: Callable[[], Path]
    environment: dict[str, str] = field(default_factory=dict)


def _librabbitmq() -> Path:
    try:
        return compiled("consumer", "rabbitmq")
    except CannotCompile as exc:
        text = str(exc)
        if "amqp" in text and "No such file" in text or "-lrabbitmq" in text:
            text = "librabbitmq is not installed for C; on Debian: apt-get install librabbitmq-dev"
        raise Unavailable(text) from None


SIDES = {
    side.key: side
    for side in (
        Side(
            "kombu57",
            "kombu 5.7.0",
            "kombu_client.py",
            environments.upstream,
        ),
        Side(
            "kombu57c",
            "kombu 5.7.0, amqp compiled",
            "kombu_client.py",
            environments.upstream_with_compiled_amqp,
        ),
        Side(
            "pure",
            "this, pure core",
            "kombu_client.py",
            lambda: environments.ours(compiled=True),
            {"KOMBU_IMPL": "python"},
        ),
        Side(
            "ours",
            "this, compiled core",
            "kombu_client.py",
            lambda: environments.ours(compiled=True),
            {"KOMBU_IMPL": "c"},
        ),
        Side("pika", "pika", "pika_client.py", lambda: environments.packages("pika", "pika")),
        Side("amqpstorm", "AMQPStorm", "amqpstorm_client.py", lambda: environments.packages("amqpstorm", "amqpstorm")),
        Side("aio-pika", "aio-pika", "aio_pika_client.py", lambda: environments.packages("aio-pika", "aio-pika")),
        Side("librabbitmq", "librabbitmq (C)", "", _librabbitmq),
    )
}
