"""The write path's fields, for the receive loop and the acknowledgements."""

from libc.stdint cimport uint64_t

from kombu._speedups.deliveries cimport Deliveries

cdef enum:
    #: Octets of coalesced acknowledgements that are written without waiting any longer.
    COALESCED_MAX = 16384


cdef class Writer:
    cdef readonly object link
    cdef readonly bint coalesces
    cdef readonly bint gathers
    cdef readonly bint corks
    cdef public object write_timeout
    cdef public double unpushed
    #: When the latest publish in a window was written.
    cdef double published
    cdef public Py_ssize_t frames_sent
    cdef public object failure
    cdef public object on_failure
    cdef public object lock
    cdef int fd
    #: The acknowledgements that we hold back ourselves, and how many octets they are.
    cdef unsigned char *acks
    cdef Py_ssize_t held_back
    #: Whether a thread holds the lock, for those that nobody can interrupt.
    cdef bint busy
    cdef object __weakref__

    cdef int hold(self) except -1
    cdef int let_go(self) except -1
    cdef bint acknowledge(self, Deliveries deliveries, uint64_t delivery_tag, bint multiple, bint more) except -1
    cdef bint acknowledge_at_once(self, int channel_id, uint64_t delivery_tag, bint multiple, bint more) except -1
    cdef int acknowledge_locked(self, int channel_id, uint64_t delivery_tag, bint multiple, bint more) except -1
    cdef int refuse(self) except -1
    cdef int fail(self, object error) except -1
    cdef int push_kernel(self) except -1
    cdef bint more_may_follow(self, double now) noexcept
    cdef int write_for(self, object channel, int closings, list buffers, object timeout, bint windowed) except -1
    cdef Py_ssize_t send_at_once(self, bytes buffer, bint more) except -1
    cdef bint write_publish(self, Deliveries deliveries, const unsigned char *frames, Py_ssize_t size, double windowed) except -1
    cdef int write_locked(self, list buffers, object timeout, bint more, Py_ssize_t at_once=*) except -1
