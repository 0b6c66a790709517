"""Pollers: each kind sees what the others see."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from kombu.utils import eventio
from kombu.utils.eventio import ERR, READ, WRITE

KINDS = {"epoll": eventio._epoll, "poll": eventio._poll, "select": eventio._select}


@pytest.fixture(params=KINDS)
def poller(request):
    if not hasattr(select, request.param):
        pytest.skip("not on this platform")
    made = KINDS[request.param]()
    yield made
    made.close()


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_nothing_happens_until_something_is_there(poller, pair):
    ours, theirs = pair
    poller.register(ours.fileno(), READ | ERR)
    assert poller.poll(0) == []
    theirs.send(b"x")
    assert poller.poll(30) == [(ours.fileno(), READ)]


def test_an_idle_socket_can_be_written_to(poller, pair):
    ours, _ = pair
    poller.register(ours.fileno(), WRITE | ERR)
    assert poller.poll(30) == [(ours.fileno(), WRITE)]


def test_both_are_reported_at_once(poller, pair):
    ours, theirs = pair
    poller.register(ours.fileno(), READ | WRITE | ERR)
    theirs.send(b"x")
    assert poller.poll(30) == [(ours.fileno(), READ | WRITE)]


def test_what_is_unregistered_is_not_reported(poller, pair):
    ours, _ = pair
    poller.register(ours.fileno(), WRITE)
    poller.unregister(ours.fileno())
    assert poller.poll(0) == []


def test_a_socket_may_stand_for_its_descriptor(poller, pair):
    ours, _ = pair
    poller.register(ours, WRITE)
    assert poller.poll(30) == [(ours.fileno(), WRITE)]
    poller.unregister(ours)
    assert poller.poll(0) == []


def test_registering_again_is_no_error(poller, pair):
    ours, _ = pair
    poller.register(ours.fileno(), WRITE)
    poller.register(ours.fileno(), WRITE)
    assert poller.poll(30) == [(ours.fileno(), WRITE)]


def test_a_number_that_belongs_to_another_file_now_is_watched_for_what_that_wants(poller):
    first, other = socket.socketpair()
    number = first.fileno()
    poller.register(number, READ | ERR)
    first.close()
    second, peer = socket.socketpair()
    with other, peer:
        moved = os.dup2(second.fileno(), number) if second.fileno() != number else number
        try:
            poller.register(moved, WRITE | ERR)
            assert (number, WRITE) in poller.poll(30)
        finally:
            poller.unregister(moved)
            if moved != second.fileno():
                os.close(moved)
            second.close()


def test_what_is_registered_again_goes_on_as_it_was(poller, pair):
    if type(poller) is not eventio._epoll:
        pytest.skip("the others add to it or replace it, as with kombu 5.7")
    ours, theirs = pair
    poller.register(ours.fileno(), READ | ERR)
    poller.register(ours.fileno(), WRITE | ERR)
    theirs.send(b"x")
    assert poller.poll(30) == [(ours.fileno(), READ)]
    poller.unregister(ours)
    assert poller.poll(0) == []


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="not on this platform")
def test_epoll_is_not_asked_for_what_it_would_refuse(pair):
    asked = []

    class Epoll:
        def __getattr__(self, name):
            return lambda *args: asked.append((name, *args))

    poller = eventio._epoll()
    poller.close()
    poller._epoll = Epoll()
    poller.unregister(7)
    poller.register(7, READ)
    poller.register(7, READ)
    poller.unregister(7)
    poller.unregister(7)
    assert asked == [("register", 7, READ), ("modify", 7, READ), ("unregister", 7)]


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="not on this platform")
def test_what_somebody_else_has_registered_with_epoll_is_unregistered(pair):
    ours, theirs = pair
    poller = eventio._epoll()
    try:
        poller._epoll.register(ours.fileno(), READ)
        poller.register(ours.fileno(), READ)
        poller.unregister(ours.fileno())
        theirs.send(b"x")
        assert poller.poll(0) == []
    finally:
        poller.close()


def test_without_a_timeout_it_waits_until_something_is_there(poller, pair):
    ours, theirs = pair
    poller.register(ours.fileno(), READ)
    sender = threading.Timer(0.05, theirs.send, (b"x",))
    sender.start()
    assert poller.poll(None) == [(ours.fileno(), READ)]
    sender.join()


def test_a_timeout_ends_the_wait(poller, pair):
    poller.register(pair[0].fileno(), READ)
    begin = time.monotonic()
    assert poller.poll(0.02) == []
    # select and poll may end a little early by the coarse clock of the kernel.
    assert 0.015 < time.monotonic() - begin < 10


def test_a_peer_that_has_gone_is_readable_or_an_error(poller, pair):
    ours, theirs = pair
    poller.register(ours.fileno(), READ | ERR)
    theirs.close()
    ((fd, events),) = poller.poll(30)
    assert fd == ours.fileno()
    assert events & (READ | ERR)


def test_a_closed_descriptor_leaves_the_others_alone(poller, pair):
    ours, theirs = pair
    gone = socket.socket()
    poller.register(gone.fileno(), READ)
    poller.register(ours.fileno(), READ)
    gone.close()
    theirs.send(b"x")
    happened = [poller.poll(30) or [] for _ in range(2)]
    assert (ours.fileno(), READ) in happened[-1]


def test_a_closed_socket_can_be_unregistered_and_does_not_disturb_later_waits(poller):
    gone = socket.socket()
    poller.register(gone, READ)
    gone.close()
    poller.unregister(gone)
    poller.poll(0)
    assert poller.poll(0) == []


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_a_signal_does_not_end_the_wait(poller, pair):
    ours, theirs = pair
    poller.register(ours.fileno(), READ)
    before = signal.signal(signal.SIGALRM, lambda *args: theirs.send(b"x"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert poller.poll(30) == [(ours.fileno(), READ)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class TestErrors:
    @pytest.fixture(params=[errno.EINTR, errno.EINVAL])
    def number(self, request):
        return request.param

    @pytest.fixture
    def fails(self, number):
        def fail(*args):
            raise OSError(number, os.strerror(number))

        return fail

    def check(self, poller, number):
        if number == errno.EINTR:
            assert poller.poll(1) is None
        else:
            with pytest.raises(OSError) as caught:
                poller.poll(1)
            assert caught.value.errno == number

    @pytest.mark.skipif(not hasattr(select, "epoll"), reason="not on this platform")
    def test_of_epoll(self, monkeypatch, fails, number):
        poller = eventio._epoll()
        poller.close()
        poller._epoll = SimpleNamespace(poll=fails)
        self.check(poller, number)

    @pytest.mark.skipif(not hasattr(select, "poll"), reason="not on this platform")
    def test_of_poll(self, fails, number):
        poller = eventio._poll()
        poller._poller = SimpleNamespace(poll=fails)
        self.check(poller, number)

    def test_of_select(self, monkeypatch, fails, number):
        monkeypatch.setattr(select, "select", fails)
        self.check(eventio._select(), number)


class FakeKqueue:
    """Stand for kqueue where there is none: remembers what it is told, and tells what it is given."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, int]] = []
        self.happened: list[SimpleNamespace] = []

    def control(self, changes, maximum, timeout=None):
        if changes is None:
            return self.happened
        self.told += [(change.ident, change.filter, change.flags) for change in changes]
        return None

    def close(self) -> None:
        self.told.append("closed")  # type: ignore[arg-type]


