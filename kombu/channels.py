"""Tell connections from channels.

Entities, consumers and producers accept either; the connection module in turn makes consumers and producers.
What both sides need to know stands here, so that neither imports the other.
"""

from __future__ import annotations

from ._lazy import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

__all__ = ("ConnectionMarker", "is_connection", "maybe_channel")


class ConnectionMarker:
    """Mark a class as a connection; :class:`kombu.Connection` derives from it."""

    __slots__ = ()

    #: The pool that the connection was acquired from, if it was.
    _pool: Any = None


def is_connection(obj: Any) -> bool:
    """Return whether *obj* is a :class:`kombu.Connection`."""
    return isinstance(obj, ConnectionMarker)


def maybe_channel(channel: Any) -> Any:
    """Return the default channel of a connection, and anything else as it is."""
    if is_connection(channel):
        return channel.default_channel
    return channel
