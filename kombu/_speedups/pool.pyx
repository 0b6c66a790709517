"""Lending resources: acquire and release; the compiled twin of :mod:`kombu._pure.pool`."""

import os
from time import monotonic

cimport cython
from libc.stdint cimport uint32_t

from kombu._speedups.objects cimport (
    PyObject_GenericSetAttr, pool_delattr, pool_keep, pool_lends, pool_share, pool_version_of,
)
from kombu._speedups.places cimport SlotPool
from kombu._speedups.slots cimport SLOTS_NONE, slot_t, slots_add, slots_at
from kombu._speedups.stock cimport now

from kombu._speedups.places import CLOSED, FULL, VACANT

__all__ = (
    "Lender",
    "Lent",
    "Return",
    "channel_is_open",
    "connection_is_open",
    "evaluated",
    "evaluated_channel",
    "verify_connection",
)

#: See kombu._core.ABI.
ABI = 1

cdef object _VACANT = VACANT
cdef object _FULL = FULL
cdef object _CLOSED = CLOSED

cdef double _FOREVER = float("inf")

#: How often this process, or one that it was forked from, was forked.
cdef long generation = 0


def _renew():
    global generation
    generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def channel_is_open(channel):
    """Return whether *channel* can be used, as far as it says so; asks nobody."""
    return _channel_is_open(channel)


cdef bint _channel_is_open(channel) except -1:
    # The connection is looked at last: it is what threads share, and a look at it is counted.
    is_open, closed = getattr(channel, "is_open", None), getattr(channel, "closed", None)
    if is_open is False or closed is True:
        return False
    return is_open is True or closed is False or getattr(channel, "connection", True) is not None


def verify_connection(self, connection):
    """Return whether *connection* is usable still, as far as is known without asking the broker."""
    return True


def connection_is_open(connection):
    """Return whether *connection* was not lost, or was never made; the transport says what it knows already."""
    return _connection_is_open(connection)


cdef bint _connection_is_open(connection) except -1:
    if connection._closed:
        return False
    raw, transport = connection._connection, connection._transport
    if raw is None or transport is None:
        return connection._pid is None
    return bool(transport.verify_connection(raw))


def evaluated(self, resource):
    """Return *resource*, ready for use; what is lazy is made now.  (To be the method ``prepare`` of a pool.)"""
    return resource() if callable(resource) else resource


def evaluated_channel(self, channel):
    """Return *channel*, ready for use: :func:`evaluated` under the name that channel pools give its argument."""
    return channel() if callable(channel) else channel


cdef frozenset _HOOKS = frozenset(["acquire", "release", "is_usable", "prepare", "release_resource"])


