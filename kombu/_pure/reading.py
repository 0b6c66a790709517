"""Read a connection's socket: bytes in, events out.

Knows when a peer has been silent for too long, how large the receive buffer has to be, and what ended the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from kombu._lazy import amqp_errors

from .buffer import SMALLEST_BUFFER
from .inbound import MAX_BODY_SIZE, Inbound

__all__ = ("NOTHING", "Reader")

#: The most that the receive buffer of a busy connection gets, in bytes.
LARGEST_BUFFER = 256 * 1024

#: Seconds of silence after which a grown receive buffer is given back.
BUFFER_IDLE = 1.0

#: Seconds by which a call may outstay its deadline while bytes keep coming: what is there already is worth reading.
GRACE = 0.02

#: In place of a deadline: only what can be had without waiting.
NOT_WAITING = float("-inf")

#: In place of an event: none can be had without waiting.
NOTHING = ()


class Reader(Inbound):
    """Read one connection: see that its bytes come, and that its peer is alive.

    Arguments:
        link: the socket, as an object with ``recv_into(view)``, which returns 0 at the end of the stream and raises
            :exc:`BlockingIOError` when nothing waits, ``wait_readable(timeout)``, ``time_limit`` (seconds that a wait
            without any other limit may take, or None) and ``plain_fd``.
        channels: the connection's channels by number, shared with it.
        output: where acknowledgements may wait; has ``unpushed``, the time of the first of them or 0, and ``push()``.
        frame_max: largest frame accepted, in bytes with its eight of framing; 0 for any.
        max_body_size: largest body accepted, in bytes.
    """

    def __init__(
        self,
        link: Any,
        channels: dict[int, Any],
        output: Any = None,
        frame_max: int = 131072,
        max_body_size: int = MAX_BODY_SIZE,
    ) -> None:
        super().__init__(channels, frame_max, max_body_size)
        self.link = link
        self.output = output
        #: Called with the exception when the connection can no longer be read.
        self.on_failure: Callable[[BaseException], Any] | None = None
        #: Called to send a heartbeat frame.
        self.send_heartbeat: Callable[[], Any] | None = None
        #: Frames sent so far, as a function; tells whether a heartbeat is due.
        self.frames_sent: Callable[[], int] | None = None
        #: Seconds without a byte after which a read raises :exc:`socket.timeout`; None for no bound.
        self.read_timeout: float | None = None
        #: What ended the connection, if something did.
        self.failure: BaseException | None = None

        self._heartbeat = 0.0
        self._next_tick = 0.0
        self._last_received = 0.0
        self._reads = 0
        self._seen_reads = self._seen_sent = -1
        # When the receive buffer last had to be larger than the smallest.
        self._filled_at = 0.0

    # -- heartbeats

    @property
    def heartbeat(self) -> float:
        """Negotiated heartbeat interval in seconds; 0 for none."""
        return self._heartbeat

    @heartbeat.setter
    def heartbeat(self, interval: float) -> None:
        self._heartbeat = interval or 0.0
        self._last_received = monotonic()
        self._next_tick = self._last_received + self._heartbeat / 5

    def tick(self) -> None:
        """Send a heartbeat if nothing else was sent lately; raise if the peer has been silent for two intervals.

        Looks five times an interval, so that no gap between outgoing frames exceeds half of one.

        Raises:
            amqp.exceptions.ConnectionForced: nothing arrived for two intervals.
        """
        now = monotonic()
        interval = self._heartbeat
        if not interval or now < self._next_tick or self.failure is not None:
            return
        self._next_tick = now + interval / 5
        if self._reads != self._seen_reads:
            self._seen_reads = self._reads
            self._last_received = now
        elif now - self._last_received > 2 * interval:
            # Bytes may wait in the kernel while callbacks take their time over what is buffered.
            if self.link.wait_readable(0):
                self._last_received = now
            else:
                error = amqp_errors.ConnectionForced(
                    f"Too many heartbeats missed: nothing received for {now - self._last_received:.1f} seconds, "
                    f"the interval is {interval:g}"
                )
                self.fail(error)
                raise error
        sent = self.frames_sent() if self.frames_sent is not None else 0
        if sent == self._seen_sent and self.send_heartbeat is not None:
            self.send_heartbeat()
            sent = self.frames_sent() if self.frames_sent is not None else 0
        self._seen_sent = sent

    # -- the socket

    def fail(self, error: BaseException) -> None:
        """Note that the connection cannot be read any more because of *error*, and wake whoever waits for it."""
        if self.failure is None:
            self.failure = error
            if self.on_failure is not None:
                self.on_failure(error)
        self._wake()

    def _wake(self) -> None:
        """Wake the threads that wait for what is read; without turns there are none."""

    def raise_failure(self) -> None:
        """Raise a recoverable error that says what ended the connection.

        Raises:
            amqp.exceptions.RecoverableConnectionError: always.
        """
        raise amqp_errors.RecoverableConnectionError(f"connection already closed: {self.failure}") from self.failure

    def _end_of(self, error: BaseException) -> None:
        """Note *error* as the end, unless the socket was closed here and that is all it says."""
        if self.failure is not None:
            self.raise_failure()
        self.fail(error)

    def _read_event(self, deadline: float | None) -> tuple:
        """Return the next event, reading as often as it takes; :data:`NOTHING` if that would mean to wait."""
        while True:
            if self.failure is not None:
                self.raise_failure()
            try:
                event = self.next_event()
            except (amqp_errors.AMQPError, MemoryError) as error:
                self.fail(error)
                raise
            except BaseException as error:
                # A signal's handler raised: a frame may have been cut by half.
                self.fail(amqp_errors.RecoverableConnectionError(f"a read was interrupted by {error!r}"))
                raise
            if event is not None:
                return event
            if not self._fill(deadline):
                return NOTHING

    def _fill(self, deadline: float | None) -> bool:
        """Read once, waiting for bytes until *deadline*; return False where that is :data:`NOT_WAITING` and none wait.

        Raises:
            socket.timeout: nothing arrived in time.
            OSError: the connection is lost.
        """
        output = self.output
        if output is not None and output.unpushed:
            output.push()
        now = monotonic()
        if deadline is not None and now > deadline + GRACE and deadline != NOT_WAITING:
            raise TimeoutError("timed out")
        if self._heartbeat and now >= self._next_tick:
            self.tick()
        if len(self._buffer) - self._end < SMALLEST_BUFFER // 4:
            self._make_room(SMALLEST_BUFFER // 2)
        silent_since = None
        while True:
            try:
                count = self.link.recv_into(self._view[self._end:])
                self._end += count
                break
            except BlockingIOError:
                pass
            except OSError as error:
                self._end_of(error)
                raise
            except BaseException as error:
                # A signal's handler raised: bytes may have been read, and nobody knows how many.
                self.fail(amqp_errors.RecoverableConnectionError(f"a read was interrupted by {error!r}"))
                raise
            if deadline == NOT_WAITING:
                return False
            if silent_since is None:
                silent_since = monotonic()
            self._await_bytes(deadline, silent_since)
        if not count:
            lost = OSError("Server unexpectedly closed connection")
            self._end_of(lost)
            raise lost
        self._reads += 1
        if self._end >= SMALLEST_BUFFER:
            self._filled_at = monotonic()
            if self._end == len(self._buffer) < LARGEST_BUFFER:
                # More waits than fits: read more at once from now on.
                self._make_room(len(self._buffer))
        return True

    def _await_bytes(self, deadline: float | None, silent_since: float) -> None:
        """Wait until the socket is readable, or until it is time for something else."""
        now = monotonic()
        if deadline is not None and now >= deadline:
            raise TimeoutError("timed out")
        until = deadline
        patience, whose = self.read_timeout, "read_timeout="
        if patience is None and deadline is None:
            patience, whose = self.link.time_limit, "the socket's timeout of "
        if patience is not None:
            limit = silent_since + patience
            if now >= limit:
                raise TimeoutError(f"timed out: nothing received for {whose}{patience:g} seconds")
            until = limit if until is None else min(until, limit)
        if self._heartbeat:
            self.tick()
            until = self._next_tick if until is None else min(until, self._next_tick)
        if self._start == self._end and len(self._buffer) > SMALLEST_BUFFER:
            spare_from = self._filled_at + BUFFER_IDLE
            if now >= spare_from:
                self._shrink()
            else:
                until = spare_from if until is None else min(until, spare_from)
        try:
            self.link.wait_readable(None if until is None else max(0.0, until - now))
        except OSError as error:
            self._end_of(error)
            raise
        if self.failure is not None:
            self.raise_failure()
