"""The receive buffer, for the receive loop that extends it."""

from libc.stdint cimport uint64_t

from kombu._speedups.deliveries cimport Deliveries
from kombu._speedups.message cimport Message, PropertyBlock


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


cdef class Inbound:
    cdef readonly dict channels
    cdef public uint64_t frame_max
    cdef public uint64_t max_body_size
    cdef public Py_ssize_t frames_received
    cdef readonly bint more_waits

    cdef unsigned char *data
    cdef Py_ssize_t capacity
    cdef Py_ssize_t start
    cdef Py_ssize_t end

    # One content at a time is the rule; those of further channels stand in the dict.
    cdef Content content
    cdef dict contents
    cdef Content filling
    cdef Py_ssize_t frame_left

    # Those of the channel of the content before; one channel after the other is the exception.
    cdef object last_channel
    cdef Deliveries last_deliveries

    cdef dict known_properties
    cdef PropertyBlock last_properties
    cdef Text last_text[3]
    cdef list last_str

    cdef int make_room(self, Py_ssize_t size) except -1
    cdef int shrink(self, Py_ssize_t capacity) except -1
    cdef bint frame_waits(self) noexcept
    cdef object cut(self)
    cdef Content content_of(self, unsigned int channel_id)
    cdef bint confirms(self, unsigned int channel_id, uint64_t tag, bint multiple) except -1
    cdef int forget(self, Content content) except -1
    cdef int check_frame(self, unsigned int frame_type, unsigned int channel_id, uint64_t size) except -1
    cdef bint is_as_last(self, Py_ssize_t start, Py_ssize_t end) noexcept
    cdef object on_method_frame(self, unsigned int channel_id, Py_ssize_t start, Py_ssize_t end)
    cdef object on_header_frame(self, unsigned int channel_id, Py_ssize_t start, Py_ssize_t end)
    cdef PropertyBlock properties_at(self, const unsigned char *data, Py_ssize_t length)
    cdef Message whole_delivery(
        self, unsigned int channel_id, object channel, str tag, uint64_t number, bint redelivered,
        str exchange, str routing_key,
    )
    cdef Deliveries deliveries_of(self, channel)
    cdef int begin_body(self, unsigned int channel_id, uint64_t size) except -1
    cdef object fill_body(self)
    cdef object complete(self, Content content)
    cdef str short_string(self, const unsigned char *text, int size, int place, str method)
