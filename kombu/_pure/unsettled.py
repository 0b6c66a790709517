"""Messages that are delivered and not yet settled: by which tags, and how many there may be.

The base of the class ``QoS`` that :mod:`kombu.transport.virtual` has for transports of third parties.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ("Delivered", "Unsettled")


class Delivered(dict[Any, Any]):
    """Messages by delivery tag, oldest first.

    ``restored`` says whether they have been put back already; a plain dict takes no attributes.
    """

    __slots__ = ("restored",)

    def __init__(self) -> None:
        self.restored = False


class Unsettled:
    """Keep messages that are delivered and not yet acknowledged, by delivery tag, and limit their number.

    A subclass sets ``_delivered`` (a :class:`Delivered`), ``_dirty`` (a set), and the methods that add to
    them: ``_quick_append`` and ``_quick_ack``.
    """

    #: Most messages that may be unacknowledged at once; 0 means any number.
    prefetch_count: int = 0

    #: Delivery tag -> message, oldest first. Changed by the consuming thread alone.
    _delivered: Any = None

    #: Tags that are settled but still in ``_delivered``. Any thread may acknowledge: it adds to this set, in one
    #: step and without a lock, and the consuming thread sweeps the tags away before it adds a message.
    _dirty: Any = None

    _quick_append: Callable[[Any, Any], Any]
    _quick_ack: Callable[[Any], Any]

    def can_consume(self) -> bool:
        """Return whether the limit allows another message."""
        limit = self.prefetch_count
        return not limit or len(self._delivered) - len(self._dirty) < limit

    def append(self, message: Any, delivery_tag: Any) -> None:
        """Add a message that has been delivered."""
        if self._dirty:
            self._flush()
        self._quick_append(delivery_tag, message)

    def _flush(self) -> None:
        """Forget the messages that have been settled."""
        settled, delivered = self._dirty, self._delivered
        while settled:
            try:
                tag = settled.pop()
            except KeyError:  # another thread has flushed
                return
            delivered.pop(tag, None)

    def ack(self, delivery_tag: Any) -> None:
        """Settle a message as processed."""
        self._quick_ack(delivery_tag)
