"""Encode AMQP 0-9-1 arguments, tables and content properties, compiled.

:mod:`kombu._pure.encoding` is the reference and says the same in plain Python.
"""

from __future__ import annotations

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check
from cpython.long cimport PyLong_Check
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport int32_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from kombu._speedups.decoding cimport DEEPEST, PROPERTY_COUNT, PROPERTY_LETTERS, PROPERTY_NAMES
from kombu._speedups.wire cimport store16, store32, store64, store_double

import struct
from operator import index

from kombu._lazy import LazyModule, amqp_errors

__all__ = ("encode_arguments", "encode_properties", "encode_table")

cdef extern from "Python.h":
    # Declared here without Cython's check of the result: a failure is looked into where it happens.
    const char *utf8_of "PyUnicode_AsUTF8AndSize" (PyObject *text, Py_ssize_t *size)
    int PyErr_ExceptionMatches(object exception)
    void PyErr_Clear()
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1

cdef extern from *:
    """
    /* Give Cython the exception that is already set. */
    static PyObject *kombu_reraise(void) { return NULL; }
    """
    object reraise "kombu_reraise" ()

#: Which build this is; kombu._core wants the number that it knows.
ABI = 1

LONG_MAX = 0xFFFFFFFF
LONGLONG_MAX = 0xFFFFFFFFFFFFFFFF

cdef object TEN = 10
cdef object StructError = struct.error

# What few messages need.
cdef object calendar = LazyModule("calendar")
cdef object datetime = LazyModule("datetime")
cdef object decimal = LazyModule("decimal")


# -- the place where it is put


cdef void begin(Writer *out) noexcept nogil:
    out.data = out.inline
    out.size = 0
    out.capacity = INLINE_SIZE


cdef void finish(Writer *out) noexcept:
    if out.data != out.inline:
        PyMem_Free(out.data)


cdef unsigned char *room(Writer *out, Py_ssize_t size) except NULL:
    """Append *size* bytes and return where they stand, valid until the next call."""
    if size > out.capacity - out.size:
        grow(out, size)
    out.size += size
    return out.data + out.size - size


cdef int grow(Writer *out, Py_ssize_t size) except -1:
    cdef Py_ssize_t capacity = out.capacity
    cdef void *larger
    while size > capacity - out.size:
        capacity *= 2
    if out.data == out.inline:
        larger = PyMem_Malloc(capacity)
        if larger != NULL:
            memcpy(larger, out.data, out.size)
    else:
        larger = PyMem_Realloc(out.data, capacity)
    if larger == NULL:
        raise MemoryError(f"no memory for {capacity} bytes of arguments")
    out.data = <unsigned char *>larger
    out.capacity = capacity
    return 0


cdef bytes written(Writer *out):
    return PyBytes_FromStringAndSize(<const char *>out.data, out.size)


# -- what is put there


def encode_table(table):
    """Encode *table* as a field table, its 4-byte length included.

    Values may be str, bytes, bool, int (64 bit), float, Decimal, datetime, dict, list, tuple and None.  Raises
    :exc:`~amqp.exceptions.FrameSyntaxError` for a value of another type or nested deeper than :data:`MAX_DEPTH`,
    :exc:`struct.error` for one out of range, :exc:`TypeError` for a key that is not a string (section 4.2.5.5).
    """
    cdef Writer out
    begin(&out)
    try:
        write_table(&out, table or {}, 1)
        return written(&out)
    finally:
        finish(&out)


def encode_arguments(str format not None, values):
    """Encode *values* by the letters of *format*, those of :func:`decode_arguments`.

    Consecutive bits share octets.  Where there are fewer values than letters the rest is left out; a value too many
    raises :exc:`IndexError`.  Otherwise raises as :func:`encode_table` does.
    """
    cdef Writer out
    cdef Py_ssize_t position = 0, letters = len(format)
    cdef Py_UCS4 letter
    cdef int bit = 0
    begin(&out)
    try:
        for value in values:
            if position >= letters:
                raise IndexError("string index out of range")
            letter = format[position]
            position += 1
            if letter == "b":
                if bit % 8 == 0:
                    room(&out, 1)[0] = 0
                if value:
                    out.data[out.size - 1] |= <unsigned char>(1 << bit % 8)
                bit += 1
            else:
                bit = 0
                write_argument(&out, letter, value)
        return written(&out)
    finally:
        finish(&out)


