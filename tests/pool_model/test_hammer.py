"""Threads without Python hammer slots.h, watched by the compiler's sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = {
    "thread": ["-fsanitize=thread"],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}


@pytest.fixture(scope="module", params=sorted(FLAGS))
def hammer(request, tmp_path_factory):
    """Build the program with one sanitizer; skip where that cannot be done, unless everything is required."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    headers = ROOT / "kombu" / "_speedups"
    reason = None
    if compiler is None or os.name == "nt":
        reason = "there is no gcc or clang"
    elif not (headers / "slots.h").exists():
        reason = "the sources are not here"
    else:
        program = tmp_path_factory.mktemp("hammer") / request.param
        command = [compiler, "-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", *FLAGS[request.param]]
        command += [f"-I{headers}", str(Path(__file__).with_name("hammer.c")), "-o", str(program)]
        built = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if not built.returncode:
            return program
        reason = f"{compiler} cannot build it: {built.stderr}"
        if "-fsanitize" not in built.stderr and "san" not in built.stderr:
            pytest.fail(reason)
    if os.environ.get("KOMBU_REQUIRE_BROKERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.mark.stress
@pytest.mark.parametrize(("threads", "limit"), [(2, 1), (8, 4), (16, 3)])
def test_threads_find_no_race_and_lose_nothing(hammer, threads, limit):
    done = subprocess.run([hammer, str(threads), "5000", str(limit)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "turns" in done.stdout