@cython.auto_pickle(False)
cdef class Lender:
    """Lend resources: :meth:`acquire` and :meth:`release` of :class:`kombu.resource.Resource`, which has the rest."""

    def __cinit__(self):
        pool_share(self)

    @property
    def _slots(self):
        return self._places

    @property
    def _quick_check(self):
        """Tells whether a resource is usable that came back a moment ago; instead of :meth:`is_usable`."""
        return self._check

    @_quick_check.setter
    def _quick_check(self, check):
        self._check = check
        if check is None:
            self._check_kind = CHECK_NONE
        elif check is connection_is_open:
            self._check_kind = CHECK_CONNECTION
        else:
            self._check_kind = CHECK_CHANNEL if check is channel_is_open else CHECK_OTHER

    def __setattr__(self, name, value):
        if name in _HOOKS:
            self._replaced_hook = True
        PyObject_GenericSetAttr(self, name, value)

    def __delattr__(self, name):
        pool_delattr(self, name)

    def _open(self, SlotPool slots, bint unlimited):
        """Lend from *slots*; without a limit nothing is kept."""
        self._places = slots
        self._unlimited = unlimited
        self._generation = generation

    def _is_inherited(self):
        """Return whether this process was forked since the pool was opened."""
        return self._generation != generation

    def prepare(self, resource):
        """Return *resource*, ready for use."""
        return resource

    def is_usable(self, resource):
        """Return whether *resource* is alive, as far as can be told without asking anybody."""
        return True

    def release_resource(self, resource):
        """Do what is to be done when *resource* comes back."""

    def acquire(self, bint block=False, timeout=None):
        """Return a resource; its method ``release()``, or :meth:`release`, gives it back.

        Arguments:
            block: Whether to wait where all are in use. Who waits is served in order.
            timeout: Seconds to wait at most, None for ever.

        Raises:
            kombu.exceptions.LimitExceeded: if all are in use and none came back in time; it has the attributes
                ``limit`` and ``in_use``.
            RuntimeError: if the pool is closed.
        """
        return self._lend(block, timeout)

    def release(self, resource):
        """Take *resource* back; harmless where that was done before.

        Raises:
            ValueError: if it belongs to another pool.
        """
        self._take_back(resource)

    cdef int _hooks(self) except -1:
        """Return which methods are those of this module."""
        cdef unsigned int version = pool_version_of(self)
        if version == self._version and version != 0 and not self._replaced_hook:
            return self._own
        return self._look_at_hooks()

    cdef int _look_at_hooks(self) except -1:
        cdef int own = self._own_hooks()
        if not self._replaced_hook:
            # In this order: who finds the version finds what belongs to it.
            self._own = own
            self._version = pool_version_of(self)
            return own
        for name, bits in (
            ("acquire", OWN_ACQUIRE),
            ("release", OWN_RELEASE),
            ("is_usable", OWN_USABLE),
            ("prepare", OWN_PREPARE | OWN_EVALUATED),
            ("release_resource", OWN_RELEASE_RESOURCE),
        ):
            if name in self.__dict__:
                own &= ~bits
        return own

    cdef int _own_hooks(self) except -1:
        """Return which methods the class of this object has from here."""
        cls = type(self)
        return (
            (OWN_ACQUIRE if cls.acquire is Lender.acquire else 0)
            | (OWN_RELEASE if cls.release is Lender.release else 0)
            | (OWN_USABLE if cls.is_usable is Lender.is_usable else 0)
            | (OWN_PREPARE if cls.prepare is Lender.prepare else 0)
            | (OWN_EVALUATED if cls.prepare is evaluated or cls.prepare is evaluated_channel else 0)
            | (OWN_RELEASE_RESOURCE if cls.release_resource is Lender.release_resource else 0)
        )

    cdef bint _is_alive(self, item, slot_t *slot, int own) except -1:
        """Return whether *item*, which was idle, may go out."""
        # Looked at closely only after a while: see ConnectionPool.
        if self._check_kind and slot.since and (self._look_after == _FOREVER or now() - slot.since < self._look_after):
            if self._check_kind == CHECK_CONNECTION:
                return _connection_is_open(item)
            if self._check_kind == CHECK_CHANNEL:
                return _channel_is_open(item)
            return bool(self._check(item))
        return True if own & OWN_USABLE else bool(self.is_usable(item))

    cdef object _ready(self, item, int own, bint block, timeout, double since):
        """Return what the user gets for *item*; see :meth:`ProducerLender._ready` for the other arguments."""
        if own & OWN_PREPARE:
            return item
        if own & OWN_EVALUATED:
            return item() if callable(item) else item
        return self.prepare(item)

    cdef object _make(self, bint block, timeout, double since):
        """Return a new resource."""
        return self.new()

    cdef object _lend(self, bint block, timeout):
        if self._generation != generation:
            self._after_fork()
        # The pool keeps its places alive.  A reference of its own would be counted, by all threads, in one word.
        cdef void *places = <void *>self._places
        return self._lend_from(<SlotPool>places, block, timeout)

    cdef object _lend_from(self, SlotPool places, bint block, timeout):
        cdef uint32_t index, spare = SLOTS_NONE
        cdef slot_t *slot
        cdef double since = 0.0
        cdef int own = self._hooks()
        if timeout is not None:
            since = monotonic()
        item = places._take(block, timeout, &index)
        if index == SLOTS_NONE and (item is _FULL or item is _CLOSED):
            self._refuse(item, places)
        try:
            if index != SLOTS_NONE:
                if not self._is_alive(item, slots_at(&places._slots, index), own):
                    dead, item = item, _VACANT
                    slots_add(&places._slots.replaced, 1)
                    places._empty(index)
                    index = SLOTS_NONE
                    self._let_go(dead)
            if index == SLOTS_NONE:
                item = self._make(block, timeout, since)
            resource = self._ready(item, own, block, timeout, since)
            if index == SLOTS_NONE:
                index = spare = places._spare()
            slot = slots_at(&places._slots, index)
            if resource is not item or not slot.tied:
                self._tie(resource)
            places._send_out(index, resource)
        except BaseException:
            if spare != SLOTS_NONE:
                places._empty(spare)
                index = SLOTS_NONE
            self._abandon(places, index, item)
            raise
        return resource

    cdef int _abandon(self, SlotPool places, uint32_t index, item) except -1:
        """Give back a place that could not be filled, for which *item* was meant; *index* is its slot, if it has one."""
        cdef bint keep = False
        try:
            keep = self._give_up(item)
        finally:
            if keep and index == SLOTS_NONE:
                index = places._spare()
                places._fill(index, item)
            elif not keep and index != SLOTS_NONE:
                slots_add(&places._slots.replaced, 1)
            self._discard(places._leave(index, keep))
        return 0

    cdef int _take_back(self, resource) except -1:
        if self._generation != generation:
            self._after_fork()
        cdef void *places = <void *>self._places
        return self._take_back_to(<SlotPool>places, resource)

    cdef int _take_back_to(self, SlotPool places, resource) except -1:
        cdef uint32_t index
        cdef bint keep = False
        cdef int own
        index = places._seize(resource)
        if index == SLOTS_NONE:
            self._release_stray(resource)
            return 0
        if self._unlimited:
            try:
                self._part_with(resource, self.close_resource)
            finally:
                self._discard(places._leave(index, False))
            return 0
        own = self._hooks()
        try:
            self._welcome_back(resource, own)
            # Where there is a quick check, the next acquire is soon enough for it.
            keep = self._check_kind or own & OWN_USABLE or self.is_usable(resource)
        finally:
            if not keep:
                try:
                    self._let_go(resource)
                finally:
                    slots_add(&places._slots.replaced, 1)
                    self._discard(places._leave(index, False))
        if keep:
            surplus = places._leave(index, True)
            if surplus is not _VACANT:
                self._discard(surplus)
        return 0

    cdef int _welcome_back(self, resource, int own) except -1:
        """Do what is to be done when *resource* comes back."""
        if not own & OWN_RELEASE_RESOURCE:
            self.release_resource(resource)
        return 0

    cdef int _discard(self, surplus) except -1:
        """Close what a place that was given back left over, if that is anything."""
        if surplus is not _VACANT:
            self._close_surplus(surplus)
        return 0


