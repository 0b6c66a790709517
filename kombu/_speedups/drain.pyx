"""Receive loop: bytes in, deliveries out.

Twin of :mod:`kombu._pure.drain`, which says more.  Whose turn it is stands in C fields that change within critical
sections: atomic under the GIL at no cost, and a lock of the object's own where there is none.  The condition variable
is touched only by threads that have to wait, and by those that find somebody waiting.
"""

cimport cython

from kombu._speedups.dispatch cimport Dispatcher
from kombu._speedups.message cimport Message
from kombu._speedups.reading cimport GRACE, NEVER, NOT_WAITING, Reader

import threading

from kombu._speedups import inbound, reading
from kombu._speedups.inbound import MAX_BODY_SIZE

__all__ = ("Receiver", "MAX_BODY_SIZE")

ABI = 1

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()

cdef extern from "posix_socket.h":
    double kombu_monotonic() noexcept

cdef enum:
    # What a thread may wait for a turn to do.
    TO_ENTER = 1
    TO_READ = 2
    TO_ASSIST = 3

cdef double PUSH_AFTER = 0.001

cdef tuple NOTHING = reading.NOTHING
cdef tuple SETTLED = inbound.SETTLED

cdef tuple RETURN = (60, 50)
cdef tuple CANCEL = (60, 30)
cdef tuple CHANNEL_CLOSE = (20, 40)
cdef tuple BLOCKED = (10, 60)
cdef tuple UNBLOCKED = (10, 61)


cdef double deadline_after(timeout) except? -1:
    return NEVER if timeout is None else kombu_monotonic() + <double>timeout


cdef class Receiver(Reader):
    """Read one connection: cut frames, put contents together, dispatch what arrives; see the pure twin."""

    def __init__(self, link, dict channels, on_method, output=None, frame_max=131072, max_body_size=MAX_BODY_SIZE):
        Reader.__init__(self, link, channels, output, frame_max, max_body_size)
        self.on_method = on_method
        # gevent and eventlet number greenlets, of which one thread has many.
        self.native_threads = threading.get_ident.__module__ == "_thread"
        self.at_rest = []
        self.reset_locks()

    def reset_locks(self):
        """Forget who reads and who dispatches; for a new receiver and for a forked child."""
        # Entered as it is, not through the condition: a signal's handler that raises would leave that one locked.
        self.lock = threading.Lock()
        self.turn = threading.Condition(self.lock)
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
        with self.lock:
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
        with self.lock:
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
