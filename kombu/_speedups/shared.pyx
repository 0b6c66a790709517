"""Pools that a process shares; the compiled twin of :mod:`kombu._pure.shared`."""

from time import monotonic

cimport cython

from kombu._speedups.objects cimport pool_keep, pool_lends, pool_version_of
from kombu._speedups.pool cimport (
    OWN_ACQUIRE, OWN_PREPARE, OWN_RELEASE_RESOURCE, Lender, _channel_is_open, generation,
)

__all__ = (
    "Hashed",
    "PoolMap",
    "ProducerLender",
    "identity",
    "rejoin",
)

#: See kombu._core.ABI.
ABI = 1


cdef extern from *:
    """
    #define hashed_compare(a, b, op) PyList_Type.tp_richcompare(a, b, op)
    """
    object hashed_compare(object a, object b, int op)


def rejoin(producer, connection):
    """Let *producer* go on with *connection*, if it was on that last and its exchange is bound there still.

    A pooled producer mostly gets the connection that it had, and copying the exchange is most of the work otherwise.

    Returns:
        Whether it did; if not, nothing has changed.
    """
    return _rejoin(producer, connection)


cdef bint _rejoin(producer, connection) except -1:
    if producer._last_connection is not connection:
        return False
    exchange = producer.exchange
    bound_to = exchange._channel
    if bound_to is None or not exchange._is_bound:
        return False
    if bound_to is producer._last_promise:
        if "__value__" in bound_to.__dict__:
            return False
    elif bound_to is not connection._default_channel or not _channel_is_open(bound_to):
        return False
    elif producer.on_return:
        bound_to.events["basic_return"].add(producer.on_return)
    producer.__connection__ = connection
    if producer._client is not None:
        producer._client = None
    producer._channel = bound_to
    return True


@cython.auto_pickle(False)
cdef class ProducerLender(Lender):
    """Lend producers, each with a connection of *connections*; :class:`kombu.pools.ProducerPool` has the rest.

    To acquire a producer is to acquire a connection too: *block* and *timeout* hold for both together.
    """

    cdef object _connections
    #: Pools of connections that it had before: who has just read one goes on with it.
    cdef list _had
    #: ``revive`` of the producers whose way to another connection is known here.
    cdef public object _known_revive
    #: A threading.local with the ``limits`` of this thread: block, timeout and since when.
    cdef public object _patience

    @property
    def connections(self):
        """The pool of connections."""
        return self._connections

    @connections.setter
    def connections(self, pool):
        if self._had is None:
            self._had = []
        if self._connections is not pool:
            self._had.append(self._connections)
        self._connections = pool

    def prepare(self, p):
        """Return the producer *p*, or the one that it promises, with a connection."""
        if callable(p):
            p = p()
        if p._channel is None:
            block, timeout, since = self._patience.limits
            self._join(p, block, timeout, since)
        return p

    def release_resource(self, resource):
        """Take the connection from *resource*.

        This is before its place is free: whoever gets that finds a connection.
        """
        self._part(resource)

    def _acquire_connection(self):
        block, timeout, since = self._patience.limits
        return self._connect(block, timeout, since)

    def _take_connection(self, producer):
        """Return the connection of *producer* to its pool, once."""
        self._part(producer)

    cdef int _own_hooks(self) except -1:
        cls = type(self)
        return (
            Lender._own_hooks(self)
            | (OWN_PREPARE if cls.prepare is ProducerLender.prepare else 0)
            | (OWN_RELEASE_RESOURCE if cls.release_resource is ProducerLender.release_resource else 0)
        )

    cdef object _ready(self, item, int own, bint block, timeout, double since):
        if own & OWN_PREPARE and not callable(item):
            if item._channel is None:
                self._join(item, block, timeout, since)
            return item
        patience = self._patience
        before = patience.limits
        patience.limits = (block, timeout, since)
        try:
            return self.prepare(item)
        finally:
            patience.limits = before

    cdef object _make(self, bint block, timeout, double since):
        patience = self._patience
        before = patience.limits
        patience.limits = (block, timeout, since)
        try:
            return self.new()
        finally:
            patience.limits = before

    cdef int _welcome_back(self, resource, int own) except -1:
        if own & OWN_RELEASE_RESOURCE:
            self._part(resource)
        else:
            self.release_resource(resource)
        return 0

    cdef object _connect(self, bint block, timeout, double since):
        """Acquire a connection, within what is left of the time."""
        # Kept by this object; a reference of its own would be counted, by all threads, in one word.
        cdef void *pool = <void *>self._connections
        if block and timeout is not None:
            timeout = max(since + timeout - <double>monotonic(), 0.0)
        if pool_lends(pool, <void *>Lender) and (<Lender>pool)._hooks() & OWN_ACQUIRE:
            return (<Lender>pool)._lend(block, timeout)
        return (<object>pool).acquire(block, timeout)

    cdef int _join(self, producer, bint block, timeout, double since) except -1:
        """Give a connection to *producer*."""
        connection = self._connect(block, timeout, since)
        try:
            if type(producer).revive is not self._known_revive or not _rejoin(producer, connection):
                producer.revive(connection)
        except BaseException:
            connection.release()
            raise
        return 0

    cdef int _part(self, producer) except -1:
        connection = producer.__connection__
        if connection is not None:
            producer.__connection__ = None
        producer._channel = None
        if producer._client is not None:
            producer._client = None
        if connection:
            connection.release()
        return 0


