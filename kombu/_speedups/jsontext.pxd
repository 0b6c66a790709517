"""What decodes a JSON text, for messages to be decoded without a detour."""


cdef class Decoder:
    cdef object plain
    cdef object typed
    cdef object escaped
    cdef object malformed
    cdef object otherwise

    cdef object decode(self, s)
