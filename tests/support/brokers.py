"""What a test that needs a real broker does where there is none: skip, or fail where brokers are required."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rabbit import Rabbit, RabbitUnavailable, find_scripts

__all__ = ("is_required", "rabbit_or_skip")


def is_required() -> bool:
    """Return whether ``KOMBU_REQUIRE_BROKERS`` makes what is missing an error."""
    return os.environ.get("KOMBU_REQUIRE_BROKERS", "") not in ("", "0")


@contextmanager
def rabbit_or_skip() -> Iterator[Rabbit]:
    """Give a RabbitMQ, running, and end it after the block.

    A machine without one skips the test, unless that is an error.  A server that is installed but does not start is
    an error everywhere.
    """
    try:
        scripts = find_scripts()
    except RabbitUnavailable as exc:
        if is_required():
            pytest.fail(f"KOMBU_REQUIRE_BROKERS is set, and there is {exc}", pytrace=False)
        pytest.skip(f"{exc}; install rabbitmq-server")
    server = Rabbit(scripts)
    try:
        server.start()
        yield server
    finally:
        server.close()
