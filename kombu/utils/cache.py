"""A bounded cache, and functions that remember their results."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from collections.abc import Callable, Iterator, KeysView
from functools import update_wrapper
from types import MethodType

from .._lazy import TYPE_CHECKING
from .._locks import new_lock, new_reentrant_lock

if TYPE_CHECKING:
    from typing import Any, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ("LRUCache", "memoize")

_NOT_FOUND: Any = object()

#: Stands between positional and keyword arguments in the keys of :func:`memoize`.
KEYWORD_MARK = object()


class _Keys(KeysView["Any"]):
    """Show the keys of an :class:`LRUCache`, oldest first; iteration gives those of the moment it began."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)})"

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self)[::-1])


class LRUCache(UserDict["Any", "Any"]):
    """Be a dict of at most *limit* items that drops the least recently used one to make room (None: no limit).

    Reading an item with ``[]`` or :meth:`get` uses it. Every operation is atomic among threads. Iterators walk over
    what was there when they were made: the cache may change meanwhile, and nothing is locked between two steps.
    """

    # Where pickles, ours and those of kombu 5.7, look for it.
    __module__ = "kombu.utils.functional"

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.mutex = new_reentrant_lock()
        self.data: OrderedDict[Any, Any] = OrderedDict()

    def __getitem__(self, key: Any) -> Any:
        with self.mutex:
            value = self.data[key]
            self.data.move_to_end(key)
            return value

    def __setitem__(self, key: Any, value: Any) -> None:
        with self.mutex:
            data, limit = self.data, self.limit
            # Only a new key needs room.
            if limit and key not in data and len(data) >= limit:
                data.popitem(last=False)
            data[key] = value

    def __delitem__(self, key: Any) -> None:
        with self.mutex:
            del self.data[key]

    def __iter__(self) -> Iterator[Any]:
        with self.mutex:
            return iter(list(self.data))

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the item of *key*, or *default*."""
        with self.mutex:
            return self[key] if key in self.data else default

    def pop(self, key: Any, default: Any = _NOT_FOUND) -> Any:
        """Remove the item of *key* and return it, or *default* where there is none; without that KeyError."""
        with self.mutex:
            return self.data.pop(key) if default is _NOT_FOUND else self.data.pop(key, default)

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        """Remove and return the (key, value) used most recently, or with ``last=False`` least recently."""
        with self.mutex:
            return self.data.popitem(last)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the item of *key*, after setting it to *default* where there is none."""
        with self.mutex:
            if key not in self.data:
                self[key] = default
            return self[key]

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set items as :meth:`dict.update` does, then drop the oldest ones above the limit."""
        with self.mutex:
            data, limit = self.data, self.limit
            data.update(*args, **kwargs)
            while limit and len(data) > limit:
                data.popitem(last=False)

    def clear(self) -> None:
        """Remove all items."""
        with self.mutex:
            self.data.clear()

    def incr(self, key: Any, delta: int = 1) -> int:
        """Add *delta* to the integer under *key*, which is kept as a str (as memcached does), and return the sum.

        Raises KeyError without such an item, ValueError or TypeError (and changes nothing) when it is no integer.
        """
        with self.mutex:
            total = int(self.data[key]) + delta
            self[key] = str(total)
            self.data.move_to_end(key)
            return total

    def keys(self) -> KeysView[Any]:
        """Return a view of the keys, least recently used first."""
        return _Keys(self)

    def values(self) -> Iterator[Any]:  # type: ignore[override]
        """Return an iterator over the values; reading them so does not use them."""
        with self.mutex:
            return iter(list(self.data.values()))

    def items(self) -> Iterator[tuple[Any, Any]]:  # type: ignore[override]
        """Return an iterator over (key, value); reading them so does not use them."""
        with self.mutex:
            return iter(list(self.data.items()))

    iterkeys = _iterate_keys = keys
    itervalues = _iterate_values = values
    iteritems = _iterate_items = items

    def copy(self) -> LRUCache:
        """Return a cache with the same limit and items and a lock of its own."""
        return self.__copy__()

    def __copy__(self) -> LRUCache:
        new = type(self).__new__(type(self))
        with self.mutex:
            new.__setstate__({**self.__getstate__(), "data": self.data.copy()})
        return new

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "mutex"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.mutex = new_reentrant_lock()


class _Memoized:
    """Call a function once for each different set of arguments; made by :func:`memoize`."""

    def __init__(
        self,
        fun: Callable[..., Any],
        cache: Any,
        keyfun: Callable[[tuple[Any, ...], dict[str, Any]], Any] | None,
    ) -> None:
        update_wrapper(self, fun)
        self.original_func = fun
        self.hits = self.misses = 0
        self._cache = cache
        self._keyfun = keyfun
        self._mutex = new_lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._keyfun is not None:
            key = self._keyfun(args, kwargs)
        else:
            key = (*args, KEYWORD_MARK, *sorted(kwargs.items()))
        with self._mutex:
            try:
                value = self._cache[key]
            except KeyError:
                pass
            else:
                self.hits += 1
                return value
        # Called without the lock: it may take long, or call this very function again.
        value = self.original_func(*args, **kwargs)
        with self._mutex:
            self.misses += 1
            self._cache[key] = value
        return value

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<memoized {self.original_func!r}>"

    def __reduce__(self) -> str:
        # As functions are pickled: by name.
        return self.original_func.__qualname__

    def clear(self) -> None:
        """Forget all results, and count anew."""
        with self._mutex:
            self._cache.clear()
            self.hits = self.misses = 0


def memoize(
    maxsize: int | None = None,
    keyfun: Callable[[tuple[Any, ...], dict[str, Any]], Any] | None = None,
    Cache: Callable[..., Any] = LRUCache,
) -> Callable[[Callable[..., Any]], Any]:
    """Make a decorator that keeps the last *maxsize* results of a function (None: all of them).

    ``keyfun(args, kwargs)`` gives the key that a result is kept under, by default made of all arguments, which have to
    be hashable. ``Cache(limit=maxsize)`` gives the mapping that keeps them. What a call raises is not kept.

    The function has the attributes ``hits``, ``misses``, ``clear()`` and ``original_func``. Threads that ask for the
    same new result at once may each compute it.
    """

    def decorate(fun: Callable[..., Any]) -> _Memoized:
        return _Memoized(fun, Cache(limit=maxsize), keyfun)

    return decorate
