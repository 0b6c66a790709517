"""What the other compiled modules may use of the decoder.

Whatever raises raises FrameSyntaxError, with the text that the pure twin has for it.
"""

from libc.stdint cimport uint16_t

from kombu._speedups.wire cimport Cursor

cdef enum:
    #: MAX_DEPTH.
    DEEPEST = 64
    PROPERTY_COUNT = 14

# Names and argument letters of the properties of class basic; the flag of the first is 0x8000, and so on down.
cdef tuple PROPERTY_NAMES
cdef const char *PROPERTY_LETTERS

cdef bytes as_bytes(object data)

cdef int check_block(const unsigned char *data, Py_ssize_t offset, Py_ssize_t limit) except -1
cdef dict read_block(const unsigned char *data, Py_ssize_t offset, Py_ssize_t limit)
cdef uint16_t read_flags(Cursor *cursor) except? 0xFFFF
cdef str read_short_text(Cursor *cursor)
cdef str read_common_text(Cursor *cursor)
cdef object read_header(Cursor *cursor, const char *name, Py_ssize_t size)

# The text of UTF-8 bytes, or None if they are something else; with "surrogatepass" surrogates are allowed.
cdef str decode_text(const unsigned char *data, Py_ssize_t size, const char *errors)
