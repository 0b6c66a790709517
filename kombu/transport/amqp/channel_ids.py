"""Numbers for channels: found, claimed and given back in constant time."""

from __future__ import annotations

from ..._locks import new_lock

__all__ = ("ChannelIds",)


class ChannelIds:
    """The channel numbers of one connection, 1 to *channel_max*.

    Memory grows with the largest number ever used, not with *channel_max*.
    """

    __slots__ = ("_used", "_returned", "_next", "_lock")

    def __init__(self) -> None:
        self._used: set[int] = set()
        self._returned: list[int] = []
        self._next = 1
        self._lock = new_lock()

    def __len__(self) -> int:
        return len(self._used)

    def __contains__(self, channel_id: int) -> bool:
        return channel_id in self._used

    def take(self, channel_max: int) -> int | None:
        """Return a number that is not in use and mark it used, or None when all of them are."""
        with self._lock:
            while self._returned:
                channel_id = self._returned.pop()
                # It may have been claimed by number, or lie above a limit negotiated since.
                if channel_id not in self._used and channel_id <= channel_max:
                    self._used.add(channel_id)
                    return channel_id
            while self._next <= channel_max:
                channel_id = self._next
                self._next += 1
                if channel_id not in self._used:
                    self._used.add(channel_id)
                    return channel_id
            return None

    def claim(self, channel_id: int) -> bool:
        """Mark *channel_id* used; return False if it is already."""
        with self._lock:
            if channel_id in self._used:
                return False
            self._used.add(channel_id)
            return True

    def remove(self, channel_id: int) -> None:
        """Give *channel_id* back.

        Raises:
            ValueError: it is not in use.
        """
        with self._lock:
            if channel_id not in self._used:
                raise ValueError(f"channel id {channel_id} is not in use")
            self._used.remove(channel_id)
            if channel_id < self._next:
                self._returned.append(channel_id)
