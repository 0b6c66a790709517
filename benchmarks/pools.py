"""Compare pools with kombu 5.7.0: ``python benchmarks/pools.py``.

What it takes to acquire and release, in microseconds: of a connection, of a channel, of a producer as a context, and of
a connection by 8 and by 32 threads that share ten.  Both sides are installed into virtual environments of their own and
run in turn (A B A B ...), on ``memory://``, so that no broker has a part in it.

``--scaling`` has this library alone do the same by 1, 2 and 4 threads at once, each with as many calls.  Of interest on
a free-threaded Python; the loop that shares nothing says what the machine has to give.
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
SCALES = ("nothing shared", "connection", "channel", "producer")
THREADS = (1, 2, 4)


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

    def work(use: Callable[[], Any] = function) -> None:
        start.wait()
        for _ in range(calls // threads):
            use()

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    start.wait()
    before = time.perf_counter()
    for thread in running:
        thread.join()
    return (time.perf_counter() - before) / calls * 1e6


def uses() -> dict[str, Callable[[], None]]:
    """Return what acquires and releases one of each, of the kombu that this interpreter has."""
    from kombu import Connection, pools

    connection = Connection("memory://")
    pool, channels = connection.Pool(10), connection.ChannelPool(10)
    held = [pool.acquire() for _ in range(10)]
    for pooled in held:
        pooled.default_channel  # noqa: B018 (connects)
        pooled.release()

    # By arguments: threads that look into one closure are in each other's way there.
    def one_connection(pool: Any = pool) -> None:
        pool.acquire(block=True).release()

    def one_channel(channels: Any = channels) -> None:
        channels.acquire(block=True).release()

    def one_producer(producers: Any = pools.producers, connection: Any = connection) -> None:
        with producers[connection].acquire(block=True):
            pass

    with pools.producers[connection].acquire(block=True) as producer:
        producer.channel  # noqa: B018 (connects)
    return {"connection": one_connection, "channel": one_channel, "producer": one_producer}


def measure(calls: int) -> dict[str, float]:
    """Measure the kombu that this interpreter has."""
    use = uses()
    return {
        "connection": per_call(use["connection"], calls),
        "channel": per_call(use["channel"], calls),
        "producer": per_call(use["producer"], calls // 4),
        "8 threads": with_threads(use["connection"], 8, calls),
        "32 threads": with_threads(use["connection"], 32, calls),
    }


def share_nothing() -> None:
    """Do about as much as an acquire and release, on objects of this thread."""
    total = 0
    for each in (1, 2, 3, 4, 5):
        total += each


def measure_scaling(calls: int, rounds: int) -> dict[str, Any]:
    """Measure how many calls a second 1, 2 and 4 threads make together, in turn."""
    import kombu

    use = {"nothing shared": share_nothing, **uses()}
    rates: dict[str, list[list[float]]] = {case: [] for case in use}
    for _ in range(rounds):
        for case, function in use.items():
            rates[case].append([1e6 / with_threads(function, threads, calls * threads) for threads in THREADS])
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    about = f"core {kombu.__impl__}, Python {sys.version.split()[0]}, the GIL is {'on' if gil else 'off'}"
    return {"about": f"{about}, {os.cpu_count()} processors", "rates": rates}


def print_scaling(measured: dict[str, Any]) -> None:
    print(f"{measured['about']}\n{'times the calls of 1 thread':28}{'1 thread':>14}", end="")
    print("".join(f"{f'{threads} threads':>22}" for threads in THREADS[1:]))
    for case in SCALES:
        rows = measured["rates"][case]
        print(f"{case:28}{statistics.median(row[0] for row in rows) / 1e6:>10.2f} M/s", end="")
        for at in range(1, len(THREADS)):
            ratios = [row[at] / row[0] for row in rows]
            print(f"{f'{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})':>22}", end="")
        print()


def run(python: Path, calls: int, impl: str, *arguments: str) -> Any:
    """Measure with the kombu of *python*: see :func:`measure`, or with the arguments for it :func:`measure_scaling`."""
    environment = {**os.environ, "KOMBU_IMPL": impl}
    command = [str(python), "-I", str(Path(__file__).resolve()), "--measure", str(calls), *arguments]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=True, timeout=600)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", type=int, metavar="CALLS", help=argparse.SUPPRESS)
    parser.add_argument("--impl", choices=["c", "python"], default="c", help="our core (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=20_000, help="calls a round (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=5, help="pairs of runs (default: %(default)s)")
    parser.add_argument("--python", nargs="+", type=Path, metavar="PYTHON", help="prepared: kombu 5.7.0's, and ours")
    parser.add_argument("--scaling", action="store_true", help="1, 2 and 4 threads of ours; --python has ours alone")
    options = parser.parse_args()
    if options.measure:
        scaling = options.scaling
        print(json.dumps(measure_scaling(options.measure, options.repeat) if scaling else measure(options.measure)))
        return
    if options.python and len(options.python) != (1 if options.scaling else 2):
        parser.error("--python has kombu 5.7.0's interpreter and ours, or ours alone with --scaling")
    if options.scaling:
        if options.python:
            python = options.python[0]
        else:
            sys.path.insert(0, str(HERE))
            import environments

            python = environments.ours(compiled=options.impl == "c")
        # For so long that the system has given a processor to each thread.
        print_scaling(run(python, options.calls * 10, options.impl, "--scaling", "--repeat", str(options.repeat)))
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
