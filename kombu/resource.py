"""Pools of anything: what :class:`kombu.connection.ConnectionPool` and its kin derive from."""

from __future__ import annotations

import os
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from itertools import count

from . import exceptions, forks
from ._core import places as _places
from ._core import pool as _pool
from ._lazy import TYPE_CHECKING, LazyLogger, LazyModule
from .utils.functional import lazy

if TYPE_CHECKING:
    import traceback
    from typing import Any, NoReturn
else:
    traceback = LazyModule("traceback")

__all__ = ("Resource",)

logger = LazyLogger(__name__)

_VACANT, _CLOSED = _places.VACANT, _places.CLOSED

#: Whether each acquire and release is printed, and what is out knows who acquired it.
_tracing = bool(os.environ.get("KOMBU_DEBUG_POOL"))


class Resource(_pool.Lender):
    """A pool of at most *limit* resources.

    Subclasses say what the resources are:

    - :meth:`new` makes one, or a :class:`~kombu.utils.functional.lazy` that will;
    - :meth:`prepare` is given it before each use, and returns what the user gets (the value of the lazy, for one);
    - :meth:`is_usable` tells whether an idle one may still be handed out;
    - :meth:`release_resource` is called when it comes back, :meth:`close_resource` when it is not needed any more, and
      :meth:`collect_resource` to let go of it at once;
    - :meth:`setup` may fill the pool in advance.

    None of them is called with a lock held.

    Arguments:
        limit: The number of resources that there may be, in use or idle. None and 0 set no limit; then nothing is kept,
            and every resource is closed when it is released.
        preload: How many resources to make at once, for subclasses that do so.
        close_after_fork: Whether the pool starts empty in a forked child, instead of the class's choice.
    """

    LimitExceeded: type[Exception] = exceptions.LimitExceeded

    close_after_fork = False

    def __init__(
        self, limit: int | None = None, preload: int | None = None, close_after_fork: bool | None = None
    ) -> None:
        _refuse_bool(limit)
        self._limit = limit
        self.preload = preload or 0
        if close_after_fork is not None:
            self.close_after_fork = close_after_fork
        self._open(self._new_slots(), not limit)
        self._pid = forks.pid
        self.setup()

    def _new_slots(self) -> _places.SlotPool:
        slots = _places.SlotPool(self._limit or _places.UNLIMITED)
        slots.lost, slots.unwanted = _Lost(self), _Unwanted(self)
        return slots

    # -- what subclasses define ----------------------------------------------------------------------------------

    def setup(self) -> None:
        """Fill the pool, when it is made or resized."""
        raise NotImplementedError("subclass responsibility")

    def new(self) -> Any:
        """Make a resource, or a lazy that makes one when :meth:`prepare` calls it."""
        raise NotImplementedError("subclass responsibility")

    def close_resource(self, resource: Any) -> None:
        """Close *resource*."""
        resource.close()

    def collect_resource(self, resource: Any) -> None:
        """Let go of *resource* without delay."""

    # -- what users call -----------------------------------------------------------------------------------------

    def _give_up(self, item: Any) -> bool:
        """Close *item*, which could not be prepared; return True if there is no need to, so that it can be kept."""
        if isinstance(item, lazy):
            return True
        try:
            if item is not _VACANT:
                self._part_with(item, self.close_resource)
        except Exception:
            logger.warning("%s: cannot close %r, which could not be prepared", type(self).__name__, item, exc_info=True)
        return False

    def _close_surplus(self, surplus: Any) -> None:
        """Close a resource that is beyond the limit by now."""
        if not isinstance(surplus, lazy):
            self._part_with(surplus, self.close_resource)

    def _refuse(self, answer: Any, slots: _places.SlotPool) -> NoReturn:
        """Raise what says why there is no place."""
        if answer is _CLOSED:
            raise RuntimeError("Acquire on closed pool")
        limit, in_use = slots.limit, slots.in_use
        exc: Any = self.LimitExceeded(
            f"{type(self).__name__}: limit of {limit} reached, {in_use} in use."
            " Release some, acquire with block=True, or raise the limit"
        )
        exc.limit, exc.in_use = limit, in_use
        raise exc

    def _tie(self, resource: Any) -> None:
        """Give *resource* a method ``release()`` that returns it here, unless its class has one that does."""
        if getattr(type(resource), "release", None) is _pool.Lent.release:
            resource._pool = self
            return
        present = getattr(resource, "release", None)
        if isinstance(present, _pool.Return) and present.pool is self:
            return
        try:
            resource.release = _pool.Return(self, resource)
        except (AttributeError, TypeError):
            # It takes no attributes, so its users call the release() of the pool.
            logger.debug("%s: %r has no room for release()", type(self).__name__, resource)

    def _release_stray(self, resource: Any) -> None:
        """Take what is not out: released twice, from another pool, or from before this one was reset."""
        if self._slots.knows(resource):
            return
        owner = resource._pool if isinstance(resource, _pool.Lent) else None
        if owner is None:
            owner = getattr(getattr(resource, "release", None), "pool", None)
        if isinstance(owner, Resource) and owner is not self:
            raise ValueError(f"{resource!r} belongs to {owner!r}, not to {self!r}: release it there")
        self._part_with(resource, self.close_resource)

    def stats(self) -> dict[str, Any]:
        """Return numbers about the pool, as a dict.

        ``limit`` (None where there is none), ``idle``, ``in_use`` and ``waiting`` (threads) are of this moment.
        ``made``, ``replaced``, ``waits`` (how often a thread had to wait) and ``waited`` (seconds, all waits together)
        count since the pool, or this process, began.
        """
        if self._pid != forks.pid:
            self._after_fork()
        return {**self._slots.stats(), "limit": self._limit or None}

    def replace(self, resource: Any) -> None:
        """Close *resource*, which is out of order, and let another one take its place."""
        reserved = self._slots.withdraw(resource)
        try:
            self._part_with(resource, self.close_resource)
        finally:
            if reserved:
                surplus = self._slots.vacate(resource, keep=False)
                if surplus is not _VACANT:
                    self._close_surplus(surplus)

    def _part_with(self, resource: Any, end: Callable[[Any], Any]) -> None:
        """Close or collect a resource that will not be handed out again."""
        _untie(resource)
        end(resource)

    def _let_go(self, dead: Any) -> None:
        """Collect a resource that is dead already, so that a failure to do it is of no consequence."""
        try:
            self._part_with(dead, self.collect_resource)
        except Exception:
            logger.warning("%s: cannot collect %r, which is dead", type(self).__name__, dead, exc_info=True)

    def force_close_all(self, close_pool: bool = True) -> None:
        """Let go of all resources, those in use included.

        Arguments:
            close_pool: Whether nothing can be acquired from then on.

        Raises:
            Exception: what the first resource raised, after all have been collected.
        """
        if self._pid != forks.pid:
            self._after_fork()
        if self._slots.closed:
            return
        out, idle = self._slots.clear(close=close_pool)
        for resource in idle:
            _untie(resource)
        # Those in use will be released one day, and closed then if their users went on with them.
        self._collect_all(out + idle)

    def _collect_all(self, resources: list[Any]) -> None:
        first: Exception | None = None
        for resource in resources:
            try:
                self.collect_resource(resource)
            except AttributeError as exc:
                # Half made or half closed already.
                logger.debug("%s: collecting %r: %r", type(self).__name__, resource, exc)
            except Exception as exc:
                first = first or exc
        if first is not None:
            raise first

    def resize(self, limit: int | None, force: bool = False, ignore_errors: bool = False, reset: bool = False) -> None:
        """Change the limit; None and 0 set none.

        Arguments:
            force: Whether to collect all resources, also those in use, where the limit becomes smaller than it was.
            ignore_errors: Whether to leave those in use alone then; what is too many is closed when it comes back.
            reset: Whether to collect all resources in any case.

        Raises:
            RuntimeError: if resources are in use, and the limit would become smaller, without *force* and
                *ignore_errors*.
        """
        _refuse_bool(limit)
        if self._pid != forks.pid:
            self._after_fork()
        before, now = self._limit or 0, limit or 0
        if 0 < now < before and self._slots.in_use and not ignore_errors:
            if not force:
                raise RuntimeError(f"Can't shrink pool when in use: was={before} now={now}")
            reset = True
        self._limit = limit
        surplus = self._slots.resize(now or _places.UNLIMITED)
        self._open(self._slots, not now)
        if not now:
            # Nothing is kept without a limit.
            surplus += iter(self._slots.take, _VACANT)
        try:
            if reset:
                self.force_close_all(close_pool=False)
        except Exception:
            logger.warning("%s: cannot close all resources", type(self).__name__, exc_info=True)
        self.setup()
        for resource in surplus:
            _untie(resource)
        self._collect_all(surplus)

    @property
    def limit(self) -> int | None:
        """The number of resources that there may be; set it as :meth:`resize` does."""
        return self._limit

    @limit.setter
    def limit(self, limit: int | None) -> None:
        self.resize(limit)

    # -- for subclasses ------------------------------------------------------------------------------------------

    def _preload(self) -> None:
        """Make as many resources in advance as were asked for."""
        missing = min(self.preload, self._limit or 0) - self._slots.in_use - len(self._slots.idle_resources())
        for _ in range(missing):
            made = self.new()
            if isinstance(made, lazy):
                made = made()
            if not self._slots.put(made):
                self.close_resource(made)

    def _after_fork(self) -> None:
        """Start anew in a forked child."""
        with forks.renewal():
            if self._pid == forks.pid:
                return
            parents = self._slots
            slots = self._new_slots()
            slots.closed = parents.closed
            out, idle = parents.inherited()
            if not self.close_after_fork:
                for resource in idle:
                    slots.put(resource)
                out = idle = []
            self._open(slots, not self._limit)
            self._pid = forks.pid
        try:
            self._collect_all(out + idle)
        except Exception:
            logger.warning("%s: cannot let go of what was inherited", type(self).__name__, exc_info=True)
        if self.close_after_fork and not slots.closed:
            self.setup()

    @property
    def _closed(self) -> bool:
        return self._slots.closed

    @_closed.setter
    def _closed(self, closed: bool) -> None:
        self._slots.closed = closed

    @property
    def _resource(self) -> IdleResources:
        return IdleResources(self)

    @property
    def _dirty(self) -> OutResources:
        return OutResources(self)


    # -- tracing ---------------------------------------------------------------------------------------------------

    if _tracing:
        _numbers = count(1)

        def acquire(self, block: bool = False, timeout: float | None = None) -> Any:
            number = next(self._numbers)
            print(f"+{number} ACQUIRE {type(self).__name__}")
            resource = super().acquire(block, timeout)
            print(f"-{number} ACQUIRE {type(self).__name__}")
            try:
                resource._resource_id = number
                resource.acquired_by = [*getattr(resource, "acquired_by", ()), traceback.format_stack()]
            except AttributeError:
                logger.debug("%s: %r has no room for who acquired it", type(self).__name__, resource)
            return resource

        def release(self, resource: Any) -> None:
            number = getattr(resource, "_resource_id", "?")
            print(f"+{number} RELEASE {type(self).__name__}")
            super().release(resource)
            print(f"-{number} RELEASE {type(self).__name__}")


