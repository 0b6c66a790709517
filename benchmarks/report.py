"""What becomes of the runs: medians and spreads, ratios, goals met and missed, tables in text and reStructuredText."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from targets import CONSUMING, NOTHING_SLOWER, PURE_CONSUMING, TARGETS

Run = dict[str, Any]

BASE = "kombu57"
#: The peer's share of the time from which on the client waits for it.
BUSY = 0.8


@dataclass(frozen=True)
class Metric:
    """One figure of a run.

    Args:
        unit: as it is printed after the figure.
        more_is_better: or less.
    """

    unit: str
    more_is_better: bool

    def ratio(self, mine: float, base: float) -> float:
        """Return how many times better *mine* is."""
        return mine / base if self.more_is_better else base / mine


METRICS = {
    "rate": Metric("/s", True),
    "cpu": Metric(" us CPU", False),
    "p50": Metric(" us", False),
    "us": Metric(" us", False),
    "ms": Metric(" ms", False),
}


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, with the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of *values*.

        Raises:
            ValueError: there are none.
        """
        ordered = sorted(values)
        if not ordered:
            raise ValueError("no values to take the median of")
        return cls(statistics.median(ordered), ordered[0], ordered[-1])

    def text(self, unit: str = "") -> str:
        return f"{number(self.median)}{unit} ({number(self.low)} to {number(self.high)})"


def number(value: float) -> str:
    """Return *value* with three digits that say something, or all before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def figure(run: Run, metric: str) -> float:
    """Return the figure of *run* that *metric* (a key of :data:`METRICS`) names."""
    if metric == "rate":
        return float(run["messages"] / run["seconds"])
    if metric == "cpu":
        return float(1e6 * run["cpu_seconds"] / run["messages"])
    if metric == "p50":
        return float(run["p50_us"])
    scale = {"ms": 1e3, "us": 1e6}[metric]
    return float(scale * run["seconds"] / run["messages"])


class Results:
    """All runs of one run of the suite."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs

    def workloads(self) -> list[str]:
        """Return the keys of the workloads that were run, in the order in which they were."""
        return list(dict.fromkeys(run["workload"] for run in self.runs))

    def sides(self, workload: str) -> list[str]:
        """Return the sides that took part in *workload*."""
        return list(dict.fromkeys(run["side"] for run in self.runs if run["workload"] == workload))

    def of(self, workload: str, side: str) -> list[Run]:
        return [run for run in self.runs if run["workload"] == workload and run["side"] == side]

    def title(self, workload: str) -> str:
        return next(str(run["title"]) for run in self.runs if run["workload"] == workload)

    def metric(self, workload: str) -> str:
        return next(str(run["metric"]) for run in self.runs if run["workload"] == workload)

    def spread(self, workload: str, side: str, metric: str = "") -> Spread | None:
        """Return the spread of *metric* (the workload's own if not given); None if the side did not take part."""
        runs = self.of(workload, side)
        metric = metric or (runs[0]["metric"] if runs else "")
        return Spread.of(figure(run, metric) for run in runs) if runs else None

    def ratio(self, workload: str, side: str, base: str = BASE, metric: str = "") -> Spread | None:
        """Return how many times better than *base* the side was, by round; None if one of them has no such figure.

        Args:
            metric: in which respect, if not in the workload's own.
        """
        mine = {run["round"]: run for run in self.of(workload, side)}
        theirs = {run["round"]: run for run in self.of(workload, base)}
        both = sorted(mine.keys() & theirs.keys())
        metric = metric or self.metric(workload)
        if not both or (metric == "cpu" and "cpu_seconds" not in mine[both[0]]):
            return None
        return Spread.of(
            METRICS[metric].ratio(figure(mine[each], metric), figure(theirs[each], metric)) for each in both
        )

    def peer_share(self, workload: str, side: str) -> float:
        """Return which share of the time the streaming peer was at work, the median over the rounds; 0 without one."""
        runs = [run for run in self.of(workload, side) if "peer" in run]
        return statistics.median(run["peer"]["cpu"] / run["seconds"] for run in runs) if runs else 0.0


# -- goals


@dataclass(frozen=True)
class Verdict:
    """What was measured beside a goal; *outcome* is ``aim met``, ``met``, ``missed`` or ``not measured``.

    Args:
        by_cpu: the same ratio of the processor time, which suffers less when the machine is busy; it decides nothing.
        note: what a table has no room for.
    """

    goal: str
    measured: str
    by_cpu: str
    at_least: str
    aim: str
    outcome: str
    note: str = ""

    def row(self) -> list[str]:
        """Return the cells of a table."""
        return [self.goal, self.measured, self.by_cpu, self.at_least, self.aim, self.outcome]


