"""What encodes JSON text, for messages to be so without a detour."""


cdef class Encoder:
    cdef object chunks
    cdef object otherwise

    cdef object encode(self, o)
