"""Receive loop: bytes in, deliveries out.

One :class:`Receiver` stands behind each connection.  It owns the receive buffer, cuts frames in place, puts
contents together, makes a :class:`~kombu.message.Message` of each and hands it to its consumer.  Methods without
content go to the connection.  It also decides which thread reads the socket and which one runs callbacks.  How the
socket is read is said in :mod:`kombu._pure.reading`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from kombu._locks import new_lock

from .inbound import DELIVER, MAX_BODY_SIZE, RETURN, SETTLED
from .reading import GRACE, NOT_WAITING, NOTHING, Reader

__all__ = ("Receiver", "MAX_BODY_SIZE")

#: Seconds for which an acknowledgement may wait for company.
PUSH_AFTER = 0.001

CANCEL = (60, 30)
CHANNEL_CLOSE = (20, 40)
BLOCKED = (10, 60)
UNBLOCKED = (10, 61)


class Receiver(Reader):
    """Read one connection: cut frames, put contents together, dispatch what arrives.

    Arguments:
        link, channels, output, frame_max, max_body_size: as for :class:`~kombu._pure.reading.Reader`.
        on_method: ``on_method(channel_id, method_sig, payload, content)`` for everything but deliveries to a consumer.

    Threads: one thread at a time reads, one at a time runs callbacks.  A thread that waits for a reply while another
    runs callbacks never runs any of them: what it reads for the other is parked.  Replies are dispatched by whoever
    reads them, before anybody else may read: the thread that one is for would else wait for bytes that have come.
    """

    def __init__(
        self,
        link: Any,
        channels: dict[int, Any],
        on_method: Callable[[int, tuple[int, int], Any, Any], Any],
        output: Any = None,
        frame_max: int = 131072,
        max_body_size: int = MAX_BODY_SIZE,
    ) -> None:
        super().__init__(link, channels, output, frame_max, max_body_size)
        self.on_method = on_method
        #: Called where draining begins; may raise.
        self.on_drain: Callable[[], Any] | None = None
        # What is called, once each, when a call of drain_events ends and nothing is left to be dispatched.
        self._at_rest: deque[Callable[[], Any]] = deque()

        self.reset_locks()

    def reset_locks(self) -> None:
        """Forget who reads and who dispatches; for a new receiver and for a forked child."""
        # Entered as it is, not through the condition: a signal's handler that raises would leave that one locked.
        self._lock = new_lock()
        self._turn = threading.Condition(self._lock)
        # The thread that runs callbacks, and how many of its calls are under way, one within the other.
        self._owner: int | None = None
        self._depth = 0
        # The thread that reads.
        self._reader: int | None = None
        self._waiting = 0
        self._parked: deque[tuple] = deque()

    @property
    def buffered(self) -> bool:
        """Whether a whole frame, or an event read for another thread, waits to be dispatched."""
        return bool(self._parked) or self.more_waits

    def _wake(self) -> None:
        with self._lock:
            self._turn.notify_all()

    # -- who reads, who dispatches

    def drain_events(self, timeout: float | None = None, max_events: int = 1) -> int:
        """Dispatch up to *max_events* events and return how many; wait for the first at most *timeout* seconds.

        What is buffered is served before the socket is read.  Heartbeats, half frames and traffic for other threads
        do not extend the time.  Further events are those that can be had without waiting; none is begun once the time
        is up, of which there are always 0.02 seconds for them, so that 0 serves what is there.

        An exception of a callback ends the call; what has not been dispatched is there for the next one.

        Raises:
            socket.timeout: nothing arrived in time.
            amqp.exceptions.RecoverableConnectionError: the connection has been lost or closed; also every time after.
            OSError: the connection is lost.
        """
        started = begun = monotonic()
        deadline = None if timeout is None else started + timeout
        if self.on_drain is not None:
            self.on_drain()
        if self._heartbeat and started >= self._next_tick:
            self.tick()
        me = threading.get_ident()
        self._push_before_sleep(me)
        # An exception may come out of a signal's handler at any point, so what has to be undone is looked up.
        depth = self._depth if self._owner == me else 0
        count = 0
        try:
            self._enter(deadline, me, True)
            while True:
                event = self._take(NOT_WAITING if count or self._at_rest else deadline, None, me)
                if event is NOTHING:
                    if count:
                        break
                    self._rest()
                    continue
                if event is not None:
                    self._dispatch(event)
                count += 1
                if count >= max_events:
                    break
                now = monotonic()
                self._push_stale(now, begun)
                if self.failure is not None or (timeout is not None and now >= started + max(timeout, GRACE)):
                    break
                if self._heartbeat and now >= self._next_tick:
                    self.tick()
                begun = now
            if self._at_rest and not self.buffered:
                self._rest()
        finally:
            self._leave(begun, me, depth)
        return count

    def call_at_rest(self, function: Callable[[], Any]) -> None:
        """Have *function* called, once, when :meth:`drain_events` has nothing left to dispatch or is about to wait.

        For what gathers deliveries and has to hand them on before anybody waits for more.
        """
        self._at_rest.append(function)

    def _rest(self) -> None:
        while self._at_rest:
            self._at_rest.popleft()()

    def wait_for(self, ready: Callable[[], bool], timeout: float | None = None) -> None:
        """Wait until *ready()* holds, at most *timeout* seconds, while events are read and dispatched.

        Another thread may be draining meanwhile.  Then the reply comes through that thread, or, while it is busy in a
        callback, this one reads and parks what belongs to the other.

        Raises:
            socket.timeout: it did not hold in time.
            amqp.exceptions.RecoverableConnectionError: the connection has been lost.
        """
        deadline = None if timeout is None else monotonic() + timeout
        me = threading.get_ident()
        while not ready():
            self._push_before_sleep(me)
            if self._owner is None or self._owner == me:
                self._serve(deadline, ready)
            else:
                self._assist(deadline, ready, me)

    def _push_before_sleep(self, me: int) -> None:
        """Push what is held back where another thread reads already: it will not before it reads again."""
        output = self.output
        if output is not None and output.unpushed and (self._reader or self._owner or me) != me:
            output.push()

    def serve_waiting(self) -> None:
        """Dispatch everything that can be had without waiting, unless another thread is at it.

        Raises:
            OSError: the connection is lost.
        """
        me = threading.get_ident()
        with self._lock:
            if self._owner is not None and self._owner != me:
                return
        while True:
            try:
                self.drain_events(0)
            except TimeoutError:
                return

    def _serve(self, deadline: float | None, ready: Callable[[], bool]) -> None:
        """Dispatch one event as the thread that runs callbacks; none if *ready()* holds before there is one."""
        me = threading.get_ident()
        # An exception may come out of a signal's handler at any point, so what has to be undone is looked up.
        depth = self._depth if self._owner == me else 0
        try:
            if not self._enter(deadline, me, False):
                return
            event = self._take(deadline, ready, me)
            if event is not None:
                self._dispatch(event)
        finally:
            self._leave(monotonic(), me, depth)

    def _enter(self, deadline: float | None, me: int, patient: bool) -> bool:
        """Become the thread that runs callbacks; return False when another is, unless *patient* enough to wait."""
        with self._lock:
            while self._owner is not None and self._owner != me:
                if not patient:
                    return False
                if self.failure is not None:
                    self.raise_failure()
                self._sleep(deadline)
            self._owner = me
            self._depth += 1
            return True

    def _leave(self, begun: float, me: int, depth: int) -> None:
        with self._lock:
            if self._owner == me:
                self._depth = depth
                if not depth:
                    self._owner = None
            if self._waiting:
                self._turn.notify_all()
        output = self.output
        if output is not None and output.unpushed:
            self._push_stale(monotonic(), begun)

    def _push_stale(self, now: float, begun: float) -> None:
        """Push what has waited long enough, or may have: that event was *begun* a while ago."""
        output = self.output
        if output is not None and output.unpushed and now - min(output.unpushed, begun) > PUSH_AFTER:
            output.push()

    def _take(self, deadline: float | None, ready: Callable[[], bool] | None, me: int) -> tuple | None:
        """Return the next event that runs callbacks; None when a reply was dispatched, or once *ready()* holds.

        With :data:`NOT_WAITING` for a *deadline* it returns :data:`NOTHING` rather than wait.
        """
        nested = self._reader == me
        try:
            with self._lock:
                while True:
                    if ready is not None and ready():
                        return None
                    if self._parked:
                        return self._parked.popleft()
                    if self._reader is None or nested:
                        break
                    if self.failure is not None:
                        self.raise_failure()
                    if deadline == NOT_WAITING:
                        return NOTHING
                    self._sleep(deadline)
                self._reader = me
            event = self._read_event(deadline)
            if event is SETTLED and ready is not None:
                # Where there is one answer there are more, and who waits for some may as well have them all.
                event = self._read_answers()
            if event is NOTHING or self._runs_callbacks(event):
                return event
            self._dispatch(event)
            return None
        finally:
            if not nested:
                self._stop_reading(me)

    def _read_answers(self) -> tuple:
        """Return the next buffered event that is none of :data:`SETTLED`, or the last of these."""
        event = SETTLED
        while event is SETTLED and self.more_waits:
            event = self._read_event(NOT_WAITING)
        return SETTLED if event is NOTHING else event

    def _assist(self, deadline: float | None, ready: Callable[[], bool], me: int) -> None:
        """Read an event while another thread runs callbacks, or wait while somebody else reads."""
        nested = self._reader == me
        try:
            with self._lock:
                if self._owner is None or self._owner == me or ready():
                    return
                if self._reader is not None and not nested:
                    if self.failure is not None:
                        self.raise_failure()
                    self._sleep(deadline)
                    return
                self._reader = me
            event = self._read_event(deadline)
            if self._runs_callbacks(event):
                self._parked.append(event)
            else:
                self._dispatch(event)
        finally:
            if not nested:
                self._stop_reading(me)

    def _stop_reading(self, me: int) -> None:
        with self._lock:
            if self._reader == me:
                self._reader = None
                if self._waiting:
                    self._turn.notify_all()

    def _sleep(self, deadline: float | None) -> None:
        """Wait for a change of turns; the caller holds the lock and looks again afterwards."""
        remaining = None if deadline is None else deadline - monotonic()
        if remaining is not None and remaining <= 0:
            raise TimeoutError("timed out")
        self._waiting += 1
        try:
            self._turn.wait(None if remaining is None else min(remaining, threading.TIMEOUT_MAX))
        finally:
            self._waiting -= 1

    def _runs_callbacks(self, event: tuple) -> bool:
        """Return whether *event* is for the thread that runs callbacks; otherwise it is a reply, or as good as one."""
        channel_id, method, _, _ = event
        if method == DELIVER or method == CANCEL:
            return True
        if channel_id == 0:
            return method == BLOCKED or method == UNBLOCKED
        if method == RETURN or method == CHANNEL_CLOSE:
            # Both answer whoever waits on the channel.
            return not getattr(self.channels.get(channel_id), "waiting_threads", None)
        return False

    def _dispatch(self, event: tuple) -> None:
        channel_id, method, payload, content = event
        if event is SETTLED:
            return
        if method == DELIVER:
            # The message knows its channel, which outlives its number.
            channel = content.channel
            callback = channel.deliveries.callbacks.get(payload)
            if callback is not None:
                callback(content)
            else:
                channel.on_unclaimed_delivery(payload, content)
        else:
            self.on_method(channel_id, method, payload, content)
