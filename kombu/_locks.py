"""Make locks that a ``with`` statement releases, whatever the handler of a signal raises.

Between taking a lock and the beginning of the block CPython runs no handlers, as a rule, so that what one raises finds
the lock either not taken yet or about to be released.  CPython 3.14 does run them there: an exception that comes up
then leaves the lock taken for ever.  What it runs none after is the step of a loop, by which the locks made here are
taken in that version; in others they are those of :mod:`threading`.

This module imports nothing of the package, so that every other module, both cores included, may use it.
"""

from __future__ import annotations

import sys
import threading
from functools import partial

from ._lazy import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

__all__ = ("Attempt", "Busy", "new_lock", "new_reentrant_lock")


#: What else a handler may raise comes out as it is.
_STOPPED = "the handler of a signal raised StopIteration while a lock was waited for"


class Busy(Exception):
    """A lock was not to be had in time; raised by the ``with`` statement, never within its block."""


class Attempt:
    """Take a lock in a ``with`` statement, if it can be had.

    After ``lock.acquire(timeout=1)`` no version can tell whether an exception came up before the lock was taken.

    Arguments:
        lock: of :mod:`threading`, or made here.
        blocking: whether to wait for it.
        timeout: seconds to wait at most; for ever if negative.

    Raises:
        Busy: another thread has it.
    """

    # As a slot it is found like a method and is the one of the lock: a function of Python's would begin with a moment
    # at which handlers run.
    __slots__ = ("__exit__", "_attempts")

    def __init__(self, lock: Any, blocking: bool = True, timeout: float = -1) -> None:
        self._attempts = iter(partial(lock.acquire, blocking, timeout), None)
        self.__exit__ = lock.__exit__

    def __enter__(self) -> None:
        for taken in self._attempts:
            if not taken:
                raise Busy
            return
        raise InterruptedError(_STOPPED)


class _Lock:
    """Be a lock of :mod:`threading`, taken by the step of a loop."""

    __slots__ = ("__exit__", "_lock", "acquire", "release")

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self.__exit__ = lock.__exit__
        self.acquire = lock.acquire
        self.release = lock.release

    def __enter__(self) -> bool:
        for _ in iter(self.acquire, None):
            return True
        raise InterruptedError(_STOPPED)

    def locked(self) -> bool:
        return bool(self._lock.locked())


#: Whether handlers run between taking a lock and the beginning of the block.
_HANDLED_BETWEEN = sys.implementation.name == "cpython" and sys.version_info[:2] == (3, 14)


# Those of the module, not imported by name: gevent and eventlet may replace them later.
if _HANDLED_BETWEEN:

    def new_lock() -> Any:
        """Return a lock like :class:`threading.Lock`."""
        return _Lock(threading.Lock())

    def new_reentrant_lock() -> Any:
        """Return a lock like :class:`threading.RLock`."""
        return _Lock(threading.RLock())

else:

    def new_lock() -> Any:
        """Return a lock like :class:`threading.Lock`."""
        return threading.Lock()

    def new_reentrant_lock() -> Any:
        """Return a lock like :class:`threading.RLock`."""
        return threading.RLock()
