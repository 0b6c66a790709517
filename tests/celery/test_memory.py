"""The whole of Celery within this process: a solo worker and its clients over ``memory://``."""

from __future__ import annotations

import time

import pytest
from celery import chain, chord, group
from celery.contrib.testing.worker import start_worker
from celery.exceptions import TaskRevokedError

from patience import until

#: Seconds to wait for a result: a bound against hanging.
BOUND = 30


@pytest.fixture(scope="module")
def app(make_app_for):
    return make_app_for("memory://", "cache+memory://")


@pytest.fixture(scope="module")
def tasks(app):
    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR", shutdown_timeout=BOUND):
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
    due = time.time() + 1
    tasks["note"].apply_async((notes.path, "late"), countdown=1)
    tasks["note"].apply_async((notes.path, "soon"))
    until(lambda: notes.count() == 2, BOUND)
    assert [line.split()[0] for line in notes.lines] == ["soon", "late"]
    assert float(notes.lines[1].split()[1]) > due - 0.05


def test_a_revoked_task_is_not_run(app, tasks):
    late = tasks["add"].apply_async((1, 2), countdown=3)
    until(lambda: late.id in str(app.control.inspect(timeout=1, limit=1).scheduled()), BOUND)
    late.revoke()
    with pytest.raises(TaskRevokedError):
        late.get(timeout=BOUND)


def test_remote_control_answers(app, tasks):
    [answer] = app.control.ping(timeout=5, limit=1)
    assert list(answer.values()) == [{"ok": "pong"}]
    [stats] = app.control.inspect(timeout=5, limit=1).stats().values()
    assert stats["broker"]["transport"] == "memory"


def test_a_thousand_tasks(tasks):
    _, _, before = tasks["numbers_seen"].delay().get(timeout=BOUND)
    for number in range(1000):
        tasks["remember"].delay(number)
    until(lambda: tasks["numbers_seen"].delay().get(timeout=BOUND)[2] - before == 499_500, BOUND)
