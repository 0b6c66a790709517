"""Read a connection's socket: bytes in, events out, compiled; :mod:`kombu._pure.reading` says more."""

from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.errno cimport EAGAIN, EINTR, errno

from kombu._speedups.buffer cimport SMALLEST_BUFFER
from kombu._speedups.inbound cimport Inbound
from kombu._speedups.output cimport Writer

from kombu._lazy import amqp_errors

from kombu._speedups.inbound import MAX_BODY_SIZE

__all__ = ("NOTHING", "Reader")

ABI = 1

#: In place of an event: none can be had without waiting.
NOTHING = ()

cdef extern from "Python.h":
    enum:
        PyBUF_WRITE

cdef extern from "posix_socket.h":
    Py_ssize_t kombu_recv(int fd, void *buffer, Py_ssize_t size) noexcept
    int kombu_poll_readable(int fd, int milliseconds) noexcept nogil
    double kombu_monotonic() noexcept

cdef enum:
    LARGEST_BUFFER = 262144

cdef double BUFFER_IDLE = 1.0
cdef tuple nothing = NOTHING


cdef class Reader(Inbound):
    """Read one connection: see that its bytes come, and that its peer is alive; see the pure twin."""

    def __init__(self, link, dict channels, output=None, frame_max=131072, max_body_size=MAX_BODY_SIZE):
        Inbound.__init__(self, channels, frame_max, max_body_size)
        self.link = link
        self.output = output
        self.fd = link.plain_fd
        self.seen_reads = -1
        self.seen_sent = -1

    # -- heartbeats

    @property
    def heartbeat(self):
        """Negotiated heartbeat interval in seconds; 0 for none."""
        return self.heartbeat_interval

    @heartbeat.setter
    def heartbeat(self, interval):
        self.heartbeat_interval = interval or 0.0
        self.last_received = kombu_monotonic()
        self.next_tick = self.last_received + self.heartbeat_interval / 5

    def tick(self):
        """Send a heartbeat if nothing else was sent lately; raise if the peer has been silent for two intervals.

        Looks five times an interval, so that no gap between outgoing frames exceeds half of one.

        Raises:
            amqp.exceptions.ConnectionForced: nothing arrived for two intervals.
        """
        cdef double now = kombu_monotonic()
        cdef double interval = self.heartbeat_interval
        if not interval or now < self.next_tick or self.failure is not None:
            return
        self.next_tick = now + interval / 5
        if self.reads != self.seen_reads:
            self.seen_reads = self.reads
            self.last_received = now
        elif now - self.last_received > 2 * interval:
            # Bytes may wait in the kernel while callbacks take their time over what is buffered.
            if self.link.wait_readable(0):
                self.last_received = now
            else:
                error = amqp_errors.ConnectionForced(
                    f"Too many heartbeats missed: nothing received for {now - self.last_received:.1f} seconds, "
                    f"the interval is {interval:g}"
                )
                self.fail(error)
                raise error
        sent = self.frames_sent() if self.frames_sent is not None else 0
        if sent == self.seen_sent and self.send_heartbeat is not None:
            self.send_heartbeat()
            sent = self.frames_sent() if self.frames_sent is not None else 0
        self.seen_sent = sent

    # -- the socket

    def fail(self, error):
        """Note that the connection cannot be read any more because of *error*, and wake whoever waits for it."""
        if self.failure is None:
            self.failure = error
            if self.on_failure is not None:
                self.on_failure(error)
        self.wake()

    cdef int wake(self) except -1:
        """Wake the threads that wait for what is read; without turns there are none."""
        return 0

    def raise_failure(self):
        """Raise a recoverable error that says what ended the connection.

        Raises:
            amqp.exceptions.RecoverableConnectionError: always.
        """
        raise amqp_errors.RecoverableConnectionError(f"connection already closed: {self.failure}") from self.failure

    cdef int end_of(self, error) except -1:
        """Note *error* as the end, unless the socket was closed here and that is all it says."""
        if self.failure is not None:
            self.raise_failure()
        self.fail(error)
        return 0

    cdef object read_event(self, double deadline):
        """Return the next event, reading as often as it takes; NOTHING if that would mean to wait."""
        cdef object event
        while True:
            if self.failure is not None:
                self.raise_failure()
            try:
                event = self.cut()
            except Exception as error:
                self.fail(error)
                raise
            if event is not None:
                return event
            if not self.fill(deadline):
                return nothing

    cdef Py_ssize_t receive(self) except -2:
        """Read once into the free end of the buffer; -1 where nothing is there."""
        cdef Py_ssize_t count
        cdef int code
        if self.fd < 0:
            view = PyMemoryView_FromMemory(<char *>self.data + self.end, self.capacity - self.end, PyBUF_WRITE)
            try:
                return self.link.recv_into(view)
            except BlockingIOError:
                return -1
            except OSError:
                raise
            except BaseException as error:
                # A signal's handler raised: bytes may have been read, and nobody knows how many.
                self.fail(amqp_errors.RecoverableConnectionError(f"a read was interrupted by {error!r}"))
                raise
            finally:
                # The memory may move at any time after this.
                view.release()
        if self.link.closed:
            raise OSError("the connection's socket has been closed")
        while True:
            count = kombu_recv(self.fd, self.data + self.end, self.capacity - self.end)
            if count >= 0:
                return count
            code = errno
            if code == EAGAIN:
                return -1
            if code == EINTR:
                PyErr_CheckSignals()
                continue
            try:
                PyErr_SetFromErrno(OSError)
            except TimeoutError as error:
                # The kernel gave up on the peer; that must not be taken for a time limit of the caller's.
                raise OSError(f"connection lost: {error}") from error

    cdef bint fill(self, double deadline) except -1:
        """Read once, waiting for bytes until *deadline*; return False where that is NOT_WAITING and none wait."""
        cdef Py_ssize_t count
        cdef double silent_since = 0
        cdef double now
        if self.unpushed_since():
            self.output.push()
        now = kombu_monotonic()
        if now > deadline + GRACE and deadline != NOT_WAITING:
            raise TimeoutError("timed out")
        if self.heartbeat_interval and now >= self.next_tick:
            self.tick()
        if self.capacity - self.end < SMALLEST_BUFFER // 4:
            self.make_room(SMALLEST_BUFFER // 2)
        while True:
            try:
                count = self.receive()
            except OSError as error:
                self.end_of(error)
                raise
            if count >= 0:
                break
            if deadline == NOT_WAITING:
                return False
            if not silent_since:
                silent_since = kombu_monotonic()
            self.await_bytes(deadline, silent_since)
        if not count:
            lost = OSError("Server unexpectedly closed connection")
            self.end_of(lost)
            raise lost
        self.end += count
        self.reads += 1
        if self.end >= SMALLEST_BUFFER:
            self.filled_at = kombu_monotonic()
            if self.end == self.capacity and self.capacity < LARGEST_BUFFER:
                # More waits than fits: read more at once from now on.
                self.make_room(self.capacity)
        return True

    cdef int await_bytes(self, double deadline, double silent_since) except -1:
        """Wait until the socket is readable, or until it is time for something else."""
        cdef double now = kombu_monotonic()
        cdef double until = deadline
        cdef double limit
        if now >= deadline:
            raise TimeoutError("timed out")
        patience, whose = self.read_timeout, "read_timeout="
        if patience is None and deadline == NEVER:
            patience, whose = self.link.time_limit, "the socket's timeout of "
        if patience is not None:
            limit = silent_since + <double>patience
            if now >= limit:
                raise TimeoutError(f"timed out: nothing received for {whose}{patience:g} seconds")
            until = min(until, limit)
        if self.heartbeat_interval:
            self.tick()
            until = min(until, self.next_tick)
        if self.start == self.end and self.capacity > SMALLEST_BUFFER:
            if now >= self.filled_at + BUFFER_IDLE:
                self.shrink()
            else:
                until = min(until, self.filled_at + BUFFER_IDLE)
        try:
            self.wait_readable(until - now)
        except OSError as error:
            self.end_of(error)
            raise
        if self.failure is not None:
            self.raise_failure()
        return 0

    cdef bint wait_readable(self, double timeout) except -1:
        """Wait for the socket to be readable; may return early, and False, after a signal."""
        cdef int milliseconds, found, code, fd = self.fd
        if timeout < 0:
            timeout = 0
        if fd < 0:
            return self.link.wait_readable(None if timeout == NEVER else timeout)
        if self.link.closed:
            raise OSError("the connection's socket has been closed")
        # Round up, or the last fraction of a millisecond would be spent spinning.
        milliseconds = -1 if timeout > 1e6 else <int>(timeout * 1000 + 0.999)
        if timeout != NEVER and milliseconds < 0:
            milliseconds = 1000000000
        with nogil:
            found = kombu_poll_readable(fd, milliseconds)
            code = errno
        if found < 0:
            if code == EINTR:
                PyErr_CheckSignals()
                return False
            raise OSError(code, "cannot wait for the connection's socket")
        return found > 0

    cdef double unpushed_since(self) except? -1:
        """Return when the first acknowledgement or publish was held back that is not pushed; 0 if there is none."""
        output = self.output
        if type(output) is Writer:
            return (<Writer>output).unpushed
        return 0 if output is None else output.unpushed
