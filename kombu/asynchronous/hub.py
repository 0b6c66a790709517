"""The event loop."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import nullcontext
from functools import cached_property
from queue import Empty
from types import GeneratorType
from typing import Any

from vine import Thenable, promise

from kombu.forks import ProcessLock
from kombu.log import get_logger
from kombu.utils.compat import fileno
from kombu.utils.eventio import ERR, READ, WRITE, poll

from .debug import repr_active, repr_events
from .timer import Timer
from .waker import Waker

__all__ = ("Hub", "get_event_loop", "set_event_loop")

logger = get_logger(__name__)

#: Longest wait while nothing is watched, in seconds: whoever is starting up then registers what it wants to be watched
#: from ``on_tick``.
IDLE_POLL = 0.1

_current_loop: Hub | None = None

#: A context that does nothing; a name of kombu 5.7's.
_dummy_context = nullcontext


class Stop(BaseException):
    """Ends :meth:`Hub.run_forever`."""


def _raise_stop_error() -> None:
    raise Stop()


def set_event_loop(loop: Hub | None) -> Hub | None:
    """Make *loop* the current event loop of the process, and return it."""
    global _current_loop
    _current_loop = loop
    return loop


def get_event_loop() -> Hub | None:
    """Return the current event loop of the process, or None."""
    return _current_loop


class Hub:
    """An event loop.

    One thread runs it, by :meth:`run_forever` or by advancing :attr:`loop` itself, and only that thread may add and
    remove what is watched. :meth:`call_soon` may be called from any thread, and from a signal handler.

    Arguments:
        timer: The :class:`~kombu.asynchronous.timer.Timer` to use; a new one unless given.
    """

    #: The descriptor can be read from without waiting.
    READ = READ

    #: The descriptor can be written to without waiting.
    WRITE = WRITE

    #: Something is wrong with the descriptor; reading tells what.
    ERR = ERR

    #: Called, with the hub, when it is closed or reset.
    on_close: set[Callable[[Hub], Any]] | None = None

    def __init__(self, timer: Any = None) -> None:
        self.timer = Timer() if timer is None else timer

        #: Descriptor -> (callback, arguments); None instead of those that are consolidated.
        self.readers: dict[int, Any] = {}
        self.writers: dict[int, Any] = {}
        #: Called in each round of the loop, before it polls.
        self.on_tick: Any = set()
        self.on_close = set()
        #: Exceptions of timers that end the loop instead of being logged.
        self.propagate_errors: tuple[type[BaseException], ...] = ()

        #: Descriptors that are not called for one by one: in each round, ``consolidate_callback`` is called with a
        #: list of those that are ready. (A pool of processes chooses in this way which of them gets a task.)
        self.consolidate: set[int] = set()
        self.consolidate_callback: Callable[[list[int]], Any] | None = None

        # Of its own process, and reentrant: a signal handler may interrupt its thread in the middle of call_soon().
        self._ready_lock = ProcessLock()
        self._ready: set[Any] = set()
        self._waker: Waker | None = None
        # Whether the waker has been sent to and not been read from since; once is enough for any number of calls.
        self._wake_pending = False
        self._loop_thread: int | None = None
        self._running = False
        self._loop: Generator[None, None, None] | None = None
        self._create_poller()

    def __repr__(self) -> str:
        return f"<Hub@{id(self):#x}: R:{len(self.readers)} W:{len(self.writers)}>"

    # -- What is watched.

    def add(self, fd: Any, callback: Any, flags: int, args: Any = (), consolidate: bool = False) -> None:
        """Watch *fd* for the events in *flags*, and call *callback* with *args* when one happens.

        A generator as *callback* is advanced instead of being called.

        Arguments:
            fd: A descriptor, or what has a ``fileno()``.
            flags: :attr:`READ`, :attr:`WRITE` and :attr:`ERR`, or-ed.
            consolidate: Collect *fd* for :attr:`consolidate_callback` instead of calling *callback*.

        Raises:
            ValueError: *fd* cannot be watched; nothing is watched of it any more.
        """
        fd = fileno(fd)
        watched, other = (self.readers, self.writers) if flags & READ else (self.writers, self.readers)
        wanted = flags
        if fd in other and fd not in watched:
            # A poller keeps what a descriptor was registered for first, so that the second would never be called.
            self._unregister(fd)
            wanted |= (WRITE if flags & READ else READ) | ERR
        try:
            self.poller.register(fd, wanted)
        except ValueError:
            self._remove_from_loop(fd)
            raise
        if consolidate:
            self.consolidate.add(fd)
        watched[fd] = None if consolidate else (callback, args)

    def add_reader(self, fds: Any, callback: Any, *args: Any) -> None:
        """Call *callback* with *args* whenever *fds* (one descriptor) is readable or broken."""
        return self.add(fds, callback, READ | ERR, args)

    def add_writer(self, fds: Any, callback: Any, *args: Any) -> None:
        """Call *callback* with *args* whenever *fds* (one descriptor) is writable."""
        return self.add(fds, callback, WRITE, args)

    def remove(self, fd: Any) -> None:
        """Watch *fd* no more; it need not be watched, nor open."""
        self._remove_from_loop(fileno(fd))

    def remove_reader(self, fd: Any) -> None:
        """Watch *fd* no more for reading; a writer stays."""
        self._remove_one(fileno(fd), self.writers, WRITE)

    def remove_writer(self, fd: Any) -> None:
        """Watch *fd* no more for writing; a reader stays."""
        self._remove_one(fileno(fd), self.readers, READ | ERR)

    def _remove_one(self, fd: int, others: dict[int, Any], flags: int) -> None:
        stays = fd in others
        watched, consolidated = others.get(fd), fd in self.consolidate
        try:
            self._remove_from_loop(fd)
        finally:
            if stays:
                callback, args = watched or (None, ())
                self.add(fd, callback, flags, args, consolidate=watched is None and consolidated)

    def _remove_from_loop(self, fd: int) -> None:
        try:
            self._unregister(fd)
        finally:
            self._discard(fd)

    def _unregister(self, fd: int) -> None:
        try:
            self.poller.unregister(fd)
        except (AttributeError, KeyError, OSError):
            # Not registered, or closed already, which is the same to the poller.
            return

    def _discard(self, fd: Any) -> None:
        fd = fileno(fd)
        self.consolidate.discard(fd)
        self.writers.pop(fd, None)
        self.readers.pop(fd, None)

    # -- What is called later.

    def call_soon(self, callback: Any, *args: Any) -> Any:
        """Call *callback* with *args* in the next round of the loop; from any thread.

        Returns:
            The promise of it (*callback* itself if it is a promise).
        """
        if not isinstance(callback, Thenable):
            callback = promise(callback, args)
        with self._ready_lock.current():
            self._ready.add(callback)
            # The thread of the loop looks for what is ready before it polls.
            wake = not self._wake_pending and threading.get_ident() != self._loop_thread
            self._wake_pending = self._wake_pending or wake
        waker = self._waker
        if wake and waker is not None:
            waker.wake()
        return callback

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Any:
        """Call *callback* with *args* in *delay* seconds; the entry returned can be cancelled."""
        return self.timer.call_after(delay, callback, args)

    def call_at(self, when: Any, callback: Callable[..., Any], *args: Any) -> Any:
        """Call *callback* with *args* at *when*: a datetime, or seconds of the monotonic clock."""
        return self.timer.call_at(when, callback, args)

    def call_repeatedly(self, delay: float, callback: Callable[..., Any], *args: Any) -> Any:
        """Call *callback* with *args* every *delay* seconds, until the entry returned is cancelled."""
        return self.timer.call_repeatedly(delay, callback, args)

    def _pop_ready(self) -> set[Any]:
        with self._ready_lock.current():
            ready, self._ready = self._ready, set()
        return ready

    def _run_ready(self) -> None:
        if not self._ready:
            # What another thread adds just now wakes the poll.
            return
        ready = self._pop_ready()
        try:
            while ready:
                callback = ready.pop()
                if callback:
                    callback()
        finally:
            if ready:
                # One of them raised: the others are for the next round.
                with self._ready_lock.current():
                    self._ready |= ready

    @cached_property
    def scheduler(self) -> Any:
        """The iterator over what is due; see :class:`~kombu.asynchronous.timer.Timer`."""
        return iter(self.timer)

    def fire_timers(
        self,
        min_delay: float = 1,
        max_delay: float = 10,
        max_timers: int = 10,
        propagate: Any = (),
    ) -> float:
        """Call what is due, at most *max_timers*; an exception not in *propagate* is logged.

        Returns:
            Seconds until the next is due: *min_delay* if that is not known, at most *max_delay*.

        Raises:
            MemoryError, AssertionError, OSError: The last if there is no memory; whatever *propagate* has.
        """
        delay = None
        if self.timer and self.timer._queue:
            for _ in range(max_timers):
                delay, entry = next(self.scheduler)
                if entry is None:
                    break
                self._fire(entry, propagate)
        return min(delay or min_delay, max_delay)

    def _fire(self, entry: Callable[[], Any], propagate: Any) -> None:
        try:
            entry()
        except propagate:
            raise
        except (MemoryError, AssertionError):
            raise
        except Exception as exc:
            if isinstance(exc, OSError) and exc.errno == errno.ENOMEM:
                raise
            logger.error("Error in timer: %r", exc, exc_info=True)

    def on_callback_error(self, callback: Any, exc: BaseException) -> None:
        """Log what a callback has raised."""
        logger.error("Callback %r raised exception: %r", callback, exc, exc_info=True)

    # -- Running.

    @property
    def loop(self) -> Any:
        """The loop: each ``next()`` of it is one round."""
        if self._loop is None:
            self._loop = self.create_loop()
        return self._loop

    def run_forever(self) -> None:
        """Run until :meth:`stop` is called."""
        self._running = True
        try:
            while True:
                self.run_once()
        except Stop:
            return
        finally:
            self._running = False

    def run_once(self) -> None:
        """Run one round."""
        try:
            next(self.loop)
        except StopIteration:
            self._loop = None

    def stop(self) -> None:
        """End :meth:`run_forever` in the next round."""
        self.call_soon(_raise_stop_error)

    def create_loop(self, **unused: Any) -> Generator[None, None, None]:
        """Make a new loop; each ``next()`` of it is one round.

        It ends when the poller is closed, by :meth:`reset` for instance; then make another.

        Arguments:
            unused: Functions that kombu 5.7 let be replaced here.
        """
        poller = self.poller
        waker = self._waker
        if waker is None or waker.pid != os.getpid():
            waker = self._create_waker()
        self._loop_thread = threading.get_ident()
        while True:
            self._run_ready()
            timeout = self.fire_timers(propagate=self.propagate_errors) if self.timer._queue else 1
            for tick_callback in tuple(self.on_tick):
                tick_callback()
            if self._ready:
                timeout = 0
            if self.readers or self.writers:
                try:
                    events = poller.poll(timeout)
                except ValueError:  # the poller is closed
                    return
                self._dispatch(events or (), waker)
            elif self._poller is not poller:
                return
            elif waker.wait(min(timeout, IDLE_POLL)):
                self._on_wakeup(waker)
            yield

    def _dispatch(self, events: Iterable[tuple[int, int]], waker: Waker) -> None:
        """Call whoever waits for *events*."""
        waker_fd = waker.fileno()
        consolidated = []
        for fd, event in events:
            if fd == waker_fd:
                self._on_wakeup(waker)
            elif fd in self.consolidate and self.writers.get(fd) is None:
                consolidated.append(fd)
            else:
                self._serve(fd, event)
        if consolidated:
            self.consolidate_callback(consolidated)

    def _serve(self, fd: int, event: int) -> None:
        """Call the reader or the writer of *fd*, or both."""
        reader, writer = self.readers.get(fd), self.writers.get(fd)
        if event & (READ | WRITE):
            if event & READ:
                if reader is not None:
                    self._call(fd, *reader)
                else:
                    self.remove_reader(fd)
            # The reader may have removed the writer.
            if event & WRITE and (not event & READ or self.writers.get(fd) is writer):
                if writer is not None:
                    self._call(fd, *writer)
                elif not event & READ:
                    self.remove_writer(fd)
            return
        if not event & ERR:
            logger.info("Received unknown event %r for fd %r, please contact support!", event, fd)
        watched = reader or writer
        if watched is None or watched[0] is None:
            self.remove(fd)
        else:
            self._call(fd, *watched)

    def _call(self, fd: int, callback: Any, args: Any) -> None:
        if isinstance(callback, GeneratorType):
            self._advance(fd, callback)
        elif callback is None:
            self.remove(fd)
        else:
            try:
                callback(*args)
            except Empty:
                # The transports' way to say that what could be read was not a message.
                return

    def _advance(self, fd: int, callback: Generator[Any, Any, Any]) -> None:
        try:
            next(callback)
        except StopIteration:
            return
        except OSError as exc:
            if exc.errno != errno.EBADF:
                raise
            self.remove(fd)
        except Exception:
            self.remove(fd)
            raise

    # -- Poller and waker.

    @property
    def poller(self) -> Any:
        """The poller; made anew after the hub has been closed."""
        if not self._poller:
            self._create_poller()
        return self._poller

    @poller.setter
    def poller(self, value: Any) -> None:
        self._poller = value

    def _create_poller(self) -> None:
        self._poller = poll()
        if self._waker is not None:
            self._poller.register(self._waker.fileno(), READ)

    def _close_poller(self) -> None:
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.close()

    def _create_waker(self) -> Waker:
        """Make a waker for this process: by the loop, so that a hub that never runs has no sockets."""
        inherited = self._waker
        if inherited is not None:
            self._unregister(inherited.fileno())
            inherited.close()
        waker = self._waker = Waker()
        with self._ready_lock.current():
            self._wake_pending = False
        self.poller.register(waker.fileno(), READ)
        return waker

    def _on_wakeup(self, waker: Waker) -> None:
        # In this order: were the flag cleared first, a byte sent then could be drained here, and the flag, set again,
        # would say for ever that one is on its way.
        waker.drain()
        with self._ready_lock.current():
            self._wake_pending = False

    # -- Closing.

    def close(self, *args: Any) -> None:
        """Watch nothing any more, call :attr:`on_close` and what is still to be called soon, and close the poller.

        Raises:
            Exception: The first that one of those raised, after all have been called.
        """
        try:
            self._close()
        finally:
            waker, self._waker = self._waker, None
            if waker is not None:
                waker.close()

    def reset(self) -> None:
        """Do the same as :meth:`close`, and be ready to watch again."""
        # The waker stays: another thread may be writing to it.
        try:
            self._close()
        finally:
            self._create_poller()

    def _close(self) -> None:
        for fd in {**self.readers, **self.writers}:
            self._unregister(fd)
        for watched in (self.readers, self.writers, self.consolidate):
            watched.clear()
        self._close_poller()

        errors: list[BaseException] = []
        for callback in tuple(self.on_close):
            self._finish(errors, callback, self)
        # Acknowledgements, for instance. What these add in turn is not called: that might never end.
        for callback in self._pop_ready():
            if callback:
                self._finish(errors, callback)

        if _current_loop is self:
            set_event_loop(None)
        if errors:
            raise errors[0]

    def _finish(self, errors: list[BaseException], callback: Callable[..., Any], *args: Any) -> None:
        try:
            callback(*args)
        except BaseException as exc:
            if errors:
                # Only the first can be raised.
                self.on_callback_error(callback, exc)
            errors.append(exc)

    # -- Debugging.

    def repr_active(self) -> str:
        """Return a description of what is watched."""
        return repr_active(self)

    def repr_events(self, events: Any) -> str:
        """Return a description of *events* as the poller returned them."""
        return repr_events(self, events or [])
