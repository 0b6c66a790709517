"""Say where the time of a workload goes, by function: ``python benchmarks/profiling.py consume-raw [--side ours]``.

The client of one run is watched by ``perf`` where that is installed (functions of the interpreter, of the compiled core
and of the kernel), else by ``py-spy``, which is installed for that and shows Python's functions and the compiled ones.
``--python`` asks for py-spy, which is what shows the pure core and kombu 5.7 by Python function.
"""

from __future__ import annotations

import argparse
import collections
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import environments
from report import figure, number
from run import Bench, LeftOut, WrongResult, one_run, options_for, rabbit
from sides import SIDES
from streamer import compiled
from workloads import WORKLOADS

PER_SECOND = 1000


def by_perf(data: Path, lines: int) -> str:
    """Return the share of each function, its object file and name, as ``perf`` counted them."""
    done = subprocess.run(
        ["perf", "report", "-i", str(data), "--stdio", "--no-children", "-g", "none", "--sort", "dso,symbol"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.rstrip(" -") for line in done.stdout.splitlines() if line.strip() and not line.startswith("#")]
    objects: collections.Counter[str] = collections.Counter()
    for row in rows:
        share, name = row.split()[:2]
        objects[name] += round(float(share.rstrip("%")) * 100)
    summary = "\n".join(f"{share / 100:7.2f}%  {name}" for name, share in objects.most_common(8))
    return f"by object\n{summary}\n\nby function\n" + "\n".join(rows[:lines])


def by_py_spy(data: Path, lines: int) -> str:
    """Return the share of each function, as ``py-spy record -f raw`` wrote the stacks."""
    own: collections.Counter[str] = collections.Counter()
    for line in data.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        own[stack.rpartition(";")[2]] += int(count)
    total = sum(own.values()) or 1
    return "\n".join(f"{100 * count / total:7.2f}%  {name}" for name, count in own.most_common(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workload", choices=list(WORKLOADS), metavar="WORKLOAD", help="see run.py --list")
    parser.add_argument("--side", choices=list(SIDES), default="ours", help="whose (default: %(default)s)")
    parser.add_argument("--python", action="store_true", help="by Python function, with py-spy")
    parser.add_argument("--share", type=float, default=5.0, help="of the usual messages (default: %(default)s)")
    parser.add_argument("--lines", type=int, default=40, help="functions to show (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="where to keep what was recorded")
    options = parser.parse_args()
    workload, side = WORKLOADS[options.workload], SIDES[options.side]
    if workload.work in ("pools", "import"):
        parser.error(f"{workload.key} runs many processes; it cannot be profiled this way")
    bench = Bench(options_for([options.workload, "--share", str(options.share)]))
    compiled("streamer")
    bench.prepare([side, SIDES["ours"]] if workload.peer == "filled" and side.key != "ours" else [side])
    with tempfile.TemporaryDirectory() as folder:
        data = options.keep or Path(folder, "recorded")
        if shutil.which("perf") and not options.python:
            record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(PER_SECOND), "-o", str(data), "--"]
            show = by_perf
        else:
            spy = environments.packages("py-spy", "py-spy").with_name("py-spy")
            native = [] if options.python else ["--native"]
            record = [str(spy), "record", "-f", "raw", "-r", "500", *native, "-o", str(data), "--"]
            show = by_py_spy
        bench.watch = (side.key, workload.work, record)
        try:
            if workload.peer in ("rabbit", "filled"):
                with rabbit(bench):
                    runs = one_run(bench, workload, side)
            else:
                runs = one_run(bench, workload, side)
        except (LeftOut, WrongResult) as exc:
            sys.exit(f"{workload.key}, {side.title}: {exc}")
        cpu = figure(runs[0], "cpu")
        print(f"{workload.title}, {side.title}: {number(cpu)} us of CPU a message, by {record[0].rpartition('/')[2]}\n")
        print(show(data, options.lines))


if __name__ == "__main__":
    main()
