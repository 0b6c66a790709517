"""What a channel calls for each delivery, for the receive loop to call without a detour."""


from cpython.object cimport PyObject
from libc.stdint cimport uint64_t


cdef class Dispatcher:
    cdef readonly object consumer
    cdef readonly object finished
    #: The last class of messages seen whose decode() is the core's own, and its version then.
    cdef object plain
    cdef unsigned int plain_version

    #: The version of the consumer's class, and whether it has attributes elsewhere than in an instance's __dict__.
    cdef unsigned int class_version
    cdef bint intercepts
    #: What the consumer's attributes are while they and its class are of these versions, borrowed; 0 for none.
    cdef uint64_t attributes_version
    cdef PyObject *on_message
    cdef PyObject *accept
    cdef PyObject *callbacks

    cdef object dispatch(self, object message)
    cdef bint knows(self) noexcept
    cdef bint look(self, dict namespace) except -1
    cdef dict namespace(self)
    cdef object lookup(self, dict namespace, str name)