class IdleResources:
    """Show the idle resources of a pool as the ``_resource`` queue that subclasses written for kombu 5.7 know.

    What is put here beyond the limit is closed, or forgotten if it is lazy.
    """

    __slots__ = ("_owner",)

    def __init__(self, owner: Resource) -> None:
        self._owner = owner

    @property
    def queue(self) -> IdleResources:
        """The resources, the next to go out last."""
        return self

    def put_nowait(self, resource: Any) -> None:
        """Add a resource."""
        if not self._owner._slots.put(resource) and not isinstance(resource, lazy):
            self._owner.close_resource(resource)

    append = put = put_nowait

    def pop(self) -> Any:
        """Remove and return the resource that would go out next."""
        resource = self._owner._slots.take()
        if resource is _VACANT:
            raise IndexError("no idle resource")
        return resource

    def qsize(self) -> int:
        """Return the number of idle resources."""
        return len(self)

    def empty(self) -> bool:
        """Return whether there is no idle resource."""
        return not len(self)

    def __len__(self) -> int:
        return len(self._owner._slots.idle_resources())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._owner._slots.idle_resources())

    def __getitem__(self, index: int) -> Any:
        return self._owner._slots.idle_resources()[index]

    def __repr__(self) -> str:
        return f"<idle: {self._owner._slots.idle_resources()!r}>"


