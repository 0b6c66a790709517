"""From a connection to its receive loop, compiled; :mod:`kombu._pure.draining` says more."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from kombu._speedups.drain cimport Receiver
from kombu._speedups.objects cimport has_plain_attributes, is_function, pool_version_of, version_of_attributes

import os

from kombu._speedups.drain import Receiver as _Receiver

__all__ = ("Drains", "Tap", "UNSET")

ABI = 1

cdef extern from "Python.h":
    PyObject *PyMethod_GET_SELF(object)

#: Stands for an argument that was not given.
UNSET = ...

cdef object unset = UNSET
cdef object plain_drain = _Receiver.drain_events
#: Which process this is, asked for once.
cdef long process = os.getpid()


def _renew():
    global process
    process = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


# The connection that was drained last: the versions of its class and its attributes, and its tap, which they hold.
cdef unsigned int last_class = 0
cdef uint64_t last_attributes = 0
cdef PyObject *last_tap = NULL


cdef object tap_of(connection):
    """Return the connection's ``_tap``."""
    global last_class, last_attributes, last_tap
    cdef unsigned int class_version = pool_version_of(connection)
    cdef uint64_t attributes_version = version_of_attributes(connection)
    if class_version and attributes_version and class_version == last_class and attributes_version == last_attributes:
        return <object>last_tap
    tap = connection._tap
    if attributes_version and has_plain_attributes(connection) and vars(connection).get("_tap") is tap is not None:
        last_tap = <PyObject *>tap
        last_class, last_attributes = pool_version_of(connection), version_of_attributes(connection)
    return tap


@cython.final
@cython.auto_pickle(False)
cdef class Tap:
    """Tap(drain)
--

    A connection's receive loop, in the process that it is read in; see :class:`kombu._pure.draining.Tap`.
    """

    def __init__(self, drain):
        self.drain = drain
        self.process = process
        if is_function(drain, plain_drain):
            self.receiver = <object>PyMethod_GET_SELF(drain)


@cython.auto_pickle(False)
cdef class Drains:
    """Drains()
--

    Be what :class:`kombu.Connection` takes events with; see :class:`kombu._pure.draining.Drains`.
    """

    def drain_events(self, timeout=UNSET, max_events=1, **kwargs):
        """Wait for one event from the broker, call what is there for it, and return the number of events.

        Connects if that was never done. A connection that was lost is never replaced here, since the new one would
        have no consumers.

        Arguments:
            timeout: Seconds to wait; None for ever; 0 takes only what is there.
            max_events: Dispatch up to so many events: the first, and those that can be had without waiting. *timeout*
                is the call's: once it has passed none is begun, but 0.02 seconds are always granted them. A transport
                whose ``drain_events`` has no such argument dispatches one.

        An exception of a callback ends the call; the events that were not dispatched are there for the next one.

        Raises:
            socket.timeout: if nothing came in time.
            TypeError, ValueError: if *max_events* is no positive integer.
            Exception: one of :attr:`recoverable_connection_errors` if the connection is lost, and on every call from
                then on until :meth:`connect`, :meth:`ensure_connection`, :meth:`channel` or :attr:`default_channel`
                made a new one.
        """
        cdef object found = tap_of(self)
        cdef Tap tap
        if found is None or kwargs or type(max_events) is not int or max_events < 1:
            return self._drain_by_transport(timeout, max_events, kwargs)
        tap = found
        if tap.process != process:
            return self._drain_by_transport(timeout, max_events, kwargs)
        if timeout is unset:
            timeout = None
        try:
            if tap.receiver is not None:
                return tap.receiver.drain(timeout, max_events)
            return tap.drain(timeout, max_events)
        except Exception as error:
            self._note(error)
            raise
