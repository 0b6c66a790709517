"""Pools under gevent and eventlet: waiting lets others run, and who is killed while waiting leaves nothing behind."""

from __future__ import annotations

from textwrap import dedent

import pytest

import greenlets
import interpreter

BEGIN = {
    "gevent": """
        import gevent.monkey
        gevent.monkey.patch_all()
        from gevent import kill, sleep, spawn

        def join(greenlet):
            greenlet.join(30)
            assert greenlet.dead
    """,
    "eventlet": """
        import eventlet
        eventlet.monkey_patch()
        from eventlet import kill, sleep, spawn
        from greenlet import GreenletExit

        def join(greenlet):
            with eventlet.Timeout(30):
                try:
                    greenlet.wait()
                except GreenletExit:
                    pass
    """,
}

COMMON = """
    import time
    import kombu
    from kombu import Connection
    from kombu.exceptions import LimitExceeded
    from kombu.pools import ProducerPool
    from kombu.resource import Resource

    class Thing:
        def close(self):
            pass

    class Things(Resource):
        def setup(self):
            pass

        def new(self):
            return Thing()

    def until(condition):
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            sleep(0.001)

    def state(pool):
        stats = pool.stats()
        return stats["in_use"], stats["idle"], stats["waiting"]

    connection = Connection("memory://")
    connections = connection.Pool(1)
    pools = [Things(1), connections, connection.ChannelPool(1), ProducerPool(connection.Pool(1), limit=1)]
"""


@pytest.fixture(params=sorted(BEGIN))
def run(request, core):
    """Run a program with everything patched; skip where the library is missing, unless it is required."""
    library = request.param
    greenlets.require(library)

    def run(program):
        text = "".join(map(dedent, (BEGIN[library], COMMON, program)))
        # These libraries give warnings of their own.
        done = interpreter.run(text, options=("-W", "ignore"), timeout=120, KOMBU_IMPL=core.impl)
        assert done.returncode == 0, done.stderr

    return run


def test_who_waits_lets_others_run_and_is_served_in_order(run):
    run("""
        for pool in pools:
            held, order, turns = pool.acquire(), [], []

            def use(number):
                resource = pool.acquire(block=True, timeout=60)
                order.append(number)
                sleep(0)
                resource.release()

            def tick():
                while len(order) < 5:
                    turns.append(None)
                    sleep(0.001)

            waiting = []
            for number in range(5):
                waiting.append(spawn(use, number))
                until(lambda: state(pool)[2] == number + 1)
            ticking = spawn(tick)
            until(lambda: len(turns) > 3)
            assert order == []
            held.release()
            for greenlet in [*waiting, ticking]:
                join(greenlet)
            assert order == [0, 1, 2, 3, 4]
            assert state(pool) == (0, 1, 0), state(pool)
    """)


def test_a_timeout_ends_a_wait(run):
    run("""
        for pool in pools:
            held = pool.acquire()
            try:
                pool.acquire(block=True, timeout=0.01)
            except LimitExceeded as exc:
                assert (exc.limit, exc.in_use) == (1, 1)
            else:
                raise AssertionError("got another")
            held.release()
            assert state(pool) == (0, 1, 0), state(pool)
    """)


def test_who_is_killed_while_waiting_leaves_nothing_behind(run):
    run("""
        for pool in pools:
            held, got = pool.acquire(), []

            def use():
                got.append(pool.acquire(block=True))

            first, second, third = waiting = [spawn(use) for _ in range(3)]
            until(lambda: state(pool)[2] == 3)
            kill(second)
            until(lambda: state(pool)[2] == 2)
            held.release()
            until(lambda: len(got) == 1)
            got[0].release()
            until(lambda: len(got) == 2)
            got[1].release()
            for greenlet in waiting:
                join(greenlet)
            assert len(got) == 2
            assert state(pool) == (0, 1, 0), state(pool)
    """)


def test_who_is_killed_just_when_it_is_served_passes_the_place_on(run):
    run("""
        for pool in pools:
            held, got = pool.acquire(), []

            def use():
                got.append(pool.acquire(block=True))

            first, second = spawn(use), spawn(use)
            until(lambda: state(pool)[2] == 2)
            # Nobody else runs between the two: it has its place, and does not know it yet.
            held.release()
            kill(first)
            until(lambda: got)
            got[0].release()
            # If it was served before it was killed, the other is next.
            until(lambda: len(got) == 2 or not state(pool)[0])
            if len(got) == 2:
                got[1].release()
            join(first)
            join(second)
            assert state(pool) == (0, 1, 0), state(pool)
    """)


def test_many_greenlets_never_exceed_the_limit(run):
    run("""
        pool = Things(3)
        inside, most, done = set(), [0], []

        def use(number):
            for _ in range(10):
                thing = pool.acquire(block=True, timeout=60)
                assert thing not in inside
                inside.add(thing)
                most[0] = max(most[0], len(inside))
                sleep(0)
                inside.discard(thing)
                thing.release()
            done.append(number)

        for greenlet in [spawn(use, number) for number in range(50)]:
            join(greenlet)
        assert len(done) == 50
        assert most[0] == 3
        assert state(pool) == (0, 3, 0), state(pool)
    """)
