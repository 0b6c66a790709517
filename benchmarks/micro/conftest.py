"""Three implementations side by side: the compiled core, the pure core, and the ``amqp`` package below kombu 5.7."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

SUITE = Path(__file__).resolve().parents[1]
sys.path += [str(SUITE / "micro"), str(SUITE / "clients"), str(SUITE.parent / "tests" / "support")]

from core import PACKAGES, Core  # noqa: E402


class Amqp:
    """The ``amqp`` package in place of a core."""

    impl = "amqp"


@pytest.fixture(params=[*PACKAGES, "amqp"])
def side(request: pytest.FixtureRequest) -> Any:
    """Give the compiled core, the pure core and ``amqp`` in turn."""
    return Amqp() if request.param == "amqp" else Core(request.param)
