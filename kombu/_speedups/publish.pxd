"""Planned publishes, for those who write them."""

from libc.stdint cimport uint16_t, uint64_t

cdef enum:
    #: A body up to this size is copied into the one buffer of its message.
    COPIED_BODY = 16 * 1024


cdef struct Span:
    const unsigned char *data
    Py_ssize_t size


cdef object look(object body, Span *span)


cdef class PublishPlan:
    cdef readonly uint16_t channel_id
    cdef readonly str exchange
    cdef readonly str routing_key
    cdef readonly bint mandatory
    cdef readonly bint immediate
    cdef readonly bytes properties
    cdef bytes head
    cdef Py_ssize_t size_at
    cdef uint64_t room

    cdef Py_ssize_t whole_size(self, Py_ssize_t size) noexcept
    cdef unsigned char *begin(self, unsigned char *to, Py_ssize_t size) noexcept
    cdef int put(self, unsigned char *to, Span *span) noexcept
