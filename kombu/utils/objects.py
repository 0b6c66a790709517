"""Attributes that are computed once."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from threading import RLock

from .._lazy import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, TypeVar, overload

    T = TypeVar("T")

__all__ = ("cached_property",)

_NOT_FOUND: Any = object()

class _Turn:
    """Let one thread at a time work on one attribute of one instance, and that thread as often as it likes."""

    __slots__ = ("depth", "lock")

    def __init__(self) -> None:
        self.lock = RLock()
        self.depth = 0


# Those being worked on now, by id() of property and instance; an entry lives only while a frame holds both.
_busy: dict[tuple[int, int], _Turn] = {}

if hasattr(os, "register_at_fork"):
    # The threads whose turn it was do not exist in a child.
    os.register_at_fork(after_in_child=_busy.clear)


def _enter(key: tuple[int, int]) -> _Turn:
    while True:
        turn = _busy.setdefault(key, _Turn())
        turn.lock.acquire()
        if _busy.get(key) is turn:
            turn.depth += 1
            return turn
        # It was over when we got it: nothing is protected by it any more.
        turn.lock.release()


def _leave(key: tuple[int, int], turn: _Turn) -> None:
    turn.depth -= 1
    if not turn.depth and _busy.get(key) is turn:
        del _busy[key]
    turn.lock.release()


class cached_property(functools.cached_property["T"]):
    """Compute an attribute on first use and keep it in the ``__dict__`` of the instance.

    ``@name.setter`` defines ``fset(self, value)``, which returns what is to be kept when the attribute is assigned;
    ``@name.deleter`` defines ``fdel(self, value)``, called with the kept value when the attribute is deleted, if there
    was one.

    Safe for threads: for one instance the getter runs once at a time, and those who wait get its result. Instances do
    not wait for each other, and a value that is there is read without a lock.
    """

    def __init__(
        self,
        fget: Callable[[Any], T] = None,  # type: ignore[assignment]
        fset: Callable[[Any, Any], Any] | None = None,
        fdel: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        super().__init__(fget)
        self._fset = fset
        self._fdel = fdel

    def _values(self, instance: Any) -> Any:
        """Return the ``__dict__`` of *instance*."""
        if self.attrname is None:
            raise TypeError("Cannot use a cached_property that was never given a name: assign it in a class body.")
        try:
            return instance.__dict__
        except AttributeError:
            raise TypeError(
                f"No '__dict__' attribute on {type(instance).__name__!r} instance to cache {self.attrname!r} property."
            ) from None

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type[Any] | None = None) -> cached_property[T]: ...
        @overload
        def __get__(self, instance: object, owner: type[Any] | None = None) -> T: ...

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        if instance is None:
            return self
        name: Any = self.attrname
        try:
            return instance.__dict__[name]
        except (AttributeError, KeyError):
            values = self._values(instance)
        key = id(self), id(instance)
        turn = _enter(key)
        try:
            value = values.get(name, _NOT_FOUND)
            if value is _NOT_FOUND:
                value = values[name] = self.func(instance)
            return value
        finally:
            _leave(key, turn)

    def __set__(self, instance: Any, value: Any) -> Any:
        if instance is None:
            return self
        values = self._values(instance)
        key = id(self), id(instance)
        turn = _enter(key)
        try:
            values[self.attrname] = value if self._fset is None else self._fset(instance, value)
        finally:
            _leave(key, turn)

    def __delete__(self, instance: Any) -> Any:
        if instance is None:
            return self
        values = self._values(instance)
        key = id(self), id(instance)
        turn = _enter(key)
        try:
            value = values.pop(self.attrname, _NOT_FOUND)
            if self._fdel is not None and value is not _NOT_FOUND:
                self._fdel(instance, value)
        finally:
            _leave(key, turn)

    def setter(self, fset: Callable[[Any, Any], Any]) -> cached_property[T]:
        """Return a copy of this property that passes assigned values through *fset*."""
        return type(self)(self.func, fset, self._fdel)

    def deleter(self, fdel: Callable[[Any, Any], Any]) -> cached_property[T]:
        """Return a copy of this property that gives deleted values to *fdel*."""
        return type(self)(self.func, self._fset, fdel)