@cython.auto_pickle(False)
cdef class Hashed(list):
    """A list that is hashed by its attribute *hashvalue*; to be derived from."""

    cdef public object hashvalue

    def __hash__(self):
        return self.hashvalue

    def __richcmp__(self, other, int op):
        # What defines one of the two does not get the other from list.
        return hashed_compare(self, other, op)


cdef bint _same_parameters(connection, tuple known) except -1:
    """Return whether *connection* has the parameters still for which *known* was made: (key, options, their items)."""
    cdef list key = <list>known[0]
    cdef tuple items
    cdef Py_ssize_t at = 0
    if (
        connection.hostname is not key[1]
        or connection.virtual_host is not key[4]
        or connection.port is not key[5]
        or connection.userid is not key[2]
        or connection.password is not key[3]
        or connection.transport_cls is not key[0]
    ):
        return False
    options = connection.transport_options
    if options is not known[1] or known[2] is None:
        return False
    items = <tuple>known[2]
    if not options:
        return not items
    if len(options) * 2 != len(items):
        return False
    for name, value in options.items():
        if at + 1 >= len(items) or name is not items[at] or value is not items[at + 1]:
            return False
        at += 2
    return True


def identity(self):
    """Return what a connection is equal by, as a key; the same one as before if its parameters have not changed."""
    return _identity(self)


cdef object _identity(connection):
    known = connection._known_identity
    if known is not None and _same_parameters(connection, <tuple?>known):
        return (<tuple>known)[0]
    return connection._new_identity()


@cython.auto_pickle(False)
cdef class PoolMap(dict):
    """A dict of pools that files them under what their keys are equal by; see :class:`kombu.pools.PoolGroup`."""

    cdef long _generation
    #: Version of the class of keys that have :func:`identity`.
    cdef unsigned int _known_version

    def __cinit__(self):
        self._generation = generation

    def __getitem__(self, key):
        if self._generation != generation:
            self._after_fork()
            self._generation = generation
        cdef unsigned int version = pool_version_of(key)
        if version == 0 or version != self._known_version:
            if getattr(type(key), "__eqhash__", None) is not identity:
                return self._get(key)
            self._known_version = pool_version_of(key)
        pool = (<dict>self).get(_identity(key))
        return self.__missing__(key) if pool is None else pool


pool_keep(PoolMap.__getitem__)
