"""The whole of Celery within this process: a solo worker and its clients over ``memory://``."""

from __future__ import annotations

import time

import pytest
from celery import chain, chord, group
from celery.contrib.testing.worker import start_worker
from celery.exceptions import TaskRevokedError

from pace import at_some_pace
from patience import Background, until

#: Seconds to wait for a result: a bound against hanging.
BOUND = 30


@pytest.fixture(scope="module")
def app(make_app_for):
    return make_app_for("memory://", "cache+memory://")


@pytest.fixture(scope="module")
def tasks(app):
    # Without task_events a worker of celery.contrib.testing has nothing that sends events.
    how = {"perform_ping_check": False, "loglevel": "ERROR", "shutdown_timeout": BOUND, "task_events": True}
    with start_worker(app, pool="solo", **how):
        yield {name.rpartition(".")[2]: task for name, task in app.tasks.items() if name.startswith("proj.")}


def test_a_task_returns_its_result(tasks):
    assert tasks["add"].delay(2, 3).get(timeout=BOUND) == 5


def test_what_a_task_raises_is_raised_where_the_result_is_wanted(tasks):
    with pytest.raises(ValueError, match="^no good$"):
        tasks["fail"].delay("no good").get(timeout=BOUND)


def test_a_task_is_retried_until_it_succeeds(tasks):
    assert tasks["retry_until"].delay(3).get(timeout=BOUND) == 3


def test_chains_groups_and_chords(tasks):
    add = tasks["add"]
    assert chain(add.s(1, 2), add.s(3))().get(timeout=BOUND) == 6
    assert group(add.s(i, i) for i in range(10))().get(timeout=BOUND) == [2 * i for i in range(10)]
    assert chord((add.s(i, i) for i in range(10)), tasks["total"].s())().get(timeout=BOUND) == 90


def test_a_task_is_not_run_before_its_time(tasks, notes):
    def attempt(pace):
        late, soon = f"late{pace}", f"soon{pace}"
        due = time.time() + pace
        tasks["note"].apply_async((notes.path, late), countdown=pace)
        tasks["note"].apply_async((notes.path, soon))
        until(lambda: notes.count(late) and notes.count(soon), BOUND)
        assert notes.time(late) > due - 0.05
        assert [line.split()[0] for line in notes.lines[-2:]] == [soon, late]

    at_some_pace(attempt)


def test_a_revoked_task_is_not_run(app, tasks):
    def attempt(pace):
        late = tasks["add"].apply_async((1, 2), countdown=2 * pace)
        until(lambda: late.id in str(app.control.inspect(timeout=1, limit=1).scheduled()), 5 * pace)
        late.revoke()
        with pytest.raises(TaskRevokedError):
            late.get(timeout=2 * BOUND)

    at_some_pace(attempt)


def test_remote_control_answers(app, tasks):
    [answer] = app.control.ping(timeout=5, limit=1)
    assert list(answer.values()) == [{"ok": "pong"}]
    [stats] = app.control.inspect(timeout=5, limit=1).stats().values()
    assert stats["broker"]["transport"] == "memory"


def test_a_rate_limit_spreads_tasks(app, tasks, notes):
    [name] = app.control.ping(timeout=5, limit=1)[0]
    [[reply]] = [answer.values() for answer in rate_limit(app, name, "10/s")]
    assert "ok" in reply
    try:
        for number in range(6):
            tasks["note"].delay(notes.path, str(number))
        until(lambda: notes.count() == 6, BOUND)
    finally:
        rate_limit(app, name, None)
    times = sorted(float(line.split()[1]) for line in notes.lines)
    # Five gaps of a tenth each; what a busy machine adds to the first is taken from the rest.
    assert times[-1] - times[0] > 0.2


def rate_limit(app, worker, limit):
    return app.control.rate_limit("proj.tasks.note", limit, destination=[worker], reply=True, timeout=10, limit=1)


def test_events_tell_the_life_of_a_task(app, tasks):
    seen, result = [], []

    def told():
        return [event["type"] for event in seen if result and event.get("uuid") == result[0].id]

    def capture():
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": seen.append})
            for _ in receiver.itercapture(limit=None, timeout=BOUND, wakeup=True):
                if "task-succeeded" in told():
                    return

    with Background(capture, timeout=2 * BOUND):
        # A heartbeat answers the wake-up call, so events come through from now on.
        until(lambda: any(event["type"] == "worker-heartbeat" for event in seen), BOUND)
        result.append(tasks["add"].delay(1, 2))
    assert told() == ["task-received", "task-started", "task-succeeded"]


def test_a_task_acknowledged_late_is_run_once(tasks, notes):
    for number in range(20):
        tasks["note_late"].delay(notes.path, str(number))
    until(lambda: notes.count() >= 20, BOUND)
    assert tasks["add"].delay(1, 2).get(timeout=BOUND) == 3
    assert sorted(notes.lines, key=int) == [str(number) for number in range(20)]


def test_a_thousand_tasks(tasks):
    _, _, before = tasks["numbers_seen"].delay().get(timeout=BOUND)
    for number in range(1000):
        tasks["remember"].delay(number)
    until(lambda: tasks["numbers_seen"].delay().get(timeout=BOUND)[2] - before == 499_500, BOUND)
