"""Tests of what is about time itself, on machines that are slow or stand still for a moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def at_some_pace(attempt: Callable[[float], Any], paces: tuple[float, ...] = (1, 4, 20)) -> Any:
    """Return what *attempt(pace)* gives at the first of *paces* that it does not fail at.

    For what is about time itself: that one thing comes before another, or often enough.  At a quick pace a machine
    that is slow, or stands still for a moment, spoils that; what is broken fails at every pace.

    Arguments:
        paces: what the attempt multiplies its seconds with.
    """
    *quick, last = paces
    for pace in quick:
        try:
            return attempt(pace)
        except (Exception, pytest.fail.Exception):
            continue
    return attempt(last)
