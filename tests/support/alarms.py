"""Signals whose handlers raise."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Interrupted(Exception):
    """Raised by a signal's handler."""


@contextmanager
def alarm(handler: Callable[..., Any], delay: float = 0.05, every: float = 0) -> Iterator[None]:
    # A handler that raises runs once, lest it raise again while this is undone.
    previous = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, delay, every)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def interrupt(*_: Any) -> None:
    raise Interrupted


needs_alarm = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers on this platform")
