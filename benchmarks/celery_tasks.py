"""Compare a Celery worker on this kombu and on kombu 5.7.0: ``python benchmarks/celery_tasks.py``.

Both sides are installed into virtual environments of their own, with the same interpreter and the same releases of
Celery and ``amqp``.  They run in turn (A B A B ...) against one RabbitMQ, which is started for that unless a ``--url``
is given: the tasks are sent first, then one worker of one process is told to consume them, with Celery's defaults.  A
run counts only if every task was run once.  Linux only: the processor time is that of all processes of the worker, user
and system, read from ``/proc``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import environments

HERE = Path(__file__).parent
CELERY = "celery==5.7.0"
PATIENCE = 60.0


@contextmanager
def broker(python: Path) -> Iterator[str]:
    """Give the URL of a private RabbitMQ."""
    process = subprocess.Popen(
        [str(python), str(HERE / "broker.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("no RabbitMQ could be started")
        yield url
    finally:
        process.stdin.close()
        process.wait(PATIENCE)


class Worker:
    """A worker that consumes from no queue of interest yet; killed, with its children, when the block ends."""

    def __init__(self, python: Path, environment: dict[str, str], options: argparse.Namespace, folder: Path) -> None:
        self.name = f"bench-{secrets.token_hex(4)}@bench"
        self.log = folder / "worker.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    *(str(python), "-m", "celery", "-A", "celery_app", "worker", "--pool", options.pool),
                    *("--concurrency", "1", "--queues", f"{self.name}-idle", "--hostname", self.name),
                    *("--prefetch-multiplier", str(options.prefetch)),
                    *("--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"),
                ],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_exc: object) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended by itself
        self.process.wait()

    def cpu(self) -> float:
        """Return the seconds of processor time that all processes of the worker have used."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[2]) == self.process.pid:  # the process group
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def wait_for(condition: Any, timeout: float, worker: Worker) -> None:
    """Wait until *condition()* holds.

    Raises:
        RuntimeError: it does not, or the worker has ended.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if worker.process.poll() is not None or time.monotonic() > deadline:
            end = worker.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the worker ended, or did not do its work within {timeout:.0f} s:\n{end}")
        time.sleep(0.01)


def run(python: Path, side: str, url: str, options: argparse.Namespace) -> dict[str, Any]:
    """Send the tasks, have one worker run them, and return what that took."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "BENCH_BROKER": url, "C_FORCE_ROOT": "1"}
    environment.pop("KOMBU_IMPL", None)
    if side == "ours":
        environment["KOMBU_IMPL"] = options.impl
    queue = f"bench-{secrets.token_hex(4)}"

    def client(*arguments: str) -> dict[str, float]:
        command = [str(python), str(HERE / "celery_app.py"), *arguments]
        done = subprocess.run(command, env=environment, cwd="/", stdout=subprocess.PIPE, text=True, check=True)
        return dict(json.loads(done.stdout))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = folder / "report"
        sent = client("fill", queue, str(options.count), str(report))
        with Worker(python, environment, options, folder) as worker:
            if not client("ready", worker.name)["ready"]:
                raise RuntimeError(f"the worker does not answer:\n{worker.log.read_text(errors='replace')[-2000:]}")
            cpu = worker.cpu()
            started = client("go", queue, worker.name)["started"]
            wait_for(report.exists, PATIENCE + options.count / 50, worker)
            cpu = worker.cpu() - cpu
        seen = json.loads(report.read_text())
    expected = {"seen": options.count, "sum": options.count * (options.count - 1) // 2}
    if {key: seen[key] for key in expected} != expected:
        raise RuntimeError(f"not every task was run once: {seen}, expected {expected}")
    # The clock runs from the first task: what it takes Celery to begin is told apart.
    seconds = seen["ended"] - seen["began"]
    return {
        "side": side,
        "count": options.count,
        "seconds": seconds,
        "seconds_until_first": seen["began"] - started,
        "tasks_per_second": (options.count - 1) / seconds,
        "cpu_us_per_task": 1e6 * cpu / options.count,
        "sent_per_second": options.count / sent["seconds"],
        "cpu_us_per_send": 1e6 * sent["cpu"] / options.count,
    }


FIGURES = {
    "tasks_per_second": "tasks run a second",
    "cpu_us_per_task": "us of CPU a task run, all of the worker's processes",
    "seconds_until_first": "seconds until the first task is run",
    "sent_per_second": "tasks sent a second",
    "cpu_us_per_send": "us of CPU a task sent",
}


def show(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--impl", choices=["c", "python"], default="c", help="our core (default: %(default)s)")
    pools = ["prefork", "solo", "threads"]
    parser.add_argument("--pool", choices=pools, default="prefork", help="the worker's (default: %(default)s)")
    parser.add_argument("--prefetch", type=int, default=4, help="prefetch multiplier (default: Celery's, %(default)s)")
    parser.add_argument("--count", type=int, default=50_000, help="tasks a run (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="pairs of runs (default: %(default)s)")
    parser.add_argument("--url", help="of a RabbitMQ that runs already")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "celery.json", help="where the JSON goes")
    options = parser.parse_args()
    print("preparing the environments ...", flush=True)
    sides = {
        "upstream": environments.upstream(CELERY, name="celery-upstream"),
        "ours": environments.ours(CELERY, "trustme", compiled=options.impl == "c", name="celery-ours"),
    }
    runs: list[dict[str, Any]] = []

    def compare(url: str) -> None:
        for number in range(options.repeat):
            for side, python in sides.items():
                runs.append(run(python, side, url, options))
                print(f"{number + 1}/{options.repeat} {side:9}", end=" ")
                print(", ".join(f"{show(runs[-1][key])} {text}" for key, text in FIGURES.items()), flush=True)

    if options.url:
        compare(options.url)
    else:
        with broker(sides["ours"]) as url:
            compare(url)
    where = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    print(f"\n{options.count:,} tasks, pool {options.pool}, prefetch {options.prefetch}, core {options.impl}, {where}")
    for key, text in FIGURES.items():
        print(text)
        medians = {}
        for side in sides:
            values = [each[key] for each in runs if each["side"] == side]
            medians[side] = statistics.median(values)
            print(f"    {side:9}{show(medians[side]):>10} ({show(min(values))} to {show(max(values))})")
        print(f"    ours to upstream: {medians['ours'] / medians['upstream']:.2f}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    settings = {key: getattr(options, key) for key in ("impl", "pool", "prefetch", "count")}
    result = {"python": sys.version, "platform": platform.platform(), "processors": os.cpu_count(), **settings}
    options.output.write_text(json.dumps({**result, "runs": runs}, indent=2) + "\n")
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
