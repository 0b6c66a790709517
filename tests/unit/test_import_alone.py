"""Every module can be the first one that a process imports, with warnings as errors."""

from __future__ import annotations

import sys

import pytest

import interpreter
import which_build

FOLDER = which_build.locate()


def modules():
    found = []
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix not in (".py", ".pyx") or path.name == "__main__.py":
            continue
        parts = path.relative_to(FOLDER).with_suffix("").parts
        found.append(".".join(("kombu", *(parts[:-1] if parts[-1] == "__init__" else parts))))
    return [
        pytest.param(name, marks=pytest.mark.c_extensions) if name.startswith("kombu._speedups.") else name
        for name in found
    ]


@pytest.mark.parametrize("module", modules())
def test_imports_alone(module):
    done = interpreter.run(f"import {module}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.c_extensions
@pytest.mark.skipif(getattr(sys, "_is_gil_enabled", lambda: True)(), reason="needs a free-threaded Python")
def test_the_gil_stays_off_after_importing_everything():
    names = [getattr(entry, "values", (entry,))[0] for entry in modules()]
    done = interpreter.run(f"import sys, {', '.join(names)}; assert not sys._is_gil_enabled()")
    assert (done.returncode, done.stderr) == (0, "")