def encode_properties(properties):
    """Encode *properties* as property flags and list of a content header of class basic.

    Keys are those of :func:`decode_properties`; a value of None is left out, other keys are not looked at.
    Raises :exc:`struct.error`, :exc:`TypeError` or :exc:`~amqp.exceptions.FrameSyntaxError` for a value of the wrong
    type or size (section 4.2.6.1).
    """
    cdef Writer out
    cdef unsigned int flags = 0
    cdef int position
    begin(&out)
    try:
        room(&out, 2)
        for position in range(PROPERTY_COUNT):
            name = PROPERTY_NAMES[position]
            value = (<dict>properties).get(name) if type(properties) is dict else properties.get(name)
            if value is not None:
                flags |= 0x8000 >> position
                write_argument(&out, <Py_UCS4>PROPERTY_LETTERS[position], value)
        store16(out.data, <uint16_t>flags)
        return written(&out)
    finally:
        finish(&out)


cdef uint64_t as_unsigned(str what, value, uint64_t high) except? 0xFFFFFFFFFFFFFFFF:
    cdef int overflow = 0
    cdef long long number
    if PyLong_Check(value):
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if not overflow and number >= 0 and <uint64_t>number <= high:
            return <uint64_t>number
    return <uint64_t>as_integer(what, value, 0, high)


cdef object as_integer(str what, value, low, high):
    try:
        number = index(value)
    except TypeError:
        raise StructError(f"{what} has to be an integer, not {type(value).__name__}") from None
    if not low <= number <= high:
        # Python refuses to print an int of very many digits.
        shown = str(number) if number.bit_length() <= 128 else f"of {number.bit_length()} bits"
        raise StructError(f"{what} {shown} is not between {low} and {high}")
    return number


cdef int write_argument(Writer *out, Py_UCS4 letter, value) except -1:
    cdef uint64_t number
    if letter == "s":
        write_short_text(out, value)
    elif letter == "o":
        number = as_unsigned("octet", value, OCTET_MAX)
        room(out, 1)[0] = <unsigned char>number
    elif letter == "F":
        write_table(out, value or {}, 1)
    elif letter == "L":
        number = as_unsigned("long long", value, LONGLONG_MAX)
        store64(room(out, 8), number)
    elif letter == "B":
        # Whatever int() takes is taken, as amqp does.
        number = as_unsigned("short", int(value), SHORT_MAX)
        store16(room(out, 2), <uint16_t>number)
    elif letter == "l":
        number = as_unsigned("long", value, LONG_MAX)
        store32(room(out, 4), <uint32_t>number)
    elif letter == "S":
        write_long_bytes(out, "long string", value or "")
    elif letter == "x":
        write_long_bytes(out, "byte array", value or "")
    elif letter == "A":
        write_array(out, value or [], 1)
    elif letter == "f":
        packed = <bytes>struct.pack(">f", value)
        memcpy(room(out, 4), PyBytes_AS_STRING(packed), 4)
    elif letter == "T":
        write_timestamp(out, value)
    else:
        raise amqp_errors.FrameSyntaxError(f"argument type {chr(letter)!r} is unknown")
    return 0


cdef object string_of(str what, value, const char **data, Py_ssize_t *size):
    """Set *data* and *size* to the bytes of a string; they live as long as the object returned."""
    if PyUnicode_Check(value):
        data[0] = utf8_of(<PyObject *>value, size)
        if data[0] != NULL:
            return value
        if not PyErr_ExceptionMatches(UnicodeEncodeError):
            return reraise()
        PyErr_Clear()
        value = value.encode("utf-8", "surrogatepass")
    elif not PyBytes_Check(value):
        if not isinstance(value, (bytearray, memoryview)):
            raise TypeError(f"{what} has to be str or bytes, not {type(value).__name__}")
        value = bytes(value)
    data[0] = PyBytes_AS_STRING(value)
    size[0] = PyBytes_GET_SIZE(value)
    return value


cdef int write_short_text(Writer *out, value) except -1:
    return write_short_bytes(out, "short string", value or "")


cdef int write_short_bytes(Writer *out, str what, value) except -1:
    cdef const char *data = NULL
    cdef Py_ssize_t size = 0
    cdef unsigned char *to
    alive = string_of(what, value, &data, &size)
    if size > 255:
        raise StructError(f"{what} of {size} bytes is longer than {OCTET_MAX}")
    to = room(out, size + 1)
    to[0] = <unsigned char>size
    memcpy(to + 1, data, size)
    return 0


