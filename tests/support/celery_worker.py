"""A Celery worker of the suite's own, in a process that ends with the tests, however they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patience import until

#: The folder that has the application, ``proj``.
FOLDER = Path(__file__).resolve().parents[1] / "celery"

#: Seconds that a worker may take to start, or to end when it is told to: a bound against hanging.
PATIENCE = 60.0

# Ends the process group when the test process is gone, however it went: then the pipe closes.
GUARD = """
import os, signal, sys
sys.stdin.buffer.read()
try:
    os.killpg(int(sys.argv[1]), signal.SIGKILL)
except ProcessLookupError:
    pass
"""


class WorkerFailed(Exception):
    """A worker or another command of Celery's did not do what it was started for; the text has its last words."""


class Command:
    """A running ``celery -A proj.worker ARGUMENTS``; use as a context manager, which kills it in the end.

    Arguments:
        folder: where it works and logs.
        broker, backend: URLs.
        settings: further settings of the application; must be JSON.
        name: of the log file.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        broker: str,
        backend: str = "rpc://",
        settings: Mapping[str, Any] | None = None,
        name: str = "celery",
    ) -> None:
        self.log = folder / f"{name}.log"
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "proj.worker", *arguments],
                cwd=folder,
                env=environment(broker, backend, settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", GUARD, str(self.process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()

    @property
    def said(self) -> str:
        """What it has printed and logged so far."""
        return self.log.read_text(errors="replace")

    def last_words(self, lines: int = 40) -> str:
        """Return the end of what it said, for a message."""
        return "\n".join(self.said.splitlines()[-lines:])

    def wait_for(self, text: str, timeout: float = PATIENCE) -> None:
        """Wait until it has said *text*.

        Raises:
            WorkerFailed: it ended before, or did not within *timeout* seconds.
        """

        def said_or_ended() -> bool:
            return text in self.said or self.process.poll() is not None

        try:
            until(said_or_ended, timeout)
        except TimeoutError:
            raise WorkerFailed(f"no {text!r} within {timeout:g} s:\n{self.last_words()}") from None
        if text not in self.said:
            raise WorkerFailed(f"exited with {self.process.returncode} before {text!r}:\n{self.last_words()}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process."""
        self.process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the end of the main process and return its exit code.

        Raises:
            WorkerFailed: it does not end.
        """
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise WorkerFailed(f"did not end within {timeout:g} s:\n{self.last_words()}") from None

    def kill(self) -> None:
        """End the process and its children at once, as a crash of their machine would."""
        # The guard goes first: it must not act on a process number that is free again.
        self._guard.kill()
        self._guard.communicate()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended already, and all that it started
        self.process.wait()


class Worker(Command):
    """A running worker, ready to take tasks.

    Arguments:
        pool: ``prefork``, ``threads``, ``solo``, ``gevent``.
        concurrency: of the pool.
        queue: what it consumes from, and the first half of its name.
        options: further arguments of ``celery worker``.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        pool: str,
        queue: str,
        concurrency: int = 1,
        ready: bool = True,
        **how: Any,
    ) -> None:
        self.pool = pool
        self.concurrency = concurrency
        self.queue = queue
        self.hostname = f"{queue}@tests"
        super().__init__(
            folder,
            *["worker", "--pool", pool, "--concurrency", str(concurrency), "--queues", queue],
            *["--hostname", self.hostname, "--loglevel", "INFO", "--without-mingle", "--without-gossip", *options],
            name=queue,
            **how,
        )
        if ready:
            try:
                self.wait_for(f"{self.hostname} ready.")
            except BaseException:
                self.kill()
                raise

    def warm_shutdown(self) -> int:
        """Tell it to finish what it is doing and end; return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()


def environment(broker: str, backend: str, settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return the environment of a process that uses ``proj.worker``."""
    path = [str(FOLDER), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path),
        "PROJ_BROKER": broker,
        "PROJ_BACKEND": backend,
        "PROJ_SETTINGS": json.dumps(dict(settings or {})),
        # A worker that is root warns about it, at length.
        "C_FORCE_ROOT": "1",
    }


def run(
    folder: Path, *arguments: str, broker: str, backend: str = "rpc://", timeout: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    """Run ``celery -A proj.worker ARGUMENTS`` to its end and return what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "proj.worker", *arguments],
        cwd=folder,
        env=environment(broker, backend),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
