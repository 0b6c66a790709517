"""Decode AMQP 0-9-1 arguments, tables and content properties, compiled.

:mod:`kombu._pure.decoding` is the reference and says the same in plain Python.  Here, :func:`check_block` has code of
its own, since it is called for every message and must not make objects.
"""

from __future__ import annotations

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint16_t, uint64_t
from libc.string cimport memcmp

from kombu._speedups.wire cimport Cursor, is_utf8, load16, load32, load64, load_double, load_float, take

from kombu._lazy import LazyModule, amqp_errors

__all__ = (
    "MAX_DEPTH",
    "check_properties",
    "decode_arguments",
    "decode_properties",
    "decode_table",
)

cdef extern from "Python.h":
    # Declared here without Cython's check of the result: a failure is looked into where it happens.
    PyObject *decode_utf8 "PyUnicode_DecodeUTF8" (const char *data, Py_ssize_t size, const char *errors)
    const char *utf8_of "PyUnicode_AsUTF8AndSize" (object text, Py_ssize_t *size) except NULL
    int PyErr_ExceptionMatches(object exception)
    void PyErr_Clear()

cdef extern from *:
    """
    /* Give Cython the exception that is already set. */
    static PyObject *kombu_reraise(void) { return NULL; }
    """
    object reraise "kombu_reraise" ()

#: Which build this is; kombu._core wants the number that it knows.
ABI = 1

MAX_DEPTH = DEEPEST

#: 9999-12-31T23:59:59, the last second that a datetime can hold.
cdef uint64_t LAST_SECOND = 253402300799

# What few messages need.
cdef object datetime = LazyModule("datetime")
cdef object decimal = LazyModule("decimal")

cdef object TEN = 10

