"""What has been received and not been looked at yet; the compiled twin of :mod:`kombu._pure.buffer`."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.string cimport memcpy, memmove

__all__ = ("ReceiveBuffer",)

ABI = 1


cdef class ReceiveBuffer:
    """The receive buffer of one connection; see :class:`kombu._pure.buffer.ReceiveBuffer`."""

    def __cinit__(self):
        self.data = NULL
        self.capacity = self.start = self.end = 0

    def __dealloc__(self):
        PyMem_Free(self.data)

    @property
    def buffer_size(self):
        """Bytes that the receive buffer takes up at present."""
        return self.capacity

    def feed(self, const unsigned char[::1] data not None):
        """Append *data* to the receive buffer, as if it had been read."""
        cdef Py_ssize_t size = data.shape[0]
        if size:
            self.make_room(size)
            memcpy(self.data + self.end, &data[0], size)
            self.end += size

    cdef int make_room(self, Py_ssize_t size) except -1:
        """See that *size* bytes can be appended: move what is buffered to the front, or to a larger buffer."""
        cdef Py_ssize_t waiting = self.end - self.start
        cdef Py_ssize_t capacity = self.capacity
        cdef unsigned char *larger
        if waiting + size > capacity:
            while capacity < waiting + size:
                capacity = max(2 * capacity, <Py_ssize_t>SMALLEST_BUFFER)
            larger = <unsigned char *>PyMem_Malloc(capacity)
            if larger == NULL:
                raise MemoryError()
            if waiting:
                memcpy(larger, self.data + self.start, waiting)
            PyMem_Free(self.data)
            self.data = larger
            self.capacity = capacity
        elif self.end + size > capacity:
            memmove(self.data, self.data + self.start, waiting)
        else:
            return 0
        self.start = 0
        self.end = waiting
        return 0

    cdef int shrink(self) except -1:
        """Give back the memory of an empty buffer, but for as much as a quiet connection needs."""
        cdef unsigned char *smaller = <unsigned char *>PyMem_Realloc(self.data, SMALLEST_BUFFER)
        if smaller == NULL:
            raise MemoryError()
        self.data = smaller
        self.capacity = SMALLEST_BUFFER
        self.start = self.end = 0
        return 0
