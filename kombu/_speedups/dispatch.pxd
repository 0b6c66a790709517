"""What a channel calls for each delivery, for the receive loop to call without a detour."""


cdef class Dispatcher:
    cdef readonly object consumer
    cdef readonly object finished
    #: The consumer's attributes, where they can be had from there.
    cdef dict namespace
    #: The last class of messages seen whose decode() is the core's own, and its version then.
    cdef object plain
    cdef unsigned int plain_version

    cdef object dispatch(self, object message)
    cdef object lookup(self, str name)
