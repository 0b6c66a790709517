"""The event loop: what it watches, calls and survives."""

from __future__ import annotations

import errno
import os
import socket
import threading
from queue import Empty

import pytest
from vine import promise

from interpreter import run
from kombu.asynchronous import ERR, READ, WRITE, Hub, get_event_loop, set_event_loop
from kombu.asynchronous.debug import callback_for, repr_flag
from kombu.utils.eventio import _poll, _select

#: Seconds after which something is taken to hang.
LONG = 30


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def pair():
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def rounds(hub, count=1):
    for _ in range(count):
        hub.run_once()


# -- Descriptors.


@pytest.mark.parametrize("poller", [None, _poll, _select])
def test_readers_and_writers_are_called(monkeypatch, pair, poller):
    if poller is not None:
        monkeypatch.setattr("kombu.asynchronous.hub.poll", poller)
    hub, (one, other), seen = Hub(), pair, []
    hub.add_reader(one, lambda *args: seen.append((args, one.recv(10))), "a", 1)
    other.send(b"x")
    rounds(hub)
    assert seen == [(("a", 1), b"x")]
    hub.add_writer(other, lambda: (seen.append("writable"), hub.remove_writer(other)))
    rounds(hub, 2)
    assert seen[1:] == ["writable"]
    hub.remove_reader(one)
    other.send(b"y")
    hub.call_soon(lambda: None)
    rounds(hub)
    assert len(seen) == 2
    hub.close()


def test_a_descriptor_may_have_a_reader_and_a_writer(hub, pair):
    # Registered once, epoll ignores a second registration: 5.7 never calls the writer.
    one, other = pair
    seen = []
    hub.add_reader(one, lambda: seen.append(one.recv(10)))
    hub.add_writer(one, seen.append, "writable")
    rounds(hub)
    assert seen == ["writable"]
    other.send(b"x")
    rounds(hub)
    assert seen == ["writable", b"x", "writable"]
    hub.remove_writer(one)
    other.send(b"y")
    rounds(hub)
    assert seen[3:] == [b"y"]
    hub.add_writer(one, seen.append, "again")
    hub.remove_reader(one)
    other.send(b"z")
    rounds(hub)
    assert seen[4:] == ["again"]


def test_a_writer_removed_by_the_reader_is_not_called(hub, pair):
    one, other = pair
    seen = []
    hub.add_reader(one, lambda: (seen.append(one.recv(10)), hub.remove(one)))
    hub.add_writer(one, seen.append, "writable")
    other.send(b"x")
    rounds(hub)
    assert seen == [b"x"]
    assert not hub.readers and not hub.writers


def test_the_end_of_a_stream_is_readable(hub, pair):
    one, other = pair
    seen = []
    hub.add_reader(one, lambda: seen.append(one.recv(10)))
    other.close()
    rounds(hub)
    assert seen == [b""]


def test_a_descriptor_that_nobody_waits_for_any_more_is_dropped(hub, pair):
    one, other = pair
    hub.add_reader(one, lambda: None)
    hub.readers.clear()
    hub.readers[-5] = (print, ())  # something has to be watched
    other.send(b"x")
    rounds(hub)
    assert hub.poller.poll(0) == []
    hub.readers.clear()


def test_removing_what_is_not_watched_is_harmless(hub, pair):
    one, _ = pair
    for remove in (hub.remove, hub.remove_reader, hub.remove_writer):
        remove(one)
        remove(10_000)


def test_a_descriptor_that_cannot_be_watched_is_refused_and_forgotten(hub):
    with pytest.raises(ValueError):
        hub.add_reader(-1, print)
    assert not hub.readers


