"""What has been received and not been looked at yet."""

from __future__ import annotations

from typing import Any

__all__ = ("ReceiveBuffer",)

#: Size of the receive buffer of a quiet connection, in bytes.
SMALLEST_BUFFER = 16 * 1024


class ReceiveBuffer:
    """The receive buffer of one connection: what has come stands between ``_start`` and ``_end``."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    @property
    def buffer_size(self) -> int:
        """Bytes that the receive buffer takes up at present."""
        return len(self._buffer)

    def feed(self, data: Any) -> None:
        """Append *data* to the receive buffer, as if it had been read."""
        self._make_room(len(data))
        self._view[self._end:self._end + len(data)] = data
        self._end += len(data)

    def _make_room(self, size: int) -> None:
        """See that *size* bytes can be appended: move what is buffered to the front, or to a larger buffer."""
        waiting = self._end - self._start
        capacity = len(self._buffer)
        if waiting + size > capacity:
            while capacity < waiting + size:
                capacity = max(2 * capacity, SMALLEST_BUFFER)
            larger = bytearray(capacity)
            larger[:waiting] = self._view[self._start:self._end]
            self._view.release()
            self._buffer = larger
            self._view = memoryview(larger)
        elif self._end + size > capacity:
            self._view[:waiting] = self._view[self._start:self._end]
        else:
            return
        self._start, self._end = 0, waiting

    def _shrink(self) -> None:
        """Give back the memory of an empty buffer, but for as much as a quiet connection needs."""
        self._view.release()
        self._buffer = bytearray(SMALLEST_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
