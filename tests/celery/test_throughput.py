"""Many small tasks through one worker."""

from __future__ import annotations

import os

import pytest

from patience import until

#: Tasks to send to a worker that runs them in a process of its own; those that do not get a tenth.
COUNT = int(os.environ.get("KOMBU_CELERY_TASKS", "50000"))

#: Seconds for all of them: a bound against hanging.
BOUND = 60 + COUNT / 50


@pytest.mark.parametrize(
    ("pool", "count"), [("prefork", COUNT), ("solo", COUNT // 10), ("threads", COUNT // 10)], ids=str
)
def test_many_small_tasks_are_run_once_each(make_site, start, pool, count):
    # Neither confirmed by the broker nor written to its disk.
    site = make_site(broker_transport_options={}, task_default_delivery_mode=1)
    with start(site, pool):
        remember = site.task("remember")
        with site.app.producer_pool.acquire(block=True) as producer:
            for number in range(count):
                remember.apply_async((number,), producer=producer)
        [name] = site.destination

        def run():
            return site.inspect().stats()[name]["total"].get("proj.tasks.remember", 0) >= count

        until(run, BOUND, f"{count} tasks")
        assert site.task("numbers_seen").delay().get(timeout=BOUND) == [count, count, count * (count - 1) // 2]
        assert site.worker.warm_shutdown() == 0
