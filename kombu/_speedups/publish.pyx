"""Publishes that have most of their bytes in common, encoded once, and a buffer that gathers many of them.

Twin of :mod:`kombu._pure.publish`, which says more.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove

from kombu._speedups.wire cimport store16, store32, store64

from kombu._speedups.frames import encode_publish

__all__ = ("PublishBuffer", "PublishPlan")

ABI = 1

cdef extern from "Python.h":
    Py_buffer *PyMemoryView_GET_BUFFER(object view)
    bint PyBuffer_IsContiguous(Py_buffer *buffer, char order) noexcept
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef enum:
    BODY_FRAME = 3
    END_OCTET = 0xCE
    FRAME_OVERHEAD = 8
    SMALLEST = 4096

cdef uint64_t LONG_MAX = 0xFFFFFFFF


cdef object look(body, Span *span):
    """Set *span* to the bytes of *body*, and return what has to be kept meanwhile."""
    if type(body) is bytes:
        span.data = <const unsigned char *>PyBytes_AS_STRING(body)
        span.size = PyBytes_GET_SIZE(body)
        return body
    if isinstance(body, str):
        span.data = <const unsigned char *>PyUnicode_AsUTF8AndSize(body, &span.size)
        return body
    view = memoryview(body)
    if not PyBuffer_IsContiguous(PyMemoryView_GET_BUFFER(view), c"C"):
        raise BufferError("body has to be one run of bytes, not a view with gaps")
    span.data = <const unsigned char *>PyMemoryView_GET_BUFFER(view).buf
    span.size = PyMemoryView_GET_BUFFER(view).len
    return view


cdef inline unsigned char *put_head(unsigned char *to, uint16_t channel, uint32_t size) noexcept nogil:
    to[0] = BODY_FRAME
    store16(to + 1, channel)
    store32(to + 3, size)
    return to + 7


cdef class PublishPlan:
    """What a publish consists of but for its body; see :class:`kombu._pure.publish.PublishPlan`."""

    def __init__(
        self, channel_id, str exchange not None, str routing_key not None, bint mandatory, bint immediate,
        bytes properties not None, frame_max,
    ):
        [head] = encode_publish(channel_id, exchange, routing_key, mandatory, immediate, properties, b"", frame_max)
        self.channel_id = channel_id
        self.exchange = exchange
        self.routing_key = routing_key
        self.mandatory = mandatory
        self.immediate = immediate
        self.properties = properties
        self.head = head
        # The size of the body stands before the properties and the frame's end.
        self.size_at = len(head) - 1 - len(properties) - 8
        self.room = <uint64_t>frame_max - FRAME_OVERHEAD if frame_max else LONG_MAX

    def on(self, channel_id, frame_max):
        """Return the same plan for a channel of another number, or of another connection."""
        return PublishPlan(
            channel_id, self.exchange, self.routing_key, self.mandatory, self.immediate, self.properties, frame_max
        )

    def encode(self, body):
        """Return the frames of a publish of *body* as buffers to be sent in order; text is encoded as UTF-8.

        A body up to 16 KiB is copied and there is one buffer; of a larger one the buffers are slices between framing
        bytes, so that it must not change until it is sent.
        """
        cdef Span span
        cdef bytes first
        cdef Py_ssize_t at = 0, chunk
        cdef unsigned char *to
        cdef list buffers
        kept = look(body, &span)
        if span.size <= COPIED_BODY:
            first = PyBytes_FromStringAndSize(NULL, self.whole_size(span.size))
            self.put(<unsigned char *>PyBytes_AS_STRING(first), &span)
            return [first]
        view = memoryview(body.encode("utf-8") if isinstance(body, str) else kept)
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        first = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(self.head) + 7)
        to = self.begin(<unsigned char *>PyBytes_AS_STRING(first), span.size)
        buffers = []
        while True:
            chunk = <Py_ssize_t>min(self.room, <uint64_t>(span.size - at))
            put_head(to, self.channel_id, <uint32_t>chunk)
            buffers.append(first)
            buffers.append(view[at : at + chunk])
            at += chunk
            if at == span.size:
                break
            first = PyBytes_FromStringAndSize(NULL, FRAME_OVERHEAD)
            to = <unsigned char *>PyBytes_AS_STRING(first)
            to[0] = END_OCTET
            to += 1
        buffers.append(b"\xce")
        return buffers

    cdef Py_ssize_t whole_size(self, Py_ssize_t size) noexcept:
        """Return how many bytes the frames of a publish with a body of *size* bytes take."""
        cdef uint64_t frames = 0
        if size:
            frames = (<uint64_t>size - 1) // self.room + 1
        return PyBytes_GET_SIZE(self.head) + size + FRAME_OVERHEAD * <Py_ssize_t>frames

    cdef unsigned char *begin(self, unsigned char *to, Py_ssize_t size) noexcept:
        cdef Py_ssize_t length = PyBytes_GET_SIZE(self.head)
        memcpy(to, PyBytes_AS_STRING(self.head), length)
        store64(to + self.size_at, <uint64_t>size)
        return to + length

    cdef int put(self, unsigned char *to, Span *span) noexcept:
        """Write the whole publish, of ``whole_size`` bytes."""
        cdef Py_ssize_t at = 0, chunk
        to = self.begin(to, span.size)
        while at < span.size:
            chunk = <Py_ssize_t>min(self.room, <uint64_t>(span.size - at))
            to = put_head(to, self.channel_id, <uint32_t>chunk)
            memcpy(to, span.data + at, chunk)
            to[chunk] = END_OCTET
            to += chunk + 1
            at += chunk
        return 0


cdef class PublishBuffer:
    """Whole publishes, one behind the other; see :class:`kombu._pure.publish.PublishBuffer`."""

    cdef readonly Py_ssize_t count
    cdef readonly Py_ssize_t most_messages
    cdef readonly Py_ssize_t most_bytes
    cdef unsigned char *data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    # Where each message ends.
    cdef Py_ssize_t *ends
    cdef Py_ssize_t ends_capacity

    def __cinit__(self, *args, **kwargs):
        self.data = NULL
        self.ends = NULL

    def __init__(self, Py_ssize_t most_messages, Py_ssize_t most_bytes):
        self.most_messages = most_messages
        self.most_bytes = most_bytes

    def __dealloc__(self):
        PyMem_Free(self.data)
        PyMem_Free(self.ends)

    def __len__(self):
        return self.size

    def add(self, PublishPlan plan not None, body):
        """Append a publish of *body*, text as UTF-8; return whether the buffer is full.  An error appends nothing."""
        cdef Span span
        cdef Py_ssize_t whole
        kept = look(body, &span)
        whole = plan.whole_size(span.size)
        with cython.critical_section(self):
            self.reserve(whole)
            plan.put(self.data + self.size, &span)
            return self.added(whole)

    def add_frames(self, list frames not None):
        """Append one publish that is encoded already, as buffers; return whether the buffer is full."""
        cdef bytes joined = b"".join(frames)
        cdef Py_ssize_t whole = PyBytes_GET_SIZE(joined)
        with cython.critical_section(self):
            self.reserve(whole)
            memcpy(self.data + self.size, PyBytes_AS_STRING(joined), whole)
            return self.added(whole)

    cdef int reserve(self, Py_ssize_t more) except -1:
        """See that *more* bytes and the end of one message fit."""
        cdef Py_ssize_t capacity = max(self.capacity, <Py_ssize_t>SMALLEST)
        cdef void *larger
        if self.size + more > self.capacity:
            while capacity < self.size + more:
                capacity *= 2
            larger = PyMem_Realloc(self.data, capacity)
            if larger == NULL:
                raise MemoryError(f"no memory for {capacity} bytes of publishes")
            self.data = <unsigned char *>larger
            self.capacity = capacity
        if self.count == self.ends_capacity:
            capacity = max(2 * self.ends_capacity, <Py_ssize_t>64)
            larger = PyMem_Realloc(self.ends, capacity * sizeof(Py_ssize_t))
            if larger == NULL:
                raise MemoryError(f"no memory for {capacity} publishes")
            self.ends = <Py_ssize_t *>larger
            self.ends_capacity = capacity
        return 0

    cdef bint added(self, Py_ssize_t whole) noexcept:
        self.size += whole
        self.ends[self.count] = self.size
        self.count += 1
        return self.count >= self.most_messages or self.size >= self.most_bytes

    def take(self, Py_ssize_t count):
        """Remove the first *count* messages and return their frames."""
        cdef Py_ssize_t end, position
        cdef bytes taken
        with cython.critical_section(self):
            if count >= self.count:
                taken = PyBytes_FromStringAndSize(<char *>self.data, self.size)
                self.size = self.count = 0
                return taken
            end = self.ends[count - 1] if count > 0 else 0
            taken = PyBytes_FromStringAndSize(<char *>self.data, end)
            if end:
                memmove(self.data, self.data + end, self.size - end)
                self.size -= end
                self.count -= count
                for position in range(self.count):
                    self.ends[position] = self.ends[position + count] - end
            return taken

    def clear(self):
        """Throw away what is there."""
        with cython.critical_section(self):
            self.size = self.count = 0
