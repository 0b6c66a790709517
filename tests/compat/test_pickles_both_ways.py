"""Pickles of kombu 5.7.0 are read here, and it reads ours: a roll-out has both at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pickling

SUPPORT = Path(pickling.__file__).parent


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give what kombu 5.7.0, fetched for this, says of our pickles, and its own."""
    folder = tmp_path_factory.mktemp("kombu-5.7.0")
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
    fetched = subprocess.run(
        [*command, "--target", str(folder), "kombu==5.7.0"], capture_output=True, text=True, timeout=300
    )
    if fetched.returncode:
        pytest.skip(f"kombu 5.7.0 cannot be had: {fetched.stderr[-300:]}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KOMBU_")}
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "pickling.py")],
        cwd=folder,
        env={**environment, "PYTHONPATH": os.pathsep.join([str(folder), str(SUPPORT)])},
        input=json.dumps(pickling.dumps()),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["version"] == "5.7.0"
    return answer


@pytest.mark.parametrize("expression", pickling.expressions())
def test_5_7_reads_our_pickles(upstream: dict[str, Any], expression: str) -> None:
    assert upstream["read"][expression] == json.loads(json.dumps(pickling.expected()[expression]))


@pytest.mark.parametrize("expression", pickling.expressions())
def test_we_read_the_pickles_of_5_7(upstream: dict[str, Any], expression: str) -> None:
    read = pickling.read({expression: upstream["made"][expression]})
    assert read[expression] == pickling.expected()[expression]
