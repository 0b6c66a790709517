"""Celery on a transport that somebody else has written for kombu 5.7; the prefork pool by Celery's event loop."""

from __future__ import annotations

import pytest
from celery import chain, group
from proj import THIRD_PARTY

from kombu.transport import TRANSPORT_ALIASES
from pace import at_some_pace
from patience import until

#: Seconds to wait for a result: a bound against hanging.
BOUND = 30


@pytest.fixture(scope="module", autouse=True)
def known_here_alone():
    """Take the transport's name back: other tests look at the list of them."""
    yield
    TRANSPORT_ALIASES.pop(THIRD_PARTY, None)


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"])
def site(request, make_site, start, tmp_path_factory):
    site = make_site(broker=f"sqlitefile://localhost/{tmp_path_factory.mktemp('sqlite') / 'broker.db'}")
    with start(site, request.param, concurrency=1 if request.param == "solo" else 2):
        yield site


def test_tasks_are_run_and_results_come_back(site):
    add = site.task("add")
    assert add.delay(2, 3).get(timeout=BOUND) == 5
    assert group(add.s(i, i) for i in range(30))().get(timeout=BOUND) == [2 * i for i in range(30)]
    assert chain(add.s(1, 2), add.s(3))().get(timeout=BOUND) == 6
    with pytest.raises(ValueError, match="^no good$"):
        site.task("fail").delay("no good").get(timeout=BOUND)


def test_tasks_are_retried_and_wait_for_their_time(site, notes):
    assert site.task("retry_until").delay(2).get(timeout=BOUND) == 2

    def attempt(pace):
        late, soon = f"late{pace}", f"soon{pace}"
        site.task("note").apply_async((notes.path, late), countdown=0.5 * pace)
        site.task("note").apply_async((notes.path, soon))
        until(lambda: notes.count(late) and notes.count(soon), BOUND)
        assert [line.split()[0] for line in notes.lines[-2:]] == [soon, late]

    at_some_pace(attempt)


def test_remote_control_reaches_the_worker(site):
    [name] = site.destination
    stats = site.inspect().stats()[name]
    assert stats["broker"]["transport"] == "sqlitefile"
    late = site.task("add").apply_async((1, 2), countdown=3600)
    until(lambda: late.id in str(site.inspect().scheduled()), BOUND)
    site.app.control.revoke(late.id, destination=site.destination)
    until(lambda: late.id in str(site.inspect().revoked()), BOUND)


def test_what_a_stopped_worker_leaves_is_run_by_the_next(make_site, start, notes, tmp_path):
    site = make_site(broker=f"sqlitefile://localhost/{tmp_path / 'broker.db'}")
    with start(site, "prefork") as worker:
        results = [site.task("work").delay(notes.path, str(number), 0.2) for number in range(8)]
        until(lambda: notes.count("start"), BOUND)
        assert worker.warm_shutdown() == 0
        assert notes.count("start") == notes.count("done") < 8
    with start(site, "prefork", concurrency=4):
        assert [result.get(timeout=BOUND) for result in results] == [str(number) for number in range(8)]
    assert notes.count("done") == 8
