"""Share time among resources, and order them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

from .imports import symbol_by_name

__all__ = (
    "CYCLE_ALIASES",
    "FairCycle",
    "cycle_by_name",
    "priority_cycle",
    "round_robin_cycle",
    "sorted_cycle",
)

#: Short names understood by :func:`cycle_by_name`.
CYCLE_ALIASES = {
    short: f"{__name__}:{short}_cycle" for short in ("priority", "round_robin", "sorted")
}


class FairCycle:
    """Call ``fun(resource, callback, **kwargs)`` with one resource after the other.

    *predicate* is the exception by which *fun* says that a resource has nothing to give.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        resources: Sequence[Any],
        predicate: type[Exception] = Exception,
    ) -> None:
        self.fun = fun
        self.resources = resources
        self.predicate = predicate
        self.pos = 0

    def _next(self) -> Any:
        """Return the resource whose turn it is; *predicate* is raised when there are none."""
        while True:
            try:
                resource = self.resources[self.pos]
            except IndexError:
                # At the end, or the list has become shorter.
                self.pos = 0
                if not self.resources:
                    raise self.predicate() from None
            else:
                self.pos += 1
                return resource

    def get(self, callback: Any, **kwargs: Any) -> Any:
        """Return what the first resource that has something gives, beginning after the one asked last.

        Raises *predicate* when none of them has.
        """
        for tried in count(1):
            resource = self._next()
            try:
                return self.fun(resource, callback, **kwargs)
            except self.predicate:
                if tried >= len(self.resources):
                    raise

    def close(self) -> None:
        """Do nothing; for subclasses."""

    def __repr__(self) -> str:
        return f"<FairCycle: {self.pos}/{len(self.resources)} {self.resources}>"


class round_robin_cycle:
    """Keep items in the order of use: who was used goes to the end."""

    def __init__(self, it: list[Any] | None = None) -> None:
        # The list itself is used, since callers read it.
        self.items = [] if it is None else it

    def update(self, it: Iterable[Any]) -> None:
        """Replace all items."""
        self.items[:] = it

    def consume(self, n: int) -> list[Any]:
        """Return the first *n* items."""
        return self.items[:n]

    def rotate(self, last_used: Any) -> Any:
        """Put *last_used* at the end, if it is there, and return it."""
        try:
            position = self.items.index(last_used)
        except ValueError:
            return last_used
        self.items.append(self.items.pop(position))
        return last_used


class priority_cycle(round_robin_cycle):
    """Keep items in the order given: the first ones are always served first."""

    def rotate(self, last_used: Any) -> None:
        """Leave the order as it is."""


class sorted_cycle(priority_cycle):
    """Keep items in the order given, and serve them sorted."""

    def consume(self, n: int) -> list[Any]:
        """Return the first *n* items, sorted."""
        return sorted(self.items[:n])


def cycle_by_name(name: Any) -> Any:
    """Return the class called *name*: priority, round_robin, sorted or a dotted name."""
    return symbol_by_name(name, CYCLE_ALIASES)
