"""Many small tasks through one worker."""

from __future__ import annotations

import os

import pytest

from patience import until

#: Tasks to send; the issue of 50,000 is for a machine that has nothing else to do.
COUNT = int(os.environ.get("KOMBU_CELERY_TASKS", "5000"))

#: Seconds for all of them: a bound against hanging.
BOUND = 60 + COUNT / 50


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_many_small_tasks_are_run_once_each(make_site, start, pool):
    # Neither confirmed by the broker nor written to its disk.
    site = make_site(broker_transport_options={}, task_default_delivery_mode=1)
    with start(site, pool):
        remember = site.task("remember")
        with site.app.producer_pool.acquire(block=True) as producer:
            for number in range(COUNT):
                remember.apply_async((number,), producer=producer)
        [name] = site.destination

        def run():
            return site.inspect().stats()[name]["total"].get("proj.tasks.remember", 0) >= COUNT

        until(run, BOUND, f"{COUNT} tasks")
        assert site.task("numbers_seen").delay().get(timeout=BOUND) == [COUNT, COUNT, COUNT * (COUNT - 1) // 2]
        assert site.worker.warm_shutdown() == 0
