"""To JSON text, compiled; :mod:`kombu._pure.jsonencoding` is the reference.

The standard encoder took longer than all else in publishing but the system call.  So what is plain is written here: dicts
with keys of text, lists, tuples, texts, numbers, true, false and null, all of exactly these types, for which the standard
encoder runs no code of anybody's.  Texts that need escapes are left to it one by one, and the whole object as soon as
something is met that is not plain.
"""

cimport cython
from cpython.dict cimport PyDict_Next
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.math cimport isfinite
from libc.string cimport memcpy, strlen

__all__ = ("make_encoder",)

ABI = 1

cdef extern from "Python.h":
    const void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    str PyUnicode_New(Py_ssize_t size, unsigned int largest)
    char *PyOS_double_to_string(double value, char format, int precision, int flags, int *kind) except NULL
    int Py_DTSF_ADD_DOT_0

cdef enum:
    # Nested deeper than that is left to the standard encoder, which says what is wrong with a circle.
    DEEPEST = 50
    # Octets of text that need no memory from the heap.
    SMALL = 1024


cdef struct Text:
    PyObject *chunks
    char *data
    Py_ssize_t used
    Py_ssize_t size
    char small[SMALL]


cdef inline char *room(Text *text, Py_ssize_t octets) except NULL:
    """Return where the next *octets* go; who fills it counts them in ``used``."""
    if text.size - text.used < octets:
        grow(text, octets)
    return text.data + text.used


cdef int grow(Text *text, Py_ssize_t octets) except -1:
    cdef Py_ssize_t size = 2 * text.size + octets
    cdef char *data
    if text.data == text.small:
        data = <char *>PyMem_Malloc(size)
        if data != NULL:
            memcpy(data, text.small, text.used)
    else:
        data = <char *>PyMem_Realloc(text.data, size)
    if data == NULL:
        raise MemoryError(f"no memory for a JSON text of {size} octets")
    text.data, text.size = data, size
    return 0


cdef inline int put(Text *text, const char *data, Py_ssize_t octets) except -1:
    memcpy(room(text, octets), data, octets)
    text.used += octets
    return 0


cdef bint write_value(Text *text, value, int depth) except -1:
    """Write *value* and return True; return False if it is not plain, after which *text* is of no use."""
    kind = type(value)
    if kind is str:
        return write_string(text, <str>value)
    elif kind is int:
        return write_int(text, value)
    elif kind is dict:
        return depth < DEEPEST and write_dict(text, <dict>value, depth + 1)
    elif kind is list:
        return depth < DEEPEST and write_list(text, <list>value, depth + 1)
    elif kind is tuple:
        return depth < DEEPEST and write_tuple(text, <tuple>value, depth + 1)
    elif kind is float:
        return write_float(text, value)
    elif value is None:
        put(text, b"null", 4)
    elif value is True:
        put(text, b"true", 4)
    elif value is False:
        put(text, b"false", 5)
    else:
        return False
    return True


cdef bint write_string(Text *text, str value) except -1:
    cdef Py_ssize_t i, size = PyUnicode_GET_LENGTH(value)
    cdef const unsigned char *data
    cdef unsigned char *to
    cdef unsigned char unusual = 0
    if PyUnicode_IS_COMPACT_ASCII(value):
        data = <const unsigned char *>PyUnicode_DATA(value)
        to = <unsigned char *>room(text, size + 2)
        to[0] = c'"'
        to += 1
        # Without a way out, so that compilers look at many characters at once.
        for i in range(size):
            to[i] = data[i]
            unusual |= (data[i] < 0x20) | (data[i] == c'"') | (data[i] == c"\\") | (data[i] == 0x7F)
        if not unusual:
            to[size] = c'"'
            text.used += size + 2
            return True
    escaped = "".join((<object>text.chunks)(value, 0))
    if not PyUnicode_IS_COMPACT_ASCII(escaped):
        return False
    put(text, <const char *>PyUnicode_DATA(escaped), PyUnicode_GET_LENGTH(escaped))
    return True


