"""What decides about a body, and what makes of it what the user gets, for messages."""


cdef class PropertyBlock:
    """Properties as they came over the wire; the messages that have the same may share it."""

    cdef bytes raw
    # What decides about the body, once somebody has asked: all else is decoded for each message anew.
    cdef bint is_peeked
    cdef object content_type
    cdef object content_encoding
    cdef object compression
    # Whether the encoding is a codec that the body is to be decoded with.
    cdef bint has_codec


cdef PropertyBlock make_block(bytes raw)
cdef int look_at(PropertyBlock block) except -1
cdef object deserialized(body, content_type, content_encoding, accept)
cdef object decompressed(body, compression, list errors)
cdef object text_where_encoded(bytes raw, content_encoding)
