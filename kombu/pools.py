"""Pools that the whole process shares: ``connections[connection]`` and ``producers[connection]``."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from . import forks
from ._core import shared
from .connection import Connection, ConnectionPool
from .log import get_logger
from .messaging import Producer
from .resource import Resource
from .utils.collections import EqualityDict, eqhash
from .utils.functional import lazy

if TYPE_CHECKING:
    from . import messaging

__all__ = (
    "Connections",
    "PoolGroup",
    "ProducerPool",
    "Producers",
    "connections",
    "get_limit",
    "producers",
    "register_group",
    "reset",
    "set_limit",
)

logger = get_logger(__name__)

_Group = TypeVar("_Group", bound="PoolGroup")

_limit: list[int] = [10]
_groups: list[PoolGroup] = []

#: As the limit of a group: the one that :func:`set_limit` sets.
use_global_limit: Any = object()

disable_limit_protection = os.environ.get("KOMBU_DISABLE_LIMIT_PROTECTION")


class _Patience(threading.local):
    """How long this thread is willing to wait for a connection."""

    #: Whether to wait, for how many seconds at most, and since when.
    limits: tuple[bool, float | None, float] = (True, None, 0.0)


class ProducerPool(shared.ProducerLender, Resource):
    """Share producers that take their connections from a pool.

    A producer has a connection while it is in use. To acquire one is to acquire both: *block* and *timeout* hold for
    the connection too, so a thread never waits longer for a connection than it would for a producer.

    Arguments:
        connections: A :class:`~kombu.connection.ConnectionPool`.
        Producer: Used instead of :class:`kombu.Producer`.
    """

    Producer: Any = Producer
    close_after_fork = True

    if TYPE_CHECKING:

        def acquire(self, block: bool = False, timeout: float | None = None) -> messaging.Producer: ...

    def __init__(self, connections: ConnectionPool, *args: Any, **kwargs: Any) -> None:
        self.connections = connections
        self.Producer = kwargs.pop("Producer", None) or self.Producer
        self._patience = _Patience()
        self._known_revive = Producer.revive
        super().__init__(*args, **kwargs)

    def setup(self) -> None:
        """Have a lazy in each place: producers are made when they are needed."""
        for _ in range(self._limit or 0):
            if not self._slots.put(self.new()):
                break

    def create_producer(self) -> Any:
        """Make a producer, with a connection."""
        connection = self._acquire_connection()
        try:
            return self.Producer(connection)
        except BaseException:
            connection.release()
            raise

    def new(self) -> lazy:
        return lazy(self.create_producer)

    def close_resource(self, resource: Any) -> None:
        if not isinstance(resource, lazy):
            self._take_connection(resource)


class PoolGroup(shared.PoolMap, EqualityDict):
    """Pools by what they are made from; one is made when it is first asked for.

    Arguments:
        limit: The limit of each pool, or :data:`use_global_limit`.
        close_after_fork: Whether a forked child forgets pools that do not look after that themselves.
    """

    def __init__(self, limit: Any = None, close_after_fork: bool = True) -> None:
        super().__init__()
        self.limit = limit
        self.close_after_fork = close_after_fork
        self._pid = forks.pid
        self._creating = forks.ProcessLock()

    def create(self, resource: Any, limit: int | None) -> Any:
        """Make the pool for *resource*; subclasses say how."""
        raise NotImplementedError("PoolGroups must define ``create``")

    def _get(self, key: Any) -> Any:
        """Return the pool for *key*, which is no connection, or has another idea of what it is equal by."""
        pool = self.get(eqhash(key))
        return self.__missing__(key) if pool is None else pool

    def __missing__(self, key: Any) -> Any:
        with self._creating.current():
            identity = eqhash(key)
            if identity not in self:
                limit = get_limit() if self.limit is use_global_limit else self.limit
                self[key] = self.create(key, limit)
            return self.get(identity)

    def _after_fork(self) -> None:
        with self._creating.current():
            if self._pid != forks.pid and self.close_after_fork:
                for identity, pool in list(self.items()):
                    if not getattr(pool, "close_after_fork", False):
                        self.pop(identity)
            self._pid = forks.pid


def register_group(group: _Group) -> _Group:
    """Let :func:`set_limit` and :func:`reset` reach the pools of *group*; return it."""
    _groups.append(group)
    return group


class Connections(PoolGroup):
    """Connection pools by connection."""

    if TYPE_CHECKING:

        def __getitem__(self, key: Any) -> ConnectionPool: ...

    def create(self, connection: Connection, limit: int | None) -> ConnectionPool:
        return connection.Pool(limit=limit)


#: The connection pools of this process: ``connections[connection].acquire()``.
connections = register_group(Connections(limit=use_global_limit))


class Producers(PoolGroup):
    """Producer pools by connection; they share the pools of :data:`connections`."""

    if TYPE_CHECKING:

        def __getitem__(self, key: Any) -> ProducerPool: ...

    def create(self, connection: Connection, limit: int | None) -> ProducerPool:
        return ProducerPool(connections[connection], limit=limit)


#: The producer pools of this process: ``producers[connection].acquire()``.
producers = register_group(Producers(limit=use_global_limit))


def _all_pools() -> Iterator[Any]:
    return chain.from_iterable(list(group.values()) for group in _groups)


def get_limit() -> int:
    """Return the limit of the pools of groups that have none of their own; 0 is none."""
    return _limit[0]


def set_limit(limit: int | None, force: bool = False, reset_after: bool = False, ignore_errors: bool = False) -> int:
    """Set the limit of all pools, now and from now on; return it.

    Arguments:
        limit: None and 0 set none.
        force, reset_after, ignore_errors: Passed to :meth:`~kombu.resource.Resource.resize`.

    Raises:
        TypeError: if *limit* is a bool.
        RuntimeError: if a pool is in use and would shrink, without *force* and *ignore_errors*; the others are resized.
    """
    if isinstance(limit, bool):
        raise TypeError(f"limit must be an int or None, not a bool: {limit!r}")
    new = limit or 0
    if new == (_limit[0] or 0):
        return new
    _limit[0] = new
    first: Exception | None = None
    for pool in _all_pools():
        try:
            pool.resize(new, force=force, ignore_errors=ignore_errors, reset=reset_after)
        except Exception as exc:
            first = first or exc
    if first is not None:
        raise first
    return new


def reset(*args: Any, **kwargs: Any) -> None:
    """Close all pools, and forget them; the next use makes new ones."""
    for pool in _all_pools():
        try:
            pool.force_close_all()
        except Exception:
            logger.warning("cannot close all resources of %r", pool, exc_info=True)
    for group in _groups:
        group.clear()
