"""The reading of a socket, for the receive loop that takes turns at it."""

from kombu._speedups.inbound cimport Inbound

cdef extern from *:
    """
    #include <math.h>
    #define KOMBU_NEVER ((double)INFINITY)
    #define KOMBU_NOT_WAITING (-(double)INFINITY)
    #define KOMBU_GRACE 0.02
    """
    #: In place of a deadline: none; only what can be had without waiting.
    double NEVER "KOMBU_NEVER"
    double NOT_WAITING "KOMBU_NOT_WAITING"
    #: Seconds by which a call may outstay its deadline while bytes keep coming: what is there already is worth reading.
    double GRACE "KOMBU_GRACE"


cdef class Reader(Inbound):
    cdef public object link
    cdef public object output
    cdef public object on_failure
    cdef public object send_heartbeat
    cdef public object frames_sent
    cdef public object read_timeout
    cdef public object failure
    cdef int fd
    cdef double heartbeat_interval
    cdef double next_tick
    cdef double last_received
    cdef double filled_at
    cdef Py_ssize_t reads
    cdef Py_ssize_t seen_reads
    cdef object seen_sent

    cdef int wake(self) except -1
    cdef int end_of(self, error) except -1
    cdef object read_event(self, double deadline)
    cdef Py_ssize_t receive(self) except -2
    cdef bint fill(self, double deadline) except -1
    cdef int await_bytes(self, double deadline, double silent_since) except -1
    cdef bint wait_readable(self, double timeout) except -1
    cdef double unpushed_since(self) except? -1
