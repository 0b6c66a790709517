"""The project's goals for speed, as ratios to kombu 5.7.0 in the same run; printed beside what was measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One goal.

    Args:
        workload: key of the workload.
        at_least: ratio that has to be reached, as the median over the rounds.
        aim: ratio that is aimed at.
        side: whose.
        base: to whom the ratio is.
        note: what the ratio is of, where the workload's title does not say it.
    """

    workload: str
    at_least: float
    aim: float | None = None
    side: str = "ours"
    base: str = "kombu57"
    note: str = ""


TARGETS = (
    Target("consume-raw", 25, 40),
    Target("consume-json", 15, 25),
    Target("consume-coalesced", 50, 80),
    Target("publish-raw", 4, 7),
    Target("publish-json", 4, 7),
    Target("publish-batch-raw", 12, 25),
    Target("publish-batch-json", 8, 12),
    Target("confirm-window", 50, None, note="to kombu 5.7.0 one by one"),
    Target("memory", 3, 6),
    Target("import", 2, 4),
    Target("rabbit-raw", 1, None, base="librabbitmq", note="to the consumer in C"),
)

#: The pure core, consuming.
PURE_CONSUMING = 1.5
CONSUMING = ("consume-raw", "consume-json", "consume-task", "consume-no-ack", "mixin", "simple-queue")

#: Both cores, everywhere.
NOTHING_SLOWER = 1.0
