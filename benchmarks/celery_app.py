"""The Celery application of ``celery_tasks.py``, and the client's side of a run.

``python celery_app.py fill QUEUE COUNT REPORT`` sends the tasks, ``ready WORKER`` waits until the worker can be talked
to, ``go QUEUE WORKER`` tells it to begin; each prints one line of JSON.  Runs in the environment of each library in
turn.
"""

from __future__ import annotations

import json
import os
import sys
import time

from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    worker_hijack_root_logger=False,
)

_numbers = {"began": 0.0, "seen": 0, "sum": 0}


@app.task(name="bench.small")
def small(number: int, count: int, report: str) -> None:
    """Do next to nothing; the last of *count* says when the first and the last began, and what has been seen."""
    if not _numbers["seen"]:
        _numbers["began"] = time.time()
    _numbers["seen"] += 1
    _numbers["sum"] += number
    if number == count - 1:
        with open(f"{report}.tmp", "w") as output:
            json.dump({"ended": time.time(), **_numbers}, output)
        os.rename(f"{report}.tmp", report)


def fill(queue: str, count: int, report: str) -> dict[str, float]:
    """Send *count* tasks and return the seconds that took."""
    with app.producer_pool.acquire(block=True) as producer:
        started, cpu = time.perf_counter(), time.process_time()
        for number in range(count):
            small.apply_async((number, count, report), queue=queue, producer=producer)
        spent = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
        # What a broker has read and not yet routed when a process just ends, it drops.
        deadline = time.monotonic() + 60
        while (arrived := producer.channel.queue_declare(queue, passive=True).message_count) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{count} tasks were sent, and {arrived} have arrived in the queue {queue}")
            time.sleep(0.01)
    return spent


def ready(worker: str) -> dict[str, bool]:
    """Wait until *worker* answers; tell whether it does."""
    for _ in range(60):
        if app.control.ping([worker], timeout=1, limit=1):
            return {"ready": True}
    return {"ready": False}


def go(queue: str, worker: str) -> dict[str, float]:
    """Tell *worker* to consume from *queue* and return the time just before."""
    started = time.time()
    app.control.broadcast("add_consumer", arguments={"queue": queue}, destination=[worker])
    return {"started": started}


def main(command: str, *arguments: str) -> None:
    if command == "fill":
        queue, count, report = arguments
        answer = fill(queue, int(count), report)
    else:
        answer = {"ready": ready, "go": go}[command](*arguments)
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
