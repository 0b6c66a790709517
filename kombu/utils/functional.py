"""Caches, lazy values, ranges, and calling again what failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, count, repeat
from time import monotonic, sleep

from .._lazy import TYPE_CHECKING, LazyModule
from .cache import LRUCache, memoize
from .encoding import safe_repr

if TYPE_CHECKING:
    import inspect
    import random
    from typing import Any
else:
    inspect, random = LazyModule("inspect"), LazyModule("random")

__all__ = (
    "ChannelPromise",
    "LRUCache",
    "accepts_argument",
    "dictfilter",
    "fxrange",
    "fxrangemax",
    "is_list",
    "lazy",
    "maybe_evaluate",
    "maybe_list",
    "memoize",
    "reprcall",
    "reprkwargs",
    "retry_over_time",
    "shufflecycle",
)

_NOT_FOUND: Any = object()


class ChannelPromise:
    """Call *contract* on the first call, and give its result on every call."""

    def __init__(self, contract: Callable[[], Any]) -> None:
        self.__contract__ = contract

    def __call__(self) -> Any:
        value = self.__dict__.get("__value__", _NOT_FOUND)
        if value is _NOT_FOUND:
            value = self.__value__ = self.__contract__()
        return value

    def __repr__(self) -> str:
        value = self.__dict__.get("__value__", _NOT_FOUND)
        return f"<promise: 0x{id(self.__contract__):x}>" if value is _NOT_FOUND else repr(value)


class lazy:
    """Stand for the result of ``fun(*args, **kwargs)``, called anew every time the value is asked for.

    Calling the object, :meth:`evaluate`, ``str()``, ``repr()`` and comparing for equality ask for it.
    """

    def __init__(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._fun = fun
        self._args = args
        self._kwargs = kwargs

    def evaluate(self) -> Any:
        """Call the function and return its result."""
        return self._fun(*self._args, **self._kwargs)

    def __call__(self) -> Any:
        return self.evaluate()

    def __str__(self) -> str:
        return str(self())

    def __repr__(self) -> str:
        return repr(self())

    def __eq__(self, rhs: object) -> bool:
        return bool(self() == rhs)

    def __ne__(self, rhs: object) -> bool:
        return bool(self() != rhs)

    # Equal to something that may change with every call, so there is nothing it could be hashed by.
    __hash__ = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, Any]) -> lazy:
        memo[id(self)] = self
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._fun,), {"_args": self._args, "_kwargs": self._kwargs}


#: Names these had before kombu 3.0.
promise = lazy


def maybe_evaluate(value: Any) -> Any:
    """Return the result of a :class:`lazy`, and anything else as it is."""
    return value.evaluate() if isinstance(value, lazy) else value


maybe_promise = maybe_evaluate


def is_list(obj: Any, scalars: Any = (Mapping, str), iters: Any = (Iterable,)) -> bool:
    """Return whether *obj* is an instance of *iters* and not of *scalars*: iterable, but no mapping and no str."""
    return isinstance(obj, iters) and not isinstance(obj, scalars or ())


def maybe_list(obj: Any, scalars: Any = (Mapping, str)) -> Any:
    """Return None and what :func:`is_list` as they are, and anything else as the only item of a list."""
    return obj if obj is None or is_list(obj, scalars) else [obj]


def dictfilter(d: Mapping[Any, Any] | None = None, **kw: Any) -> dict[Any, Any]:
    """Return a dict of what is not None in *d* and the keyword arguments, of which the latter win."""
    items = kw if d is None else dict(d, **kw)
    return {key: value for key, value in items.items() if value is not None}


def shufflecycle(it: Iterable[Any]) -> Iterator[Any]:
    """Yield items of *it* picked at random, for ever."""
    items = list(it)
    while True:
        random.shuffle(items)
        yield items[0]


def fxrange(
    start: float = 1.0, stop: float | None = None, step: float = 1.0, repeatlast: bool = False
) -> Iterator[float]:
    """Yield floats from *start* by *step* up to *stop*, which is included; without *stop* for ever.

    With *repeatlast* the last one is then yielded for ever.
    """
    value = start * 1.0
    while not stop or value <= stop:
        yield value
        value += step
    while repeatlast:
        yield value - step


def fxrangemax(
    start: float = 1.0, stop: float | None = None, step: float = 1.0, max: float = 100.0
) -> Iterator[float]:
    """Yield floats from *start* by *step*, none above *stop*, until those after the first sum up to *max*."""
    total, value = 0.0, start * 1.0
    while total < max:
        yield value
        value = min(value + step, stop) if stop else value + step
        total += value


def retry_over_time(
    fun: Callable[..., Any],
    catch: type[BaseException] | tuple[type[BaseException], ...],
    args: Iterable[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    errback: Callable[[BaseException, Iterator[float], int], float] | None = None,
    max_retries: int | None = None,
    interval_start: float = 2,
    interval_step: float = 2,
    interval_max: float = 30,
    callback: Callable[[], Any] | None = None,
    timeout: float | None = None,
) -> Any:
    """Call ``fun(*args, **kwargs)`` until it raises none of *catch*, and return its result.

    Between two calls it sleeps: *interval_start* seconds, then *interval_step* more each time, at most *interval_max*.
    ``errback(exc, intervals, retries)`` is called after each failure with the exception, the iterator of the intervals
    and the number of failures before; what it returns (usually ``next(intervals)``) is slept, *interval_max* at most.
    *callback* is called after each failure and about once a second of sleep; what it raises ends everything.

    The last exception is raised when *max_retries* calls after the first have failed (0: only one call is made; None:
    any number), or when *timeout* seconds have passed. *timeout* is one budget for all calls and sleeps: no sleep goes
    beyond it, and the last call starts when it ends. None and 0 set no limit.
    """
    call_args, call_kwargs = args or (), kwargs or {}
    ceiling = float(interval_max)
    intervals = (
        min(interval, ceiling)
        for interval in fxrange(interval_start, interval_max + interval_start, interval_step, repeatlast=True)
    )
    deadline = monotonic() + timeout if timeout else None
    for retries in count():
        try:
            return fun(*call_args, **call_kwargs)
        except catch as exc:
            if max_retries is not None and retries >= max_retries:
                raise
            if deadline is not None and monotonic() >= deadline:
                raise
            if callback is not None:
                callback()
            interval = min(float(next(intervals) if errback is None else errback(exc, intervals, retries)), ceiling)
            if interval:
                _sleep(interval, callback, deadline)


def _sleep(interval: float, callback: Callable[[], Any] | None, deadline: float | None) -> None:
    """Sleep *interval* seconds, but not beyond *deadline*; call *callback* before each full second."""
    seconds = int(interval)
    for nap in chain(repeat(1.0, seconds), [abs(seconds - interval)]):
        if callback is not None and nap == 1.0:
            callback()
        if deadline is not None:
            left = deadline - monotonic()
            if left <= 0.0:
                return
            nap = min(nap, left)
        sleep(nap)


def reprkwargs(kwargs: Mapping[str, Any], sep: str = ", ", fmt: str = "{0}={1}") -> str:
    """Return keyword arguments as they would be written in a call."""
    return sep.join(fmt.format(key, safe_repr(value)) for key, value in kwargs.items())


def reprcall(name: str, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, sep: str = ", ") -> str:
    """Return the call of *name* with *args* and *kwargs* as it would be written."""
    written = [*map(safe_repr, args or ())]
    if kwargs:
        written.append(reprkwargs(kwargs, sep))
    return f"{name}({sep.join(written)})"


def accepts_argument(func: Callable[..., Any], argument_name: str) -> bool:
    """Return whether *func* names *argument_name* among its parameters (``*args`` and ``**kwargs`` do not count)."""
    spec = inspect.getfullargspec(func)
    return argument_name in spec.args or argument_name in spec.kwonlyargs
