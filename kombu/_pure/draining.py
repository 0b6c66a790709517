"""From a connection to its receive loop: what is called for each event of a consumer's loop."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

__all__ = ("Drains", "Tap", "UNSET")

#: Stands for an argument that was not given.
UNSET: Any = ...

#: Which process this is, asked for once.
_process = os.getpid()


def _renew() -> None:
    global _process
    _process = os.getpid()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_renew)


class Tap:
    """A connection's receive loop, in the process that it is read in.

    Arguments:
        drain: what drains the connection, with ``(timeout, max_events)``, without asking its transport.
    """

    __slots__ = ("drain", "process")

    def __init__(self, drain: Callable[[float | None, int], int]) -> None:
        self.drain = drain
        self.process = _process


class Drains:
    """Be what :class:`kombu.Connection` takes events with.

    A subclass has ``_tap``, a :class:`Tap` while the connection may be drained without a further look at it, otherwise
    None; ``_drain_by_transport(timeout, max_events, kwargs)``, which checks the arguments, looks at the connection and
    asks the transport; and ``_note(error)``, which is told what a call ended by.
    """

    __slots__ = ()

    _tap: Tap | None

    def drain_events(self, timeout: float | None = UNSET, max_events: int = 1, **kwargs: Any) -> Any:
        """Wait for one event from the broker, call what is there for it, and return the number of events.

        Connects if that was never done. A connection that was lost is never replaced here, since the new one would
        have no consumers.

        Arguments:
            timeout: Seconds to wait; None for ever; 0 takes only what is there.
            max_events: Dispatch up to so many events: the first, and those that can be had without waiting. *timeout*
                is the call's: once it has passed none is begun, but 0.02 seconds are always granted them. A transport
                whose ``drain_events`` has no such argument dispatches one.

        An exception of a callback ends the call; the events that were not dispatched are there for the next one.

        Raises:
            socket.timeout: if nothing came in time.
            TypeError, ValueError: if *max_events* is no positive integer.
            Exception: one of :attr:`recoverable_connection_errors` if the connection is lost, and on every call from
                then on until :meth:`connect`, :meth:`ensure_connection`, :meth:`channel` or :attr:`default_channel`
                made a new one.
        """
        tap = self._tap
        if tap is None or kwargs or tap.process != _process or type(max_events) is not int or max_events < 1:
            return self._drain_by_transport(timeout, max_events, kwargs)
        try:
            return tap.drain(None if timeout is UNSET else timeout, max_events)
        except Exception as exc:
            self._note(exc)
            raise

    def _drain_by_transport(self, timeout: float | None, max_events: int, kwargs: dict[str, Any]) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no transport to ask")

    def _note(self, exc: BaseException) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no connection that could be lost") from exc
