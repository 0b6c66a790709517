"""What the other compiled modules may use of the encoder."""

from libc.stdint cimport uint64_t

cdef enum:
    OCTET_MAX = 0xFF
    SHORT_MAX = 0xFFFF
    INLINE_SIZE = 512

cdef uint64_t LONG_MAX
cdef uint64_t LONGLONG_MAX


cdef struct Writer:
    #: Either inline, or memory of its own once that is too small.
    unsigned char *data
    Py_ssize_t size
    Py_ssize_t capacity
    unsigned char inline[INLINE_SIZE]


cdef void begin(Writer *out) noexcept nogil
cdef void finish(Writer *out) noexcept
cdef unsigned char *room(Writer *out, Py_ssize_t size) except NULL

cdef int write_short_text(Writer *out, object value) except -1
cdef uint64_t as_unsigned(str what, object value, uint64_t high) except? 0xFFFFFFFFFFFFFFFF
