"""Which core is chosen, and what is said when it cannot be had; each case in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kombu
from kombu import _core

PACKAGE = Path(kombu.__file__).parent

#: The module that is imported first.
FIRST = _core._MODULES[0]

LOOK = """
import json, sys
import kombu, kombu._core as core
print(json.dumps({
    "impl": core.impl,
    "public": kombu.__impl__,
    "reason": core.fallback_reason,
    "modules": [getattr(core, name).__name__ for name in ("frames", "message", "drain", "pool")],
    "message": core.Message is core.message.Message,
    "folder": kombu.__file__,
}))
"""


@pytest.fixture
def copied(tmp_path):
    """Return the folder of a copy of the package that may be damaged."""
    shutil.copytree(PACKAGE, tmp_path / "kombu", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(impl: str | None, folder: Path = PACKAGE.parent, code: str = LOOK) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("KOMBU_IMPL", "PYTHONPATH")}
    if impl is not None:
        environment["KOMBU_IMPL"] = impl
    # Behind the folder come the places of this process, where the requirements are.
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), *(path for path in sys.path if path)])
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def look(impl: str | None, folder: Path = PACKAGE.parent) -> dict:
    done = run(impl, folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["folder"]).parent.parent == folder
    assert found["public"] == found["impl"]
    assert found["message"] is True
    package = {"c": "_speedups", "python": "_pure"}[found["impl"]]
    assert found["modules"] == [f"kombu.{package}.{name}" for name in ("frames", "message", "drain", "pool")]
    return found


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0
    return done.stderr.strip().splitlines()[-1]


def extensions(folder: Path, name: str) -> list[Path]:
    return [path for path in (folder / "kombu" / "_speedups").glob(f"{name}.*") if path.suffix in (".so", ".pyd")]


def drop_extensions(folder: Path, name: str = "*") -> None:
    for path in extensions(folder, name):
        path.unlink()


def test_python_takes_the_pure_core():
    found = look("python")
    assert (found["impl"], found["reason"]) == ("python", None)


@pytest.mark.c_extensions
def test_c_takes_the_compiled_core():
    found = look("c")
    assert (found["impl"], found["reason"]) == ("c", None)


@pytest.mark.c_extensions
@pytest.mark.parametrize("impl", [None, ""])
def test_unset_or_empty_takes_the_compiled_core_if_it_is_there(impl):
    found = look(impl)
    assert (found["impl"], found["reason"]) == ("c", None)


@pytest.mark.parametrize("impl", ["C", "cython", "pure", " "])
def test_an_unknown_choice_is_refused(impl):
    message = last_line(run(impl))
    assert message == f"ImportError: KOMBU_IMPL={impl!r} is unknown: set it to 'c' or 'python', or leave it unset"


def test_without_extensions_the_pure_core_serves_and_says_why(copied):
    drop_extensions(copied)
    found = look(None, copied)
    assert found["impl"] == "python"
    assert found["reason"] == f"No module named 'kombu._speedups.{FIRST}'"
    assert look("python", copied)["reason"] is None


def test_without_extensions_the_compiled_core_is_refused(copied):
    drop_extensions(copied)
    message = last_line(run("c", copied))
    assert message == (
        "ImportError: KOMBU_IMPL=c, but the compiled core cannot be imported: "
        f"No module named 'kombu._speedups.{FIRST}'"
    )


@pytest.mark.c_extensions
@pytest.mark.parametrize("name", _core._MODULES)
def test_one_missing_extension_makes_all_modules_pure(copied, name):
    drop_extensions(copied, name)
    found = look(None, copied)
    assert found["impl"] == "python"
    assert f"kombu._speedups.{name}" in found["reason"]
    assert "cannot be imported" in last_line(run("c", copied))


@pytest.mark.c_extensions
@pytest.mark.parametrize("name", ["frames", "pool"])
def test_a_stale_build_is_refused_and_says_rebuild(copied, name):
    # A module of that name with another number stands for one that was compiled for another version.
    drop_extensions(copied, name)
    (copied / "kombu" / "_speedups" / f"{name}.py").write_text("ABI = -1\n")
    problem = (
        f"kombu._speedups.{name} was compiled for another version of kombu"
        f" (its ABI is -1, {_core.ABI} is needed): rebuild or reinstall kombu"
    )
    assert look(None, copied) | {"folder": ""} == look("python", copied) | {"folder": "", "reason": problem}
    assert (
        last_line(run("c", copied)) == f"ImportError: KOMBU_IMPL=c, but the compiled core cannot be imported: {problem}"
    )


@pytest.mark.c_extensions
def test_a_build_without_a_number_is_stale_too(copied):
    drop_extensions(copied, "pool")
    (copied / "kombu" / "_speedups" / "pool.py").write_text("")
    assert "its ABI is None" in look(None, copied)["reason"]


@pytest.mark.c_extensions
def test_a_broken_extension_file_is_a_reason_to_fall_back(copied):
    for path in extensions(copied, "frames"):
        path.write_bytes(b"not a library")
    found = look(None, copied)
    assert found["impl"] == "python"
    assert "frames" in found["reason"]


def test_only_import_errors_lead_to_the_pure_core(copied):
    drop_extensions(copied)
    (copied / "kombu" / "_speedups" / f"{FIRST}.py").write_text("raise ZeroDivisionError('a defect')\n")
    assert last_line(run(None, copied)) == "ZeroDivisionError: a defect"


@pytest.mark.c_extensions
def test_the_compiled_core_leaves_the_gil_off():
    code = "import sys, kombu._core; print(getattr(sys, '_is_gil_enabled', lambda: None)(), kombu._core.impl)"
    before = "import sys; print(getattr(sys, '_is_gil_enabled', lambda: None)())"
    state = run("c", code=before).stdout.strip()
    assert run("c", code=code).stdout.split() == [state, "c"]
