"""What decodes and encodes JSON text, for messages to be so without a detour."""


cdef class Decoder:
    cdef object plain
    cdef object typed
    cdef object escaped
    cdef object malformed
    cdef object otherwise

    cdef object decode(self, s)


cdef class Encoder:
    cdef object chunks
    cdef object otherwise

    cdef object encode(self, o)