def test_a_generator_is_advanced(hub, pair):
    one, other = pair
    seen = []

    def reader():
        while True:
            seen.append(one.recv(1))
            yield

    hub.add_reader(one, reader())
    other.send(b"abc")
    rounds(hub, 3)
    assert seen == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("error", "raised", "stays"),
    [
        (OSError(errno.EBADF, "bad"), False, False),
        (OSError(errno.EPIPE, "pipe"), True, True),
        (ValueError("x"), True, False),
        (None, False, True),
    ],
)
def test_how_a_generator_may_end(hub, pair, error, raised, stays):
    one, other = pair

    def reader():
        if error is not None:
            raise error
        return
        yield

    hub.add_reader(one, reader())
    other.send(b"x")
    if raised:
        with pytest.raises(type(error)):
            rounds(hub)
    else:
        rounds(hub)
    assert (one.fileno() in hub.readers) is stays


def test_an_empty_queue_is_no_error_of_a_reader(hub, pair):
    one, other = pair

    def reader():
        one.recv(10)
        raise Empty()

    hub.add_reader(one, reader)
    other.send(b"x")
    rounds(hub)


def test_consolidated_writers_are_called_together(hub):
    pairs = [socket.socketpair() for _ in range(3)]
    fds, ready = sorted(one.fileno() for one, _ in pairs), []
    hub.consolidate_callback = lambda found: ready.append(sorted(found))
    for fd in fds:
        hub.add(fd, None, WRITE | ERR, consolidate=True)
    rounds(hub)
    assert ready == [fds]
    # One that has been given a callback of its own is called by it.
    seen = []
    hub.add_writer(fds[0], seen.append, "own")
    rounds(hub)
    assert (ready[1], seen) == (fds[1:], ["own"])
    hub.remove(fds[1])
    hub.remove_writer(fds[0])
    rounds(hub)
    assert ready[2] == fds[2:]
    assert hub.consolidate == {fds[2]}
    for ends in pairs:
        for end in ends:
            hub.remove(end)
            end.close()


def test_unknown_events_are_reported_and_the_descriptor_dropped(hub, pair, caplog):
    caplog.set_level("INFO")
    hub._serve(pair[0].fileno(), 1 << 20)
    assert "unknown event" in caplog.text


# -- Soon and later.


def test_call_soon_calls_in_the_next_round(hub):
    seen = []

    def again():
        seen.append("again")
        hub.call_soon(seen.append, "next round")

    hub.call_soon(again)
    own = promise(seen.append, ("promise",))
    assert hub.call_soon(own) is own
    rounds(hub)
    assert sorted(seen) == ["again", "promise"]
    rounds(hub)
    assert seen[2:] == ["next round"]


def test_a_callback_that_raises_does_not_lose_the_others(hub):
    seen = []

    def fail():
        raise RuntimeError("broken")

    hub.call_soon(fail)
    for number in range(20):
        hub.call_soon(seen.append, number)
    with pytest.raises(RuntimeError, match="broken"):
        rounds(hub)
    rounds(hub, 2)
    assert sorted(seen) == list(range(20))


class ImpatientPoller:
    """A poller that never waits and keeps the timeouts it was given."""

    def __init__(self):
        self.timeouts = []

    def poll(self, timeout):
        self.timeouts.append(timeout)
        return []

    def register(self, fd, events):
        pass

    unregister = close = lambda self, *args: None


def test_the_loop_does_not_wait_while_something_is_to_be_called(hub, pair):
    # So a reader of a connection with messages in its buffer asks to be called again; 5.7 waits a second before.
    poller = hub.poller = ImpatientPoller()
    hub.add_reader(pair[0], print)
    hub.call_soon(lambda: hub.call_soon(lambda: None))
    rounds(hub, 2)
    assert poller.timeouts == [0, 1]


def test_timers_fire_in_the_loop(hub):
    seen = []
    hub.call_later(0, seen.append, "later")
    hub.call_at(0, seen.append, "at")
    entry = hub.call_repeatedly(0.01, seen.append, "repeatedly")
    for _ in range(200):
        if seen.count("repeatedly") >= 2:
            break
        rounds(hub)
    entry.cancel()
    assert sorted(set(seen)) == ["at", "later", "repeatedly"]


