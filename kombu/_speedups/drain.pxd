"""The receive loop, for connections to drain it without a detour."""

from kombu._speedups.inbound cimport Inbound


cdef class Receiver(Inbound):
    cdef public object link
    cdef public object on_method
    cdef public object output
    cdef public object on_failure
    cdef public object on_drain
    cdef public object send_heartbeat
    cdef public object frames_sent
    cdef public object read_timeout
    cdef public object failure
    cdef int fd
    cdef bint native_threads
    cdef double heartbeat_interval
    cdef double next_tick
    cdef double last_received
    cdef double filled_at
    #: When drain() last returned while something was held back.
    cdef double left_at
    cdef Py_ssize_t reads
    cdef Py_ssize_t seen_reads
    cdef object seen_sent
    cdef object turn
    # Queues of hardly ever more than one, looked at for every event.
    cdef list parked
    cdef list at_rest
    cdef unsigned long owner
    cdef bint owned
    cdef int depth
    cdef bint reading
    cdef unsigned long reader
    cdef int waiting

    cdef unsigned long me(self) except? 0
    cdef int end_of(self, error) except -1
    cdef object read_event(self, double deadline)
    cdef Py_ssize_t receive(self) except -2
    cdef bint fill(self, double deadline) except -1
    cdef int await_bytes(self, double deadline, double silent_since) except -1
    cdef bint wait_readable(self, double timeout) except -1
    cdef Py_ssize_t drain(self, timeout, Py_ssize_t max_events) except -1
    cdef int rest(self) except -1
    cdef int push_stale(self, double now, double begun) except -1
    cdef double unpushed_since(self) except? -1
    cdef int enter(self, double deadline) except -1
    cdef int leave(self, double begun) except -1
    cdef object take(self, double deadline, ready)
    cdef object read_answers(self)
    cdef int stop_reading(self) except -1
    cdef int wake(self) except -1
    cdef int sleep(self, int purpose, unsigned long me, double deadline, ready) except -1
    cdef bint runs_callbacks(self, event) except -1
    cdef int dispatch(self, event) except -1