def judged(ratio: Spread | None, at_least: float, aim: float | None) -> str:
    """Return the outcome for the median of *ratio*."""
    if ratio is None:
        return "not measured"
    if ratio.median < at_least:
        return "missed"
    return "aim met" if aim is not None and ratio.median >= aim else "met"


def verdicts(results: Results) -> list[Verdict]:
    """Return what the runs say about each goal whose workload was run, if its side took part in anything."""
    made = []
    ran = results.workloads()
    took_part = {run["side"] for run in results.runs}
    for target in TARGETS:
        if target.workload not in ran or target.side not in took_part:
            continue
        ratio = results.ratio(target.workload, target.side, target.base)
        goal = results.title(target.workload) + (f", {target.note}" if target.note else "")
        by_cpu = results.ratio(target.workload, target.side, target.base, "cpu")
        made.append(_verdict(goal, ratio, by_cpu, target.at_least, target.aim))
    for workload in CONSUMING:
        if workload in ran and results.of(workload, "pure"):
            goal = f"{results.title(workload)}, pure core"
            ratio, by_cpu = results.ratio(workload, "pure"), results.ratio(workload, "pure", metric="cpu")
            made.append(_verdict(goal, ratio, by_cpu, PURE_CONSUMING, None))
    for side, name in (("ours", "compiled core"), ("pure", "pure core")):
        made += _nothing_slower(results, side, name)
    return made


def _verdict(goal: str, ratio: Spread | None, by_cpu: Spread | None, at_least: float, aim: float | None) -> Verdict:
    return Verdict(
        goal,
        "-" if ratio is None else ratio.text(),
        "-" if by_cpu is None else by_cpu.text(),
        f"{at_least:g}",
        "" if aim is None else f"{aim:g}",
        judged(ratio, at_least, aim),
    )


def _nothing_slower(results: Results, side: str, name: str) -> list[Verdict]:
    ratios = {workload: results.ratio(workload, side) for workload in results.workloads()}
    measured = {workload: ratio for workload, ratio in ratios.items() if ratio is not None}
    if not measured:
        return []
    slower = [workload for workload, ratio in measured.items() if ratio.median < NOTHING_SLOWER]
    told = ", ".join(f"{workload} {number(measured[workload].median)}" for workload in slower)
    smallest = min(ratio.median for ratio in measured.values())
    return [
        Verdict(
            f"nothing slower than kombu 5.7.0, {name}",
            f"{number(smallest)}, smallest of {len(measured)}",
            "",
            f"{NOTHING_SLOWER:g}",
            "",
            "missed" if slower else "met",
            f"Slower than kombu 5.7.0, {name}: {told}." if slower else "",
        )
    ]


