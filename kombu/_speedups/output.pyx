"""Write path: whole messages under one lock a connection, one system call each where they fit.

Twin of :mod:`kombu._pure.output`, which says more.  An acknowledgement is encoded on the stack and handed to the
kernel at once; everything else goes through the link.
"""

from libc.stdint cimport uint64_t

from kombu._speedups.frames cimport SETTLEMENT_SIZE, fill_settlement

import threading
from time import monotonic

from amqp.exceptions import RecoverableConnectionError

from kombu._speedups.frames import FRAME_HEARTBEAT, HEARTBEAT, encode_ack, encode_method

__all__ = ("Writer", "ACK_WRITES")

ABI = 1

#: The values of ``transport_options["ack_writes"]``.
ACK_WRITES = ("corked", "immediate", "coalesced")

cdef extern from "posix_socket.h":
    Py_ssize_t kombu_send(int fd, const void *buffer, Py_ssize_t size, int more) noexcept

cdef enum:
    COALESCED_MAX = 16384
    BASIC_ACK = 80

cdef double PUSH_AFTER = 0.001


cdef class Writer:
    """Write frames to one connection; any number of threads may.  See :class:`kombu._pure.output.Writer`."""

    cdef readonly object link
    cdef readonly bint coalesces
    cdef readonly bint gathers
    cdef public object write_timeout
    cdef public double unpushed
    cdef public Py_ssize_t frames_sent
    cdef public object failure
    cdef public object on_failure
    cdef public object lock
    cdef bytearray acks
    cdef int fd
    cdef object __weakref__

    def __init__(self, link, str ack_writes="corked", write_timeout=None):
        if ack_writes not in ACK_WRITES:
            raise ValueError(f"ack_writes has to be one of {', '.join(ACK_WRITES)}; it is {ack_writes!r}")
        self.link = link
        self.fd = link.plain_fd
        self.coalesces = ack_writes == "coalesced"
        self.gathers = self.coalesces or (ack_writes == "corked" and link.can_gather)
        self.write_timeout = write_timeout
        self.acks = bytearray()
        self.lock = threading.Lock()

    def count(self):
        """Return the number of writes so far."""
        return self.frames_sent

    def write(self, list buffers, timeout=None, channel=None, int closings=0):
        """Write *buffers*, whole frames, after whatever acknowledgements are held back.

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
                self.write_for(channel, closings, buffers, None)
            return
        # Whoever is writing may have all the time in the world.
        deadline = monotonic() + timeout
        if not self.lock.acquire(True, min(max(0.0, timeout), threading.TIMEOUT_MAX)):
            raise TimeoutError("timed out: another thread is writing")
        try:
            self.write_for(channel, closings, buffers, max(0.0, deadline - monotonic()))
        finally:
            self.lock.release()

    def write_ack(self, channel, uint64_t delivery_tag, bint multiple, bint more):
        """Write a ``basic.ack``; with *more*, further deliveries wait in the receive buffer.

        Raises:
            amqp.exceptions.ChannelError: the broker has closed *channel*.
            amqp.exceptions.RecoverableConnectionError: the connection is closed, or broke in the middle of a frame.
            OSError: the connection is lost.
        """
        cdef unsigned char frame[SETTLEMENT_SIZE]
        cdef double now
        with self.lock:
            if channel.close_error is not None:
                channel.raise_closed()
            if not (more and self.gathers):
                self.write_ack_frame(channel.channel_id, delivery_tag, multiple, False)
                return
            now = monotonic()
            if self.unpushed and now - self.unpushed > PUSH_AFTER:
                self.write_ack_frame(channel.channel_id, delivery_tag, multiple, False)
                return
            if self.coalesces:
                if self.failure is not None:
                    self.refuse()
                fill_settlement(frame, channel.channel_id, BASIC_ACK, delivery_tag, multiple)
                self.acks += <bytes>frame[:SETTLEMENT_SIZE]
                if len(self.acks) > COALESCED_MAX:
                    self.write_locked([], None, False)
                    return
            else:
                self.write_ack_frame(channel.channel_id, delivery_tag, multiple, True)
            if not self.unpushed:
                self.unpushed = now

    cdef int write_ack_frame(self, object channel_id, uint64_t delivery_tag, bint multiple, bint more) except -1:
        """Hand the frame to the kernel; where that takes no more than one call, without a detour."""
        cdef unsigned char frame[SETTLEMENT_SIZE]
        if self.fd >= 0 and not self.acks and self.failure is None and not self.link.closed:
            fill_settlement(frame, channel_id, BASIC_ACK, delivery_tag, multiple)
            # Anything but the whole frame, errors included, is left to the link, which sends it from the start.
            if kombu_send(self.fd, frame, SETTLEMENT_SIZE, more) == SETTLEMENT_SIZE:
                if not more:
                    self.unpushed = 0.0
                self.frames_sent += 1
                return 0
        return self.write_locked([encode_ack(channel_id, delivery_tag, multiple)], None, more)

    def push(self):
        """Send the acknowledgements that are held back.

        Raises:
            OSError: the connection is lost.
        """
        # Whoever holds the lock is writing, and what it writes pushes what the kernel holds; but not what we hold.
        if not self.lock.acquire(self.coalesces):
            return
        try:
            if not self.unpushed or self.failure is not None:
                self.unpushed = 0.0
            elif self.coalesces:
                self.write_locked([], None, False)
            else:
                self.unpushed = 0.0
                try:
                    self.link.push()
                except OSError as error:
                    self.fail(error)
                    raise
        finally:
            self.lock.release()

    def write_heartbeat(self):
        """Write a heartbeat frame, unless something else is on its way; never waits.

        Raises:
            OSError: the connection is lost.
        """
        if not self.lock.acquire(False):
            return
        try:
            self.write_locked([HEARTBEAT], 0, False)
        except TimeoutError:
            # The kernel's buffer is full of frames that the peer has yet to take: they show that we are alive.
            return
        finally:
            self.lock.release()

    cdef int refuse(self) except -1:
        raise RecoverableConnectionError(f"connection already closed: {self.failure}") from self.failure

    cdef int fail(self, object error) except -1:
        self.failure = error
        if self.on_failure is not None:
            self.on_failure(error)
        return 0

    cdef int write_for(self, object channel, int closings, list buffers, object timeout) except -1:
        if channel is not None and channel.closings != closings:
            channel.raise_closed()
        return self.write_locked(buffers, timeout, False)

    cdef int write_locked(self, list buffers, object timeout, bint more) except -1:
        cdef Py_ssize_t held_back = len(self.acks)
        if self.failure is not None:
            self.refuse()
        if held_back:
            buffers = [bytes(self.acks), *buffers]
            self.acks.clear()
        if timeout is None:
            timeout = self.write_timeout
        deadline = None if timeout is None else monotonic() + timeout
        try:
            if buffers:
                self.link.write_all(buffers, deadline, more)
        except TimeoutError as error:
            sent = error.sent
            if sent == 0:
                if held_back:
                    self.acks[:0] = buffers[0]
                raise
            broken = RecoverableConnectionError(
                f"the peer took {sent} bytes and no more within {timeout:.3g} seconds; "
                "a frame is cut short, so the connection cannot go on"
            )
            self.fail(broken)
            raise broken from error
        except OSError as error:
            self.fail(error)
            raise
        except BaseException:
            # An interrupt (a signal, a greenlet killed) may have come in the middle of a frame.
            self.fail(RecoverableConnectionError("a write was interrupted; a frame may be cut short"))
            raise
        if not more:
            self.unpushed = 0.0
        self.frames_sent += 1
        return 0

    def reset_lock(self):
        """Make the lock whole again in a forked child, where another thread may have held it."""
        self.lock = threading.Lock()

    def __call__(self, frame_type, channel_id, method, arguments, content):
        """Write a method, or a heartbeat, for the ``amqp`` package: its ``frame_writer`` contract."""
        if frame_type == FRAME_HEARTBEAT:
            self.write_heartbeat()
            return
        assert method is not None and not content, "contents are written by Channel.basic_publish"
        if isinstance(arguments, str):
            arguments = arguments.encode("utf-8", "surrogatepass")
        self.write([encode_method(channel_id, method[0], method[1], arguments)])
