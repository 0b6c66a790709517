"""Compare pools with kombu 5.7.0: ``python benchmarks/pools.py``.

What it takes to acquire and release, in microseconds: of a connection, of a channel, of a producer as a context, and of
a connection by 8 and by 32 threads that share ten.  Both sides are installed into virtual environments of their own and
run in turn (A B A B ...), on ``memory://``, so that no broker has a part in it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CASES = ("connection", "channel", "producer", "8 threads", "32 threads")


def per_call(function: Callable[[], Any], calls: int) -> float:
    """Return the microseconds that a call takes: the median of five rounds."""
    rounds = []
    for _ in range(5):
        before = time.perf_counter()
        for _ in range(calls):
            function()
        rounds.append((time.perf_counter() - before) / calls * 1e6)
    return statistics.median(rounds)


def with_threads(function: Callable[[], Any], threads: int, calls: int) -> float:
    """Return the microseconds that a call takes when *threads* threads make *calls* calls, all together."""
    start = threading.Barrier(threads + 1)

    def work() -> None:
        start.wait()
        for _ in range(calls // threads):
            function()

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    start.wait()
    before = time.perf_counter()
    for thread in running:
        thread.join()
    return (time.perf_counter() - before) / calls * 1e6


def measure(calls: int) -> dict[str, float]:
    """Measure the kombu that this interpreter has."""
    from kombu import Connection, pools

    connection = Connection("memory://")
    pool, channels = connection.Pool(10), connection.ChannelPool(10)
    held = [pool.acquire() for _ in range(10)]
    for pooled in held:
        pooled.default_channel  # noqa: B018 (connects)
        pooled.release()

    def one_connection() -> None:
        pool.acquire(block=True).release()

    def one_channel() -> None:
        channels.acquire(block=True).release()

    def one_producer() -> None:
        with pools.producers[connection].acquire(block=True):
            pass

    with pools.producers[connection].acquire(block=True) as producer:
        producer.channel  # noqa: B018 (connects)
    return {
        "connection": per_call(one_connection, calls),
        "channel": per_call(one_channel, calls),
        "producer": per_call(one_producer, calls // 4),
        "8 threads": with_threads(one_connection, 8, calls),
        "32 threads": with_threads(one_connection, 32, calls),
    }


def run(python: Path, calls: int, impl: str) -> dict[str, float]:
    environment = {**os.environ, "KOMBU_IMPL": impl}
    command = [str(python), "-I", str(Path(__file__).resolve()), "--measure", str(calls)]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=True, timeout=600)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", type=int, metavar="CALLS", help=argparse.SUPPRESS)
    parser.add_argument("--impl", choices=["c", "python"], default="c", help="our core (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=20_000, help="calls a round (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=5, help="pairs of runs (default: %(default)s)")
    parser.add_argument("--python", nargs=2, type=Path, metavar=("UPSTREAM", "OURS"), help="prepared interpreters")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    if options.python:
        sides = dict(zip(("upstream", "ours"), options.python, strict=True))
    else:
        sys.path.insert(0, str(HERE))
        import environments

        sides = {"upstream": environments.upstream(), "ours": environments.ours(compiled=options.impl == "c")}
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(options.repeat):
        for side, python in sides.items():
            runs[side].append(run(python, options.calls, options.impl))
    print(f"{'us an acquire and release':28}{'kombu 5.7.0':>24}{'ours (' + options.impl + ')':>24}{'ratio':>8}")
    for case in CASES:
        cells, middles = [], []
        for side in sides:
            values = [each[case] for each in runs[side]]
            middles.append(statistics.median(values))
            cells.append(f"{middles[-1]:.2f} ({min(values):.2f} to {max(values):.2f})")
        print(f"{case:28}{cells[0]:>24}{cells[1]:>24}{middles[0] / middles[1]:>8.1f}")


if __name__ == "__main__":
    main()
