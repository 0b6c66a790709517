"""What every client program shares: its order, the clock, the checks of what arrived, the line of JSON at the end.

A client program is started with one argument, a JSON object with at least ``work``, and prints one JSON object as its
last line: ``seconds``, ``cpu_seconds`` and ``messages`` of the timed part and ``peak_kib``, or ``unsupported`` with a
reason.
"""

from __future__ import annotations

import gc
import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from contents import FIRST_NUMBER, content


class Unsupported(Exception):
    """This build or library cannot do the work; the text says why."""


class Failed(Exception):
    """What arrived is not what was sent."""


class Clock:
    """Wall clock and processor time of this process, all threads, user and system."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0

    def start(self) -> None:
        gc.collect()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.seconds, self.cpu_seconds = wall - self._wall, cpu - self._cpu

    def result(self, messages: int, **more: Any) -> dict[str, Any]:
        return {"messages": messages, "seconds": self.seconds, "cpu_seconds": self.cpu_seconds, **more}


class Check:
    """Compare what a consumer gets with what is streamed.

    Args:
        order: its ``content``, ``size`` and ``warm``, the number of messages before the clock starts.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.content = content(order["content"], order["size"])
        self.warm = order["warm"]
        self.is_json = order["content"] != "raw"
        self._got, self._expected = hashlib.sha256(), hashlib.sha256()

    def expected(self, number: int) -> Any:
        """Return the decoded body of message *number*."""
        body = self.content.body_of(number)
        return json.loads(body) if self.is_json else body

    def one(self, number: int, body: Any) -> None:
        """Take the body of message *number* before the clock starts: all of it is compared."""
        self._expected.update(self.content.body_of(number))
        self._got.update(json.dumps(body).encode() if self.is_json else body)

    def begin(self) -> None:
        """Compare all bodies so far.

        Raises:
            Failed: they differ.
        """
        if self._got.digest() != self._expected.digest():
            raise Failed("the first messages are not those that were sent")

    def end(self, begun: int, seen: int, total: int, last: Any) -> None:
        """Compare what the callback added up since message *begun*, and the last body.

        Raises:
            Failed: they differ.
        """
        count = seen - begun
        if self.is_json:
            wanted = count * FIRST_NUMBER + (begun + seen - 1) * count // 2
        else:
            wanted = count * len(self.content.body)
        if total != wanted:
            raise Failed(f"the sum over {count} messages is {total}, not {wanted}")
        if last != self.expected(seen - 1):
            raise Failed(f"message {seen} is not the one that was sent")


def status_kib(name: str) -> int:
    """Return a field of ``/proc/self/status`` in KiB; the peak that ``getrusage`` knows where there is none."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith(name + ":"):
                    return int(line.split()[1])
    except FileNotFoundError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


def peak_kib() -> int:
    """Return the largest resident size that this process has had.

    ``getrusage`` would count what the parent had before it became this process.
    """
    return status_kib("VmHWM")


def percentile(ordered: list[float], share: float) -> float:
    """Return the value below which *share* of an ordered list lies."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def latencies(seconds: list[float]) -> dict[str, float]:
    """Return p50 and p99 of *seconds*, in microseconds."""
    ordered = sorted(seconds)
    return {"p50_us": percentile(ordered, 0.5) * 1e6, "p99_us": percentile(ordered, 0.99) * 1e6}


def main(works: dict[str, Callable[[dict[str, Any]], dict[str, Any]]], **about: Any) -> NoReturn:
    """Do the work that the command line asks for, print its result, and exit."""
    order = json.loads(sys.argv[1])
    work = works.get(order["work"])
    try:
        if work is None:
            raise Unsupported(f"there is no {order['work']} for this library")
        result = work(order)
    except Unsupported as exc:
        print(json.dumps({"unsupported": str(exc), **about}), flush=True)
        sys.exit(0)
    except Failed as exc:
        sys.exit(f"{order['work']}: {exc}")
    print(json.dumps({**result, "peak_kib": peak_kib(), **about}), flush=True)
    sys.exit(0)