def test_an_error_of_a_timer_is_logged(hub, caplog):
    hub.call_later(-1, lambda: 1 / 0)
    hub.fire_timers()
    assert "Error in timer: ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "error", [KeyError("wanted"), MemoryError(), AssertionError(), OSError(errno.ENOMEM, "no memory")]
)
def test_errors_that_end_the_loop(hub, error):
    def fail():
        raise error

    hub.call_later(-1, fail)
    hub.propagate_errors = (KeyError,)
    with pytest.raises(type(error)):
        rounds(hub)


def test_fire_timers_tells_how_long_to_wait(hub):
    assert hub.fire_timers(min_delay=7) == 7
    hub.call_later(100, print)
    assert hub.fire_timers(max_delay=1.5) == 1.5
    assert 0 < hub.fire_timers() <= hub.timer.max_interval
    for _ in range(12):
        hub.call_later(-1, lambda: None)
    hub.fire_timers(max_timers=10)
    assert len(hub.timer) == 3


def test_on_tick_is_called_in_each_round_and_may_change(hub):
    seen = []

    def once():
        seen.append("once")
        hub.on_tick.remove(once)

    hub.on_tick |= {once, lambda: seen.append("always")}
    rounds(hub, 2)
    assert sorted(seen) == ["always", "always", "once"]


def test_a_loop_runs_until_it_is_stopped(hub):
    seen = []
    hub.call_soon(lambda: (seen.append(1), hub.call_soon(lambda: (seen.append(2), hub.stop()))))
    hub.run_forever()
    assert seen == [1, 2]
    assert not hub._running
    hub.call_soon(hub.stop)
    hub.run_forever()


# -- Threads and forks.


def run_in_thread(hub):
    thread = threading.Thread(target=hub.run_forever)
    thread.start()
    return thread


def test_call_soon_of_another_thread_interrupts_the_poll(pair):
    hub = Hub()
    hub.timer.max_interval = 10 * LONG
    hub.add_reader(pair[0], lambda: None)
    hub.call_later(10 * LONG, print)
    running = threading.Event()
    hub.call_soon(running.set)
    thread = run_in_thread(hub)
    assert running.wait(LONG)
    for _ in range(50):
        called = threading.Event()
        hub.call_soon(called.set)
        assert called.wait(LONG)
    hub.stop()
    thread.join(LONG)
    assert not thread.is_alive()
    hub.close()


@pytest.mark.stress
def test_no_call_of_many_threads_is_lost():
    hub, seen, each = Hub(), [], 500
    thread = run_in_thread(hub)

    def call(number):
        for turn in range(each):
            hub.call_soon(seen.append, (number, turn))

    callers = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(LONG)
    done = threading.Event()
    hub.call_soon(done.set)
    assert done.wait(LONG)
    hub.stop()
    thread.join(LONG)
    hub.close()
    assert sorted(seen) == [(number, turn) for number in range(6) for turn in range(each)]


def test_call_soon_of_its_own_thread_wakes_nobody(hub):
    rounds(hub)
    hub.call_soon(lambda: None)
    assert hub.poller.poll(0) == []


def test_a_hub_that_never_runs_opens_no_sockets(hub):
    hub.call_soon(lambda: None)
    assert hub._waker is None