cdef int write_long_bytes(Writer *out, str what, value) except -1:
    cdef const char *data = NULL
    cdef Py_ssize_t size = 0
    cdef unsigned char *to
    alive = string_of(what, value, &data, &size)
    if <uint64_t>size > LONG_MAX:
        raise StructError(f"{what} of {size} bytes is longer than {LONG_MAX}")
    to = room(out, size + 4)
    store32(to, <uint32_t>size)
    memcpy(to + 4, data, size)
    return 0


cdef int write_timestamp(Writer *out, value) except -1:
    cdef uint64_t seconds = as_unsigned("timestamp", calendar.timegm(value.utctimetuple()), LONGLONG_MAX)
    store64(room(out, 8), seconds)
    return 0


cdef int write_table(Writer *out, table, int depth) except -1:
    cdef Py_ssize_t begins
    if depth > DEEPEST:
        raise amqp_errors.FrameSyntaxError(f"table is nested deeper than {DEEPEST} levels")
    room(out, 4)
    begins = out.size
    for key, value in table.items():
        write_short_bytes(out, "table key", key)
        if not write_value(out, value, depth):
            raise amqp_errors.FrameSyntaxError(
                f"value {value!r} of type {type(value).__name__} for key {key!r} cannot stand in a table"
            )
    return fill_length(out, begins)


cdef int write_array(Writer *out, items, int depth) except -1:
    cdef Py_ssize_t begins
    if depth > DEEPEST:
        raise amqp_errors.FrameSyntaxError(f"array is nested deeper than {DEEPEST} levels")
    room(out, 4)
    begins = out.size
    for value in items:
        if not write_value(out, value, depth):
            raise amqp_errors.FrameSyntaxError(
                f"value {value!r} of type {type(value).__name__} cannot stand in an array"
            )
    return fill_length(out, begins)


cdef int fill_length(Writer *out, Py_ssize_t begins) except -1:
    if <uint64_t>(out.size - begins) > LONG_MAX:
        raise StructError(f"table or array of {out.size - begins} bytes is longer than {LONG_MAX}")
    store32(out.data + begins - 4, <uint32_t>(out.size - begins))
    return 0


cdef bint write_value(Writer *out, value, int depth) except -1:
    """Append one value of a table or array, its type letter first; return whether there is a type for it."""
    cdef unsigned char *to
    cdef long long number
    cdef int overflow = 0
    if PyUnicode_Check(value) or PyBytes_Check(value):
        room(out, 1)[0] = c"S"
        write_long_bytes(out, "long string", value)
    elif value is True or value is False:
        to = room(out, 2)
        to[0] = c"t"
        to[1] = value is True
    elif PyFloat_Check(value):
        to = room(out, 9)
        to[0] = c"d"
        store_double(to + 1, PyFloat_AS_DOUBLE(value))
    elif PyLong_Check(value):
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow:
            as_integer("long long", value, -(2**63), 2**63 - 1)
        # -2**31 would fit a long, but amqp sends it as a long long.
        if -0x7FFFFFFF <= number <= 0x7FFFFFFF:
            to = room(out, 5)
            to[0] = c"I"
            store32(to + 1, <uint32_t><int32_t>number)
        else:
            to = room(out, 9)
            to[0] = c"L"
            store64(to + 1, <uint64_t>number)
    elif value is None:
        room(out, 1)[0] = c"V"
    elif isinstance(value, dict):
        room(out, 1)[0] = c"F"
        write_table(out, value, depth + 1)
    elif isinstance(value, (list, tuple)):
        room(out, 1)[0] = c"A"
        write_array(out, value, depth + 1)
    elif isinstance(value, decimal.Decimal):
        write_decimal(out, value)
    elif isinstance(value, datetime.datetime):
        room(out, 1)[0] = c"T"
        write_timestamp(out, value)
    else:
        return False
    return True


cdef int write_decimal(Writer *out, value) except -1:
    cdef unsigned char *to
    cdef unsigned char places
    cdef int32_t unscaled
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise TypeError(f"decimal {value} is not a finite number")
    total = 0
    for digit in digits:
        total = total * TEN + digit
    places = as_integer("decimal places", -exponent, 0, 255)
    unscaled = as_integer("unscaled decimal", -total if sign else total, -(2**31), 2**31 - 1)
    to = room(out, 6)
    to[0] = c"D"
    to[1] = places
    store32(to + 2, <uint32_t>unscaled)
    return 0
