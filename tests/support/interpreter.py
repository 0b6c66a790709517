"""Run code in a fresh interpreter that has the same kombu as the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

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
    return subprocess.run(
        _command(code, arguments, options),
        env=_environment(environment),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def run_module(*arguments: str, timeout: float = 60.0, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run ``python -m kombu ARGUMENTS`` away from the tree, warnings being errors."""
    return run(_MODULE, *arguments, timeout=timeout, **environment)


def start_module(*arguments: str, **environment: str | None) -> subprocess.Popen[str]:
    """Start ``python -m kombu ARGUMENTS`` and return the process, its output in pipes; SIGINT interrupts it."""
    return subprocess.Popen(
        _command(_INTERRUPTIBLE + _MODULE, arguments, ("-u",)),
        env=_environment(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


_MODULE = "import runpy; runpy.run_module('kombu', run_name='__main__')"

# What a shell without job control starts in the background ignores SIGINT, and so does all that comes of it.
_INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def _command(code: str, arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    if which_build.testing_the_tree():
        code = f"import sys; sys.path.insert(0, {str(which_build.ROOT)!r})\n{code}"
    return [sys.executable, "-I", "-W", "error", *options, "-c", code, *arguments]


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    environment = {**os.environ, **{name: value for name, value in changes.items() if value is not None}}
    for name, value in changes.items():
        if value is None:
            environment.pop(name, None)
    return environment