@cython.auto_pickle(False)
cdef class Lent:
    """A resource that knows its pool; to be derived from."""

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_val, exc_tb):
        if exc_val is None or not self._replaced_after(exc_val):
            self.release()

    def _replaced_after(self, exc):
        """Let the pool replace what *exc*, which ended a use of this, has spoilt; return whether this was it itself."""
        return False

    def release(self):
        """Give this back to the pool that it came from, if it came from one; harmless where that was done before."""
        # Not held here: the pool is kept by whoever made this its resource.
        cdef void *pool = <void *>self._pool
        if not pool_lends(pool, <void *>Lender):
            if self._pool is not None:
                self._pool.release(self)
        elif (<Lender>pool)._hooks() & OWN_RELEASE:
            (<Lender>pool)._take_back(self)
        else:
            self._pool.release(self)


@cython.final
cdef class Return:
    """Return one resource to its pool; this is the ``release`` of resources whose class has none that does.

    The two refer to each other, since ``pool.acquire().release()`` and a ``release`` passed on have to work.  So one is
    made for each resource, not for each use, and the pool unties them when it lets the resource go.
    """

    cdef readonly object pool
    cdef readonly object resource

    def __init__(self, pool, resource):
        self.pool = pool
        self.resource = resource

    def __call__(self):
        """Return the resource to its pool; harmless where that was done before."""
        cdef void *pool = <void *>self.pool
        if pool_lends(pool, <void *>Lender) and (<Lender>pool)._hooks() & OWN_RELEASE:
            (<Lender>pool)._take_back(<object><void *>self.resource)
        else:
            self.pool.release(self.resource)


for _hot in (
    Lender.acquire, Lender.release, Lent.release, Lent.__enter__, Lent.__exit__, Return.__call__, verify_connection,
):
    pool_keep(_hot)
