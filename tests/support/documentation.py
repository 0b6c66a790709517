"""The pages of ``docs/``, and running what they show."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import interpreter
import which_build

FOLDER = which_build.ROOT / "docs"

#: Runs the examples of the page given as argument; prints the failures and exits with their number.
RUN = """
import doctest, sys
result = doctest.testfile(sys.argv[1], module_relative=False, optionflags=doctest.ELLIPSIS, encoding="utf-8")
sys.exit(result.failed)
"""

MODULE = re.compile(r"^\.\. automodule:: (kombu[\w.]*)$", re.MULTILINE)


def pages() -> list[Path]:
    """Return all pages; none where the tests were copied away from the tree."""
    return sorted(path for path in FOLDER.rglob("*.rst") if "_build" not in path.parts)


def run(page: Path) -> subprocess.CompletedProcess[str]:
    """Run what *page* shows after ``>>>`` in a fresh interpreter, with warnings as errors."""
    return interpreter.run(RUN, str(page))


def modules() -> set[str]:
    """Return the names of the modules that the reference describes."""
    return {name for page in pages() for name in MODULE.findall(page.read_text(encoding="utf-8"))}


def differences() -> set[str]:
    """Return the subjects in which this kombu differs from kombu 5.7, as the README names them."""
    text = (which_build.ROOT / "README.rst").read_text(encoding="utf-8")
    return set(re.findall(r"^   \* - (.+)$", text, re.MULTILINE)) - {"Subject"}
