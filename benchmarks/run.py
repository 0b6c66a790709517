"""Compare with kombu 5.7.0 and other clients: ``python benchmarks/run.py``.

Each library is installed into a virtual environment of its own, with the same interpreter.  For each workload all sides
run in turn (A B C A B C ...), several rounds.  A run counts only if what had to arrive has arrived: the client checks
what it got, the streaming peer what it was sent.  ``--list`` names the workloads; README.rst in this folder explains.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import environments
import pools
from contents import content, fnv
from report import (
    METRICS,
    Results,
    figure,
    growth,
    number,
    readme_tables,
    replaced,
    verdict_text,
    verdicts,
    workload_text,
)
from sides import SIDES, Side, Unavailable
from streamer import CannotCompile, Streamer, compiled
from workloads import WORKLOADS, Workload

HERE = Path(__file__).parent
PATIENCE = 300.0

#: What broker.py exits with where no RabbitMQ is installed.
NOT_INSTALLED = 3

#: What resident memory may grow over a soak, in KiB: an arena of the allocator.
FLAT = 1024

TITLES = {key: side.title for key, side in SIDES.items()}


class WrongResult(Exception):
    """Not everything arrived, or not as it was sent; the text says what."""


class LeftOut(Exception):
    """The side cannot do the workload; the text says why."""


class Bench:
    """What a run of the suite has prepared, and how it was told to go about it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.programs: dict[str, Path] = {}
        self.unavailable: dict[str, str] = {}
        self.cpus = processors(options.pin)
        self.share = 0.25 if options.quick else 1.0
        self.rabbit: str | None = None
        self.versions: dict[str, str] = {}
        # With --here the kombu is wherever this interpreter finds it, PYTHONPATH included.
        self.flags = ["-s"] if options.here else ["-s", "-E"]
        #: Side, work, and what its command is put behind.
        self.watch: tuple[str, str, list[str]] | None = None

    def prepare(self, sides: list[Side]) -> None:
        """Make the environments of *sides*; one that cannot be had is left out, unless it is ours or the base."""
        for side in sides:
            if self.options.here:
                self.programs[side.key] = Path(sys.executable)
                continue
            print(f"preparing {side.title} ...", flush=True)
            try:
                self.programs[side.key] = side.prepare()
            except Unavailable as exc:
                self.leave_out(side, str(exc))
            except (subprocess.CalledProcessError, RuntimeError) as exc:
                if side.key in ("ours", "pure", "kombu57"):
                    raise
                self.leave_out(side, f"its environment cannot be made: {exc}")

    def leave_out(self, side: Side, reason: str) -> None:
        self.unavailable[side.key] = reason
        print(f"NOTICE: {side.title} is left out: {reason}", flush=True)

    def client(self, side: Side, order: dict[str, Any], *, pin: bool = True) -> dict[str, Any]:
        """Run a client program and return what it printed.

        Raises:
            WrongResult: it ended with an error.
            LeftOut: it cannot do the work.
        """
        program = self.programs[side.key]
        if side.program:
            file = "import_time.py" if order["work"] == "import" else side.program
            command = [str(program), *self.flags, str(HERE / "clients" / file), json.dumps(order)]
        else:
            address = order["url"].rpartition("@")[2].partition("/")[0].split(":")
            numbers = [str(order[key]) for key in ("count", "warm", "size")]
            command = [str(program), *address, order["queue"], *numbers]
        if self.watch is not None and self.watch[:2] == (side.key, order["work"]):
            command = [*self.watch[2], *command]
        process = subprocess.Popen(
            command,
            env={**os.environ, **side.environment},
            cwd=HERE if self.options.here else "/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if pin and self.cpus[0] is not None:
            os.sched_setaffinity(process.pid, {self.cpus[0]})
        try:
            printed, said = process.communicate(timeout=self.options.patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise WrongResult(f"not done after {self.options.patience:.0f} s") from None
        if process.returncode:
            raise WrongResult(f"ended with {process.returncode}: {said.strip()[-600:]}")
        # A program that watches it may have its own say.
        lines = [line for line in printed.splitlines() if line.startswith("{")]
        if not lines:
            raise WrongResult(f"printed no result: {printed.strip()[-600:]!r}, {said.strip()[-600:]!r}")
        result = dict(json.loads(lines[-1]))
        if "unsupported" in result:
            raise LeftOut(result["unsupported"])
        return result


def expect(seen: dict[str, Any], **wanted: Any) -> None:
    """Compare what the peer has seen with what it should have.

    Raises:
        WrongResult: they differ.
    """
    wrong = [f"{key} {seen[key]!r} instead of {value!r}" for key, value in wanted.items() if seen[key] != value]
    if wrong:
        raise WrongResult(f"the peer saw {', '.join(wrong)}")


# -- the kinds of peer


def against_stream(bench: Bench, workload: Workload, side: Side, order: dict[str, Any]) -> dict[str, Any]:
    count = order["count"]
    with Streamer(count, content(order["content"], order["size"]), cpu=bench.cpus[1]) as peer:
        result = bench.client(side, {**order, "url": peer.url})
        seen = peer.report()
    expect(seen, delivered=count, acked=0 if order.get("no_ack") else count)
    return {**result, "peer": seen}


def against_swallowing(bench: Bench, workload: Workload, side: Side, order: dict[str, Any]) -> dict[str, Any]:
    how = order.get("how")
    with Streamer(confirms="bunch" if how == "window" else "single", cpu=bench.cpus[1]) as peer:
        result = bench.client(side, {**order, "url": peer.url})
        seen = peer.report()
    if order["work"] == "connections":
        expect(seen, connections=order["count"] + order["warm"])
    else:
        made = content(order["content"], order["size"])
        published = order["count"] + (order["warm"] if order["work"] == "publish" else 0)
        confirmed = published if how in ("confirm", "window") else 0
        expect(
            seen,
            publishes=published,
            different=0,
            first_body=fnv(made.body),
            published_octets=published * len(made.body),
            content_type=made.content_type,
            confirmed=confirmed,
        )
    return {**result, "peer": seen}


def against_rabbit(bench: Bench, workload: Workload, side: Side, order: dict[str, Any]) -> dict[str, Any]:
    return bench.client(side, {**order, "url": bench.rabbit}, pin=False)


def against_filled(bench: Bench, workload: Workload, side: Side, order: dict[str, Any]) -> dict[str, Any]:
    order = {**order, "url": bench.rabbit, "queue": f"bench-{os.getpid()}-{time.monotonic_ns()}"}
    helper = SIDES["ours"] if "ours" in bench.programs else SIDES["kombu57"]
    filled = bench.client(helper, {**order, "work": "fill"}, pin=False)
    bench.versions["RabbitMQ"] = filled["broker"]
    try:
        result = bench.client(side, order, pin=False)
    finally:
        removed = bench.client(helper, {**order, "work": "remove"}, pin=False)
    if removed["left"]:
        raise WrongResult(f"{removed['left']} of {order['count']} messages were not acknowledged")
    return result


def against_nobody(bench: Bench, workload: Workload, side: Side, order: dict[str, Any]) -> dict[str, Any]:
    if order["work"] != "import":
        return bench.client(side, order)
    # Fresh processes; what counts is the one in the middle.
    runs = [bench.client(side, order) for _ in range(order["count"])]
    return {
        **runs[0],
        **{key: statistics.median(run[key] for run in runs) for key in ("seconds", "cpu_seconds", "peak_kib")},
    }


PEERS = {
    "stream": against_stream,
    "swallow": against_swallowing,
    "rabbit": against_rabbit,
    "filled": against_filled,
    "none": against_nobody,
}


def one_run(bench: Bench, workload: Workload, side: Side) -> list[dict[str, Any]]:
    """Let *side* do *workload* once and return what was measured, checked.

    Raises:
        WrongResult, LeftOut: see there.
    """
    about = {"workload": workload.key, "title": workload.title, "metric": workload.metric, "side": side.key}
    count, warm = workload.messages(side.key, bench.options.share or bench.share)
    if workload.work == "pools":
        impl = side.environment.get("KOMBU_IMPL", "c")
        measured = pools.run(bench.programs[side.key], count, impl)
        return [
            {
                **about,
                "workload": f"pool {case}",
                "title": f"pool: acquire and release, {case}",
                "messages": 1,
                "seconds": us / 1e6,
            }
            for case, us in measured.items()
        ]
    if workload.work == "soak":
        count, warm = bench.options.soak or count, 0
    order = {"queue": "bench", **workload.settings(side.key), "count": count, "warm": warm}
    result = PEERS[workload.peer](bench, workload, side, order)
    bench.versions.setdefault(side.title, str(result.get("version")))
    if workload.work == "soak":
        grown = growth(result["rss_kib"])
        print(f"    resident memory {number(result['rss_kib'][-1] / 1024)} MiB at the end, grown by {grown} KiB")
        if grown > FLAT:
            raise WrongResult(f"resident memory has grown by {grown} KiB, from sample to sample: {result['rss_kib']}")
    return [{**about, **result}]


# -- a run of the suite


def processors(pin: bool) -> list[int | None]:
    """Return one processor for the client and another for the peer, where that can be arranged."""
    if not pin or not hasattr(os, "sched_setaffinity"):
        return [None, None]
    allowed = sorted(os.sched_getaffinity(0))
    return [allowed[0], allowed[-1]] if len(allowed) > 1 else [None, None]


@contextmanager
def rabbit(bench: Bench) -> Iterator[None]:
    """Run a private RabbitMQ, unless a URL was given; without one its workloads are left out with a notice."""
    if bench.options.url:
        bench.rabbit = bench.options.url
        yield
        return
    print("starting a private RabbitMQ ...", flush=True)
    python = environments.tools()
    process = subprocess.Popen(
        [str(python), str(HERE / "broker.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        bench.rabbit = process.stdout.readline().strip() or None
        if bench.rabbit is None:
            if process.wait(60) != NOT_INSTALLED:
                raise RuntimeError("the private RabbitMQ did not start")
            bench.unavailable["RabbitMQ"] = "it is not installed; what needs it was left out"
            print("NOTICE: no RabbitMQ is installed; what needs one is left out", flush=True)
        yield
    finally:
        process.stdin.close()
        process.wait(60)


def run_all(bench: Bench, chosen: list[Workload], keys: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Run everything and return the runs, and what failed."""
    runs: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    plan = {workload.key: sides_of(bench, workload, keys) for workload in chosen}
    rounds = {workload.key: min(workload.rounds, bench.options.rounds) for workload in chosen}
    total = sum(rounds[key] * len(sides) for key, sides in plan.items())
    done, started = 0, time.monotonic()
    for workload in chosen:
        print(f"\n{workload.title} [{workload.key}]", flush=True)
        reasons: dict[str, list[str]] = {}
        for key in keys:
            if key in workload.left_out:
                reasons.setdefault(workload.left_out[key], []).append(TITLES[key])
        for reason, titles in reasons.items():
            print(f"    left out: {', '.join(titles)}: {reason}")
        if workload.peer in ("rabbit", "filled") and bench.rabbit is None:
            print("    left out: no RabbitMQ")
            done += rounds[workload.key] * len(plan[workload.key])
            continue
        gone: set[str] = set()
        for number_of_round in range(1, rounds[workload.key] + 1):
            for side in plan[workload.key]:
                done += 1
                if side.key in gone:
                    continue
                where = f"[{done:3}/{total} {time.monotonic() - started:4.0f} s] {number_of_round} {side.title}"
                try:
                    made = one_run(bench, workload, side)
                except LeftOut as exc:
                    gone.add(side.key)
                    print(f"    left out: {side.title}: not supported by this build: {exc}", flush=True)
                    continue
                except WrongResult as exc:
                    gone.add(side.key)
                    failures.append({"workload": workload.key, "side": side.key, "error": str(exc)})
                    print(f"{where}: FAILED: {exc}", flush=True)
                    continue
                for run in made:
                    run["round"] = number_of_round
                    runs.append(run)
                    print(f"{where}{told(run)}", flush=True)
    return runs, failures


def told(run: dict[str, Any]) -> str:
    """Return what a line of progress says of *run*."""
    text = f": {number(figure(run, run['metric']))}{METRICS[run['metric']].unit}"
    if run["metric"] == "us":
        return f" {run['title'].rpartition(',')[2].strip()}{text}"
    if run["metric"] == "rate" and "cpu_seconds" in run:
        text += f", {number(figure(run, 'cpu'))} us CPU a message"
    return text


def sides_of(bench: Bench, workload: Workload, keys: list[str]) -> list[Side]:
    named = bench.options.sides or []
    wanted = [*workload.sides, *(key for key in workload.on_request if key in named)]
    return [SIDES[key] for key in wanted if key in keys and key in bench.programs]


def machine() -> dict[str, Any]:
    """Return what kind of machine this is."""
    processor = platform.processor() or platform.machine()
    memory = 0
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal"):
                memory = int(line.split()[1]) // 1024
    except FileNotFoundError:
        pass
    return {
        "processor": processor,
        "processors": os.cpu_count(),
        "memory_mib": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "kernel": platform.release(),
    }


def revision() -> str:
    """Return the git revision, with ``+`` if something is changed; ``unknown`` outside a clone."""
    try:
        git = ["git", "-C", str(HERE)]
        short = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return short.stdout.strip() + ("+" if changed.stdout.strip() else "")


def options_for(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options that *arguments* ask for; None: those of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="WORKLOAD", help="which to run (default: all but the soaks)")
    parser.add_argument("--list", action="store_true", help="name the workloads and the sides, and end")
    parser.add_argument("--micro", action="store_true", help="run the micro benchmarks instead, and end")
    parser.add_argument("--quick", action="store_true", help="two rounds, a quarter of the messages")
    parser.add_argument("--rounds", type=int, help="how often each side runs (default: 5)")
    parser.add_argument("--sides", type=lambda text: text.split(","), help="only these, separated by commas")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "run.json", help="where the results go")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="draw charts into this folder")
    parser.add_argument(
        "--readme", type=Path, nargs="?", const=HERE.parent / "README.rst", help="rewrite the tables in this file"
    )
    parser.add_argument("--from", dest="source", type=Path, metavar="JSON", help="run nothing; report on these results")
    parser.add_argument("--url", help="of a RabbitMQ that runs already")
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="let the system choose the processors")
    parser.add_argument("--soak", type=int, metavar="COUNT", help="messages of the soaks (default: ten million)")
    parser.add_argument("--share", type=float, help="of the usual number of messages (default: 1)")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds that one client may take")
    parser.add_argument(
        "--here", action="store_true", help="install nothing: measure the kombu that this interpreter has, alone"
    )
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (2 if options.quick else 5)
    for name in options.names:
        if name not in WORKLOADS:
            parser.error(f"there is no workload {name!r}; --list names them")
    for name in options.sides or []:
        if name not in SIDES:
            parser.error(f"there is no side {name!r}: {', '.join(SIDES)}")
    return options


def show_list() -> None:
    print("workloads:")
    for workload in WORKLOADS.values():
        print(f"    {workload.key:20} {workload.title}{'' if workload.default else ' (only by name)'}")
    print("sides:")
    for side in SIDES.values():
        print(f"    {side.key:20} {side.title}")


def show(results: dict[str, Any]) -> None:
    """Print the tables."""
    made = Results(results["runs"])
    for workload in made.workloads():
        print()
        print(workload_text(made, workload, TITLES))
    judged = verdicts(made)
    if judged:
        print("\ngoals")
        print(verdict_text(judged))
    for side, reason in results["unavailable"].items():
        print(f"left out: {TITLES.get(side, side)}: {reason}")
    for failure in results["failures"]:
        print(f"FAILED: {failure['workload']}, {TITLES[failure['side']]}: {failure['error']}")


def draw(path: Path, folder: Path) -> None:
    python = environments.tools()
    subprocess.run([str(python), str(HERE / "charts.py"), str(path), str(folder)], check=True)


def micro(options: argparse.Namespace) -> int:
    """Run what ``micro/`` holds, in an environment with this tree and pytest-benchmark."""
    print("preparing this, with pytest-benchmark ...", flush=True)
    python = environments.ours("pytest", "pytest-benchmark", compiled=True, name="micro")
    folder = HERE / "micro"
    short = ["--benchmark-max-time=0.1", "--benchmark-min-rounds=3"] if options.quick else []
    where = ["-c", str(folder / "pytest.ini"), "--rootdir", str(folder), str(folder)]
    done = subprocess.run(
        [str(python), "-m", "pytest", "-q", *short, *where],
        cwd="/",
        env={key: value for key, value in os.environ.items() if key != "KOMBU_IMPL"},
    )
    return done.returncode


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Prepare everything, run it, and return the results."""
    bench = Bench(options)
    chosen = [w for w in WORKLOADS.values() if (w.key in options.names if options.names else w.default)]
    if options.here:
        keys = [key for key in (options.sides or ["ours"]) if key in ("ours", "pure")]
    else:
        taking_part = {key for workload in chosen for key in (*workload.sides, *workload.on_request)}
        if not options.sides:
            taking_part -= {key for w in chosen for key in w.on_request} - {key for w in chosen for key in w.sides}
        keys = [key for key in SIDES if key in taking_part and key in (options.sides or SIDES)]
    compiled("streamer")
    bench.prepare([SIDES[key] for key in keys])
    needs_rabbit = any(workload.peer in ("rabbit", "filled") for workload in chosen)
    if needs_rabbit and not options.here and "ours" not in bench.programs:
        bench.prepare([SIDES["ours"]])  # it fills the queues
    started = time.monotonic()
    if needs_rabbit:
        with rabbit(bench):
            runs, failures = run_all(bench, chosen, keys)
    else:
        runs, failures = run_all(bench, chosen, keys)
    return {
        "command": " ".join(["python benchmarks/run.py", *sys.argv[1:]]),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": machine(),
        "python": platform.python_version(),
        "revision": revision(),
        "rounds": options.rounds,
        "took_seconds": round(time.monotonic() - started),
        "titles": TITLES,
        "versions": bench.versions,
        "unavailable": bench.unavailable,
        "failures": failures,
        "runs": runs,
    }


def main() -> int:
    options = options_for()
    if options.list:
        show_list()
        return 0
    if options.micro:
        return micro(options)
    if options.source:
        path, results = options.source, json.loads(options.source.read_text())
    else:
        try:
            path, results = options.json, measure(options)
        except CannotCompile as exc:
            sys.exit(f"the streaming peer is needed: {exc}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
    show(results)
    print(f"\n{results['took_seconds']} s, {results['command']}, written to {path}")
    if options.charts:
        draw(path, options.charts)
        print(f"charts in {options.charts}")
    if options.readme:
        tables = readme_tables(Results(results["runs"]), results, TITLES)
        options.readme.write_text(replaced(options.readme.read_text("utf-8"), tables), "utf-8")
        print(f"tables in {options.readme}")
    return 1 if results["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