cdef bint write_int(Text *text, value) except -1:
    cdef char digits[20]
    cdef int overflow = 0
    cdef int at = 20
    cdef long long number = PyLong_AsLongLongAndOverflow(value, &overflow)
    cdef unsigned long long left
    if overflow:
        return False
    left = <unsigned long long>number
    if number < 0:
        left = 0 - left
    while True:
        at -= 1
        digits[at] = <char>(c"0" + left % 10)
        left //= 10
        if left == 0:
            break
    if number < 0:
        at -= 1
        digits[at] = c"-"
    put(text, digits + at, 20 - at)
    return True


cdef bint write_float(Text *text, double value) except -1:
    cdef char *digits
    if not isfinite(value):
        return False
    digits = PyOS_double_to_string(value, c"r", 0, Py_DTSF_ADD_DOT_0, NULL)
    try:
        put(text, digits, strlen(digits))
    finally:
        PyMem_Free(digits)
    return True


cdef bint write_dict(Text *text, dict value, int depth) except -1:
    cdef Py_ssize_t position = 0
    cdef PyObject *key
    cdef PyObject *item
    cdef bint first = True
    put(text, b"{", 1)
    with cython.critical_section(value):
        while PyDict_Next(value, &position, &key, &item):
            name, element = <object>key, <object>item
            if type(name) is not str:
                return False
            if not first:
                put(text, b", ", 2)
            first = False
            if not write_string(text, <str>name):
                return False
            put(text, b": ", 2)
            if not write_value(text, element, depth):
                return False
    put(text, b"}", 1)
    return True


cdef bint write_list(Text *text, list value, int depth) except -1:
    cdef Py_ssize_t i = 0
    put(text, b"[", 1)
    with cython.critical_section(value):
        while i < PyList_GET_SIZE(value):
            if i:
                put(text, b", ", 2)
            # Held, since a thread that runs beside this one may take it out of the list.
            element = <object>PyList_GET_ITEM(value, i)
            if not write_value(text, element, depth):
                return False
            i += 1
    put(text, b"]", 1)
    return True


cdef bint write_tuple(Text *text, tuple value, int depth) except -1:
    cdef Py_ssize_t i
    put(text, b"[", 1)
    for i in range(PyTuple_GET_SIZE(value)):
        if i:
            put(text, b", ", 2)
        if not write_value(text, <object>PyTuple_GET_ITEM(value, i), depth):
            return False
    put(text, b"]", 1)
    return True


cdef str plain_text(value, chunks):
    """Return the JSON text of *value*, or None if it is not plain; *chunks* is asked for texts that need escapes."""
    cdef Text text
    cdef str made
    text.chunks = <PyObject *>chunks
    text.data, text.used, text.size = text.small, 0, SMALL
    try:
        if not write_value(&text, value, 0):
            return None
        made = PyUnicode_New(text.used, 0x7F)
        memcpy(<void *>PyUnicode_DATA(made), text.data, text.used)
        return made
    finally:
        if text.data != text.small:
            PyMem_Free(text.data)


@cython.final
cdef class Encoder:
    """What :func:`make_encoder` returns."""

    def __call__(self, o):
        """Encode an object as JSON text."""
        return self.encode(o)

    cdef object encode(self, o):
        try:
            text = plain_text(o, self.chunks)
            if text is None:
                text = "".join(self.chunks(o, 0))
        except RecursionError:
            return self.otherwise(o)
        return text


def make_encoder(chunks, otherwise):
    """Return what encodes an object as JSON text; see :func:`kombu._pure.jsonencoding.make_encoder`."""
    cdef Encoder encoder = Encoder.__new__(Encoder)
    encoder.chunks = chunks
    encoder.otherwise = otherwise
    return encoder
