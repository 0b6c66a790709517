"""Compare consuming with kombu 5.7.0: ``python benchmarks/run.py``.

Both sides are installed into virtual environments of their own, with the same interpreter and the same ``amqp``.  They
consume in turn (A B A B ...) from a peer that does nothing but stream prepared deliveries, one connection, one
consumer, a Python callback that acknowledges each message.  A run counts only if every message arrived and the peer
got the acknowledgement of each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import environments
from streamer import Streamer

HERE = Path(__file__).parent


def consume(python: Path, side: str, options: argparse.Namespace, cpus: list[int | None]) -> dict[str, Any]:
    """Run one consumer to its end and return what it and the peer measured.

    Raises:
        RuntimeError: messages or acknowledgements are missing.
    """
    count = options.upstream_count if side == "upstream" else options.count
    environment = dict(os.environ)
    environment.pop("KOMBU_IMPL", None)
    if side == "ours":
        environment["KOMBU_IMPL"] = options.impl
    with Streamer(count, options.size, cpus[1]) as peer:
        client = subprocess.Popen(
            [str(python), "-I", str(HERE / "consume.py"), peer.url, str(count), str(options.size), options.mode],
            env=environment,
            cwd="/",
            stdout=subprocess.PIPE,
            text=True,
        )
        if cpus[0] is not None:
            os.sched_setaffinity(client.pid, {cpus[0]})
        printed, _ = client.communicate(timeout=600)
        if client.returncode:
            raise RuntimeError(f"the consumer on {side} exited with {client.returncode}")
        seen = peer.report()
    if (seen["delivered"], seen["acked"]) != (count, count):
        raise RuntimeError(f"of {count} messages {seen['delivered']} were delivered and {seen['acked']} acknowledged")
    return {"side": side, "count": count, **json.loads(printed), "peer": seen}


def summary(runs: list[dict[str, Any]], side: str) -> str:
    rates = [run["messages_per_second"] for run in runs if run["side"] == side]
    costs = [run["cpu_us_per_message"] for run in runs if run["side"] == side]
    return (
        f"{side:9} {statistics.median(rates):12,.0f} messages/s ({min(rates):,.0f} to {max(rates):,.0f}), "
        f"{statistics.median(costs):8.2f} us of CPU a message"
    )


def ratios(runs: list[dict[str, Any]], key: str) -> list[float]:
    """Return ours to upstream for each pair of neighbouring runs."""
    pairs = zip(runs[0::2], runs[1::2], strict=True)
    return [mine[key] / theirs[key] for theirs, mine in pairs]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--impl", choices=["c", "python"], default="c", help="our core (default: %(default)s)")
    parser.add_argument("--mode", choices=["callbacks", "on_message"], default="callbacks", help="kind of callback")
    parser.add_argument("--size", type=int, default=256, help="octets in each body (default: %(default)s)")
    parser.add_argument("--count", type=int, default=500_000, help="messages a run of ours (default: %(default)s)")
    parser.add_argument("--upstream-count", type=int, help="messages a run of kombu 5.7.0 (default: a tenth)")
    parser.add_argument("--repeat", type=int, default=5, help="pairs of runs (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages, two pairs")
    parser.add_argument("--no-pin", action="store_true", help="leave the choice of processors to the system")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "consume.json", help="where the JSON goes")
    options = parser.parse_args()
    if options.quick:
        options.count, options.repeat = options.count // 10, 2
    options.upstream_count = options.upstream_count or max(1000, options.count // 10)
    return options


def processors(options: argparse.Namespace) -> list[int | None]:
    """Return one processor for the client and another for the peer, where that can be arranged."""
    if options.no_pin or not hasattr(os, "sched_setaffinity"):
        return [None, None]
    allowed = sorted(os.sched_getaffinity(0))
    return [allowed[0], allowed[-1]] if len(allowed) > 1 else [None, None]


def main() -> None:
    options = arguments()
    print("preparing the environments ...", flush=True)
    sides = {"upstream": environments.upstream(), "ours": environments.ours(compiled=options.impl == "c")}
    cpus = processors(options)
    runs: list[dict[str, Any]] = []
    for number in range(options.repeat):
        for side, python in sides.items():
            run = consume(python, side, options, cpus)
            runs.append(run)
            print(
                f"{number + 1}/{options.repeat} {side:9} kombu {run['kombu']}, {run['count']:,} messages: "
                f"{run['messages_per_second']:,.0f}/s, {run['cpu_us_per_message']:.2f} us of CPU a message",
                flush=True,
            )
    faster, cheaper = ratios(runs, "messages_per_second"), [1 / r for r in ratios(runs, "cpu_us_per_message")]
    where = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    print(f"\n{options.size} octets a body, {options.mode}, our core: {options.impl}, {where}")
    print(summary(runs, "upstream"))
    print(summary(runs, "ours"))
    print(f"ratio     {statistics.median(faster):.1f} times the messages/s ({min(faster):.1f} to {max(faster):.1f})")
    print(f"          {statistics.median(cheaper):.1f} times less CPU ({min(cheaper):.1f} to {max(cheaper):.1f})")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "python": sys.version,
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "size": options.size,
        "mode": options.mode,
        "impl": options.impl,
        "ratio": statistics.median(faster),
        "ratios": faster,
        "cpu_ratios": cheaper,
        "runs": runs,
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
