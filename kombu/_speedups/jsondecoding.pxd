"""What decodes JSON text, for messages to be so without a detour."""

from cpython.object cimport PyObject

cdef enum:
    KEYS = 128


cdef class Decoder:
    cdef object plain
    cdef object typed
    cdef object escaped
    cdef object malformed
    cdef object otherwise
    # Short keys that were met before, each at a place that its octets say; NULL where none was.
    cdef PyObject *keys[KEYS]

    cdef object decode(self, s)
