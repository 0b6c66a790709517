"""Run code in a fresh interpreter that has the same kombu as the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import which_build


def run(
    code: str, *arguments: str, options: tuple[str, ...] = (), timeout: float = 60.0, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Run *code* as ``python -I -W error -c`` would, and return its exit code and output.

    Args:
        arguments: its ``sys.argv[1:]``.
        options: further options of the interpreter.
        environment: variables to set, or with ``None`` to remove.
    """
    if which_build.testing_the_tree():
        code = f"import sys; sys.path.insert(0, {str(which_build.ROOT)!r})\n{code}"
    return subprocess.run(
        [sys.executable, "-I", "-W", "error", *options, "-c", code, *arguments],
        env=_environment(environment),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def run_module(*arguments: str, timeout: float = 60.0, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run ``python -m kombu ARGUMENTS`` away from the tree, warnings being errors."""
    code = f"import runpy, sys; sys.argv[1:] = {list(arguments)!r}; runpy.run_module('kombu', run_name='__main__')"
    return run(code, timeout=timeout, **environment)


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    environment = {**os.environ, **{name: value for name, value in changes.items() if value is not None}}
    for name, value in changes.items():
        if value is None:
            environment.pop(name, None)
    return environment
