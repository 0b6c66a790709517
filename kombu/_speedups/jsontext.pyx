"""JSON text by the standard library's scanner and encoder; :mod:`kombu._pure.jsontext` is the reference."""

cimport cython
from libc.string cimport memchr, memcmp

__all__ = ("make_decoder", "make_encoder")

ABI = 1

cdef extern from "Python.h":
    int PyUnicode_KIND(object text)
    const void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef enum:
    ONE_BYTE = 1
    KEY_SIZE = 10

cdef const char *KEY = b'"__type__"'
cdef str KEY_TEXT = '"__type__"'


cdef bint has_key(const char *data, Py_ssize_t size) noexcept:
    """Return whether the key stands in Latin-1 text; its underscore is what most texts have least of."""
    cdef const char *end = data + size
    cdef const char *found = data
    while True:
        found = <const char *>memchr(found, c"_", end - found)
        if found == NULL:
            return False
        if found > data and end - found >= KEY_SIZE - 1 and memcmp(found - 1, KEY, KEY_SIZE) == 0:
            return True
        found += 1


@cython.final
cdef class Decoder:
    """What :func:`make_decoder` returns."""

    def __call__(self, s):
        """Decode a JSON text."""
        return self.decode(s)

    cdef object decode(self, s):
        cdef Py_ssize_t size, end
        cdef const char *data
        cdef bint needs_hook
        if type(s) is not str:
            return self.otherwise(s)
        size = PyUnicode_GET_LENGTH(s)
        if PyUnicode_KIND(s) == ONE_BYTE:
            data = <const char *>PyUnicode_DATA(s)
            needs_hook = has_key(data, size) or (
                memchr(data, c"\\", size) != NULL and self.escaped(s) is not None
            )
        else:
            needs_hook = KEY_TEXT in <str>s or ("\\" in <str>s and self.escaped(s) is not None)
        scan = self.typed if needs_hook else self.plain
        try:
            found = scan(s, 0)
        except StopIteration:
            return self.otherwise(s)
        except ValueError as error:
            if not isinstance(error, self.malformed):
                raise
            return self.otherwise(s)
        value, end = <tuple?>found
        if end == size or not (<str>s)[end:].strip(" \t\r\n"):
            return value
        return self.otherwise(s)


def make_decoder(plain, typed, escaped, malformed, otherwise):
    """Return what decodes a JSON text; see :func:`kombu._pure.jsontext.make_decoder`."""
    cdef Decoder decoder = Decoder.__new__(Decoder)
    decoder.plain = plain
    decoder.typed = typed
    decoder.escaped = escaped
    decoder.malformed = malformed
    decoder.otherwise = otherwise
    return decoder


@cython.final
cdef class Encoder:
    """What :func:`make_encoder` returns."""

    def __call__(self, o):
        """Encode an object as JSON text."""
        return self.encode(o)

    cdef object encode(self, o):
        try:
            found = self.chunks(o, 0)
        except RecursionError:
            return self.otherwise(o)
        return "".join(found)


def make_encoder(chunks, otherwise):
    """Return what encodes an object as JSON text; see :func:`kombu._pure.jsontext.make_encoder`."""
    cdef Encoder encoder = Encoder.__new__(Encoder)
    encoder.chunks = chunks
    encoder.otherwise = otherwise
    return encoder
