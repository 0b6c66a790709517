"""Compression methods that a test may use where it runs."""

from __future__ import annotations

import sys

import pytest

from kombu import compression


def require_method(method: str) -> None:
    """Skip the test where *method* is not installed, and where using it would turn the GIL on for all that follow."""
    if compression._aliases.get(method, method) not in compression.encoders():
        pytest.skip(f"{method} is not installed")
    undecided = getattr(sys.flags, "gil", 1) is None
    if method == "brotli" and undecided and not sys._is_gil_enabled():
        pytest.skip("the package brotli turns the GIL on unless PYTHON_GIL=0 is set")
