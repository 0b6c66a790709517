"""A virtual environment for each side of a comparison, with the same interpreter; kept from run to run.

They stand in ``build/benchmarks``, or where ``KOMBU_BENCHMARKS`` says.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(os.environ.get("KOMBU_BENCHMARKS") or ROOT / "build" / "benchmarks")
UPSTREAM = ("kombu==5.7.0", "amqp==5.4.2")

# What the clients and this side share stands with the clients, which see nothing else.
sys.path.append(str(Path(__file__).with_name("clients")))

#: What of the tree ends up in an install of it.
SOURCES = ("*.py", "*.pyi", "*.pyx", "*.pxd", "*.h")


def upstream(*more: str, name: str = "upstream") -> Path:
    """Return the interpreter of an environment with the releases that are compared with.

    Arguments:
        more: Further requirements, as ``name==version``.
        name: Of the environment; one for each set of requirements.
    """
    python = _environment(name)
    wanted = [*UPSTREAM, *more]
    if _versions(python, *(requirement.partition("==")[0] for requirement in wanted)) != wanted:
        _pip(python, "install", *wanted)
    return python


def upstream_with_compiled_amqp() -> Path:
    """Return the interpreter of an environment like :func:`upstream`, with ``amqp`` compiled, as its setup.py can."""
    python = _environment("upstream-compiled-amqp")
    wanted = list(UPSTREAM)
    if _versions(python, "kombu", "amqp") != wanted or not _is_compiled(python, "amqp.serialization"):
        # Its setup.py needs what setuptools 72 has removed.
        _pip(python, "install", "setuptools<72", "wheel", "Cython>=3.3,<3.4", "vine")
        kombu, amqp = UPSTREAM
        build = ("--no-build-isolation", "--no-cache-dir", "--no-binary", "amqp", "--force-reinstall", "--no-deps")
        _pip(python, "install", *build, amqp, CELERY_ENABLE_SPEEDUPS="1")
        _pip(python, "install", kombu, amqp)
        if not _is_compiled(python, "amqp.serialization"):
            raise RuntimeError(f"{amqp} was installed, but its speedups were not compiled")
    return python


def ours(*more: str, compiled: bool, name: str = "ours") -> Path:
    """Return the interpreter of an environment with this tree and *more*, built again when the tree has changed."""
    python = _environment(name)
    wanted = "\n".join([tree_digest(), *more, str(compiled)])
    stamp = python.parents[1] / "tree"
    if not stamp.exists() or stamp.read_text() != wanted:
        stamp.unlink(missing_ok=True)
        # pip builds and installs a folder even where an equal version is installed already.
        _pip(python, "install", UPSTREAM[1], *more, str(ROOT), KOMBU_REQUIRE_EXTENSIONS="1" if compiled else "")
        stamp.write_text(wanted)
    return python


def packages(name: str, *requirements: str) -> Path:
    """Return the interpreter of an environment with *requirements*, in the releases current when it was made."""
    python = _environment(name)
    names = [re.split(r"[<>=!~\[]", requirement)[0] for requirement in requirements]
    if len(_versions(python, *names)) != len(names):
        _pip(python, "install", *requirements)
    return python


def tools() -> Path:
    """Return the interpreter of the suite's own environment: what runs the broker and draws the charts."""
    return packages("tools", "amqp", "trustme", "pytest", "matplotlib")


def tree_digest() -> str:
    """Return a hash of all that an install of this tree is made of."""
    digest = hashlib.sha256()
    files = [ROOT / "setup.py", ROOT / "pyproject.toml"]
    for pattern in SOURCES:
        files += (ROOT / "kombu").rglob(pattern)
    for file in sorted(files):
        data = file.read_bytes()
        digest.update(f"{file.relative_to(ROOT)} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def _environment(name: str) -> Path:
    # A free-threaded interpreter has a flag.
    folder = FOLDER / f"{name}-{sys.version_info.major}.{sys.version_info.minor}{sys.abiflags}"
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


def _is_compiled(python: Path, module: str) -> bool:
    code = f"import {module} as m\nprint(not m.__file__.endswith('.py'))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    return done.stdout.strip() == "True"
