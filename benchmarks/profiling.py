"""Say where the time of workloads goes: ``python benchmarks/profiling.py consume-raw [--side ours]``.

The client of one run is watched by ``perf`` where that is installed (functions of the interpreter, of the compiled core
and of the kernel), else by ``py-spy``, which is installed for that and shows Python's functions and the compiled ones.
``--python`` asks for py-spy, which is what shows the pure core and kombu 5.7 by Python function.

``--parts`` makes a table of several workloads instead, by what the functions belong to; that needs perf.
"""

from __future__ import annotations

import argparse
import collections
import platform
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import environments
from report import figure, filled, number, replaced, rst_table, text_table
from run import Bench, LeftOut, WrongResult, machine, one_run, options_for, rabbit, revision
from shares import recorded_shares, table_header, table_row
from sides import SIDES, Side
from streamer import compiled
from workloads import WORKLOADS, Workload

HERE = Path(__file__).resolve().parent
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


def watched(bench: Bench, workload: Workload, side: Side, record: list[str]) -> float:
    """Run the client of *side* behind the command *record*; return its microseconds of processor time a message.

    Raises:
        LeftOut: *side* cannot do the workload.
        WrongResult: it did not do it right.
    """
    bench.watch = (side.key, workload.work, record)
    if workload.peer in ("rabbit", "filled"):
        with rabbit(bench):
            runs = one_run(bench, workload, side)
    else:
        runs = one_run(bench, workload, side)
    return figure(runs[0], "cpu")


def perf_record(data: Path) -> list[str]:
    return ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(PER_SECOND), "-o", str(data), "--"]


def show_functions(bench: Bench, workload: Workload, side: Side, data: Path, options: argparse.Namespace) -> None:
    if shutil.which("perf") and not options.python:
        record, show = perf_record(data), by_perf
    else:
        spy = environments.packages("py-spy", "py-spy").with_name("py-spy")
        native = [] if options.python else ["--native"]
        record = [str(spy), "record", "-f", "raw", "-r", "500", *native, "-o", str(data), "--"]
        show = by_py_spy
    cpu = watched(bench, workload, side, record)
    print(f"{workload.title}, {side.title}: {number(cpu)} us of CPU a message, by {record[0].rpartition('/')[2]}\n")
    print(show(data, options.lines))


def show_parts(bench: Bench, workloads: list[Workload], side: Side, data: Path, options: argparse.Namespace) -> None:
    rows = [table_header()]
    for workload in workloads:
        cpu = watched(bench, workload, side, perf_record(data))
        rows.append(table_row(workload.title, cpu, recorded_shares(data)))
    print(text_table(rows))
    if options.readme:
        about = machine()
        told = (
            f"``python benchmarks/profiling.py {' '.join(sys.argv[1:])}``, {date.today()}, {about['processor']}, "
            f"{about['system']}, Python {platform.python_version()}, revision {revision()}."
        )
        text = options.readme.read_text("utf-8")
        options.readme.write_text(replaced(text, f"{filled(told)}\n\n{rst_table(rows)}", "profile"), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workloads", choices=list(WORKLOADS), nargs="+", metavar="WORKLOAD", help="see run.py --list")
    parser.add_argument("--side", choices=list(SIDES), default="ours", help="whose (default: %(default)s)")
    parser.add_argument("--python", action="store_true", help="by Python function, with py-spy")
    parser.add_argument("--parts", action="store_true", help="a table by what the functions belong to")
    parser.add_argument(
        "--readme", type=Path, nargs="?", const=HERE / "README.rst", help="rewrite the table of --parts in this file"
    )
    parser.add_argument("--share", type=float, default=5.0, help="of the usual messages (default: %(default)s)")
    parser.add_argument("--lines", type=int, default=40, help="functions to show (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="where to keep what was recorded last")
    options = parser.parse_args()
    workloads, side = [WORKLOADS[name] for name in options.workloads], SIDES[options.side]
    for workload in workloads:
        if workload.work in ("pools", "import"):
            parser.error(f"{workload.key} runs many processes; it cannot be profiled this way")
    if options.parts and (options.python or not shutil.which("perf")):
        parser.error("--parts needs perf, which sees the kernel and the interpreter")
    if options.readme and not options.parts:
        parser.error("--readme has a place for the table of --parts alone")
    if len(workloads) > 1 and not options.parts:
        parser.error("several workloads make a table with --parts; without it, name one")
    bench = Bench(options_for([*options.workloads, "--share", str(options.share)]))
    compiled("streamer")
    filled_by_ours = any(workload.peer == "filled" for workload in workloads) and side.key != "ours"
    bench.prepare([side, SIDES["ours"]] if filled_by_ours else [side])
    with tempfile.TemporaryDirectory() as folder:
        data = options.keep or Path(folder, "recorded")
        try:
            if options.parts:
                show_parts(bench, workloads, side, data, options)
            else:
                show_functions(bench, workloads[0], side, data, options)
        except (LeftOut, WrongResult) as exc:
            sys.exit(f"{side.title}: {exc}")


if __name__ == "__main__":
    main()
