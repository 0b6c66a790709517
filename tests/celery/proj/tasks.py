"""Tasks of every kind that the scenarios need."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Task, shared_task

__all__ = (
    "add",
    "fail",
    "give_up",
    "kill_own_process",
    "note",
    "note_late",
    "numbers_seen",
    "remember",
    "retry_until",
    "total",
    "work",
    "work_late",
    "work_until",
)


class TryAgain(Exception):
    """The reason of a retry."""


def append(path: str, line: str) -> None:
    """Append *line* to the file; whole, whoever else is at it."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, f"{line}\n".encode())
    finally:
        os.close(handle)


@shared_task
def add(x: Any, y: Any) -> Any:
    """Return the sum."""
    return x + y


@shared_task
def total(numbers: list[int]) -> int:
    """Return the sum of a list, as the end of a chord."""
    return sum(numbers)


@shared_task
def fail(text: str) -> None:
    """Raise ``ValueError(text)``."""
    raise ValueError(text)


@shared_task(bind=True, max_retries=5)
def retry_until(self: Task, attempt: int) -> int:
    """Ask for a retry until *attempt* retries have been made; return how many there were."""
    if self.request.retries < attempt:
        raise self.retry(exc=TryAgain(f"attempt {self.request.retries}"), countdown=0.05)
    return self.request.retries


@shared_task(autoretry_for=(TryAgain,), max_retries=2, default_retry_delay=0.05)
def give_up() -> None:
    """Fail each time, with two retries."""
    raise TryAgain("again")


@shared_task(ignore_result=True)
def note(path: str, line: str) -> None:
    """Append *line* and the time to the file."""
    append(path, f"{line} {time.time()}")


@shared_task(ignore_result=True, acks_late=True)
def note_late(path: str, line: str) -> None:
    """Do what :func:`note` does; the message is acknowledged afterwards."""
    append(path, line)


@shared_task
def work(path: str, name: str, seconds: float) -> str:
    """Say when it starts and when it is done."""
    append(path, f"start {name}")
    time.sleep(seconds)
    append(path, f"done {name}")
    return name


@shared_task
def work_until(path: str, name: str, end: str) -> str:
    """Say when it starts and when it is done, which is when the file has the line *end*."""
    append(path, f"start {name}")
    while end not in Path(path).read_text().splitlines():
        time.sleep(0.01)
    append(path, f"done {name}")
    return name


@shared_task(bind=True, acks_late=True, ignore_result=True)
def work_late(self: Task, path: str, name: str, seconds: float) -> None:
    """Do what :func:`work` does, the second time without taking long; the message is acknowledged afterwards."""
    redelivered = self.request.delivery_info.get("redelivered")
    append(path, f"start {name} {'again' if redelivered else 'first'}")
    if not redelivered:
        time.sleep(seconds)
    append(path, f"done {name}")


@shared_task(acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def kill_own_process(path: str) -> None:
    """Kill the pool's process on the first call, and note that on the second."""
    if not os.path.exists(path):
        append(path, "killed")
        os.kill(os.getpid(), signal.SIGKILL)
    append(path, "survived")


_seen: list[int] = []


@shared_task(ignore_result=True)
def remember(number: int) -> None:
    """Keep *number* in the memory of this process."""
    _seen.append(number)


@shared_task
def numbers_seen() -> tuple[int, int, int]:
    """Return how many numbers were remembered, how many of them differ, and their sum."""
    return len(_seen), len(set(_seen)), sum(_seen)
