"""An event loop: watches descriptors, fires timers, and runs what is to be called soon."""

from __future__ import annotations

from kombu.utils.eventio import ERR, READ, WRITE

from .hub import Hub, get_event_loop, set_event_loop

__all__ = ("ERR", "Hub", "READ", "WRITE", "get_event_loop", "set_event_loop")
