"""Tasks and their results over RabbitMQ, with each pool."""

from __future__ import annotations

import ssl
import time
from datetime import datetime, timedelta, timezone

import pytest
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError

from celery_worker import Command
from pace import at_some_pace
from patience import until

#: Seconds to wait for a result: a bound against hanging.
BOUND = 30


def test_a_task_returns_its_result(site):
    assert site.task("add").delay(2, 3).get(timeout=BOUND) == 5


def test_arguments_and_results_of_every_json_type_arrive(site):
    value = [None, True, -1.5, "grüße 世界", {"a": [1, {"b": None}]}, "x" * 300_000]
    assert site.task("add").delay(value, value).get(timeout=BOUND) == value + value


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"priority": 3}, {"expires": 60}], ids=str)
def test_options_of_a_message_do_no_harm(site, options):
    assert site.task("add").apply_async((1, 2), **options).get(timeout=BOUND) == 3


def test_a_message_of_a_serializer_that_is_not_accepted_is_refused_and_the_worker_goes_on(site):
    site.task("add").apply_async((1, 2), serializer="pickle")
    site.worker.wait_for("Refusing to deserialize untrusted content of type pickle")
    assert site.task("add").delay(1, 2).get(timeout=BOUND) == 3


def test_what_a_task_raises_is_raised_where_the_result_is_wanted(site):
    with pytest.raises(ValueError, match="^no good$"):
        site.task("fail").delay("no good").get(timeout=BOUND)


def test_a_task_is_retried_until_it_succeeds(site):
    assert site.task("retry_until").delay(3).get(timeout=BOUND) == 3


def test_a_task_that_never_succeeds_is_given_up(site):
    result = site.task("give_up").delay()
    with pytest.raises(Exception, match="^again$") as raised:
        result.get(timeout=BOUND)
    assert type(raised.value).__name__ == "TryAgain"
    assert result.state == "FAILURE"


def test_a_chain_hands_results_on(site):
    add = site.task("add")
    assert chain(add.s(1, 2), add.s(3), add.s(4))().get(timeout=BOUND) == 10


def test_a_group_returns_results_in_order(site):
    add = site.task("add")
    assert group(add.s(i, i) for i in range(20))().get(timeout=BOUND) == [2 * i for i in range(20)]


def test_a_chain_of_groups_of_one_and_a_starmap(site):
    add = site.task("add")
    assert add.starmap([(1, 1), (2, 2)]).apply_async().get(timeout=BOUND) == [2, 4]
    assert add.chunks([(i, i) for i in range(6)], 3).group().apply_async().get(timeout=BOUND) == [[0, 2, 4], [6, 8, 10]]


@pytest.mark.parametrize("how", ["countdown", "eta"])
def test_a_task_is_not_run_before_its_time(site, notes, how):
    def attempt(pace):
        seconds = 1.5 * pace
        due = time.time() + seconds
        when = {"countdown": seconds} if how == "countdown" else {"eta": datetime.fromtimestamp(due, timezone.utc)}
        ran, meanwhile = f"ran{pace}", f"meanwhile{pace}"
        site.task("note").apply_async((notes.path, ran), **when)
        site.task("note").apply_async((notes.path, meanwhile))
        until(lambda: notes.count(ran) and notes.count(meanwhile), 2 * BOUND)
        # Celery's timer counts in whole milliseconds.
        assert notes.time(ran) > due - 0.05
        assert notes.time(meanwhile) < notes.time(ran)

    at_some_pace(attempt)


def test_a_task_that_has_expired_is_not_run(site):
    result = site.task("add").apply_async((1, 2), expires=datetime.now(timezone.utc) - timedelta(seconds=1))
    with pytest.raises(TaskRevokedError):
        result.get(timeout=BOUND)


def test_a_rate_limit_spreads_tasks(site, notes):
    name = "proj.tasks.note"
    assert "ok" in site.command("rate_limit", task_name=name, rate_limit="10/s")
    try:
        for number in range(11):
            site.task("note").delay(notes.path, str(number))
        until(lambda: notes.count() == 11, BOUND)
    finally:
        assert "ok" in site.command("rate_limit", task_name=name, rate_limit=None)
    times = sorted(float(line.split()[1]) for line in notes.lines)
    # Ten gaps of a tenth each; what a busy machine adds to the first is taken from the rest.
    assert times[-1] - times[0] > 0.5


