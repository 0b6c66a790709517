"""What cuts frames, for the receive loop that extends it."""

from libc.stdint cimport uint64_t

from kombu._speedups.bodies cimport PropertyBlock
from kombu._speedups.buffer cimport ReceiveBuffer
from kombu._speedups.deliveries cimport Deliveries
from kombu._speedups.message cimport Message
from kombu._speedups.wire cimport Cursor


cdef class Content:
    cdef unsigned int channel_id
    cdef unsigned int method_id
    cdef tuple arguments
    cdef PropertyBlock properties
    cdef uint64_t size
    cdef uint64_t received
    cdef bytes body


cdef struct Text:
    #: The bytes of the short string seen last in one place, and how many.
    unsigned char data[256]
    int size


cdef struct Pattern:
    #: The method and header frames of a delivery, as they came, on which channel, and how many octets; 0 for none.
    unsigned char octets[1024]
    unsigned int channel_id
    Py_ssize_t size
    #: Where the delivery tag, with its flag behind it, and the size of the body stand.
    Py_ssize_t tag_at
    Py_ssize_t size_at


cdef class Inbound(ReceiveBuffer):
    cdef readonly dict channels
    cdef public uint64_t frame_max
    cdef public uint64_t max_body_size
    cdef public Py_ssize_t frames_received
    cdef readonly bint more_waits

    # One content at a time is the rule; those of further channels stand in the dict.
    cdef Content content
    cdef dict contents
    cdef Content filling
    cdef Py_ssize_t frame_left

    # The channel of the content before, since one channel after the other is the exception: good as long as the
    # version of the dict of channels is this, where the interpreter counts versions.
    cdef unsigned int last_number
    cdef uint64_t channels_version
    cdef object last_channel
    cdef Deliveries last_deliveries

    cdef dict known_properties
    cdef Text last_text[3]
    cdef list last_str
    # The delivery before, whose properties these are; its texts are the last.
    cdef Pattern pattern
    cdef PropertyBlock last_properties

    cdef bint frame_waits(self) noexcept
    cdef object cut(self)
    cdef Content content_of(self, unsigned int channel_id)
    cdef bint confirms(self, unsigned int channel_id, uint64_t tag, bint multiple) except -1
    cdef int forget(self, Content content) except -1
    cdef int check_frame(self, unsigned int frame_type, unsigned int channel_id, uint64_t size) except -1
    cdef object on_method_frame(self, unsigned int channel_id, Py_ssize_t start, Py_ssize_t end)
    cdef object on_header_frame(self, unsigned int channel_id, Py_ssize_t start, Py_ssize_t end)
    cdef PropertyBlock properties_at(self, const unsigned char *data, Py_ssize_t length)
    cdef Message whole_delivery(
        self, unsigned int channel_id, Py_ssize_t start, const unsigned char *number, bint redelivered
    )
    cdef Py_ssize_t whole_body(
        self, unsigned int channel_id, const unsigned char *data, Py_ssize_t available, uint64_t size
    ) noexcept
    cdef int learn(
        self, unsigned int channel_id, Py_ssize_t start, Py_ssize_t tag_at, Py_ssize_t size_at, Py_ssize_t end
    ) noexcept
    cdef Message repeated(self)
    cdef Message delivered(self, uint64_t number, bint redelivered, Py_ssize_t head, Py_ssize_t frame)
    cdef bint is_open(self, unsigned int channel_id) except -1
    cdef int begin_body(self, unsigned int channel_id, uint64_t size) except -1
    cdef object fill_body(self)
    cdef object complete(self, Content content)
    cdef str short_string(self, Cursor *cursor, int place, str method)
