"""Pools that a process shares: lending producers that take their connections from a pool, and pools by connection.

What :mod:`kombu.pools` is made on.
"""

from __future__ import annotations

from itertools import chain
from operator import is_
from time import monotonic
from typing import TYPE_CHECKING, Any

from . import pool

__all__ = (
    "Hashed",
    "PoolMap",
    "ProducerLender",
    "identity",
    "rejoin",
)


def rejoin(producer: Any, connection: Any) -> bool:
    """Let *producer* go on with *connection*, if it was on that last and its exchange is bound there still.

    A pooled producer mostly gets the connection that it had, and copying the exchange is most of the work otherwise.

    Returns:
        Whether it did; if not, nothing has changed.
    """
    if producer._last_connection is not connection:
        return False
    exchange = producer.exchange
    bound_to = exchange._channel
    if bound_to is None or not exchange._is_bound:
        return False
    if bound_to is producer._last_promise:
        if "__value__" in bound_to.__dict__:
            return False
    elif bound_to is not connection._default_channel or not pool.channel_is_open(bound_to):
        return False
    elif producer.on_return:
        bound_to.events["basic_return"].add(producer.on_return)
    producer.__connection__ = connection
    producer._client = None
    producer._channel = bound_to
    return True


class ProducerLender(pool.Lender):
    """Lend producers, each with a connection of *connections*; :class:`kombu.pools.ProducerPool` has the rest.

    To acquire a producer is to acquire a connection too: *block* and *timeout* hold for both together.
    """

    #: The pool of connections.
    connections: Any = None

    #: ``revive`` of the producers whose way to another connection is known here.
    _known_revive: Any = None

    #: A threading.local with the ``limits`` of this thread: block, timeout and since when.
    _patience: Any

    def acquire(self, block: bool = False, timeout: float | None = None) -> Any:
        patience = self._patience
        before = patience.limits
        patience.limits = (block, timeout, monotonic() if timeout is not None else 0.0)
        try:
            return super().acquire(block, timeout)
        finally:
            patience.limits = before

    def prepare(self, p: Any) -> Any:
        """Return the producer *p*, or the one that it promises, with a connection."""
        if callable(p):
            p = p()
        if p._channel is None:
            connection = self._acquire_connection()
            try:
                if type(p).revive is not self._known_revive or not rejoin(p, connection):
                    p.revive(connection)
            except BaseException:
                connection.release()
                raise
        return p

    def release_resource(self, resource: Any) -> None:
        """Take the connection from *resource*.

        This is before its place is free: whoever gets that finds a connection.
        """
        self._take_connection(resource)

    def _acquire_connection(self) -> Any:
        """Acquire a connection, within what is left of the time."""
        block, timeout, since = self._patience.limits
        if block and timeout is not None:
            timeout = max(since + timeout - monotonic(), 0.0)
        return self.connections.acquire(block, timeout)

    def _take_connection(self, producer: Any) -> None:
        """Return the connection of *producer* to its pool, once."""
        connection, producer.__connection__ = producer.__connection__, None
        producer._channel = producer._client = None
        if connection:
            connection.release()


class Hashed(list[Any]):
    """A list that is hashed by its attribute *hashvalue*; to be derived from."""

    __slots__ = ("hashvalue",)

    hashvalue: int

    def __hash__(self) -> int:  # type: ignore[override]
        return self.hashvalue


def identity(self: Any) -> Any:
    """Return what a connection is equal by, as a key; the same one as before if its parameters have not changed."""
    known = self._known_identity
    if known is not None:
        key, options, items = known
        if (
            self.hostname is key[1]
            and self.virtual_host is key[4]
            and self.port is key[5]
            and self.userid is key[2]
            and self.password is key[3]
            and self.transport_cls is key[0]
            and self.transport_options is options
            and items is not None
            and _same_items(options, items)
        ):
            return key
    return self._new_identity()


def _same_items(options: dict[Any, Any], items: tuple[Any, ...]) -> bool:
    """Return whether *options* has the very items that *items* has, as names and values in turn."""
    if len(options) * 2 != len(items):
        return False
    if not items:
        return True
    there = tuple(chain.from_iterable(options.copy().items()))
    return len(there) == len(items) and all(map(is_, there, items))


class PoolMap(dict[Any, Any]):
    """A dict of pools that files them under what their keys are equal by; see :class:`kombu.pools.PoolGroup`."""

    _generation: int | None = None

    if TYPE_CHECKING:

        def _after_fork(self) -> None: ...
        def _get(self, key: Any) -> Any: ...
        def __missing__(self, key: Any) -> Any: ...

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._generation = pool.generation

    def __getitem__(self, key: Any) -> Any:
        if self._generation != pool.generation:
            self._after_fork()
            self._generation = pool.generation
        if getattr(type(key), "__eqhash__", None) is not identity:
            return self._get(key)
        found = self.get(identity(key))
        return self.__missing__(key) if found is None else found
