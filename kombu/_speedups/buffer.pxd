"""The receive buffer, for what reads into it and what cuts frames out of it."""

cdef enum:
    #: Size of the receive buffer of a quiet connection, in bytes.
    SMALLEST_BUFFER = 16384

cdef class ReceiveBuffer:
    #: What has come stands between *start* and *end*; there is room for *capacity* bytes.
    cdef unsigned char *data
    cdef Py_ssize_t capacity
    cdef Py_ssize_t start
    cdef Py_ssize_t end

    cdef int make_room(self, Py_ssize_t size) except -1
    cdef int shrink(self) except -1
