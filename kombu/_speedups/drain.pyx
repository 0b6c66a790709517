"""Receive loop: bytes in, deliveries out.

Twin of :mod:`kombu._pure.drain`, which says more.  Whose turn it is stands in C fields that change within critical
sections: atomic under the GIL at no cost, and a lock of the object's own where there is none.  The condition variable
is touched only by threads that have to wait, and by those that find somebody waiting.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.errno cimport EAGAIN, EINTR, errno

from kombu._speedups.dispatch cimport Dispatcher
from kombu._speedups.inbound cimport Inbound
from kombu._speedups.message cimport Message
from kombu._speedups.output cimport Writer

import threading

from kombu._lazy import amqp_errors

from kombu._speedups import inbound
from kombu._speedups.inbound import MAX_BODY_SIZE

__all__ = ("Receiver", "MAX_BODY_SIZE")

ABI = 1

cdef extern from "Python.h":
    enum:
        PyBUF_WRITE
    unsigned long PyThread_get_thread_ident()

cdef extern from "posix_socket.h":
    Py_ssize_t kombu_recv(int fd, void *buffer, Py_ssize_t size) noexcept
    int kombu_poll_readable(int fd, int milliseconds) noexcept nogil
    double kombu_monotonic() noexcept

cdef enum:
    SMALLEST_BUFFER = 16384
    LARGEST_BUFFER = 262144

    # What a thread may wait for a turn to do.
    TO_ENTER = 1
    TO_READ = 2
    TO_ASSIST = 3

cdef double BUFFER_IDLE = 1.0
cdef double PUSH_AFTER = 0.001
#: Seconds by which a call may outstay its deadline while bytes keep coming: what is there already is worth reading.
cdef double GRACE = 0.02
#: In place of a deadline: none.
cdef double NEVER = float("inf")
#: In place of a deadline: only what can be had without waiting.
cdef double NOT_WAITING = -NEVER

#: In place of an event: none can be had without waiting.
cdef tuple NOTHING = ()
cdef tuple SETTLED = inbound.SETTLED

cdef tuple RETURN = (60, 50)
cdef tuple CANCEL = (60, 30)
cdef tuple CHANNEL_CLOSE = (20, 40)
cdef tuple BLOCKED = (10, 60)
cdef tuple UNBLOCKED = (10, 61)


cdef double deadline_after(timeout) except? -1:
    return NEVER if timeout is None else kombu_monotonic() + <double>timeout


cdef class Receiver(Inbound):
    """Read one connection: cut frames, put contents together, dispatch what arrives; see the pure twin."""

    def __init__(self, link, dict channels, on_method, output=None, frame_max=131072, max_body_size=MAX_BODY_SIZE):
        Inbound.__init__(self, channels, frame_max, max_body_size)
        self.link = link
        self.on_method = on_method
        self.output = output
        self.fd = link.plain_fd
        # gevent and eventlet number greenlets, of which one thread has many.
        self.native_threads = threading.get_ident.__module__ == "_thread"
        self.seen_reads = -1
        self.seen_sent = -1
        self.at_rest = []
        self.reset_locks()

    def reset_locks(self):
        """Forget who reads and who dispatches; for a new receiver and for a forked child."""
        self.turn = threading.Condition(threading.Lock())
        self.parked = []
        self.owned = self.reading = False
        self.owner = self.reader = 0
        self.depth = self.waiting = 0

    cdef unsigned long me(self) except? 0:
        return PyThread_get_thread_ident() if self.native_threads else <unsigned long>threading.get_ident()

    @property
    def buffered(self):
        """Whether a whole frame, or an event read for another thread, waits to be dispatched."""
        return bool(self.parked) or self.more_waits

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
        with self.turn:
            self.turn.notify_all()

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
                return NOTHING

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
                self.shrink(SMALLEST_BUFFER)
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

    # -- who reads, who dispatches

    def drain_events(self, timeout=None, Py_ssize_t max_events=1):
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
        return self.drain(timeout, max_events)

    cdef Py_ssize_t drain(self, timeout, Py_ssize_t max_events) except -1:
        cdef double started, begun, now, deadline = NEVER, limit = NEVER
        cdef Py_ssize_t count = 0
        cdef object event
        if timeout is None and not self.heartbeat_interval and self.unpushed_since():
            # Nothing asks for the time but what is held back; it is none the worse for being pushed a little early.
            started = self.left_at
        else:
            started = kombu_monotonic()
        begun = started
        if timeout is not None:
            deadline = started + <double>timeout
            limit = max(deadline, started + GRACE)
        if self.on_drain is not None:
            self.on_drain()
        if self.heartbeat_interval and started >= self.next_tick:
            self.tick()
        self.enter(deadline)
        try:
            while True:
                event = self.take(NOT_WAITING if count or self.at_rest else deadline, None)
                if event is NOTHING:
                    if count:
                        break
                    self.rest()
                    continue
                if event is not None:
                    self.dispatch(event)
                count += 1
                if count >= max_events:
                    break
                now = kombu_monotonic()
                self.push_stale(now, begun)
                if self.failure is not None or now >= limit:
                    break
                if self.heartbeat_interval and now >= self.next_tick:
                    self.tick()
                begun = now
            if self.at_rest and not self.buffered:
                self.rest()
        finally:
            self.leave(begun)
        return count

    def call_at_rest(self, function):
        """Have *function* called, once, when :meth:`drain_events` has nothing left to dispatch or is about to wait.

        For what gathers deliveries and has to hand them on before anybody waits for more.
        """
        self.at_rest.append(function)

    cdef int rest(self) except -1:
        while self.at_rest:
            self.at_rest.pop(0)()
        return 0

    cdef int push_stale(self, double now, double begun) except -1:
        """Push what has waited long enough, or may have: that event was *begun* a while ago."""
        cdef double since = self.unpushed_since()
        if since and now - min(since, begun) > PUSH_AFTER:
            self.output.push()
        return 0

    cdef double unpushed_since(self) except? -1:
        """Return when the first acknowledgement or publish was held back that is not pushed; 0 if there is none."""
        output = self.output
        if type(output) is Writer:
            return (<Writer>output).unpushed
        return 0 if output is None else output.unpushed

    def wait_for(self, ready, timeout=None):
        """Wait until *ready()* holds, at most *timeout* seconds, while events are read and dispatched.

        Another thread may be draining meanwhile.  Then the reply comes through that thread, or, while it is busy in a
        callback, this one reads and parks what belongs to the other.

        Raises:
            socket.timeout: it did not hold in time.
            amqp.exceptions.RecoverableConnectionError: the connection has been lost.
        """
        cdef double deadline = deadline_after(timeout)
        cdef unsigned long me = self.me()
        cdef bint elsewhere, mine, nested
        cdef object event
        while not ready():
            mine = nested = False
            with cython.critical_section(self):
                elsewhere = self.owned and self.owner != me
                if elsewhere:
                    nested = self.reading and self.reader == me
                    mine = nested or not self.reading
                    if mine:
                        self.reading = True
                        self.reader = me
                else:
                    self.owned = True
                    self.owner = me
                    self.depth += 1
            if not elsewhere:
                try:
                    event = self.take(deadline, ready)
                    if event is not None:
                        self.dispatch(event)
                finally:
                    self.leave(kombu_monotonic())
                continue
            if not mine:
                if self.failure is not None:
                    self.raise_failure()
                self.sleep(TO_ASSIST, me, deadline, ready)
                continue
            try:
                # What made it hold may have happened between the two looks.
                if ready():
                    return
                event = self.read_event(deadline)
                if self.runs_callbacks(event):
                    self.parked.append(event)
                else:
                    self.dispatch(event)
            finally:
                if not nested:
                    self.stop_reading()

    def serve_waiting(self):
        """Dispatch everything that can be had without waiting, unless another thread is at it.

        Raises:
            OSError: the connection is lost.
        """
        cdef bint elsewhere
        with cython.critical_section(self):
            elsewhere = self.owned and self.owner != self.me()
        if elsewhere:
            return
        while True:
            try:
                self.drain_events(0)
            except TimeoutError:
                return

    cdef int enter(self, double deadline) except -1:
        cdef unsigned long me = self.me()
        cdef bint mine
        while True:
            with cython.critical_section(self):
                mine = not self.owned or self.owner == me
                if mine:
                    self.owned = True
                    self.owner = me
                    self.depth += 1
            if mine:
                return 0
            if self.failure is not None:
                self.raise_failure()
            self.sleep(TO_ENTER, me, deadline, None)

    cdef int leave(self, double begun) except -1:
        cdef bint somebody
        with cython.critical_section(self):
            self.depth -= 1
            if not self.depth:
                self.owned = False
            somebody = self.waiting > 0
        if somebody:
            self.wake()
        if self.unpushed_since():
            self.left_at = kombu_monotonic()
            self.push_stale(self.left_at, begun)
        return 0

    cdef object take(self, double deadline, ready):
        """Return the next event that runs callbacks; None when a reply was dispatched, or once *ready()* holds.

        With NOT_WAITING for a *deadline* it returns NOTHING rather than wait.
        """
        cdef unsigned long me = self.owner
        cdef bint mine, nested
        cdef object event
        while True:
            if ready is not None and ready():
                return None
            if self.parked:
                return self.parked.pop(0)
            with cython.critical_section(self):
                nested = self.reading and self.reader == me
                mine = nested or not self.reading
                if mine:
                    self.reading = True
                    self.reader = me
            if mine:
                try:
                    # Another thread may have parked or dispatched something between the two looks.
                    if self.parked or (ready is not None and ready()):
                        continue
                    event = self.read_event(deadline)
                    if event is SETTLED and ready is not None:
                        # Where there is one answer there are more, and who waits for some may as well have them all.
                        event = self.read_answers()
                    if event is NOTHING or self.runs_callbacks(event):
                        return event
                    # Before anybody else may read: the thread that it is for would wait for bytes that have come.
                    self.dispatch(event)
                    return None
                finally:
                    if not nested:
                        self.stop_reading()
            if self.failure is not None:
                self.raise_failure()
            if deadline == NOT_WAITING:
                return NOTHING
            self.sleep(TO_READ, 0, deadline, ready)

    cdef object read_answers(self):
        """Return the next buffered event that is none of SETTLED, or the last of these."""
        cdef object event = SETTLED
        while event is SETTLED and self.more_waits:
            event = self.read_event(NOT_WAITING)
        return SETTLED if event is NOTHING else event

    cdef int stop_reading(self) except -1:
        cdef bint somebody
        with cython.critical_section(self):
            self.reading = False
            somebody = self.waiting > 0
        if somebody:
            self.wake()
        return 0

    cdef int wake(self) except -1:
        """Wake the threads that wait for their turn."""
        with self.turn:
            self.turn.notify_all()
        return 0

    cdef int sleep(self, int purpose, unsigned long me, double deadline, ready) except -1:
        """Wait for a change of turns; the caller looks again afterwards."""
        cdef bint wait
        cdef double remaining = NEVER
        if self.unpushed_since():
            # Whoever reads has pushed what was held back before it began.
            self.output.push()
        if deadline != NEVER:
            remaining = deadline - kombu_monotonic()
            if remaining <= 0:
                raise TimeoutError("timed out")
        with self.turn:
            with cython.critical_section(self):
                self.waiting += 1
                # Whoever changes something from here on sees that somebody waits; what changed before shows here.
                if purpose == TO_ENTER:
                    wait = self.owned and self.owner != me
                elif purpose == TO_READ:
                    wait = self.reading
                else:
                    wait = self.reading and self.owned and self.owner != me
            try:
                if wait and purpose == TO_READ and self.parked:
                    wait = False
                if wait and ready is not None and ready():
                    wait = False
                if wait and self.failure is None:
                    self.turn.wait(None if remaining == NEVER else min(remaining, <double>threading.TIMEOUT_MAX))
            finally:
                with cython.critical_section(self):
                    self.waiting -= 1
        return 0

    cdef bint runs_callbacks(self, event) except -1:
        """Return whether *event* is for the thread that runs callbacks; otherwise it is a reply, or as good as one."""
        if isinstance(event, Message):
            return True
        if event is SETTLED:
            return False
        channel_id, method = (<tuple>event)[0], (<tuple>event)[1]
        if method == CANCEL:
            return True
        if not channel_id:
            return method == BLOCKED or method == UNBLOCKED
        if method == RETURN or method == CHANNEL_CLOSE:
            # Both answer whoever waits on the channel.
            return not getattr(self.channels.get(channel_id), "waiting_threads", None)
        return False

    cdef int dispatch(self, event) except -1:
        cdef Message message
        if isinstance(event, Message):
            # The message knows its channel, which outlives its number.
            message = event
            callback = message.deliveries.callback_of(message.consumer_tag_)
            if type(callback) is Dispatcher:
                (<Dispatcher>callback).dispatch(message)
            elif callback is not None:
                callback(message)
            else:
                message.channel_.on_unclaimed_delivery(message.consumer_tag_, message)
        elif event is not SETTLED:
            channel_id, method, payload, content = <tuple>event
            self.on_method(channel_id, method, payload, content)
        return 0
