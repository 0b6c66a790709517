"""From JSON text, compiled; :mod:`kombu._pure.jsondecoding` is the reference.

The standard scanner took half the time of consuming a message.  So what is plain is read here: ASCII text of objects,
arrays, strings, integers of up to 18 digits, true, false and null.  A string with escapes and any other number are left to
the standard scanner one by one; the whole text is left to it as soon as anything else is met, be it a typed object or an
error, about which only the standard library has to know.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.string cimport memchr, memcmp, memcpy, memset, strncmp

__all__ = ("make_decoder",)

ABI = 1

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    #define KEEPS_KEYS 0
    #else
    #define KEEPS_KEYS 1
    #endif
    """
    bint KEEPS_KEYS

cdef extern from "Python.h":
    int PyUnicode_KIND(object text)
    const void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    str PyUnicode_New(Py_ssize_t size, unsigned int largest)

cdef enum:
    ONE_BYTE = 1
    KEY_SIZE = 10
    # Nested deeper than that is left to the standard scanner, which minds the stack.
    DEEPEST = 50
    # More digits than these may not fit into a long long.
    DIGITS = 18
    # Longer keys are not kept.
    LONGEST = 32

cdef const char *KEY = b'"__type__"'
cdef str KEY_TEXT = '"__type__"'
cdef object UNUSUAL = object()


cdef struct Scan:
    # What has just these comes first, borrowed; the octets of the text are followed by a NUL.
    PyObject *text
    PyObject *plain
    PyObject **keys
    const char *data
    Py_ssize_t at
    Py_ssize_t size


cdef object scan_text(Decoder decoder, str text):
    """Return what *text* stands for, or UNUSUAL."""
    cdef Scan scan
    cdef PyObject *keys[KEYS]
    scan.text, scan.plain = <PyObject *>text, <PyObject *>decoder.plain
    scan.data, scan.at, scan.size = <const char *>PyUnicode_DATA(text), 0, PyUnicode_GET_LENGTH(text)
    if KEEPS_KEYS:
        scan.keys = decoder.keys
        return scan_whole(&scan)
    # Threads would have to wait for each other; so a text has keys of its own.
    memset(keys, 0, sizeof(keys))
    scan.keys = keys
    try:
        return scan_whole(&scan)
    finally:
        forget(keys)


cdef void forget(PyObject **keys) noexcept:
    for i in range(KEYS):
        Py_XDECREF(keys[i])
        keys[i] = NULL


cdef object scan_whole(Scan *scan):
    value = scan_value(scan, 0)
    skip_space(scan)
    return value if scan.at == scan.size else UNUSUAL


cdef inline void skip_space(Scan *scan) noexcept:
    cdef char octet = scan.data[scan.at]
    while octet == c" " or octet == c"\n" or octet == c"\r" or octet == c"\t":
        scan.at += 1
        octet = scan.data[scan.at]


cdef inline bint takes(Scan *scan, char octet) noexcept:
    """Go to what follows any space, and behind it if that is *octet*; return whether it is."""
    skip_space(scan)
    if scan.data[scan.at] != octet:
        return False
    scan.at += 1
    return True


cdef object scan_value(Scan *scan, int depth):
    """Return the value that begins here, and go behind it; or return UNUSUAL."""
    cdef const char *data = scan.data + scan.at
    if data[0] == c'"':
        return scan_string(scan)
    if data[0] == c"-" or c"0" <= data[0] <= c"9":
        return scan_number(scan)
    if data[0] == c"{" and depth < DEEPEST:
        return scan_object(scan, depth + 1)
    if data[0] == c"[" and depth < DEEPEST:
        return scan_array(scan, depth + 1)
    if strncmp(data, b"null", 4) == 0:
        scan.at += 4
        return None
    if strncmp(data, b"true", 4) == 0:
        scan.at += 4
        return True
    if strncmp(data, b"false", 5) == 0:
        scan.at += 5
        return False
    return UNUSUAL


cdef object scan_otherwise(Scan *scan):
    """Have the standard scanner read the string or number that begins here."""
    cdef Py_ssize_t end
    value, end = <tuple?>(<object>scan.plain)(<object>scan.text, scan.at)
    if not scan.at < end <= scan.size:
        return UNUSUAL
    scan.at = end
    return value


