"""The messages of an emulated broker, who delivers them and what is known of that, for the broker in memory."""

from libc.stdint cimport uint64_t

from kombu._speedups.message cimport Message as CoreMessage


cdef class Known


cdef class Noted:
    cdef uint64_t changes
    cdef object known

    cdef int note(self, object name) except -1
    cdef uint64_t count_changes(self) noexcept
    cdef int keep(self, Known known, uint64_t changes) except -1


cdef class Known:
    #: That of the class, which has another once it or one of its bases has changed.
    cdef unsigned int version
    #: Whether anything is known: nothing is where it can change unseen.
    cdef bint holds

    cdef bint look(self, Noted noted) except -1


cdef object known_of(object thing, type kind)
cdef bint is_steady(Noted noted, unsigned int version, tuple names) except -1


cdef class KnownUnsettled(Known):
    cdef Py_ssize_t limit
    cdef dict delivered
    cdef set dirty


cdef bint has_room(KnownUnsettled known) except -1
cdef int add_delivered(KnownUnsettled known, object message, object delivery_tag) except -1


cdef class Message(CoreMessage):
    #: The payload that it was made of, and the queue that it came out of where the broker is in memory.
    cdef public object _raw
    cdef public object _queue


cdef class Delivery:
    cdef readonly object channel
    cdef readonly object queue
    cdef readonly object no_ack
    cdef readonly object callback

    cdef int hand_over(self, object message) except -1


cdef object to_base64(s)
cdef bint is_base64(dict codecs) except -1

cdef object make_message(object channel, object payload, dict codecs)

cdef int lay_route(
    object message, object body, object encoding, object delivery_tag, object exchange, object routing_key
) except -1

#: Whether a bound method is that of *function*.
cdef bint is_function(object method, object function) noexcept
