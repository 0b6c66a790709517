"""Publishes that have most of their bytes in common, encoded once, and a buffer that gathers many of them."""

from __future__ import annotations

import struct
from typing import Any

from .encoding import LONG_MAX
from .frames import FRAME_BODY, FRAME_END, encode_publish

__all__ = ("PublishBuffer", "PublishPlan")

#: A body up to this size is copied into the one buffer of its message; a larger one is sent from where it stands.
_COPIED_BODY = 16 * 1024

_BODY_HEAD = struct.Struct(">BHI")
_BODY_SIZE = struct.Struct(">Q")


class PublishPlan:
    """What a publish consists of but for its body: basic.publish and the content header, encoded once.

    Arguments:
        properties: the property list of the content header, from ``encode_properties``.
        frame_max: largest frame in bytes; 0 for no limit.

    Raises what ``encode_publish`` raises.
    """

    __slots__ = (
        "_head",
        "_room",
        "_size_at",
        "channel_id",
        "exchange",
        "immediate",
        "mandatory",
        "properties",
        "routing_key",
    )

    def __init__(
        self,
        channel_id: int,
        exchange: str,
        routing_key: str,
        mandatory: bool,
        immediate: bool,
        properties: bytes,
        frame_max: int,
    ) -> None:
        [head] = encode_publish(channel_id, exchange, routing_key, mandatory, immediate, properties, b"", frame_max)
        self.channel_id = channel_id
        self.exchange = exchange
        self.routing_key = routing_key
        self.mandatory = mandatory
        self.immediate = immediate
        self.properties = properties
        self._head = bytes(head)
        # The size of the body stands before the properties and the frame's end.
        self._size_at = len(head) - 1 - len(properties) - 8
        self._room = frame_max - 8 if frame_max else LONG_MAX

    def on(self, channel_id: int, frame_max: int) -> PublishPlan:
        """Return the same plan for a channel of another number, or of another connection."""
        return PublishPlan(
            channel_id, self.exchange, self.routing_key, self.mandatory, self.immediate, self.properties, frame_max
        )

    def encode(self, body: bytes | bytearray | memoryview | str) -> list[Any]:
        """Return the frames of a publish of *body* as buffers to be sent in order; text is encoded as UTF-8.

        A body up to 16 KiB is copied and there is one buffer; of a larger one the buffers are slices between framing
        bytes, so that it must not change until it is sent.
        """
        view = _bytes_of(body)
        out = bytearray()
        if view.nbytes <= _COPIED_BODY:
            self._append(out, view)
            return [bytes(out)]
        self._append_head(out, view.nbytes)
        buffers: list[Any] = []
        for start in range(0, view.nbytes, self._room):
            chunk = view[start : start + self._room]
            out += _BODY_HEAD.pack(FRAME_BODY, self.channel_id, len(chunk))
            buffers += (bytes(out), chunk)
            out = bytearray((FRAME_END,))
        buffers.append(bytes(out))
        return buffers

    def _append_head(self, out: bytearray, size: int) -> None:
        start = len(out)
        out += self._head
        _BODY_SIZE.pack_into(out, start + self._size_at, size)

    def _append(self, out: bytearray, view: memoryview) -> None:
        size = view.nbytes
        self._append_head(out, size)
        for start in range(0, size, self._room):
            chunk = view[start : start + self._room]
            out += _BODY_HEAD.pack(FRAME_BODY, self.channel_id, len(chunk))
            out += chunk
            out.append(FRAME_END)


class PublishBuffer:
    """Whole publishes, one behind the other, until they are written together.

    Arguments:
        most_messages, most_bytes: how much makes it full; whatever is added then is taken in all the same.

    Attributes:
        count: messages in it.
    """

    __slots__ = ("count", "most_messages", "most_bytes", "_data", "_ends")

    def __init__(self, most_messages: int, most_bytes: int) -> None:
        self.count = 0
        self.most_messages = most_messages
        self.most_bytes = most_bytes
        self._data = bytearray()
        self._ends: list[int] = []

    def __len__(self) -> int:
        return len(self._data)

    def add(self, plan: PublishPlan, body: bytes | bytearray | memoryview | str) -> bool:
        """Append a publish of *body*, text as UTF-8; return whether the buffer is full.  An error appends nothing."""
        plan._append(self._data, _bytes_of(body))
        return self._added()

    def add_frames(self, frames: list[Any]) -> bool:
        """Append one publish that is encoded already, as buffers; return whether the buffer is full."""
        self._data += b"".join(frames)
        return self._added()

    def _added(self) -> bool:
        self._ends.append(len(self._data))
        self.count += 1
        return self.count >= self.most_messages or len(self._data) >= self.most_bytes

    def take(self, count: int) -> bytes:
        """Remove the first *count* messages and return their frames."""
        if count >= self.count:
            taken = bytes(self._data)
            self.clear()
            return taken
        end = self._ends[count - 1] if count else 0
        taken = bytes(self._data[:end])
        del self._data[:end]
        self._ends = [each - end for each in self._ends[count:]]
        self.count -= count
        return taken

    def clear(self) -> None:
        """Throw away what is there."""
        self._data.clear()
        self._ends.clear()
        self.count = 0


def _bytes_of(body: bytes | bytearray | memoryview | str) -> memoryview:
    view = memoryview(body.encode("utf-8") if isinstance(body, str) else body)
    if not view.c_contiguous:
        raise BufferError("body has to be one run of bytes, not a view with gaps")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")
