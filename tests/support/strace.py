"""Run a Python script under strace and see which system calls it makes, and where."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import which_build

#: Seconds that a script may take for what it is asked to do.
PATIENCE = 60.0

TRACED = "read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,setsockopt,ioctl,fcntl,poll,ppoll,select,pselect6"

_CALL = re.compile(r"^\d+\s+(?P<name>\w+)\((?P<arguments>.*)\)\s+=\s+(?P<result>.*)$")

#: What scripts begin with: ``say`` tells the test where they are, ``heard`` waits for its answer.
PROLOGUE = """
import os, sys
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
def heard():
    return os.read(0, 1000).decode().strip()
"""


def available() -> bool:
    """Return whether there is an strace that may trace here."""
    strace = shutil.which("strace")
    if strace is None:
        return False
    return subprocess.run([strace, "-o", os.devnull, "true"], capture_output=True).returncode == 0


@dataclass(frozen=True)
class Call:
    """One system call: ``recvfrom(5, ...) = 17`` has the name ``recvfrom``, fd 5 and result ``17``."""

    name: str
    arguments: str
    result: str

    @property
    def fd(self) -> int:
        first = self.arguments.partition(",")[0]
        return int(first) if first.isdigit() else -1


class Traced:
    """A script running under strace.

    Arguments:
        code: the script; it can use ``say`` and ``heard``.
        arguments: its ``sys.argv[1:]``.
        folder: where the trace is written.
    """

    def __init__(self, code: str, *arguments: str, folder: Path) -> None:
        path = f"sys.path.insert(0, {str(which_build.ROOT)!r})\n" if which_build.testing_the_tree() else ""
        self._trace = folder / "trace"
        self._process = subprocess.Popen(
            ["strace", "-f", "-s", "64", "-e", f"trace={TRACED}", "-o", str(self._trace)]
            + [sys.executable, "-I", "-W", "error", "-c", PROLOGUE + path + code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self._said = b""

    def __enter__(self) -> Traced:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.kill()
        self._process.communicate()

    def expect(self, word: str) -> list[str]:
        """Return the words after *word* on the next line that the script says, which has to begin with it."""
        deadline = time.monotonic() + PATIENCE
        assert self._process.stdout is not None and self._process.stderr is not None
        while b"\n" not in self._said:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the script did not say {word!r} within {PATIENCE} s")
            part = self._process.stdout.read(4096)
            if not part:
                raise EOFError(f"the script ended before it said {word!r}: {self._process.stderr.read().decode()}")
            self._said += part
        line, _, self._said = self._said.partition(b"\n")
        first, *rest = line.decode().split()
        assert first == word, f"the script said {line!r} where {word!r} was expected"
        return rest

    def tell(self, word: str = "go") -> None:
        """Answer the script's ``heard()``."""
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")

    def finish(self) -> None:
        """Wait for the script's end, which has to be a good one."""
        _, error = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, error.decode()

    def calls(self, begin: str, end: str) -> list[Call]:
        """Return the calls between the script's saying *begin* and its saying *end*."""
        found: list[Call] = []
        inside = False
        for line in self._trace.read_text(errors="replace").splitlines():
            match = _CALL.match(line)
            if match is None:
                continue
            call = Call(**match.groupdict())
            if call.name == "write" and call.fd == 1:
                if call.arguments.startswith(f'1, "{begin}'):
                    inside = True
                    continue
                if inside and call.arguments.startswith(f'1, "{end}'):
                    return found
            if inside:
                found.append(call)
        raise AssertionError(f"the trace does not go from {begin!r} to {end!r}")
