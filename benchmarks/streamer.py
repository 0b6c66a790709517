"""The programs in C of ``peer/``, compiled and run: the streaming peer and the consumer on librabbitmq."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from environments import FOLDER  # also makes "contents" importable

if TYPE_CHECKING:
    from contents import Content

HERE = Path(__file__).parent


class CannotCompile(Exception):
    """A program in C does not compile here; the text says why."""


def compiled(name: str, *libraries: str) -> Path:
    """Compile ``peer/<name>.c`` with the compiler of ``CC`` (default ``cc``), unless that was done since it changed.

    Raises:
        CannotCompile: there is no compiler, or it finds a fault or no library.
    """
    source, program = HERE / "peer" / f"{name}.c", FOLDER / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        FOLDER.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc")
        links = [f"-l{library}" for library in libraries]
        try:
            done = subprocess.run(
                [compiler, "-O2", "-o", str(program), str(source), *links], capture_output=True, text=True
            )
        except FileNotFoundError:
            raise CannotCompile(f"there is no C compiler {compiler!r}; set CC") from None
        if done.returncode:
            raise CannotCompile(f"{source.name} does not compile:\n{done.stderr.strip()}")
    return program


class Streamer:
    """A running peer that streams deliveries to, and swallows publishes of, one client after the other.

    Args:
        count: deliveries after a client's first ``basic.consume``.
        content: of the deliveries.
        honour_prefetch: keep to the client's ``basic.qos``.
        confirms: ``"single"``: a confirm for each publish; ``"bunch"``: one for all that arrived together.
        cpu: number of the processor to stay on, where the system can do that.
    """

    def __init__(
        self,
        count: int = 0,
        content: Content | None = None,
        *,
        honour_prefetch: bool = True,
        confirms: str = "single",
        cpu: int | None = None,
    ) -> None:
        arguments = ["--count", str(count), "--confirms", confirms]
        if not honour_prefetch:
            arguments.append("--ignore-prefetch")
        with tempfile.TemporaryDirectory() as folder:
            if content is not None:
                body, properties = Path(folder, "body"), Path(folder, "properties")
                body.write_bytes(content.body)
                properties.write_bytes(content.properties)
                arguments += ["--body", str(body), "--properties", str(properties)]
                arguments += ["--number-at", str(content.number_at)]
            self.process = subprocess.Popen(
                [str(compiled("streamer")), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            if cpu is not None:
                os.sched_setaffinity(self.process.pid, {cpu})
            assert self.process.stdout is not None
            # It has read the files when it says its port.
            self.port = int(self.process.stdout.readline() or 0)
        if not self.port:
            raise RuntimeError(f"the streaming peer ended with code {self.process.wait()}")
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def __enter__(self) -> Streamer:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.kill()
        self.process.communicate()

    def report(self) -> dict[str, Any]:
        """Return what the peer has seen since the last report; to be called when the client has ended.

        Raises:
            RuntimeError: the peer has ended, for instance since it was sent what is not AMQP.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write("report\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"the streaming peer ended with code {self.process.wait()}")
        return dict(json.loads(line))