FORK = """
import os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12: there are threads, which is what this is about
from kombu.asynchronous import Hub

hub = Hub()
hub.run_once()
inherited = hub._waker.fileno()
holding, release = threading.Event(), threading.Event()

def hold():
    with hub._ready_lock.current():
        holding.set()
        release.wait()

thread = threading.Thread(target=hold)
thread.start()
holding.wait()
pid = os.fork()
if pid == 0:
    called = []
    hub.call_soon(called.append, 1)
    hub.reset()
    hub.call_soon(called.append, 2)
    hub.run_once()
    assert called == [1, 2], called
    own = threading.Event()
    threading.Thread(target=hub.call_soon, args=(own.set,)).start()
    while not own.is_set():
        hub.run_once()
    hub.close()
    os._exit(0)
release.set()
thread.join()
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
hub.call_soon(print, "done")
hub.run_once()
hub.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_runs_its_own_loop():
    outcome = run(FORK, timeout=2 * LONG)
    assert (outcome.returncode, outcome.stdout.strip()) == (0, "done"), outcome.stderr


# -- Closing.


def test_closing_calls_what_is_left_and_forgets_what_was_watched(pair):
    hub, seen = Hub(), []
    hub.add_reader(pair[0], print)
    hub.add_writer(pair[1], print)
    hub.on_close.add(lambda closed: (seen.append(closed), hub.call_soon(seen.append, "called by on_close")))
    hub.call_soon(lambda: hub.call_soon(seen.append, "too late"))
    hub.close()
    assert seen == [hub, "called by on_close"]
    assert not hub.readers and not hub.writers and hub._poller is None
    hub.close()


def test_closing_calls_everything_before_it_raises(caplog):
    hub, seen = Hub(), []

    def fail(*args):
        raise RuntimeError("broken")

    hub.on_close |= {fail}
    for number in range(5):
        hub.call_soon(seen.append, number)
    hub.call_soon(fail)
    with pytest.raises(RuntimeError, match="broken"):
        hub.close()
    assert sorted(seen) == list(range(5))
    assert "raised exception: RuntimeError('broken')" in caplog.text
    assert hub._poller is None


def test_a_reset_hub_watches_again(hub, pair):
    one, other = pair
    seen = []
    rounds(hub)
    hub.add_reader(one, seen.append, "before")
    hub.reset()
    assert not hub.readers
    hub.add_reader(one, lambda: seen.append(one.recv(10)))
    other.send(b"x")
    rounds(hub, 2)
    assert seen == [b"x"]


def test_a_loop_made_before_a_reset_ends(hub):
    loop = hub.create_loop()
    next(loop)
    hub.reset()
    with pytest.raises(StopIteration):
        next(loop)


def test_closing_the_current_loop_leaves_none():
    before = get_event_loop()
    try:
        hub, other = Hub(), Hub()
        assert set_event_loop(hub) is hub
        other.close()
        assert get_event_loop() is hub
        hub.close()
        assert get_event_loop() is None
    finally:
        set_event_loop(before)


@pytest.mark.leak
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_hubs_leave_no_descriptors_open():
    def work():
        hub = Hub()
        rounds(hub)
        hub.reset()
        rounds(hub)
        hub.close()

    work()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        work()
    assert len(os.listdir("/proc/self/fd")) == before


# -- Debugging.


def test_flags_have_letters():
    assert [repr_flag(flag) for flag in (READ, WRITE, ERR, READ | WRITE | ERR, 0)] == ["R", "W", "!", "RW!", ""]


def test_what_is_watched_can_be_shown(hub, pair):
    one, other = (end.fileno() for end in pair)

    def on_read():
        pass

    class Callable:
        def __call__(self):
            pass

    hub.add_reader(one, on_read, 1)
    hub.add_writer(other, Callable())
    shown = hub.repr_active()
    assert f"({one})on_read(1)->R!" in shown and f"({other})" in shown
    assert repr(hub).endswith("R:1 W:1>")
    assert hub.repr_events([(one, READ), (999, WRITE)]) == f"on_read(1)({one})->R, (GONE)(999)->W"
    assert hub.repr_events(None) == ""


def test_callbacks_can_be_looked_up(hub, pair):
    one, other = (end.fileno() for end in pair)
    hub.add_reader(one, print)
    hub.add(other, None, WRITE, consolidate=True)
    hub.consolidate_callback = len
    assert callback_for(hub, one, READ) == (print, ())
    assert callback_for(hub, other, WRITE) is len
    assert callback_for(hub, one, WRITE, "none") == "none"
    with pytest.raises(KeyError):
        callback_for(hub, one, WRITE)


def test_a_loop_that_watches_nothing_asks_no_poller_but_can_be_woken(hub):
    class Refusing:
        def register(self, fd, flags):
            pass

        def unregister(self, fd):
            pass

        def close(self):
            pass

    called = threading.Event()
    hub.poller = Refusing()
    hub.run_once()
    thread = threading.Thread(target=hub.call_soon, args=(called.set,))
    thread.start()
    while not called.is_set():
        hub.run_once()
    thread.join(LONG)
