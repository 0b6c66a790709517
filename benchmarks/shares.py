"""What the samples of a profile belong to: the kernel, the interpreter, the compiled core ..."""

from __future__ import annotations

import collections
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

#: The parts of the time, as the columns of a table name them, in that order.
PARTS = ("kernel", "interpreter", "garbage collector", "compiled core", "json", "other libraries")

#: What finds garbage, and nothing that makes or frees an object, in CPython 3.10 to 3.14.
_COLLECTOR = re.compile(
    r"gc_(collect|list|refs|select|set_|get_|alloc|mark|visit)|_PyGC_(?!Fini|Init)|deduce_unreachable|update_refs"
    r"|subtract_refs|move_unreachable|move_legacy|visit_(decref|reachable|move)|untrack_(dicts|tuples)|handle_weakrefs"
    r"|delete_garbage|_traverse$|_VisitInstanceAttributes|_MaybeUntrack"
)

#: A line of ``perf script -F ip,sym,dso``: address, symbol (which may have blanks), the object file in parentheses.
_SAMPLE = re.compile(r"\s*[0-9a-f]+ (?P<symbol>.*) \((?P<file>[^()]*)\)\s*$")


def part_of(symbol: str, file: str) -> str:
    """Return which of :data:`PARTS` the function *symbol* of the object *file*, a path or a name in brackets, is of."""
    name = file.rpartition("/")[2]
    if "kallsyms" in file or name.endswith((".ko", ".ko]")):
        return "kernel"
    if "/kombu/_speedups/" in file:
        return "garbage collector" if symbol.startswith("__pyx_tp_traverse") else "compiled core"
    if name.startswith(("libpython", "python")):
        return "garbage collector" if _COLLECTOR.search(symbol) else "interpreter"
    return "json" if name.startswith("_json.") else "other libraries"


def shares(samples: Iterable[str]) -> dict[str, float]:
    """Return the share of each of :data:`PARTS`, which add up to 1, in what ``perf script -F ip,sym,dso`` printed.

    Raises:
        ValueError: there are no samples.
    """
    counts = collections.Counter(
        part_of(found["symbol"], found["file"]) for found in map(_SAMPLE.match, samples) if found is not None
    )
    total = counts.total()
    if not total:
        raise ValueError("the profile has no samples: did the program run long enough to be watched?")
    return {part: counts[part] / total for part in PARTS}


def recorded_shares(data: Path) -> dict[str, float]:
    """Return the :func:`shares` of what ``perf record`` wrote to *data*."""
    printed = subprocess.run(
        ["perf", "script", "-i", str(data), "-F", "ip,sym,dso"], capture_output=True, text=True, check=True
    ).stdout
    return shares(printed.splitlines())


def table_header() -> list[str]:
    """Return the first row of a table."""
    return ["us of processor time a message", "all", *PARTS]


def table_row(title: str, cpu: float, parts: Mapping[str, float]) -> list[str]:
    """Return a row below :func:`table_header`: microseconds a message, *cpu* in all, and what each part has."""
    return [title, f"{cpu:.2f}", *(f"{cpu * parts[part]:.2f}" for part in PARTS)]
