"""The libraries of greenlets, which not every machine has."""

from __future__ import annotations

import importlib.util
import os

import pytest


def require(library: str) -> None:
    """Skip the test where *library* is missing, or fail it where ``KOMBU_REQUIRE_GREENLETS=1`` says so."""
    if importlib.util.find_spec(library) is None:
        reason = f"{library} is not installed: pip install '.[test-greenlets]'"
        if os.environ.get("KOMBU_REQUIRE_GREENLETS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
