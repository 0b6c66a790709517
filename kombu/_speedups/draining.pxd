"""What a connection is drained by, for the connection's class that stands above it."""

from kombu._speedups.drain cimport Receiver


cdef class Tap:
    cdef readonly object drain
    #: Whose method that is, if it is a receive loop's own; it is then called without a detour.
    cdef Receiver receiver
    cdef readonly long process


cdef class Drains:
    # Without fields, so that a class may have this base and another one that is compiled.
    pass
