"""What depends on the platform, on forks and on the concurrency library in use."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from importlib import import_module
from io import UnsupportedOperation
from numbers import Integral
from types import MethodType
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

# Both renew themselves in a forked child, which has to be done before the functions registered below are called there.
from kombu import forks  # noqa: F401
from kombu.exceptions import reraise

from . import objects  # noqa: F401
from .imports import LazyModule

if TYPE_CHECKING:
    from importlib import metadata as importlib_metadata
else:
    importlib_metadata = LazyModule("importlib.metadata")

__all__ = (
    "FILENO_ERRORS",
    "coro",
    "detect_environment",
    "entrypoints",
    "fileno",
    "get_gevent_concurrent_error",
    "maybe_fileno",
    "nested",
    "register_after_fork",
    "reraise",
)

#: What asking an object for its file descriptor may raise when it has none.
FILENO_ERRORS = (AttributeError, ValueError, UnsupportedOperation)

_environment: str | None = None

# Calls due in a forked child, by the order of registration. The objects are held weakly: what is forgotten
# everywhere else needs no cleaning up after a fork either.
_after_fork: WeakValueDictionary[tuple[int, Callable[[Any], Any]], Any] = WeakValueDictionary()
_registrations = itertools.count()


def register_after_fork(obj: Any, func: Callable[[Any], Any]) -> None:
    """Call ``func(obj)`` in every child that this process forks, in the order of registration.

    *obj* has to be weakly referable; it is not kept alive, not even when *func* is one of its own methods. This works
    for every fork that Python knows of (:func:`os.fork`, ``multiprocessing``, ``billiard``); where there is no fork
    nothing is ever called. An exception raised by *func* is logged and keeps nobody else from being called.
    """
    if isinstance(func, MethodType) and func.__self__ is obj:
        func = func.__func__
    _after_fork[next(_registrations), func] = obj


def _run_after_fork() -> None:
    for (_, func), obj in sorted(_after_fork.items(), key=lambda entry: entry[0][0]):
        try:
            func(obj)
        except Exception:
            logging.getLogger(__name__).exception("%r failed for %r after a fork", func, obj)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_run_after_fork)


def get_gevent_concurrent_error() -> type[BaseException] | None:
    """Return gevent's ``ConcurrentObjectUseError`` when gevent is loaded, else None.

    To be asked when it is needed, since gevent may be imported after this library.
    """
    if "gevent" not in sys.modules:
        return None
    try:
        error: type[BaseException] = import_module("gevent.exceptions").ConcurrentObjectUseError
    except (ImportError, AttributeError):
        return None
    return error


def coro(gen: Callable[..., Generator[Any, Any, Any]]) -> Callable[..., Generator[Any, Any, Any]]:
    """Make the generator function *gen* run to its first ``yield`` when called, ready for ``send``."""

    @wraps(gen)
    def start(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = gen(*args, **kwargs)
        next(generator)
        return generator

    return start


def _is_eventlet() -> bool:
    return "eventlet" in sys.modules and import_module("eventlet.patcher").is_monkey_patched(socket)


def _is_gevent() -> bool:
    return "gevent" in sys.modules and import_module("gevent.socket").socket is socket.socket


def _detect_environment() -> str:
    for name, patched in (("eventlet", _is_eventlet), ("gevent", _is_gevent)):
        try:
            if patched():
                return name
        except ImportError:
            # A module of that name that is not the real thing, or half of it.
            continue
    return "default"


def detect_environment() -> str:
    """Return who has patched the socket module: ``"eventlet"``, ``"gevent"`` or, for nobody, ``"default"``.

    The first answer is kept.
    """
    global _environment
    if _environment is None:
        _environment = _detect_environment()
    return _environment


def entrypoints(namespace: str) -> Iterator[tuple[importlib_metadata.EntryPoint, Any]]:
    """Yield every installed entry point of the group *namespace* with the object it names, loaded."""
    return ((entry_point, entry_point.load()) for entry_point in importlib_metadata.entry_points(group=namespace))


def fileno(f: Any) -> int:
    """Return the file descriptor of *f*, which may be one itself; ValueError for None."""
    if type(f) is int:
        return f
    if isinstance(f, Integral):
        return int(f)
    if f is None:
        raise ValueError("None has no file descriptor")
    number: int = f.fileno()
    return number


def maybe_fileno(f: Any) -> int | None:
    """Return the file descriptor of *f*, or None where it has none."""
    try:
        return fileno(f)
    except FILENO_ERRORS:
        return None


@contextmanager
def nested(*managers: AbstractContextManager[Any]) -> Iterator[list[Any]]:
    """Enter *managers* in turn and leave them in reverse, as one context manager; its value lists theirs."""
    with ExitStack() as stack:
        yield [stack.enter_context(manager) for manager in managers]