def test_a_revoked_task_is_not_run(site, notes):
    def attempt(pace):
        revoked, after = f"revoked{pace}", f"after{pace}"
        late = site.task("note").apply_async((notes.path, revoked), countdown=pace)
        until(lambda: late.id in str(site.inspect().scheduled()), 5 * pace)
        site.app.control.revoke(late.id, destination=site.destination)
        until(lambda: late.id in str(site.inspect().revoked()), BOUND)
        site.task("note").apply_async((notes.path, after), countdown=1.2 * pace)
        until(lambda: notes.count(after), 2 * BOUND)
        assert notes.count(revoked) == 0

    at_some_pace(attempt)


def test_the_result_of_a_revoked_task_says_so(site):
    def attempt(pace):
        late = site.task("add").apply_async((1, 2), countdown=0.8 * pace)
        until(lambda: late.id in str(site.inspect().scheduled()), 5 * pace)
        site.app.control.revoke(late.id, destination=site.destination)
        with pytest.raises(TaskRevokedError):
            late.get(timeout=2 * BOUND)

    at_some_pace(attempt)


def test_results_of_many_tasks_find_the_one_who_waits(site):
    # Celery's gevent pool starts ten tasks a second.
    count = 20 if site.worker.pool == "gevent" else 200
    results = [site.task("add").delay(i, 1000) for i in range(count)]
    assert [result.get(timeout=BOUND) for result in reversed(results)] == [i + 1000 for i in reversed(range(count))]


def test_processes_of_the_pool_come_and_go_beside_open_connections(make_site, start):
    # Each is forked while its parent is connected, and has connections of its own for the results.
    site = make_site()
    with start(site, "prefork", "--max-tasks-per-child", "3", concurrency=2) as worker:
        results = [site.task("add").delay(i, 1) for i in range(40)]
        assert [result.get(timeout=BOUND) for result in results] == [i + 1 for i in range(40)]
        assert worker.warm_shutdown() == 0


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_tasks_and_results_go_over_tls(make_site, start, rabbit, pool):
    options = {**rabbit.tls_options(), "cert_reqs": int(ssl.CERT_REQUIRED)}
    site = make_site(broker=rabbit.tls_url(), broker_use_ssl=options)
    with start(site, pool, concurrency=2, broker_use_ssl=options) as worker:
        results = [site.task("add").delay("x" * 50_000, str(i)) for i in range(20)]
        assert [len(result.get(timeout=BOUND)) for result in results] == [50_001] * 10 + [50_002] * 10
        assert worker.warm_shutdown() == 0


def test_the_scheduler_sends_tasks_again_and_again(make_site, start, rabbit, notes, tmp_path):
    site = make_site()
    task = {"task": "proj.tasks.note", "schedule": 0.3, "args": [notes.path, "due"]}
    settings = {"task_default_queue": site.app.conf.task_default_queue, "beat_schedule": {"often": task}}
    arguments = ["beat", "--schedule", str(tmp_path / "schedule"), "--pidfile", ""]
    with start(site, "solo"), Command(tmp_path, *arguments, broker=rabbit.url(), settings=settings, name="beat"):
        until(lambda: notes.count("due") >= 4, BOUND)


@pytest.fixture(scope="module", params=["prefork", "threads", "solo", "gevent"])
def chord_site(request, make_site, start, tmp_path_factory):
    # RPC results cannot be waited for by a worker, so chords need another backend.
    backend = f"file://{tmp_path_factory.mktemp('results')}"
    site = make_site(backend, result_chord_retry_interval=0.1)
    concurrency = 1 if request.param == "solo" else 4
    with start(site, request.param, concurrency=concurrency, result_chord_retry_interval=0.1):
        yield site


def test_a_chord_is_called_with_all_results(chord_site):
    add, total = chord_site.task("add"), chord_site.task("total")
    assert chord((add.s(i, i) for i in range(10)), total.s())().get(timeout=BOUND) == 90


def test_a_chord_within_a_chain_and_groups_within_groups(chord_site):
    add, total = chord_site.task("add"), chord_site.task("total")
    work = chain(add.s(1, 1), group(add.s(i) for i in range(5)), total.s(), add.s(1))
    assert work().get(timeout=BOUND) == 2 * 5 + 10 + 1
    nested = group(group(add.s(1, 2), add.s(3, 4)), add.s(5, 6))
    assert nested().get(timeout=BOUND) == [3, 7, 11]


def test_a_chord_of_a_task_that_fails_fails(chord_site):
    work = chord([chord_site.task("add").s(1, 1), chord_site.task("fail").s("no good")], chord_site.task("total").s())()
    with pytest.raises(Exception, match="no good"):
        work.get(timeout=BOUND)