class OutResources:
    """Show the resources of a pool that are out as the ``_dirty`` set that subclasses written for kombu 5.7 know.

    Its length counts places, so it includes those whose resource is being made.
    """

    __slots__ = ("_owner",)

    def __init__(self, owner: Resource) -> None:
        self._owner = owner

    def __len__(self) -> int:
        return self._owner._slots.in_use

    def __iter__(self) -> Iterator[Any]:
        return iter(self._owner._slots.out_resources())

    def __contains__(self, resource: Any) -> bool:
        return self._owner._slots.is_out(resource)

    def discard(self, resource: Any) -> None:
        """Give the place of *resource* back, and forget it."""
        slots = self._owner._slots
        if slots.withdraw(resource):
            surplus = slots.vacate(resource, keep=False)
            if surplus is not _VACANT:
                self._owner._close_surplus(surplus)

    def __repr__(self) -> str:
        return f"<out: {self._owner._slots.out_resources()!r}>"


class _Lost:
    """Free what a resource left behind that was dropped without release, and say so."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Resource) -> None:
        self._owner = weakref.ref(owner)

    def __call__(self) -> None:
        owner = self._owner()
        if owner is None or sys.is_finalizing():
            return
        warnings.warn(
            f"{type(owner).__name__}: a resource was dropped without release(); its place is free again",
            ResourceWarning,
            stacklevel=2,
        )


class _Unwanted:
    """Close what is beyond the limit, where nobody who could do it can be told."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Resource) -> None:
        self._owner = weakref.ref(owner)

    def __call__(self, surplus: Any) -> None:
        owner = self._owner()
        if owner is None:
            return
        try:
            owner._close_surplus(surplus)
        except Exception:
            logger.warning("%s: cannot close %r", type(owner).__name__, surplus, exc_info=True)


def _released() -> None:
    """Be the ``release`` of a resource that has left its pool: there is nothing to return."""


def _untie(resource: Any) -> None:
    if isinstance(getattr(resource, "release", None), _pool.Return):
        resource.release = _released


def _refuse_bool(limit: Any) -> None:
    if isinstance(limit, bool):
        raise TypeError(f"limit must be an int or None, not a bool: {limit!r}")