#: Names and argument letters of the properties of class basic; the flag of the first is 0x8000, and so on down.
cdef tuple PROPERTY_NAMES = (
    "content_type",
    "content_encoding",
    "application_headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)
cdef const char *PROPERTY_LETTERS = "ssFoossssLssss"

#: Short strings that most messages carry; one object each serves them all.
cdef tuple COMMON_TEXTS = (
    "utf-8",
    "binary",
    "application/json",
    "application/data",
    "text/plain",
    "application/x-python-serialize",
    "application/x-msgpack",
)
cdef enum:
    COMMON_COUNT = 7
cdef const char *COMMON_DATA[COMMON_COUNT]
cdef Py_ssize_t COMMON_SIZES[COMMON_COUNT]
for _position in range(COMMON_COUNT):
    COMMON_DATA[_position] = utf8_of(COMMON_TEXTS[_position], &COMMON_SIZES[_position])
del _position


def decode_table(data, Py_ssize_t offset=0):
    """Decode a field table that starts with its length at *offset* of *data*.

    Returns the table and the offset behind it.  Keys and strings that are not UTF-8 come back as bytes, timestamps
    as naive UTC datetimes.  Raises :exc:`~amqp.exceptions.FrameSyntaxError` for anything malformed or nested deeper
    than :data:`MAX_DEPTH` (section 4.2.5.5).
    """
    cdef bytes raw = as_bytes(data)
    cdef Cursor cursor
    start(&cursor, raw, offset)
    table = read_table(&cursor, 1)
    return table, cursor.offset


def decode_arguments(str format not None, data, Py_ssize_t offset=0):
    """Decode the arguments that *format* names, one letter each, from *data* at *offset*.

    Letters: ``b`` bit, ``o`` octet, ``B`` short, ``l`` long, ``L`` long long, ``f`` float, ``s`` short string,
    ``S`` long string, ``x`` byte array, ``F`` table, ``A`` array, ``T`` timestamp.  Returns the values and the
    offset behind the last.  Raises :exc:`~amqp.exceptions.FrameSyntaxError`.
    """
    cdef bytes raw = as_bytes(data)
    cdef Cursor cursor
    cdef Py_UCS4 letter
    cdef unsigned int bits = 0, bits_left = 0
    cdef list values = []
    start(&cursor, raw, offset)
    for letter in format:
        if letter == "b":
            if not bits_left:
                bits = need(&cursor, "bits", 1)[0]
                bits_left = 8
            values.append(True if bits & 1 else False)
            bits >>= 1
            bits_left -= 1
        else:
            bits_left = 0
            values.append(read_argument(&cursor, letter))
    return values, cursor.offset


def decode_properties(data, Py_ssize_t offset=0):
    """Decode the property flags and list of a content header of class basic; they end where *data* ends.

    Keys are ``content_type``, ``content_encoding``, ``application_headers``, ``delivery_mode``, ``priority``,
    ``correlation_id``, ``reply_to``, ``expiration``, ``message_id``, ``timestamp`` (an int), ``type``, ``user_id``,
    ``app_id`` and ``cluster_id``, as far as present.  Raises :exc:`~amqp.exceptions.FrameSyntaxError`, also for
    flags that class basic does not have and for bytes left over (section 4.2.6.1).
    """
    cdef bytes raw = as_bytes(data)
    cdef Cursor cursor
    start(&cursor, raw, offset)
    return read_block(cursor.data, cursor.offset, cursor.limit)


def check_properties(data, Py_ssize_t offset=0):
    """Raise what :func:`decode_properties` would raise for the same *data*, if anything."""
    cdef bytes raw = as_bytes(data)
    cdef Cursor cursor
    start(&cursor, raw, offset)
    check_block(cursor.data, cursor.offset, cursor.limit)


cdef bytes as_bytes(data):
    if PyBytes_Check(data):
        return <bytes>data
    return bytes(memoryview(data))


cdef int start(Cursor *cursor, bytes raw, Py_ssize_t offset) except -1:
    """Set *cursor* to *offset* of *raw*, which the caller keeps alive."""
    cursor.data = <const unsigned char *>PyBytes_AS_STRING(raw)
    cursor.offset = offset
    cursor.limit = PyBytes_GET_SIZE(raw)
    if not 0 <= offset <= cursor.limit:
        raise amqp_errors.FrameSyntaxError(f"offset {offset} is outside the {cursor.limit} bytes of data")
    return 0


cdef inline const unsigned char *need(Cursor *cursor, str what, uint64_t size) except NULL:
    """Step over *size* bytes and return where they stand; raise where fewer remain."""
    cdef const unsigned char *found = take(cursor, size)
    if found == NULL:
        raise_beyond(cursor, what, size)
    return found


cdef int raise_beyond(Cursor *cursor, str what, uint64_t size) except -1:
    raise amqp_errors.FrameSyntaxError(
        f"{what} of {size} bytes at offset {cursor.offset} exceeds the {cursor.limit - cursor.offset} bytes that remain"
    )


cdef inline const unsigned char *need_short(Cursor *cursor, str length, str what, Py_ssize_t *size) except NULL:
    """Step over bytes that follow a 1-byte length; *length* and *what* name both in an error."""
    size[0] = need(cursor, length, 1)[0]
    return need(cursor, what, <uint64_t>size[0])


cdef inline const unsigned char *need_long(Cursor *cursor, str length, str what, Py_ssize_t *size) except NULL:
    """Step over bytes that follow a 4-byte length."""
    cdef uint64_t announced = load32(need(cursor, length, 4))
    cdef const unsigned char *found = need(cursor, what, announced)
    size[0] = <Py_ssize_t>announced
    return found


cdef inline str text_of(const unsigned char *data, Py_ssize_t size):
    return decode_text(data, size, "surrogatepass")


cdef str decode_text(const unsigned char *data, Py_ssize_t size, const char *errors):
    """Return the text of UTF-8 bytes, or None if they are something else."""
    cdef PyObject *made = decode_utf8(<const char *>data, size, errors)
    if made == NULL:
        if PyErr_ExceptionMatches(UnicodeDecodeError):
            PyErr_Clear()
            return None
        # Out of memory: let the failure out.
        return reraise()
    text = <object>made
    Py_DECREF(text)
    return <str>text


cdef object text_or_bytes(const unsigned char *data, Py_ssize_t size):
    text = text_of(data, size)
    return PyBytes_FromStringAndSize(<const char *>data, size) if text is None else text


cdef int raise_not_utf8(Cursor *cursor, str what, Py_ssize_t size) except -1:
    raise amqp_errors.FrameSyntaxError(f"{what} of {size} bytes at offset {cursor.offset - size} is not UTF-8")


cdef str read_short_text(Cursor *cursor):
    cdef Py_ssize_t size = 0
    cdef const unsigned char *data = need_short(cursor, "short string length", "short string", &size)
    text = text_of(data, size)
    if text is None:
        raise_not_utf8(cursor, "short string", size)
    return text


cdef str read_common_text(Cursor *cursor):
    """Read a short string that is probably one of a few."""
    cdef Cursor ahead = cursor[0]
    cdef Py_ssize_t size = 0
    cdef const unsigned char *data = need_short(&ahead, "short string length", "short string", &size)
    cdef int position
    for position in range(COMMON_COUNT):
        if size == COMMON_SIZES[position] and memcmp(data, COMMON_DATA[position], size) == 0:
            cursor.offset = ahead.offset
            return <str>COMMON_TEXTS[position]
    return read_short_text(cursor)


cdef object read_argument(Cursor *cursor, Py_UCS4 letter):
    cdef Py_ssize_t size = 0
    cdef const unsigned char *data
    if letter == "s":
        return read_short_text(cursor)
    if letter == "o":
        return need(cursor, "octet", 1)[0]
    if letter == "B":
        return load16(need(cursor, "short", 2))
    if letter == "l":
        return load32(need(cursor, "long", 4))
    if letter == "L":
        return load64(need(cursor, "long long", 8))
    if letter == "F":
        return read_table(cursor, 1)
    if letter == "S":
        data = need_long(cursor, "long string length", "long string", &size)
        text = text_of(data, size)
        if text is None:
            raise_not_utf8(cursor, "long string", size)
        return text
    if letter == "x":
        data = need_long(cursor, "byte array length", "byte array", &size)
        return PyBytes_FromStringAndSize(<const char *>data, size)
    if letter == "f":
        return <double>load_float(need(cursor, "float", 4))
    if letter == "A":
        return read_array(cursor, 1)
    if letter == "T":
        return read_timestamp(cursor)
    raise amqp_errors.FrameSyntaxError(f"argument type {chr(letter)!r} is unknown")


cdef object read_timestamp(Cursor *cursor):
    cdef uint64_t seconds = need_seconds(cursor)
    # Not datetime.fromtimestamp(): its range is the platform's.
    return datetime.datetime(1970, 1, 1) + datetime.timedelta(0, seconds)


cdef uint64_t need_seconds(Cursor *cursor) except? 0xFFFFFFFFFFFFFFFF:
    cdef uint64_t seconds = load64(need(cursor, "timestamp", 8))
    if seconds > LAST_SECOND:
        raise amqp_errors.FrameSyntaxError(
            f"timestamp {seconds} at offset {cursor.offset - 8} is later than the year 9999"
        )
    return seconds


cdef Py_ssize_t enter(Cursor *cursor, str length, str what, int depth) except -1:
    """Narrow *cursor* to the table or array that begins there; return the limit to be restored behind it."""
    cdef Py_ssize_t outer = cursor.limit
    cdef uint64_t size
    if depth > DEEPEST:
        raise amqp_errors.FrameSyntaxError(f"{what} at offset {cursor.offset} is nested deeper than {MAX_DEPTH} levels")
    size = load32(need(cursor, length, 4))
    if size > <uint64_t>(outer - cursor.offset):
        raise_beyond(cursor, what, size)
    cursor.limit = cursor.offset + <Py_ssize_t>size
    return outer


cdef dict read_table(Cursor *cursor, int depth):
    cdef Py_ssize_t size = 0
    cdef const unsigned char *data
    cdef dict table = {}
    cdef Py_ssize_t outer = enter(cursor, "table length", "table", depth)
    while cursor.offset < cursor.limit:
        data = need_short(cursor, "table key length", "table key", &size)
        key = text_or_bytes(data, size)
        table[key] = read_value(cursor, depth)
    cursor.limit = outer
    return table


cdef list read_array(Cursor *cursor, int depth):
    cdef list items = []
    cdef Py_ssize_t outer = enter(cursor, "array length", "array", depth)
    while cursor.offset < cursor.limit:
        items.append(read_value(cursor, depth))
    cursor.limit = outer
    return items


cdef object read_value(Cursor *cursor, int depth):
    """Decode one value of a table or an array: its type letter, then what the letter says."""
    cdef Py_ssize_t size = 0
    cdef const unsigned char *data
    cdef unsigned char letter = need(cursor, "value type", 1)[0]
    if letter == c"S":
        data = need_long(cursor, "long string length", "long string", &size)
        return text_or_bytes(data, size)
    if letter == c"I":
        return <int32_t>load32(need(cursor, "long", 4))
    if letter == c"t":
        return True if need(cursor, "boolean", 1)[0] else False
    if letter == c"V":
        return None
    if letter == c"F":
        return read_table(cursor, depth + 1)
    if letter == c"A":
        return read_array(cursor, depth + 1)
    if letter == c"L" or letter == c"l":
        return <int64_t>load64(need(cursor, "long long", 8))
    if letter == c"d":
        return load_double(need(cursor, "double", 8))
    if letter == c"T":
        return read_timestamp(cursor)
    if letter == c"D":
        data = need(cursor, "decimal", 5)
        places, unscaled = data[0], <int32_t>load32(data + 1)
        return decimal.Decimal(unscaled) / decimal.Decimal(TEN ** places)
    if letter == c"x":
        data = need_long(cursor, "byte array length", "byte array", &size)
        return PyBytes_FromStringAndSize(<const char *>data, size)
    if letter == c"i":
        return load32(need(cursor, "long", 4))
    if letter == c"s" or letter == c"U":
        return <int16_t>load16(need(cursor, "short", 2))
    if letter == c"u":
        return load16(need(cursor, "short", 2))
    if letter == c"b":
        return <int8_t>need(cursor, "octet", 1)[0]
    if letter == c"B":
        return need(cursor, "octet", 1)[0]
    if letter == c"f":
        return <double>load_float(need(cursor, "float", 4))
    raise_unknown_value(cursor, letter)


cdef int raise_unknown_value(Cursor *cursor, unsigned char letter) except -1:
    raise amqp_errors.FrameSyntaxError(f"value type 0x{letter:02x} at offset {cursor.offset - 1} is unknown")


cdef int skip_table(Cursor *cursor, int depth) except -1:
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t outer = enter(cursor, "table length", "table", depth)
    while cursor.offset < cursor.limit:
        need_short(cursor, "table key length", "table key", &size)
        skip_value(cursor, depth)
    cursor.limit = outer
    return 0


cdef int skip_array(Cursor *cursor, int depth) except -1:
    cdef Py_ssize_t outer = enter(cursor, "array length", "array", depth)
    while cursor.offset < cursor.limit:
        skip_value(cursor, depth)
    cursor.limit = outer
    return 0


cdef int skip_value(Cursor *cursor, int depth) except -1:
    """Step over one value of a table or an array; raise what :func:`read_value` would raise."""
    cdef Py_ssize_t size = 0
    cdef unsigned char letter = need(cursor, "value type", 1)[0]
    if letter == c"S":
        need_long(cursor, "long string length", "long string", &size)
    elif letter == c"I" or letter == c"i":
        need(cursor, "long", 4)
    elif letter == c"t":
        need(cursor, "boolean", 1)
    elif letter == c"V":
        pass
    elif letter == c"F":
        skip_table(cursor, depth + 1)
    elif letter == c"A":
        skip_array(cursor, depth + 1)
    elif letter == c"L" or letter == c"l":
        need(cursor, "long long", 8)
    elif letter == c"d":
        need(cursor, "double", 8)
    elif letter == c"T":
        need_seconds(cursor)
    elif letter == c"D":
        need(cursor, "decimal", 5)
    elif letter == c"x":
        need_long(cursor, "byte array length", "byte array", &size)
    elif letter == c"s" or letter == c"U" or letter == c"u":
        need(cursor, "short", 2)
    elif letter == c"b" or letter == c"B":
        need(cursor, "octet", 1)
    elif letter == c"f":
        need(cursor, "float", 4)
    else:
        raise_unknown_value(cursor, letter)
    return 0


cdef uint16_t read_flags(Cursor *cursor) except? 0xFFFF:
    """Read the flags in front of a property list."""
    cdef uint16_t flags = load16(need(cursor, "property flags", 2))
    if flags & 3:
        raise amqp_errors.FrameSyntaxError(
            f"property flags 0x{flags:04x} name properties that class basic does not have"
        )
    return flags


cdef int raise_left_over(Cursor *cursor) except -1:
    raise amqp_errors.FrameSyntaxError(
        f"{cursor.limit - cursor.offset} bytes are left over behind the properties at offset {cursor.offset}"
    )


cdef dict read_block(const unsigned char *data, Py_ssize_t offset, Py_ssize_t limit):
    """Decode property flags and list, which begin at *offset* of *data* and end at *limit*."""
    cdef Cursor cursor
    cdef uint16_t flags
    cdef int position
    cdef dict properties = {}
    cursor.data, cursor.offset, cursor.limit = data, offset, limit
    flags = read_flags(&cursor)
    for position in range(PROPERTY_COUNT):
        if not flags & (0x8000 >> position):
            continue
        if position < 2:
            properties[PROPERTY_NAMES[position]] = read_common_text(&cursor)
        else:
            properties[PROPERTY_NAMES[position]] = read_argument(&cursor, <Py_UCS4>PROPERTY_LETTERS[position])
    if cursor.offset != limit:
        raise_left_over(&cursor)
    return properties


cdef int check_block(const unsigned char *data, Py_ssize_t offset, Py_ssize_t limit) except -1:
    """Raise what :func:`read_block` would raise, without making objects."""
    cdef Cursor cursor
    cdef uint16_t flags
    cdef int position
    cdef char letter
    cdef Py_ssize_t size = 0
    cdef const unsigned char *text
    cursor.data, cursor.offset, cursor.limit = data, offset, limit
    flags = read_flags(&cursor)
    for position in range(PROPERTY_COUNT):
        if not flags & (0x8000 >> position):
            continue
        letter = PROPERTY_LETTERS[position]
        if letter == c"s":
            text = need_short(&cursor, "short string length", "short string", &size)
            if not is_utf8(text, size):
                raise_not_utf8(&cursor, "short string", size)
        elif letter == c"F":
            skip_table(&cursor, 1)
        elif letter == c"o":
            need(&cursor, "octet", 1)
        else:
            need(&cursor, "long long", 8)
    if cursor.offset != limit:
        raise_left_over(&cursor)
    return 0


cdef object read_header(Cursor *cursor, const char *name, Py_ssize_t size):
    """Step over the table that begins at *cursor* and return the value of the key *name* in it, or None."""
    cdef Py_ssize_t key_size = 0
    cdef const unsigned char *key
    cdef Py_ssize_t outer = enter(cursor, "table length", "table", 1)
    found = None
    while cursor.offset < cursor.limit:
        key = need_short(cursor, "table key length", "table key", &key_size)
        if key_size == size and memcmp(key, name, size) == 0:
            found = read_value(cursor, 1)
        else:
            skip_value(cursor, 1)
    cursor.limit = outer
    return found
