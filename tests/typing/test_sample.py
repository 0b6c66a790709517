"""What mypy says, under ``--strict``, of a program that uses the library well and of one that does not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import mypy_of_tests

HERE = Path(__file__).resolve().parent
SAMPLE = HERE / "sample"
MISUSE = HERE / "misuse.py"

#: ``file:line: error: text  [code]``, or the same without a code.
ERROR = re.compile(r"(?P<file>.+?):(?P<line>\d+): error: (?P<text>.+?)(?:  \[(?P<code>[\w-]+)\])?")

EXPECTED = re.compile(r"# expect: (?P<codes>[\w-]+(?:, [\w-]+)*)$")


@dataclass(frozen=True)
class Verdict:
    """What mypy printed about both programs."""

    output: str

    def errors(self, program: Path) -> dict[int, set[str]]:
        """Return the error codes by line of *program*, a file."""
        found: dict[int, set[str]] = {}
        for line in self.output.splitlines():
            error = ERROR.fullmatch(line)
            if error is not None and Path(error["file"]).name == program.name:
                found.setdefault(int(error["line"]), set()).add(error["code"] or "")
        return found


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    folder = tmp_path_factory.mktemp("mypy")
    # Neither the project's settings nor an old cache; the library's own errors are not a user's.
    options = ["--strict", "--config-file=", f"--cache-dir={folder / 'cache'}", "--follow-imports=silent"]
    done = mypy_of_tests.run("mypy", *options, "--no-color-output", str(SAMPLE), str(MISUSE), folder=folder)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    return Verdict(done.stdout)


def test_a_program_that_is_right_is_accepted(verdict: Verdict) -> None:
    # Whatever is not said of the other program counts, a package without type information included.
    said = [line for line in verdict.output.splitlines() if ": error: " in line and MISUSE.name not in line]
    assert said == []


def test_every_mistake_is_found_and_nothing_else(verdict: Verdict) -> None:
    expected: dict[int, set[str]] = {}
    for number, line in enumerate(MISUSE.read_text().splitlines(), 1):
        comment = EXPECTED.search(line)
        if comment is not None:
            expected[number] = set(comment["codes"].split(", "))
    assert expected
    assert verdict.errors(MISUSE) == expected
