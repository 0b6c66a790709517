"""Wait for file descriptors: one interface to epoll, kqueue, poll and select.

A poller has ``register(fd, events)``, ``unregister(fd)``, ``poll(timeout)`` and ``close()``. Events are :data:`READ`,
:data:`WRITE` and :data:`ERR`, or-ed. ``poll`` waits *timeout* seconds at most, for ever if that is None, and returns a
list of (fd, events), or None when a signal cut it short.
"""

from __future__ import annotations

import errno
import math
import select
import sys
from collections.abc import Iterable
from typing import Any

from .compat import detect_environment, fileno

__all__ = ("ERR", "READ", "SELECT_BAD_FD", "WRITE", "poll")

# The numbers are those of epoll and poll on Linux: what epoll reports is given to the caller as it is.
READ = POLL_READ = 0x001
WRITE = POLL_WRITE = 0x004
ERR = POLL_ERR = 0x008 | 0x010

#: How select() says that a descriptor is closed, or not a socket (Windows).
SELECT_BAD_FD = {errno.EBADF, getattr(errno, "WSAENOTSOCK", errno.EBADF)}

epoll: Any = getattr(select, "epoll", None)
kqueue: Any = getattr(select, "kqueue", None)
kevent: Any = getattr(select, "kevent", None)
xpoll: Any = getattr(select, "poll", None)

# Where there is no kqueue or poll, the numbers do not matter; the classes can be imported and tested all the same.
KQ_EV_ADD: int = getattr(select, "KQ_EV_ADD", 0x1)
KQ_EV_DELETE: int = getattr(select, "KQ_EV_DELETE", 0x2)
KQ_EV_ENABLE: int = getattr(select, "KQ_EV_ENABLE", 0x4)
KQ_EV_CLEAR: int = getattr(select, "KQ_EV_CLEAR", 0x20)
KQ_EV_ERROR: int = getattr(select, "KQ_EV_ERROR", 0x4000)
KQ_EV_EOF: int = getattr(select, "KQ_EV_EOF", 0x8000)
KQ_FILTER_READ: int = getattr(select, "KQ_FILTER_READ", -1)
KQ_FILTER_WRITE: int = getattr(select, "KQ_FILTER_WRITE", -2)
KQ_FILTER_VNODE: int = getattr(select, "KQ_FILTER_VNODE", -4)
KQ_NOTE_DELETE: int = getattr(select, "KQ_NOTE_DELETE", 0x1)
KQ_NOTE_WRITE: int = getattr(select, "KQ_NOTE_WRITE", 0x2)
KQ_NOTE_EXTEND: int = getattr(select, "KQ_NOTE_EXTEND", 0x4)
KQ_NOTE_ATTRIB: int = getattr(select, "KQ_NOTE_ATTRIB", 0x8)
POLLIN: int = getattr(select, "POLLIN", 0x1)
POLLOUT: int = getattr(select, "POLLOUT", 0x4)
POLLERR: int = getattr(select, "POLLERR", 0x8)
POLLHUP: int = getattr(select, "POLLHUP", 0x10)
POLLNVAL: int = getattr(select, "POLLNVAL", 0x20)

#: The most events that kqueue is asked for at once.
KQUEUE_BATCH = 1000

Events = list[tuple[int, int]]


def _interrupted(exc: OSError) -> bool:
    # Python itself waits on after a signal; only where the wait is somebody else's (gevent, eventlet) is this seen.
    return exc.errno == errno.EINTR


class _epoll:
    """Wait by epoll (Linux)."""

    def __init__(self) -> None:
        self._epoll = epoll()
        #: What each descriptor was registered for; None where somebody else has done it.  Event loops register again
        #: what is registered, and unregister what is not, several times for each task: what the system would refuse
        #: costs an exception each time.
        self._events: dict[int, int | None] = {}

    def register(self, fd: Any, events: int) -> Any:
        number = fileno(fd)
        first = self._events.get(number)
        if first is not None:
            try:
                # It goes on as it was registered first.
                self._epoll.modify(number, first)
                return fd
            except FileNotFoundError:
                pass  # That file has been closed, and the number belongs to another.
        try:
            self._epoll.register(number, events)
        except FileExistsError:
            self._events[number] = None
        else:
            self._events[number] = events
        return fd

    def unregister(self, fd: Any) -> None:
        try:
            number = fileno(fd)
            if number in self._events:
                del self._events[number]
                self._epoll.unregister(number)
        except (ValueError, KeyError, TypeError):
            pass  # The object has been closed, and with it the descriptor left the set.
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.EPERM):
                raise

    def poll(self, timeout: float | None) -> Events | None:
        try:
            happened: Events = self._epoll.poll(-1 if timeout is None else timeout)
        except OSError as exc:
            if _interrupted(exc):
                return None
            raise
        return happened

    def close(self) -> None:
        self._epoll.close()