class TestKqueue:
    @pytest.fixture
    def fake(self, monkeypatch):
        fake = FakeKqueue()
        monkeypatch.setattr(eventio, "kqueue", lambda: fake)
        monkeypatch.setattr(eventio, "kevent", self.event)
        return fake

    def event(self, ident, filter=0, flags=0, fflags=0):
        return SimpleNamespace(ident=ident, filter=filter, flags=flags, fflags=fflags)

    @pytest.fixture
    def poller(self, fake):
        return eventio._kqueue()

    def test_filters_follow_the_events(self, poller, fake):
        poller.register(1, READ)
        poller.register(2, READ | WRITE)
        poller.register(3, WRITE)
        poller.register(4, ERR)
        poller.unregister(2)
        poller.unregister(9)
        add, delete = eventio.KQ_EV_ADD, eventio.KQ_EV_DELETE
        read, write = eventio.KQ_FILTER_READ, eventio.KQ_FILTER_WRITE
        assert fake.told == [
            (1, read, add),
            (2, write, add),
            (2, read, add),
            (3, write, add),
            (4, read, add),
            (2, write, delete),
            (2, read, delete),
        ]

    def test_what_happened_is_gathered_by_descriptor(self, poller, fake):
        fake.happened = [
            self.event(1, eventio.KQ_FILTER_READ),
            self.event(1, eventio.KQ_FILTER_WRITE),
            self.event(2, eventio.KQ_FILTER_WRITE, flags=eventio.KQ_EV_EOF),
            self.event(3, eventio.KQ_EV_ERROR),
        ]
        assert poller.poll(1) == [(1, READ | WRITE), (2, ERR), (3, ERR)]

    def test_changed_files_are_given_to_the_callback(self, poller, fake):
        changed = []
        poller.on_file_change = changed.extend
        poller.watch_file(5)
        event = self.event(5, eventio.KQ_FILTER_VNODE, fflags=eventio.KQ_NOTE_DELETE)
        fake.happened = [event]
        assert poller.poll(None) == []
        poller.unwatch_file(5)
        assert changed == [event]
        assert [flags for *_, flags in fake.told] == [
            eventio.KQ_EV_ADD | eventio.KQ_EV_ENABLE | eventio.KQ_EV_CLEAR,
            eventio.KQ_EV_DELETE,
        ]

    def test_is_closed(self, poller, fake):
        poller.close()
        assert fake.told == ["closed"]


class TestChoice:
    def test_select_is_taken_under_gevent_and_eventlet(self, monkeypatch):
        monkeypatch.setattr(eventio, "detect_environment", lambda: "gevent")
        assert isinstance(eventio.poll(), eventio._select)

    @pytest.mark.parametrize(
        ("there", "platform", "chosen"),
        [
            ({"epoll", "poll"}, "linux", "_epoll"),
            ({"kqueue", "poll"}, "netbsd9", "_kqueue"),
            ({"kqueue", "poll"}, "darwin", "_poll"),
            (set(), "win32", "_select"),
        ],
    )
    def test_the_best_there_is_is_taken(self, monkeypatch, there, platform, chosen):
        monkeypatch.setattr(eventio, "detect_environment", lambda: "default")
        monkeypatch.setattr(eventio.sys, "platform", platform)
        for name, attribute in (("epoll", "epoll"), ("kqueue", "kqueue"), ("poll", "xpoll")):
            monkeypatch.setattr(eventio, attribute, object if name in there else None)
        assert eventio._get_poller() is getattr(eventio, chosen)
