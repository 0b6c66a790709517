"""Write path: whole messages under one lock a connection, one system call each where they fit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from kombu._lazy import amqp_errors
from kombu._locks import Attempt, Busy, new_lock

from .deliveries import Deliveries
from .frames import FRAME_HEARTBEAT, HEARTBEAT, encode_ack, encode_method

__all__ = ("Writer", "ACK_WRITES", "WINDOW_WRITES")

#: The values of ``transport_options["ack_writes"]``.
ACK_WRITES = ("corked", "immediate", "coalesced")

#: The values of ``transport_options["window_writes"]``.
WINDOW_WRITES = ("corked", "immediate")

#: Seconds for which an acknowledgement, or a publish in a window, may wait for company.
PUSH_AFTER = 0.001

#: Bytes of coalesced acknowledgements that are written without waiting any longer.
COALESCED_MAX = 16 * 1024


class Writer:
    """Write frames to one connection; any number of threads may.

    Arguments:
        link: the socket, as an object with ``write_all(buffers, deadline, more)``, whose :exc:`TimeoutError` tells by
            ``sent`` how many bytes got through, ``push()``, ``can_gather`` and ``plain_fd``.
        ack_writes: ``"corked"``: an acknowledgement sent while further deliveries wait in the receive buffer is
            handed to the kernel with ``MSG_MORE``; ``"immediate"``: one write an acknowledgement; ``"coalesced"``:
            they wait in a buffer of ours.  The first is the second where the kernel cannot do it.
        write_timeout: seconds that a write may wait for the socket; None for no bound.
        window_writes: ``"corked"``: a publish in a window of confirms that follows within :data:`PUSH_AFTER` of another
            is handed to the kernel with ``MSG_MORE``; ``"immediate"``: one packet a publish.  The first is the second
            where the kernel cannot do it.

    Attributes:
        unpushed: the monotonic time of the first acknowledgement or publish held back, or 0.
        frames_sent: writes so far.

    Raises:
        ValueError: *ack_writes* or *window_writes* is none of these.
    """

    def __init__(
        self, link: Any, ack_writes: str = "corked", write_timeout: float | None = None, window_writes: str = "corked"
    ) -> None:
        if ack_writes not in ACK_WRITES:
            raise ValueError(f"ack_writes has to be one of {', '.join(ACK_WRITES)}; it is {ack_writes!r}")
        if window_writes not in WINDOW_WRITES:
            raise ValueError(f"window_writes has to be one of {', '.join(WINDOW_WRITES)}; it is {window_writes!r}")
        self.link = link
        self.coalesces = ack_writes == "coalesced"
        self.gathers = self.coalesces or (ack_writes == "corked" and link.can_gather)
        self.corks = window_writes == "corked" and link.can_gather
        self.write_timeout = write_timeout
        self.unpushed = 0.0
        # When the latest publish in a window was written.
        self._published = 0.0
        self.frames_sent = 0
        self.failure: BaseException | None = None
        #: Called with the exception when the connection can no longer be written.
        self.on_failure: Callable[[BaseException], Any] | None = None
        self._acks = bytearray()
        self.lock = new_lock()

    def count(self) -> int:
        """Return the number of writes so far."""
        return self.frames_sent

    def write(
        self, buffers: list[Any], timeout: float | None = None, channel: Any = None, closings: int = 0,
        windowed: bool = False,
    ) -> None:
        """Write *buffers*, whole frames, after whatever is held back.

        Arguments:
            timeout: seconds; by default :attr:`write_timeout`.
            windowed: whether it is one publish in a window of confirms, which may be held back by the kernel.
            channel, closings: the channel that the frames are for, and its ``closings`` when they were made.  A frame
                for a channel that was closed meanwhile would have the broker close the connection.

        Raises:
            amqp.exceptions.ChannelError: the broker has closed the channel meanwhile.
            socket.timeout: nothing could be written within *timeout* seconds; the connection goes on.
            amqp.exceptions.RecoverableConnectionError: the connection is closed, or broke in the middle of a frame.
            OSError: the connection is lost.
        """
        if timeout is None:
            timeout = self.write_timeout
        if timeout is None:
            with self.lock:
                self._write_for(channel, closings, buffers, None, windowed)
            return
        # Whoever is writing may have all the time in the world.
        deadline = monotonic() + timeout
        try:
            with Attempt(self.lock, timeout=min(max(0.0, timeout), threading.TIMEOUT_MAX)):
                self._write_for(channel, closings, buffers, max(0.0, deadline - monotonic()), windowed)
        except Busy:
            raise TimeoutError("timed out: another thread is writing") from None

    def write_ack(self, deliveries: Deliveries, delivery_tag: int, multiple: bool, more: bool) -> bool:
        """Write a ``basic.ack``; with *more*, further deliveries wait in the receive buffer.

        Returns:
            whether it was written; it is not where the broker has closed the channel.

        Raises:
            amqp.exceptions.RecoverableConnectionError: the connection is closed, or broke in the middle of a frame.
            OSError: the connection is lost.
        """
        with self.lock:
            if deliveries.close_error is not None:
                return False
            frame = encode_ack(deliveries.channel_id, delivery_tag, multiple)
            if not (more and self.gathers):
                self._write([frame], None, False)
                return True
            now = monotonic()
            if self.unpushed and now - self.unpushed > PUSH_AFTER:
                self._write([frame], None, False)
                return True
            if self.coalesces:
                if self.failure is not None:
                    self._refuse()
                self._acks += frame
                if len(self._acks) > COALESCED_MAX:
                    self._write([], None, False)
                    return True
            else:
                self._write([frame], None, True)
            if not self.unpushed:
                self.unpushed = now
            return True

    def push(self) -> None:
        """Send the acknowledgements and publishes that are held back.

        Raises:
            OSError: the connection is lost.
        """
        # Whoever holds the lock is writing, and may have to wait for the peer to read.  What the kernel holds can be
        # pushed all the same; what we hold cannot.
        try:
            with Attempt(self.lock, blocking=self.coalesces):
                if not self.unpushed or self.failure is not None:
                    self.unpushed = 0.0
                elif self._acks:
                    self._write([], None, False)
                else:
                    self.unpushed = 0.0
                    self._push_kernel()
        except Busy:
            self._push_kernel()

    def _push_kernel(self) -> None:
        if self.failure is not None:
            return
        try:
            self.link.push()
        except OSError as error:
            self._fail(error)
            raise

    def write_heartbeat(self) -> None:
        """Write a heartbeat frame, unless something else is on its way; never waits.

        Raises:
            OSError: the connection is lost.
        """
        try:
            with Attempt(self.lock, blocking=False):
                self._write([HEARTBEAT], 0, False)
        except Busy:
            return
        except TimeoutError:
            # The kernel's buffer is full of frames that the peer has yet to take: they show that we are alive.
            return

    def _refuse(self) -> None:
        raise amqp_errors.RecoverableConnectionError(f"connection already closed: {self.failure}") from self.failure

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        if self.on_failure is not None:
            self.on_failure(error)

    def _write_for(
        self, channel: Any, closings: int, buffers: list[Any], timeout: float | None, windowed: bool
    ) -> None:
        if channel is not None and channel.closings != closings:
            channel.raise_closed()
        if not (windowed and self.corks):
            self._write(buffers, timeout, False)
            return
        now = monotonic()
        more = now - self._published <= PUSH_AFTER and not (self.unpushed and now - self.unpushed > PUSH_AFTER)
        self._published = now
        self._write(buffers, timeout, more)
        if more and not self.unpushed:
            self.unpushed = now

    def _write(self, buffers: list[Any], timeout: float | None, more: bool) -> None:
        if self.failure is not None:
            self._refuse()
        held_back = len(self._acks)
        if held_back:
            buffers = [bytes(self._acks), *buffers]
            self._acks.clear()
        if timeout is None:
            timeout = self.write_timeout
        deadline = None if timeout is None else monotonic() + timeout
        try:
            if buffers:
                self.link.write_all(buffers, deadline, more)
        except TimeoutError as error:
            sent = error.sent  # type: ignore[attr-defined]
            if sent == 0:
                if held_back:
                    self._acks[:0] = buffers[0]
                raise
            patience = error.patience if timeout is None else timeout  # type: ignore[attr-defined]
            broken = amqp_errors.RecoverableConnectionError(
                f"the peer took {sent} bytes and no more within {patience:.3g} seconds; "
                "a frame is cut short, so the connection cannot go on"
            )
            self._fail(broken)
            raise broken from error
        except OSError as error:
            self._fail(error)
            raise
        except BaseException:
            # An interrupt (a signal, a greenlet killed) may have come in the middle of a frame.
            self._fail(amqp_errors.RecoverableConnectionError("a write was interrupted; a frame may be cut short"))
            raise
        if not more:
            self.unpushed = 0.0
        self.frames_sent += 1

    def reset_lock(self) -> None:
        """Make the lock whole again in a forked child, where another thread may have held it."""
        self.lock = new_lock()

    def __call__(
        self, frame_type: int, channel_id: int, method: tuple[int, int] | None, arguments: Any, content: Any
    ) -> None:
        """Write a method, or a heartbeat, for the ``amqp`` package: its ``frame_writer`` contract."""
        if frame_type == FRAME_HEARTBEAT:
            self.write_heartbeat()
            return
        assert method is not None and not content, "contents are written by Channel.basic_publish"
        if isinstance(arguments, str):
            arguments = arguments.encode("utf-8", "surrogatepass")
        self.write([encode_method(channel_id, method[0], method[1], arguments)])
