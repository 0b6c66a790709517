"""Lending resources: what is done each time that one is acquired and released.

The places are those of :mod:`kombu._pure.places`; :class:`kombu.resource.Resource` does the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from .places import CLOSED, FULL, VACANT, SlotPool
from .stock import Place

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

_L = TypeVar("_L", bound="Lent")

_FOREVER: Final = float("inf")

#: How often this process, or one that it was forked from, was forked.
generation = 0


def _renew() -> None:
    global generation
    generation += 1


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_renew)


class Lent:
    """A resource that knows its pool; to be derived from."""

    #: The pool that it belongs to, if it does to one.
    _pool: Any = None

    def __enter__(self: _L) -> _L:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        if exc_val is None or not self._replaced_after(exc_val):
            self.release()

    def _replaced_after(self, exc: BaseException) -> bool:
        """Let the pool replace what *exc*, which ended a use of this, has spoilt; return whether this was it itself."""
        return False

    def release(self) -> None:
        """Give this back to the pool that it came from, if it came from one; harmless where that was done before."""
        pool = self._pool
        if pool is not None:
            pool.release(self)


class Return:
    """Return one resource to its pool; this is the ``release`` of resources whose class has none that does.

    The two refer to each other, since ``pool.acquire().release()`` and a ``release`` passed on have to work.  So one is
    made for each resource, not for each use, and the pool unties them when it lets the resource go.
    """

    __slots__ = ("pool", "resource")

    def __init__(self, pool: Any, resource: Any) -> None:
        self.pool = pool
        self.resource = resource

    def __call__(self) -> None:
        """Return the resource to its pool; harmless where that was done before."""
        self.pool.release(self.resource)


def channel_is_open(channel: Any) -> bool:
    """Return whether *channel* can be used, as far as it says so; asks nobody."""
    is_open, closed = getattr(channel, "is_open", None), getattr(channel, "closed", None)
    if is_open is False or closed is True:
        return False
    return is_open is True or closed is False or getattr(channel, "connection", True) is not None


def verify_connection(self: Any, connection: Any) -> bool:
    """Return whether *connection* is usable still, as far as is known without asking the broker."""
    return True


def connection_is_open(connection: Any) -> bool:
    """Return whether *connection* was not lost, or was never made; the transport says what it knows already."""
    if connection._closed:
        return False
    raw, transport = connection._connection, connection._transport
    if raw is None or transport is None:
        return connection._pid is None
    return bool(transport.verify_connection(raw))


def evaluated(self: Any, resource: Any) -> Any:
    """Return *resource*, ready for use; what is lazy is made now.  (To be the method ``prepare`` of a pool.)"""
    return resource() if callable(resource) else resource


def evaluated_channel(self: Any, channel: Any) -> Any:
    """Return *channel*, ready for use: :func:`evaluated` under the name that channel pools give its argument."""
    return channel() if callable(channel) else channel


class Lender:
    """Lend resources: :meth:`acquire` and :meth:`release` of :class:`kombu.resource.Resource`, which has the rest."""

    #: Tells whether a resource is usable that came back a moment ago, or comes back now; instead of :meth:`is_usable`.
    _quick_check: Callable[[Any], Any] | None = None

    #: Seconds for which *_quick_check* is enough.
    _look_after = 0.0

    _slots: SlotPool

    if TYPE_CHECKING:

        def new(self) -> Any: ...
        def close_resource(self, resource: Any) -> None: ...
        def _after_fork(self) -> None: ...
        def _refuse(self, answer: Any, slots: SlotPool) -> NoReturn: ...
        def _let_go(self, dead: Any) -> None: ...
        def _give_up(self, item: Any) -> bool: ...
        def _tie(self, resource: Any) -> None: ...
        def _part_with(self, resource: Any, end: Callable[[Any], Any]) -> None: ...
        def _close_surplus(self, surplus: Any) -> None: ...
        def _release_stray(self, resource: Any) -> None: ...

    def _open(self, slots: SlotPool, unlimited: bool) -> None:
        """Lend from *slots*; without a limit nothing is kept."""
        self._slots = slots
        self._unlimited = unlimited
        self._generation = generation

    def _is_inherited(self) -> bool:
        """Return whether this process was forked since the pool was opened."""
        return self._generation != generation

    def prepare(self, resource: Any) -> Any:
        """Return *resource*, ready for use."""
        return resource

    def is_usable(self, resource: Any) -> bool:
        """Return whether *resource* is alive, as far as can be told without asking anybody."""
        return True

    def release_resource(self, resource: Any) -> None:
        """Do what is to be done when *resource* comes back."""

    def acquire(self, block: bool = False, timeout: float | None = None) -> Any:
        """Return a resource; its method ``release()``, or :meth:`release`, gives it back.

        Arguments:
            block: Whether to wait where all are in use. Who waits is served in order.
            timeout: Seconds to wait at most, None for ever.

        Raises:
            kombu.exceptions.LimitExceeded: if all are in use and none came back in time; it has the attributes
                ``limit`` and ``in_use``.
            RuntimeError: if the pool is closed.
        """
        if self._generation != generation:
            self._after_fork()
        slots = self._slots
        try:
            if slots._alert or (timeout is not None and timeout < 0):
                place = slots._enter(block, timeout)
            else:
                place = slots._free.pop()
        except IndexError:
            place = slots._enter(block, timeout)
        item = place.thing
        if item is FULL or item is CLOSED:
            self._refuse(item, slots)
        try:
            if item is not VACANT:
                check = self._quick_check
                if check is None or (
                    self._look_after != _FOREVER and not monotonic() - place.since < self._look_after
                ):
                    check = self.is_usable
                if not check(item):
                    dead, item = item, VACANT
                    slots._drop(place)
                    self._let_go(dead)
            if item is VACANT:
                item = self.new()
            resource = self.prepare(item)
            if resource is item and place.tied:
                place.thing = VACANT
                slots._out[id(resource)] = place
            else:
                self._tie(resource)
                slots._send_out(place, resource)
        except BaseException:
            self._abandon(slots, place, item)
            raise
        return resource

    def _abandon(self, slots: SlotPool, place: Place, item: Any) -> None:
        """Give *place* back, which could not be filled; *item* was meant for it."""
        keep = False
        try:
            keep = self._give_up(item)
        finally:
            if keep:
                place.thing = item
            elif place.thing is not VACANT:
                slots._drop(place)
            surplus = slots._leave(place)
            if surplus is not VACANT:
                self._close_surplus(surplus)

    def release(self, resource: Any) -> None:
        """Take *resource* back; harmless where that was done before.

        Raises:
            ValueError: if it belongs to another pool.
        """
        if self._generation != generation:
            self._after_fork()
        slots = self._slots
        place = slots._out.pop(id(resource), None)
        if place is None:
            self._release_stray(resource)
            return
        place.thing = resource
        if self._unlimited:
            try:
                self._part_with(resource, self.close_resource)
            finally:
                place.empty()
                slots._leave(place)
            return
        keep = False
        surplus = VACANT
        try:
            self.release_resource(resource)
            # Where there is a quick check, the next acquire is soon enough for it.
            keep = self._quick_check is not None or self.is_usable(resource)
        finally:
            if not keep:
                try:
                    self._let_go(resource)
                finally:
                    slots._drop(place)
                    surplus = slots._leave(place)
        if keep:
            if slots._alert:
                surplus = slots._settle(place)
            else:
                place.since = monotonic()
                slots._free.append(place)
                if slots._alert:
                    surplus = slots._settle()
        if surplus is not VACANT:
            self._close_surplus(surplus)
