"""Workers that end, in order or not, and a broker that does: no task is lost, and none is run twice without need."""

from __future__ import annotations

import signal

import pytest

from patience import Background, until

#: Seconds to wait for what has to happen: a bound against hanging.
BOUND = 60


@pytest.fixture
def site(make_site):
    return make_site()


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_a_warm_shutdown_finishes_what_runs_and_gives_back_the_rest(site, start, notes, pool):
    count = 16
    with start(site, pool) as worker:
        results = [site.task("work").delay(notes.path, str(number), 0.3) for number in range(count)]
        until(lambda: notes.count("start"), BOUND)
        assert worker.warm_shutdown() == 0
        assert "Warm shutdown" in worker.said
        begun = notes.count("start")
        assert notes.count("done") == begun < count
    with start(site, pool, concurrency=1 if pool == "solo" else 4):
        assert [result.get(timeout=BOUND) for result in results] == [str(number) for number in range(count)]
    assert notes.count("start") == notes.count("done") == count


def test_a_cold_shutdown_breaks_off_and_the_task_is_run_again(site, start, notes):
    with start(site, "prefork", concurrency=2) as worker:
        site.task("work_late").delay(notes.path, "late", BOUND)
        until(lambda: notes.count("start late first"), BOUND)
        worker.signal(signal.SIGQUIT)
        worker.wait()
        assert "Cold shutdown" in worker.said
        assert notes.count("done") == 0
    with start(site, "prefork"):
        until(lambda: notes.count("start late again"), BOUND)


def test_a_thread_pool_finishes_the_task_of_a_cold_shutdown(site, start, notes):
    # Celery's other pools end by an exception, in the middle of whatever happens to run: also on kombu 5.7.
    with start(site, "threads", concurrency=2) as worker:
        site.task("work_late").delay(notes.path, "late", 2)
        until(lambda: notes.count("start late first"), BOUND)
        worker.signal(signal.SIGQUIT)
        worker.wait()
    with start(site, "threads"):
        assert site.task("add").delay(1, 2).get(timeout=BOUND) == 3
    assert notes.lines == ["start late first", "done late"]


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_a_task_acknowledged_late_outlives_a_killed_worker(site, start, notes, pool):
    with start(site, pool) as worker:
        site.task("work_late").delay(notes.path, "late", BOUND)
        until(lambda: notes.count("start late first"), BOUND)
        worker.kill()
    with start(site, pool):
        until(lambda: notes.count("done late"), BOUND)
    assert notes.lines == ["start late first", "start late again", "done late"]


def test_a_task_whose_process_is_killed_is_run_again(site, start, notes):
    with start(site, "prefork"):
        site.task("kill_own_process").delay(notes.path)
        until(lambda: notes.count("survived"), BOUND)
    assert notes.lines == ["killed", "survived"]


@pytest.mark.parametrize(
    ("pool", "ack_writes"),
    [(pool, "corked") for pool in ("prefork", "threads", "solo", "gevent")] + [("prefork", "coalesced")],
)
def test_an_idle_worker_owes_no_acknowledgement(site, start, rabbit, notes, pool, ack_writes):
    count = 20 if pool == "gevent" else 100  # Celery's gevent pool starts ten tasks a second
    with start(site, pool, broker_transport_options={"ack_writes": ack_writes}):
        for number in range(count):
            site.task("note_late" if number % 2 else "note").delay(notes.path, str(number))
        until(lambda: notes.count() == count, BOUND)

        def owed():
            rows = rabbit.rows("list_queues", "name", "messages_unacknowledged")
            [row] = [row for row in rows if row["name"] == site.worker.queue]
            return int(row["messages_unacknowledged"])

        until(lambda: owed() == 0, BOUND)


@pytest.mark.parametrize(
    ("pool", "kill"),
    [("prefork", True), ("threads", False), ("solo", True), ("gevent", False)],
    ids=lambda each: {True: "killed", False: "stopped"}.get(each, each),
)
def test_no_task_is_lost_when_the_broker_restarts(site, start, rabbit, notes, pool, kill):
    count = 100 if pool == "gevent" else 300  # Celery's gevent pool starts ten tasks a second

    def publish():
        for number in range(count):
            # Confirmed by the broker, and tried again until it is.
            site.task("note_late").delay(notes.path, str(number))

    site.app.conf.task_publish_retry_policy = {"max_retries": 200, "interval_max": 0.2}
    with start(site, pool, concurrency=1 if pool == "solo" else 2):
        with Background(publish, timeout=BOUND):
            until(lambda: notes.count() > count // 5, BOUND)
            rabbit.put_on_disk()
            rabbit.restart(kill=kill)
        until(lambda: len(set(notes.lines)) == count, BOUND, f"{count} tasks")
        assert site.task("add").delay(1, 2).get(timeout=BOUND) == 3
        assert site.worker.warm_shutdown() == 0


def test_the_broker_may_close_all_connections_at_any_time(site, start, rabbit, notes):
    site.app.conf.task_publish_retry_policy = {"max_retries": 100, "interval_max": 0.2}
    with start(site, "prefork", concurrency=2):
        for expected in (20, 40):
            rabbit.close_connections()
            for number in range(expected - 20, expected):
                site.task("note_late").delay(notes.path, str(number))
            until(lambda wanted=expected: len(set(notes.lines)) == wanted, BOUND)
        assert site.task("add").delay(1, 2).get(timeout=BOUND) == 3
        assert site.worker.warm_shutdown() == 0