# -- text


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Return *rows*, the first of which is the header, in columns: text left-aligned, figures right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    is_text = [all(not row[column][:1].isdigit() for row in rows[1:]) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        aligned = zip(row, widths, is_text, strict=True)
        cells = [cell.ljust(width) if left else cell.rjust(width) for cell, width, left in aligned]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def workload_text(results: Results, workload: str, titles: dict[str, str]) -> str:
    """Return one workload's table."""
    metric = results.metric(workload)
    unit = METRICS[metric].unit.strip()
    figures = unit if metric != "rate" else "messages/s"
    rows = [["", figures, "us CPU a message", "peak MiB", "times kombu 5.7.0", "by processor time"]]
    for side in results.sides(workload):
        runs = results.of(workload, side)
        value = results.spread(workload, side)
        ratio = results.ratio(workload, side)
        assert value is not None
        cpu = "-"
        if all("cpu_seconds" in run for run in runs):
            cpu = Spread.of(figure(run, "cpu") for run in runs).text()
        peak = "-"
        if all("peak_kib" in run for run in runs):
            peak = number(statistics.median(run["peak_kib"] for run in runs) / 1024)
        by_cpu = results.ratio(workload, side, metric="cpu")
        told = ["-" if each is None else each.text() for each in (ratio, by_cpu)]
        rows.append([titles.get(side, side), value.text(), cpu, peak, *told])
        if metric == "p50":
            p99 = Spread.of(run["p99_us"] for run in runs)
            rows[-1][1] += f", p99 {p99.text()}"
    busy = [titles.get(side, side) for side in results.sides(workload) if results.peer_share(workload, side) > BUSY]
    note = f"\nthe peer was as busy as these clients, which may be faster than it: {', '.join(busy)}" if busy else ""
    return f"{results.title(workload)}\n{text_table(rows)}{note}"


def verdict_text(made: Sequence[Verdict]) -> str:
    """Return the goals as a table."""
    header = ["times kombu 5.7.0", "measured", "by processor time", "at least", "aim", ""]
    table = text_table([header, *(v.row() for v in made)])
    return "\n".join([table, *(v.note for v in made if v.note)])


# -- reStructuredText


def rst_table(rows: Sequence[Sequence[str]]) -> str:
    """Return *rows*, the first of which is the header, as a simple table."""
    # A first cell must not be empty in a simple table: it would continue the row above.
    cells = [["\\ " if not cell and not column else cell for column, cell in enumerate(row)] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(rows[0]))]
    rule = " ".join("=" * width for width in widths)
    lines = [" ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def filled(text: str) -> str:
    """Return *text* in lines of at most 120 characters."""
    return "\n".join(textwrap.wrap(text, 120, break_on_hyphens=False, break_long_words=False))


def _value(results: Results, workload: str, side: str) -> str:
    spread = results.spread(workload, side)
    if spread is None:
        return "-"
    metric = results.metric(workload)
    text = number(spread.median) + METRICS[metric].unit
    if metric == "p50":
        p99 = Spread.of(run["p99_us"] for run in results.of(workload, side))
        text += f", p99 {number(p99.median)}"
    return text


def readme_tables(results: Results, about: dict[str, Any], titles: dict[str, str]) -> str:
    """Return what stands between the markers in README: the tables, where they are from, and the goals."""
    rows = [["work", titles[BASE], titles["pure"], titles["ours"], "times 5.7.0"]]
    others = [side for side in titles if side not in ("pure", "ours")]
    beside = [["work", titles["ours"], *(titles[side] for side in others)]]
    for workload in results.workloads():
        ratio = results.ratio(workload, "ours")
        title = results.title(workload)
        if ratio is not None:
            values = [_value(results, workload, side) for side in (BASE, "pure", "ours")]
            rows.append([title, *values, ratio.text()])
        if any(results.of(workload, side) for side in others if side != BASE):
            beside.append([title, *(_value(results, workload, side) for side in ("ours", *others))])
    judged_all = verdicts(results)
    goals = [["times kombu 5.7.0", "measured", "by processor time", "at least", "aim", "outcome"]]
    goals += [v.row() for v in judged_all]
    machine = about["machine"]
    parts = [
        filled(
            f"``{about['command']}``, {about['date']}, {machine['processor']} ({machine['processors']} processors), "
            f"{machine['system']}, Python {about['python']}, revision {about['revision']}.  "
            f"Medians of {about['rounds']} rounds; the ratio with the smallest and the largest."
        )
    ]
    if len(rows) > 1:
        parts.append(rst_table(rows))
    if len(beside) > 1:
        parts += ["Beside other clients:", rst_table(beside)]
    parts += ["Against the project's goals:", rst_table(goals)]
    parts += [filled(v.note) for v in judged_all if v.note]
    return "\n\n".join(parts)


def replaced(text: str, tables: str, what: str = "benchmarks") -> str:
    """Return *text* with *tables* in place of what stands between two comments, ``.. WHAT begin`` and ``.. WHAT end``.

    Raises:
        ValueError: the comments are not there, once each, in this order.
    """
    first, last = f".. {what} begin", f".. {what} end"
    before, begin, rest = text.partition(f"{first}\n")
    _, end, after = rest.partition(f"{last}\n")
    if not begin or not end or first in after or last in before:
        raise ValueError(f"the text needs one line {first!r} and after it one line {last!r}")
    return f"{before}{first}\n\n{tables}\n\n{last}\n{after}"


# -- memory


def growth(sizes: Sequence[int]) -> int:
    """Return by how much the last tenth of *sizes* lies above the second tenth, the largest of each.

    The first tenth is when caches and buffers fill.

    Raises:
        ValueError: there are fewer than 20 sizes.
    """
    if len(sizes) < 20:
        raise ValueError(f"{len(sizes)} sizes are too few to tell whether memory grows; 20 are needed")
    tenth = len(sizes) // 10
    return max(sizes[-tenth:]) - max(sizes[tenth : 2 * tenth])
