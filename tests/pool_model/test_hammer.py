"""Threads without Python hammer slots.h, watched by the compiler's sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_INS = Path(__file__).with_name("microsoft")
ADDRESS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
#: The branch for Microsoft's compiler, with stand-ins for what it has built in.  ThreadSanitizer would take its plain
#: loads for races.
MICROSOFT = ["-D_MSC_VER=1940", "-D__int64=long long", "-D__declspec(what)=__thread", "-U__clang__"]
MICROSOFT += [f"-I{STAND_INS}", *ADDRESS]
FLAGS = {
    "thread": ["-fsanitize=thread"],
    "address": ADDRESS,
    "microsoft-x64": ["-D_M_X64", *MICROSOFT],
    "microsoft-arm64": ["-D_M_ARM64", *MICROSOFT],
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


def run(*command: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    setarch = shutil.which("setarch")
    if "unexpected memory mapping" in done.stderr and setarch and command[0] != setarch:
        # Older sanitizers do not know addresses as random as newer kernels make them.
        return run(setarch, os.uname().machine, "-R", *command)
    return done


@pytest.mark.stress
@pytest.mark.parametrize(("threads", "limit"), [(2, 1), (3, 2), (8, 4), (16, 3)])
def test_threads_find_no_race_and_lose_nothing(hammer, threads, limit):
    done = run(hammer, threads, 5000, limit)
    assert done.returncode == 0, done.stderr
    assert "turns" in done.stdout
