"""The streaming peer (``peer/streamer.c``), compiled and run."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from environments import FOLDER

SOURCE = Path(__file__).with_name("peer") / "streamer.c"


def compile_streamer() -> Path:
    """Compile the peer with the C compiler of ``CC`` (default ``cc``), unless that was done since it changed."""
    program = FOLDER / "streamer"
    if not program.exists() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        FOLDER.mkdir(parents=True, exist_ok=True)
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", str(program), str(SOURCE)], check=True)
    return program


class Streamer:
    """A running peer that sends *count* deliveries of *size* octets to one client after the other.

    Args:
        cpu: number of the processor to stay on, where the system can do that.
    """

    def __init__(self, count: int, size: int, cpu: int | None = None) -> None:
        self.process = subprocess.Popen(
            [str(compile_streamer()), str(count), str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if cpu is not None:
            os.sched_setaffinity(self.process.pid, {cpu})
        assert self.process.stdout is not None
        self.url = f"amqp://guest:guest@127.0.0.1:{int(self.process.stdout.readline())}//"

    def __enter__(self) -> Streamer:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.kill()
        self.process.communicate()

    def report(self) -> dict[str, Any]:
        """Return what the peer saw of the client that has just closed its connection."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the streaming peer ended with code {self.process.wait()}")
        return dict(json.loads(line))
