"""Say what an event loop watches, for debugging."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kombu.utils.eventio import ERR, READ, WRITE
from kombu.utils.functional import reprcall

__all__ = ("callback_for", "repr_active", "repr_events", "repr_flag", "repr_readers", "repr_writers")

_LETTERS = ((READ, "R"), (WRITE, "W"), (ERR, "!"))


def repr_flag(flag: int) -> str:
    """Return the letters of the events in *flag*: R, W and ``!`` for errors."""
    return "".join(letter for event, letter in _LETTERS if flag & event)


def _rcb(obj: Any) -> str:
    """Return the name of a callback, with its arguments if *obj* is both."""
    if obj is None:
        return "<missing>"
    if isinstance(obj, str):
        return obj
    if isinstance(obj, tuple):
        callback, args = obj
        return reprcall(_name(callback), args=args)
    return _name(obj)


def _name(callback: Any) -> str:
    return getattr(callback, "__name__", None) or repr(callback)


def callback_for(h: Any, fd: int, flag: int, *default: Any) -> Any:
    """Return what hub *h* calls when the events in *flag* happen to *fd*.

    Raises:
        KeyError: Nothing is, and there is no *default*.
    """
    found = None
    if flag & READ:
        found = h.readers.get(fd)
    elif flag & WRITE:
        found = h.consolidate_callback if fd in h.consolidate else h.writers.get(fd)
    else:
        return None
    if found is not None:
        return found
    if default:
        return default[0]
    raise KeyError(fd)


def repr_readers(h: Any) -> list[str]:
    """Return a description of each reader of hub *h*."""
    return [_watched(fd, callback, READ | ERR) for fd, callback in h.readers.items()]


def repr_writers(h: Any) -> list[str]:
    """Return a description of each writer of hub *h*."""
    return [_watched(fd, callback, WRITE) for fd, callback in h.writers.items()]


def _watched(fd: int, callback: Any, flag: int) -> str:
    return f"({fd}){_rcb(callback)}->{repr_flag(flag)}"


def repr_active(h: Any) -> str:
    """Return a description of all that hub *h* watches."""
    return ", ".join([*repr_readers(h), *repr_writers(h)])


def repr_events(h: Any, events: Iterable[tuple[int, int]]) -> str:
    """Return a description of *events*, as the poller of hub *h* returned them."""
    return ", ".join(f"{_rcb(callback_for(h, fd, flag, '(GONE)'))}({fd})->{repr_flag(flag)}" for fd, flag in events)
