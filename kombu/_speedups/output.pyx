"""Write path: whole messages under one lock a connection, one system call each where they fit.

Twin of :mod:`kombu._pure.output`, which says more.  An acknowledgement is encoded on the stack and handed to the
kernel at once; everything else goes through the link.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint64_t

from kombu._speedups.deliveries cimport Deliveries
from kombu._speedups.frames cimport SETTLEMENT_SIZE, fill_settlement

import threading
from time import monotonic

from kombu._lazy import amqp_errors

from kombu._speedups.frames import FRAME_HEARTBEAT, HEARTBEAT, encode_ack, encode_method

__all__ = ("Writer", "ACK_WRITES", "WINDOW_WRITES")

ABI = 1

#: The values of ``transport_options["ack_writes"]``.
ACK_WRITES = ("corked", "immediate", "coalesced")

#: The values of ``transport_options["window_writes"]``.
WINDOW_WRITES = ("corked", "immediate")

cdef extern from "posix_socket.h":
    Py_ssize_t kombu_send(int fd, const void *buffer, Py_ssize_t size, int more) noexcept nogil
    double kombu_monotonic() noexcept

    # Whether nothing else runs until we call into Python or let go of the GIL.
    bint UNDISTURBED "KOMBU_UNDISTURBED"

cdef enum:
    #: A write of more bytes lets other threads run meanwhile; for less, that costs more than the write.
    WITHOUT_GIL = 65536
    BASIC_ACK = 80

cdef double PUSH_AFTER = 0.001


cdef class Writer:
    """Write frames to one connection; any number of threads may.  See :class:`kombu._pure.output.Writer`."""

    def __init__(self, link, ack_writes="corked", write_timeout=None, window_writes="corked"):
        if ack_writes not in ACK_WRITES:
            raise ValueError(f"ack_writes has to be one of {', '.join(ACK_WRITES)}; it is {ack_writes!r}")
        if window_writes not in WINDOW_WRITES:
            raise ValueError(f"window_writes has to be one of {', '.join(WINDOW_WRITES)}; it is {window_writes!r}")
        self.link = link
        self.fd = link.plain_fd
        self.coalesces = ack_writes == "coalesced"
        self.gathers = self.coalesces or (ack_writes == "corked" and link.can_gather)
        self.corks = window_writes == "corked" and link.can_gather
        self.write_timeout = write_timeout
        self.lock = threading.Lock()
        if self.coalesces and self.acks == NULL:
            self.acks = <unsigned char *>PyMem_Malloc(COALESCED_MAX)
            if self.acks == NULL:
                raise MemoryError()

    def __dealloc__(self):
        PyMem_Free(self.acks)

    def count(self):
        """Return the number of writes so far."""
        return self.frames_sent

    cdef int hold(self) except -1:
        """Take the lock, waiting as long as it takes."""
        self.lock.acquire()
        self.busy = True
        return 0

    cdef int let_go(self) except -1:
        self.busy = False
        self.lock.release()
        return 0

    def write(self, list buffers, timeout=None, channel=None, int closings=0, bint windowed=False):
        """Write *buffers*, whole frames, after whatever is held back.

        Raises:
            amqp.exceptions.ChannelError: the broker has closed the channel meanwhile.
            socket.timeout: nothing could be written within *timeout* seconds; the connection goes on.
            amqp.exceptions.RecoverableConnectionError: the connection is closed, or broke in the middle of a frame.
            OSError: the connection is lost.
        """
        if timeout is None:
            timeout = self.write_timeout
        if timeout is None:
            self.hold()
        else:
            # Whoever is writing may have all the time in the world.
            deadline = monotonic() + timeout
            if not self.lock.acquire(True, min(max(0.0, timeout), threading.TIMEOUT_MAX)):
                raise TimeoutError("timed out: another thread is writing")
            self.busy = True
            timeout = max(0.0, deadline - monotonic())
        try:
            self.write_for(channel, closings, buffers, timeout, windowed)
        finally:
            self.let_go()

    def write_ack(self, Deliveries deliveries not None, uint64_t delivery_tag, bint multiple, bint more):
        """Write a ``basic.ack``; with *more*, further deliveries wait in the receive buffer.

        Returns:
            whether it was written; it is not where the broker has closed the channel.

        Raises:
            amqp.exceptions.RecoverableConnectionError: the connection is closed, or broke in the middle of a frame.
            OSError: the connection is lost.
        """
        return self.acknowledge(deliveries, delivery_tag, multiple, more)

    cdef bint acknowledge(self, Deliveries deliveries, uint64_t delivery_tag, bint multiple, bint more) except -1:
        if UNDISTURBED and not self.busy and self.failure is None:
            # Nobody is writing, and nobody can begin to before this returns: the lock would change nothing.
            if deliveries.is_closed:
                return False
            if self.acknowledge_at_once(deliveries.number, delivery_tag, multiple, more and self.gathers):
                return True
        self.hold()
        try:
            if deliveries.is_closed:
                return False
            self.acknowledge_locked(deliveries.number, delivery_tag, multiple, more and self.gathers)
        finally:
            self.let_go()
        return True

    cdef bint write_publish(
        self, Deliveries deliveries, const unsigned char *frames, Py_ssize_t size, double windowed
    ) except -1:
        """Write a whole publish by one call of the kernel; return False, nothing written, where that cannot be done.

        *windowed* is the time, for one publish in a window of confirms, which the kernel may hold back; 0 for others.

        Raises what :meth:`write` raises where the kernel takes a part and no more.
        """
        cdef Py_ssize_t sent
        cdef bint more
        # Without the GIL it takes the lock to be undisturbed; whoever has it would have to be waited for.
        if self.busy or not (UNDISTURBED or self.lock.acquire(False)):
            return False
        if not UNDISTURBED:
            self.busy = True
        try:
            if self.fd < 0 or self.failure is not None or deliveries.is_closed or self.held_back:
                return False
            more = windowed > 0 and self.corks and self.more_may_follow(windowed)
            # An error is left to the link, which meets it again and raises it.
            sent = kombu_send(self.fd, frames, size, more)
            if sent <= 0:
                return False
            if not more:
                self.unpushed = 0.0
            elif not self.unpushed:
                self.unpushed = windowed
            if sent == size:
                self.frames_sent += 1
                return True
            if UNDISTURBED:
                self.hold()
            self.write_locked([<bytes>frames[sent:size]], None, False, sent)
            return True
        finally:
            if self.busy:
                self.let_go()

    cdef bint more_may_follow(self, double now) noexcept:
        """Return whether the kernel may hold back a publish in a window, and note that it is written."""
        cdef bint follows = now - self.published <= PUSH_AFTER
        self.published = now
        return follows and not (self.unpushed and now - self.unpushed > PUSH_AFTER)

    cdef bint acknowledge_at_once(self, int channel_id, uint64_t delivery_tag, bint multiple, bint more) except -1:
        """Hand the frame to the kernel, or to the buffer, if that is all; otherwise return False, nothing done.

        Raises what :meth:`write_ack` raises where the kernel takes a part and no more.
        """
        cdef unsigned char frame[SETTLEMENT_SIZE]
        cdef Py_ssize_t sent
        cdef bint held = self.busy
        cdef double now = 0
        if more:
            now = kombu_monotonic()
            more = not self.unpushed or now - self.unpushed <= PUSH_AFTER
        if self.coalesces:
            if not more or self.held_back + SETTLEMENT_SIZE > COALESCED_MAX:
                return False
            fill_settlement(self.acks + self.held_back, channel_id, BASIC_ACK, delivery_tag, multiple)
            self.held_back += SETTLEMENT_SIZE
        else:
            if self.fd < 0:
                return False
            fill_settlement(frame, channel_id, BASIC_ACK, delivery_tag, multiple)
            # An error is left to the link, which meets it again and raises it.
            sent = kombu_send(self.fd, frame, SETTLEMENT_SIZE, more)
            if sent <= 0:
                return False
            if sent < SETTLEMENT_SIZE:
                # The kernel's buffer is full: the rest follows when the peer has read, and nothing gets in between.
                if not held:
                    self.hold()
                try:
                    self.write_locked([<bytes>frame[sent:SETTLEMENT_SIZE]], None, False, sent)
                finally:
                    if not held:
                        self.let_go()
                return True
            self.frames_sent += 1
        if not more:
            self.unpushed = 0.0
        elif not self.unpushed:
            self.unpushed = now
        return True

    cdef int acknowledge_locked(self, int channel_id, uint64_t delivery_tag, bint multiple, bint more) except -1:
        cdef double now = kombu_monotonic()
        if self.failure is not None:
            self.refuse()
        if not self.link.closed and self.acknowledge_at_once(channel_id, delivery_tag, multiple, more):
            return 0
        more = more and not self.coalesces and not (self.unpushed and now - self.unpushed > PUSH_AFTER)
        self.write_locked([encode_ack(channel_id, delivery_tag, multiple)], None, more)
        if more and not self.unpushed:
            self.unpushed = now
        return 0

    def push(self):
        """Send the acknowledgements and publishes that are held back.

        Raises:
            OSError: the connection is lost.
        """
        # Whoever holds the lock is writing, and may have to wait for the peer to read.  What the kernel holds can be
        # pushed all the same; what we hold cannot.
        if not self.lock.acquire(self.coalesces):
            self.push_kernel()
            return
        self.busy = True
        try:
            if not self.unpushed or self.failure is not None:
                self.unpushed = 0.0
            elif self.held_back:
                self.write_locked([], None, False)
            else:
                self.unpushed = 0.0
                self.push_kernel()
        finally:
            self.let_go()

    cdef int push_kernel(self) except -1:
        if self.failure is not None:
            return 0
        try:
            self.link.push()
        except OSError as error:
            self.fail(error)
            raise
        return 0

    def write_heartbeat(self):
        """Write a heartbeat frame, unless something else is on its way; never waits.

        Raises:
            OSError: the connection is lost.
        """
        if not self.lock.acquire(False):
            return
        self.busy = True
        try:
            self.write_locked([HEARTBEAT], 0, False)
        except TimeoutError:
            # The kernel's buffer is full of frames that the peer has yet to take: they show that we are alive.
            return
        finally:
            self.let_go()

    cdef int refuse(self) except -1:
        raise amqp_errors.RecoverableConnectionError(f"connection already closed: {self.failure}") from self.failure

    cdef int fail(self, object error) except -1:
        self.failure = error
        if self.on_failure is not None:
            self.on_failure(error)
        return 0

    cdef int write_for(self, object channel, int closings, list buffers, object timeout, bint windowed) except -1:
        cdef double now
        cdef bint more
        if channel is not None and channel.closings != closings:
            channel.raise_closed()
        if not (windowed and self.corks):
            return self.write_locked(buffers, timeout, False)
        now = kombu_monotonic()
        more = self.more_may_follow(now)
        self.write_locked(buffers, timeout, more)
        if more and not self.unpushed:
            self.unpushed = now
        return 0

    cdef int write_locked(self, list buffers, object timeout, bint more, Py_ssize_t at_once=0) except -1:
        """Write *buffers*, the rest of a frame of which the kernel has taken *at_once* octets already."""
        cdef Py_ssize_t held_back = self.held_back
        if self.failure is not None:
            self.refuse()
        if held_back:
            buffers = [<bytes>self.acks[:held_back], *buffers]
            self.held_back = 0
        if self.fd >= 0 and not at_once and len(buffers) == 1 and type(buffers[0]) is bytes:
            at_once = self.send_at_once(<bytes>buffers[0], more)
            if at_once == PyBytes_GET_SIZE(<bytes>buffers[0]):
                if not more:
                    self.unpushed = 0.0
                self.frames_sent += 1
                return 0
            if at_once:
                buffers = [memoryview(buffers[0])[at_once:]]
        if timeout is None:
            timeout = self.write_timeout
        deadline = None if timeout is None else monotonic() + timeout
        try:
            if buffers:
                self.link.write_all(buffers, deadline, more)
        except TimeoutError as error:
            sent = error.sent + at_once
            if sent == 0:
                # Nobody else may have added any: the lock is ours.
                self.held_back = held_back
                raise
            patience = error.patience if timeout is None else timeout
            broken = amqp_errors.RecoverableConnectionError(
                f"the peer took {sent} bytes and no more within {patience:.3g} seconds; "
                "a frame is cut short, so the connection cannot go on"
            )
            self.fail(broken)
            raise broken from error
        except OSError as error:
            self.fail(error)
            raise
        except BaseException:
            # An interrupt (a signal, a greenlet killed) may have come in the middle of a frame.
            self.fail(amqp_errors.RecoverableConnectionError("a write was interrupted; a frame may be cut short"))
            raise
        if not more:
            self.unpushed = 0.0
        self.frames_sent += 1
        return 0

    cdef Py_ssize_t send_at_once(self, bytes buffer, bint more) except -1:
        """Hand to the kernel what it takes of *buffer* without a detour, and return how much that is."""
        cdef const char *data = PyBytes_AS_STRING(buffer)
        cdef Py_ssize_t sent, size = PyBytes_GET_SIZE(buffer)
        cdef int fd = self.fd
        if not size or self.link.closed:
            return 0
        if size > WITHOUT_GIL:
            with nogil:
                sent = kombu_send(fd, data, size, more)
        else:
            sent = kombu_send(fd, data, size, more)
        # An error is left to the link, which meets it again and raises it.
        return max(sent, <Py_ssize_t>0)

    def reset_lock(self):
        """Make the lock whole again in a forked child, where another thread may have held it."""
        self.lock = threading.Lock()
        self.busy = False

    def __call__(self, frame_type, channel_id, method, arguments, content):
        """Write a method, or a heartbeat, for the ``amqp`` package: its ``frame_writer`` contract."""
        if frame_type == FRAME_HEARTBEAT:
            self.write_heartbeat()
            return
        assert method is not None and not content, "contents are written by Channel.basic_publish"
        if isinstance(arguments, str):
            arguments = arguments.encode("utf-8", "surrogatepass")
        self.write([encode_method(channel_id, method[0], method[1], arguments)])