cdef inline Py_ssize_t plain_size(Scan *scan) noexcept:
    """Return how many characters are between the quotation mark here and the next, or -1 if one is unusual."""
    cdef const unsigned char *data = <const unsigned char *>scan.data + scan.at + 1
    cdef const unsigned char *end = <const unsigned char *>memchr(data, c'"', scan.size - scan.at - 1)
    cdef unsigned char unusual = 0
    cdef Py_ssize_t i
    if end == NULL:
        return -1
    for i in range(end - data):
        unusual |= (data[i] < 0x20) | (data[i] == c"\\")
    return -1 if unusual else end - data


cdef str ascii_text(const char *data, Py_ssize_t size):
    if size == 0:
        return ""
    text = PyUnicode_New(size, 0x7F)
    memcpy(<void *>PyUnicode_DATA(text), data, size)
    return text


cdef object scan_string(Scan *scan):
    cdef Py_ssize_t size = plain_size(scan)
    if size < 0:
        return scan_otherwise(scan)
    text = ascii_text(scan.data + scan.at + 1, size)
    scan.at += size + 2
    return text


cdef object scan_number(Scan *scan):
    cdef Py_ssize_t first = scan.at + (scan.data[scan.at] == c"-")
    cdef Py_ssize_t at = first
    cdef long long number = 0
    while c"0" <= scan.data[at] <= c"9" and at - first <= DIGITS:
        number = 10 * number + (scan.data[at] - c"0")
        at += 1
    if (
        not 0 < at - first <= DIGITS
        or (scan.data[first] == c"0" and at - first > 1)
        or scan.data[at] == c"."
        or scan.data[at] == c"e"
        or scan.data[at] == c"E"
    ):
        return scan_otherwise(scan)
    if first > scan.at:
        number = -number
    scan.at = at
    return number


cdef str scan_key(Scan *scan):
    """Return the key that begins here, and go behind it; or return None if it is unusual."""
    cdef Py_ssize_t size = plain_size(scan)
    cdef const char *data = scan.data + scan.at
    cdef unsigned int place = 0
    cdef Py_ssize_t i
    cdef PyObject *known
    if size < 0 or (size == KEY_SIZE - 2 and memcmp(data, KEY, KEY_SIZE) == 0):
        return None
    scan.at += size + 2
    data += 1
    if size > LONGEST:
        return ascii_text(data, size)
    for i in range(size):
        place = 31 * place + <unsigned char>data[i]
    place %= KEYS
    known = scan.keys[place]
    if (
        known != NULL
        and PyUnicode_GET_LENGTH(<object>known) == size
        and memcmp(PyUnicode_DATA(<object>known), data, size) == 0
    ):
        return <str>known
    key = ascii_text(data, size)
    Py_INCREF(key)
    scan.keys[place] = <PyObject *>key
    Py_XDECREF(known)
    return key


cdef object scan_object(Scan *scan, int depth):
    cdef dict found = {}
    scan.at += 1
    if takes(scan, c"}"):
        return found
    while scan.data[scan.at] == c'"':
        key = scan_key(scan)
        if key is None or not takes(scan, c":"):
            return UNUSUAL
        skip_space(scan)
        value = scan_value(scan, depth)
        if value is UNUSUAL:
            return UNUSUAL
        found[key] = value
        if takes(scan, c"}"):
            return found
        if not takes(scan, c","):
            return UNUSUAL
        skip_space(scan)
    return UNUSUAL


cdef object scan_array(Scan *scan, int depth):
    cdef list found = []
    scan.at += 1
    if takes(scan, c"]"):
        return found
    while True:
        value = scan_value(scan, depth)
        if value is UNUSUAL:
            return UNUSUAL
        found.append(value)
        if takes(scan, c"]"):
            return found
        if not takes(scan, c","):
            return UNUSUAL
        skip_space(scan)


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

    def __dealloc__(self):
        forget(self.keys)

    def __call__(self, s):
        """Decode a JSON text."""
        return self.decode(s)

    cdef object decode(self, s):
        cdef Py_ssize_t size, end
        cdef const char *data
        cdef bint needs_hook
        if type(s) is not str:
            return self.otherwise(s)
        if PyUnicode_IS_COMPACT_ASCII(s):
            try:
                value = scan_text(self, <str>s)
            except StopIteration:
                return self.otherwise(s)
            except ValueError as error:
                if not isinstance(error, self.malformed):
                    raise
                return self.otherwise(s)
            if value is not UNUSUAL:
                return value
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
    """Return what decodes a JSON text; see :func:`kombu._pure.jsondecoding.make_decoder`."""
    cdef Decoder decoder = Decoder.__new__(Decoder)
    decoder.plain = plain
    decoder.typed = typed
    decoder.escaped = escaped
    decoder.malformed = malformed
    decoder.otherwise = otherwise
    return decoder
