"""Remote control and inspection, by pidbox, and events, with each pool."""

from __future__ import annotations

import json

import pytest

from celery_worker import Command, run
from patience import Background, until
from rabbit import RabbitFailed

#: Seconds to wait for what has to happen: a bound against hanging.
BOUND = 30


def test_workers_answer_a_ping(site):
    assert site.app.control.ping(destination=site.destination, timeout=10, limit=1) == [
        {site.destination[0]: {"ok": "pong"}}
    ]
    assert site.inspect().ping() == {site.destination[0]: {"ok": "pong"}}


def test_nobody_answers_for_a_worker_that_is_not_there(site):
    assert site.app.control.ping(destination=["nobody@tests"], timeout=0.5) == []


def test_a_worker_tells_what_it_is_and_does(site):
    [name] = site.destination
    stats = site.inspect().stats()[name]
    assert stats["broker"]["transport"] == "amqp"
    assert stats["broker"]["port"] == int(site.app.connection().port)
    assert stats["prefetch_count"] == 4 * site.worker.concurrency
    assert "proj.tasks.add" in site.inspect().registered()[name]
    assert [queue["name"] for queue in site.inspect().active_queues()[name]] == [site.worker.queue]
    assert site.inspect().conf()[name]["task_default_queue"] == site.worker.queue
    assert site.inspect().clock()[name]["clock"] > 0
    assert "kombu:5.7.0" in site.inspect().report()[name]["ok"]


def test_a_worker_tells_what_waits_for_its_time(site):
    # Long enough for its place, which it keeps although it is revoked, to be no matter of any later test.
    late = site.task("add").apply_async((1, 2), countdown=3600)
    [name] = site.destination
    until(lambda: late.id in str(site.inspect().scheduled()), BOUND)
    [waiting] = site.inspect().scheduled()[name]
    assert waiting["request"]["name"] == "proj.tasks.add"
    assert site.inspect().query_task(late.id)[name][late.id][0] == "scheduled"
    site.app.control.revoke(late.id, destination=site.destination)
    until(lambda: late.id in str(site.inspect().revoked()), BOUND)


def test_a_worker_tells_what_is_running(site, notes):
    if site.worker.pool == "solo":
        pytest.skip("a solo worker answers nothing while a task runs")
    result = site.task("work_until").delay(notes.path, "long", "enough")
    until(lambda: notes.count("start long"), BOUND)
    [name] = site.destination
    assert result.id in [task["id"] for task in site.inspect().active()[name]]
    notes.write("enough")
    assert result.get(timeout=BOUND) == "long"
    # The result comes from the pool, maybe before the worker itself knows.
    until(lambda: site.inspect().active()[name] == [], BOUND)


def test_tasks_that_wait_for_their_time_do_not_take_the_places_of_others(site):
    # Each raises the prefetch count by one, at the broker too, and gives it back when it is done.
    [name] = site.destination
    before = site.inspect().stats()[name]["prefetch_count"]
    count = before + 3
    late = [site.task("add").apply_async((i, 0), countdown=2) for i in range(count)]
    assert site.task("add").delay(1, 2).get(timeout=BOUND) == 3
    assert [result.get(timeout=BOUND) for result in late] == list(range(count))
    until(lambda: site.inspect().stats()[name]["prefetch_count"] == before, BOUND)


def test_the_prefetch_count_follows_the_pool(site, rabbit):
    if site.worker.pool not in ("prefork", "gevent"):
        pytest.skip(f"the pool {site.worker.pool} does not grow")
    [name] = site.destination

    def at_the_worker():
        return site.inspect().stats()[name]["prefetch_count"]

    def at_the_broker():
        try:
            counts = rabbit.rows("list_channels", "prefetch_count", "global_prefetch_count")
        except RabbitFailed:  # RabbitMQ 4.3 has no limits for all consumers of a channel at once
            counts = rabbit.rows("list_channels", "prefetch_count")
        return [sum(map(int, row.values())) for row in counts]

    # The worker changes its number at once, and tells the broker in the next turn of its loop.
    until(lambda: at_the_worker() in at_the_broker(), BOUND)
    before = at_the_worker()
    assert "ok" in site.command("pool_grow", n=1)
    try:
        until(lambda: at_the_worker() == before + 4, BOUND)
        until(lambda: before + 4 in at_the_broker(), BOUND)
    finally:
        assert "ok" in site.command("pool_shrink", n=1)
    until(lambda: at_the_worker() == before, BOUND)
    assert site.task("add").delay(1, 2).get(timeout=BOUND) == 3


