"""The receive loop, for connections to drain it without a detour."""

from kombu._speedups.reading cimport Reader


cdef class Receiver(Reader):
    cdef public object on_method
    cdef public object on_drain
    cdef bint native_threads
    #: When drain() last returned while something was held back.
    cdef double left_at
    cdef object lock
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
    cdef Py_ssize_t drain(self, timeout, Py_ssize_t max_events) except -1
    cdef int rest(self) except -1
    cdef int push_stale(self, double now, double begun) except -1
    cdef int enter(self, double deadline) except -1
    cdef int leave(self, double begun) except -1
    cdef object take(self, double deadline, ready)
    cdef object read_answers(self)
    cdef int stop_reading(self) except -1
    cdef int sleep(self, int purpose, unsigned long me, double deadline, ready) except -1
    cdef bint runs_callbacks(self, event) except -1
    cdef int dispatch(self, event) except -1
