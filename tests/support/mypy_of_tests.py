"""Run mypy and its tools on the kombu under test."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import which_build


def run(tool: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``python -m TOOL ARGUMENTS`` in *folder*, which holds nothing that it could take for its settings.

    A machine without mypy skips the test, unless ``KOMBU_REQUIRE_BROKERS=1`` says that nothing may be missing.
    """
    if importlib.util.find_spec("mypy") is None:
        if os.environ.get("KOMBU_REQUIRE_BROKERS", "") in ("", "0"):
            pytest.skip("mypy is not installed")
        pytest.fail("KOMBU_REQUIRE_BROKERS is set, and mypy is not installed", pytrace=False)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MYPY")}
    if which_build.testing_the_tree():
        environment["MYPYPATH"] = environment["PYTHONPATH"] = str(which_build.ROOT)
    return subprocess.run(
        [sys.executable, "-m", tool, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
