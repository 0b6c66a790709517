"""A virtual environment for each side of a comparison, with the same interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "benchmarks"
UPSTREAM = ("kombu==5.7.0", "amqp==5.4.2")


def upstream(*more: str, name: str = "upstream") -> Path:
    """Return the interpreter of an environment with the releases that are compared with; kept from run to run.

    Arguments:
        more: Further requirements, as ``name==version``.
        name: Of the environment; one for each set of requirements.
    """
    python = _environment(name)
    wanted = [*UPSTREAM, *more]
    if _versions(python, *(requirement.partition("==")[0] for requirement in wanted)) != wanted:
        _pip(python, "install", *wanted)
    return python


def ours(*more: str, compiled: bool, name: str = "ours") -> Path:
    """Return the interpreter of an environment with this tree, built and installed now, and *more*."""
    python = _environment(name)
    # pip builds and installs a folder even where an equal version is installed already.
    _pip(python, "install", UPSTREAM[1], *more, str(ROOT), KOMBU_REQUIRE_EXTENSIONS="1" if compiled else "")
    return python


def _environment(name: str) -> Path:
    folder = FOLDER / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    return python


def _pip(python: Path, *arguments: str, **environment: str) -> None:
    subprocess.run(
        [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        env={**os.environ, **environment},
        check=True,
    )


def _versions(python: Path, *packages: str) -> list[str]:
    code = (
        "import sys\nfrom importlib.metadata import PackageNotFoundError, version\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(f'{name}=={version(name)}')\n"
        "    except PackageNotFoundError: pass\n"
    )
    done = subprocess.run([str(python), "-c", code, *packages], capture_output=True, text=True, check=True)
    return done.stdout.split()