def test_a_worker_consumes_from_further_queues_when_told(site, notes):
    extra = f"{site.worker.queue}-extra"
    assert "ok" in site.command("add_consumer", queue=extra, exchange=extra, routing_key=extra)
    try:
        site.task("note").apply_async((notes.path, "there"), queue=extra)
        until(lambda: notes.count("there"), BOUND)
    finally:
        assert "ok" in site.command("cancel_consumer", queue=extra)
    until(lambda: len(site.inspect().active_queues()[site.destination[0]]) == 1, BOUND)
    site.task("note").apply_async((notes.path, "nobody listens"), queue=extra)
    assert site.task("add").delay(1, 2).get(timeout=BOUND) == 3
    assert notes.count("nobody listens") == 0


def test_a_running_task_is_terminated(site, notes):
    if site.worker.pool not in ("prefork", "gevent"):
        pytest.skip(f"the pool {site.worker.pool} terminates nothing")
    result = site.task("work").delay(notes.path, "endless", 120)
    until(lambda: notes.count("start endless"), BOUND)
    site.app.control.revoke(result.id, terminate=True, destination=site.destination)
    with pytest.raises(Exception, match="terminated|revoked") as raised:
        result.get(timeout=BOUND)
    assert type(raised.value).__name__ == "TaskRevokedError"
    assert site.task("add").delay(1, 2).get(timeout=BOUND) == 3


def test_events_tell_the_life_of_a_task(site):
    app, seen = site.app, []
    state = app.events.State()
    kinds = ["task-received", "task-started", "task-succeeded"]

    def take(event):
        state.event(event)
        seen.append(event)

    def done():
        return [event["type"] for event in seen if event.get("uuid") == result_id[0]] == kinds

    def capture():
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": take})
            for _ in receiver.itercapture(limit=None, timeout=BOUND, wakeup=True):
                if result_id and done():
                    return

    result_id = []
    assert "ok" in site.command("enable_events")
    try:
        with Background(capture, timeout=2 * BOUND):
            # A heartbeat answers the wake-up call, so events come through from now on.
            until(lambda: any(event["type"] == "worker-heartbeat" for event in seen), BOUND)
            result_id.append(site.task("add").delay(1, 2).id)
    finally:
        assert "ok" in site.command("disable_events")
    task = state.tasks[result_id[0]]
    assert (task.name, task.state, task.result) == ("proj.tasks.add", "SUCCESS", "3")
    assert state.workers[site.destination[0]].alive


def test_a_camera_takes_snapshots_of_what_the_events_tell(make_site, start, rabbit, tmp_path):
    site = make_site()
    album = tmp_path / "album"
    with start(site, "prefork", "--task-events"), Command(
        tmp_path,
        *["events", "--camera", "proj.camera.Camera", "--frequency", "0.2", "--loglevel", "INFO"],
        broker=rabbit.url(),
        settings={"album": str(album)},
        name="camera",
    ):
        until(lambda: _shots(album) or site.task("add").delay(0, 0).get(timeout=BOUND), BOUND)
        results = [site.task("add").delay(i, 1) for i in range(5)]
        assert [result.get(timeout=BOUND) for result in results] == [1, 2, 3, 4, 5]
        ids = {result.id for result in results}
        until(lambda: any(ids <= _succeeded(shot) for shot in _shots(album)), BOUND)
        assert site.destination[0] in _shots(album)[-1]["workers"]


def _shots(album):
    return [json.loads(line) for line in album.read_text().splitlines()] if album.exists() else []


def _succeeded(shot):
    return {uuid for uuid, state in shot["tasks"].items() if state == "SUCCESS"}


def test_the_commands_report_and_inspect_and_purge_work(make_site, start, rabbit, tmp_path):
    site = make_site()
    with start(site, "solo"):
        report = run(tmp_path, "report", broker=rabbit.url())
        assert report.returncode == 0
        assert "software -> celery:5.7." in report.stdout
        assert "kombu:5.7.0" in report.stdout
        assert "transport:amqp" in report.stdout
        ping = run(tmp_path, "inspect", "ping", "--destination", site.destination[0], broker=rabbit.url())
        assert (ping.returncode, "pong" in ping.stdout) == (0, True)
        status = run(tmp_path, "status", "--destination", site.destination[0], broker=rabbit.url())
        assert "1 node online" in status.stdout
        assert site.worker.warm_shutdown() == 0
    site.task("add").delay(1, 2)
    site.task("add").delay(1, 2)
    purge = run(tmp_path, "purge", "--force", "--queues", site.worker.queue, broker=rabbit.url())
    assert "Purged 2 messages" in purge.stdout
