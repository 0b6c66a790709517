"""Draw the charts of a run: ``python charts.py results.json FOLDER``; needs matplotlib.

``run.py --charts FOLDER`` runs this in an environment that has it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: E402
from report import METRICS, Results, number  # noqa: E402
from targets import TARGETS  # noqa: E402

ORDER = ("ours", "pure", "kombu57", "kombu57c", "pika", "amqpstorm", "aio-pika", "librabbitmq")
COLOURS = {
    "ours": "#1b6ca8",
    "pure": "#7fb2d9",
    "kombu57": "#c0562b",
    "kombu57c": "#e0a184",
    "pika": "#8a8a8a",
    "amqpstorm": "#a8a8a8",
    "aio-pika": "#c4c4c4",
    "librabbitmq": "#3d3d3d",
}

#: One chart each: file, workloads.
CHARTS = {
    "consume": ("consume-raw", "consume-json", "consume-64k", "consume-no-ack"),
    "publish": ("publish-raw", "publish-json", "confirm", "confirm-window"),
    "rabbitmq": ("rabbit-raw", "round-trip"),
}


def bars(results: Results, workloads: list[str], titles: dict[str, str], path: Path) -> None:
    """Draw a panel of bars for each of *workloads*, a bar for each side, a whisker for the spread."""
    heights = [len(results.sides(workload)) + 1.5 for workload in workloads]
    figure, panels = pyplot.subplots(
        len(workloads), 1, figsize=(8, 0.28 * sum(heights)), gridspec_kw={"height_ratios": heights}, squeeze=False
    )
    for panel, workload in zip(panels[:, 0], workloads, strict=True):
        sides = [side for side in ORDER if results.of(workload, side)]
        spreads = [results.spread(workload, side) for side in sides]
        medians = [spread.median for spread in spreads]
        errors = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
        panel.barh(range(len(sides)), medians, xerr=errors, color=[COLOURS[side] for side in sides], ecolor="#222222")
        panel.set_yticks(range(len(sides)), [titles[side] for side in sides])
        panel.invert_yaxis()
        metric = METRICS[results.metric(workload)]
        better = "more is better" if metric.more_is_better else "less is better"
        unit = "messages a second" if metric.unit == "/s" else metric.unit.strip()
        panel.set_title(f"{results.title(workload)}: {unit}, {better}", loc="left", fontsize=9)
        if not metric.more_is_better and max(medians) > 50 * min(medians):
            panel.set_xscale("log")
        for place, spread in enumerate(spreads):
            panel.annotate(
                number(spread.median), (spread.high, place), xytext=(4, 0), textcoords="offset points",
                va="center", fontsize=7,
            )
        panel.margins(x=0.12)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        _plain(panel)
    _save(figure, path)


def ratios(results: Results, titles: dict[str, str], path: Path) -> None:
    """Draw how many times kombu 5.7.0 both cores are, for every workload, with the goals."""
    rows = [(key, results.ratio(key, "ours"), results.ratio(key, "pure")) for key in results.workloads()]
    rows = [row for row in rows if row[1] is not None or row[2] is not None]
    if not rows:
        return
    goals = {target.workload: target for target in TARGETS if target.base == "kombu57" and target.side == "ours"}
    figure, panel = pyplot.subplots(figsize=(8, 0.34 * len(rows) + 1))
    for place, (key, compiled, pure) in enumerate(rows):
        for side, ratio, shift in (("ours", compiled, -0.18), ("pure", pure, 0.18)):
            if ratio is not None:
                panel.barh(place + shift, ratio.median, 0.34, color=COLOURS[side])
                label = f"{number(ratio.median)}x"
                panel.annotate(
                    label, (ratio.median, place + shift), xytext=(3, 0), textcoords="offset points", va="center",
                    fontsize=6,
                )
        if key in goals:
            panel.plot([goals[key].at_least], [place], "|", color="#c0562b", markersize=14, markeredgewidth=2)
    panel.axvline(1, color="#222222", linewidth=0.8)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_yticks(range(len(rows)), [results.title(key) for key, _, _ in rows], fontsize=7)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_title("times kombu 5.7.0 (dark: compiled core, light: pure core, stroke: goal)", loc="left", fontsize=9)
    _plain(panel)
    _save(figure, path)


def _plain(panel: Any) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=7)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    # The same run has to give the same file, and no line ends with a blank.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def main(source: str, folder: str) -> None:
    matplotlib.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"})
    data = json.loads(Path(source).read_text())
    results, titles, into = Results(data["runs"]), data["titles"], Path(folder)
    into.mkdir(parents=True, exist_ok=True)
    for name, wanted in CHARTS.items():
        workloads = [key for key in wanted if key in results.workloads()]
        if workloads:
            bars(results, workloads, titles, into / f"{name}.svg")
    ratios(results, titles, into / "ratios.svg")


if __name__ == "__main__":
    main(*sys.argv[1:])
