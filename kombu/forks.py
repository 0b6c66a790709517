"""Know which process this is, cheaply.

A forked child inherits its parent's sockets, pools and locks.  It may use none of them: what it sends would get
between its parent's frames, and a lock that another thread of the parent held at the time is never released in it.
Asking the system who we are costs more than handling a message, so the answer is kept, and renewed after each fork.
"""

from __future__ import annotations

import os

from ._lazy import TYPE_CHECKING
from ._locks import new_lock, new_reentrant_lock

if TYPE_CHECKING:
    from typing import Any

__all__ = ("ProcessLock", "pid", "renewal")

#: The id of this process.  Read it as ``forks.pid``: an imported name would go stale in a child.
pid: int = os.getpid()


#: Held while something inherited is replaced; itself replaced in a child before anything there can run.
_renewal: Any = new_lock()


def _renew() -> None:
    global pid, _renewal
    pid = os.getpid()
    _renewal = new_lock()


def renewal() -> Any:
    """Return the lock to hold while something that was inherited from a parent process is replaced."""
    return _renewal


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_renew)


class ProcessLock:
    """Have a reentrant lock that is free in a forked child, whoever held it in the parent."""

    __slots__ = ("_lock", "_pid")

    def __init__(self) -> None:
        self._lock = new_reentrant_lock()
        self._pid = pid

    def current(self) -> Any:
        """Return the lock of this process, for a ``with`` statement."""
        if self._pid != pid:
            with renewal():
                if self._pid != pid:
                    self._lock = new_reentrant_lock()
                    self._pid = pid
        return self._lock