class _kqueue:
    """Wait by kqueue (BSD), and watch files: ``on_file_change`` is called with the kevents of those that changed."""

    w_fflags = KQ_NOTE_WRITE | KQ_NOTE_EXTEND | KQ_NOTE_ATTRIB | KQ_NOTE_DELETE

    def __init__(self) -> None:
        self._kqueue = kqueue()
        self._kcontrol = self._kqueue.control
        self._active: dict[Any, int] = {}
        self.on_file_change: Any = None

    def register(self, fd: Any, events: int) -> Any:
        self._control(fd, events, KQ_EV_ADD)
        self._active[fd] = events
        return fd

    def unregister(self, fd: Any) -> None:
        events = self._active.pop(fd, None)
        if events:
            try:
                self._control(fd, events, KQ_EV_DELETE)
            except OSError:
                pass  # The descriptor has been closed, and so left the queue.

    def watch_file(self, fd: Any) -> None:
        self._watch(fd, KQ_EV_ADD | KQ_EV_ENABLE | KQ_EV_CLEAR)

    def unwatch_file(self, fd: Any) -> None:
        self._watch(fd, KQ_EV_DELETE)

    def _watch(self, fd: Any, flags: int) -> None:
        self._kcontrol([kevent(fd, filter=KQ_FILTER_VNODE, flags=flags, fflags=self.w_fflags)], 0)

    def _control(self, fd: Any, events: int, flags: int) -> None:
        if not events:
            return
        filters = [KQ_FILTER_WRITE] if events & WRITE else []
        if events & READ or not filters:
            # kqueue has no filter for errors alone; they are reported with the readable ones.
            filters.append(KQ_FILTER_READ)
        for kind in filters:
            try:
                self._kcontrol([kevent(fd, filter=kind, flags=flags)], 0)
            except ValueError:
                pass  # A closed object has no descriptor any more.

    def poll(self, timeout: float | None) -> Events | None:
        try:
            happened = self._kcontrol(None, KQUEUE_BATCH, timeout)
        except OSError as exc:
            if _interrupted(exc):
                return None
            raise
        events: dict[int, int] = {}
        changed_files = []
        for event in happened:
            fd = event.ident
            if event.filter == KQ_FILTER_VNODE:
                if event.fflags & KQ_NOTE_DELETE:
                    self.unregister(fd)
                changed_files.append(event)
            elif event.filter == KQ_FILTER_WRITE and event.flags & KQ_EV_EOF:
                events[fd] = ERR
            elif event.filter in (KQ_FILTER_READ, KQ_FILTER_WRITE):
                events[fd] = events.get(fd, 0) | (READ if event.filter == KQ_FILTER_READ else WRITE)
            elif event.filter == KQ_EV_ERROR:
                events[fd] = events.get(fd, 0) | ERR
        if changed_files and self.on_file_change is not None:
            self.on_file_change(changed_files)
        return list(events.items())

    def close(self) -> None:
        self._kqueue.close()


class _poll:
    """Wait by poll."""

    def __init__(self) -> None:
        self._poller = xpoll()

    def register(self, fd: Any, events: int) -> int:
        number = fileno(fd)
        wanted = 0
        for event, flag in ((READ, POLLIN), (WRITE, POLLOUT), (ERR, POLLERR)):
            if events & event:
                wanted |= flag
        self._poller.register(number, wanted)
        return number

    def unregister(self, fd: Any) -> Any:
        # Which descriptor a closed object had is not known any more; the next poll() finds and removes it.
        try:
            number = fileno(fd)
        except OSError as exc:
            if exc.errno in SELECT_BAD_FD:
                return fd
            raise
        if number >= 0:
            self._poller.unregister(number)
        return number

    def poll(self, timeout: float | None) -> Events | None:
        # Rounded up, or the last fraction of a millisecond would be spent in a busy loop.
        milliseconds = None if timeout is None else math.ceil(max(timeout, 0) * 1e3)
        try:
            happened = self._poller.poll(milliseconds)
        except OSError as exc:
            if _interrupted(exc):
                return None
            raise
        for fd, flags in happened:
            if flags & POLLNVAL:
                # Closed while it was registered: said once, or no wait would ever last again.
                self._poller.unregister(fd)
        return [(fd, self._events(flags)) for fd, flags in happened]

    @staticmethod
    def _events(flags: int) -> int:
        events = READ if flags & POLLIN else 0
        if flags & POLLOUT:
            events |= WRITE
        if flags & (POLLERR | POLLHUP | POLLNVAL):
            events |= ERR
        return events

    def close(self) -> None:
        self._poller = None


class _select:
    """Wait by select: everywhere, and the one that gevent and eventlet replace."""

    def __init__(self) -> None:
        self._rfd: set[int] = set()
        self._wfd: set[int] = set()
        self._efd: set[int] = set()

    def _sets(self) -> Iterable[tuple[int, set[int]]]:
        return (READ, self._rfd), (WRITE, self._wfd), (ERR, self._efd)

    def register(self, fd: Any, events: int) -> int:
        number = fileno(fd)
        for event, registered in self._sets():
            if events & event:
                registered.add(number)
        return number

    def unregister(self, fd: Any) -> None:
        try:
            fd = fileno(fd)
        except OSError as exc:
            if exc.errno in SELECT_BAD_FD:
                return  # As with poll.
            raise
        for _, registered in self._sets():
            registered.discard(fd)

    def poll(self, timeout: float | None) -> Events | None:
        try:
            ready = select.select(self._rfd, self._wfd, self._efd, timeout)
        except OSError as exc:
            if exc.errno in SELECT_BAD_FD:
                self._remove_bad()
            elif not _interrupted(exc):
                raise
            return None
        events: dict[int, int] = {}
        for event, fds in zip((READ, WRITE, ERR), ready, strict=True):
            for fd in fds:
                events[fd] = events.get(fd, 0) | event
        return list(events.items())

    def _remove_bad(self) -> None:
        for fd in self._rfd | self._wfd | self._efd:
            try:
                select.select([fd], [], [], 0)
            except OSError as exc:
                if exc.errno in SELECT_BAD_FD:
                    self.unregister(fd)

    def close(self) -> None:
        for _, registered in self._sets():
            registered.clear()


def _get_poller() -> type:
    if detect_environment() != "default":
        return _select
    if epoll is not None:
        return _epoll
    if kqueue is not None and "netbsd" in sys.platform:
        return _kqueue
    return _select if xpoll is None else _poll


def poll(*args: Any, **kwargs: Any) -> Any:
    """Return a new poller of the best kind there is here."""
    return _get_poller()(*args, **kwargs)
