"""Frames in, events out: the contents put together from the frames in a receive buffer.

Frames are cut in place and nothing is read here, so the same code serves a socket, a test and a fuzzer.

Source: AMQP 0-9-1, section 2.3.5 (frame details) and 4.2 (wire format).
"""

from __future__ import annotations

from io import BytesIO
from struct import Struct
from typing import Any

from kombu._lazy import amqp_errors

from .buffer import SMALLEST_BUFFER, ReceiveBuffer
from .frames import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, decode_properties

__all__ = ("Inbound", "MAX_BODY_SIZE", "SETTLED")

#: Largest body accepted unless told otherwise, in bytes: the most that RabbitMQ can be configured to carry.
MAX_BODY_SIZE = 512 * 1024 * 1024

#: Different property blocks remembered as valid, since most messages of a stream carry the same ones.
KNOWN_PROPERTIES = 64

RETURN = (60, 50)
DELIVER = (60, 60)
GET_OK = (60, 71)
ACK = (60, 80)

#: In place of a ``basic.ack`` by which publishes were confirmed that nobody has to be told of.
SETTLED: tuple = (0, ACK, None, None)

_FRAME = Struct(">BHI")
_METHOD = Struct(">HH")
_HEADER = Struct(">HHQ")
_LONGLONG = Struct(">Q")
_LONG = Struct(">I")
_ACK = Struct(">QB")
_SHORT = Struct(">H")


class _Content:
    """A content under way on one channel: its method, then its header, then its body."""

    __slots__ = ("method", "arguments", "properties", "size", "received", "stream")

    def __init__(self, method: tuple[int, int], arguments: tuple) -> None:
        self.method = method
        self.arguments = arguments
        self.properties: bytes | dict[str, Any] | None = None
        self.size = self.received = 0
        self.stream: BytesIO | None = None

    def allocate(self) -> None:
        # BytesIO takes and gives its bytes without a copy, so the body exists once, at the size it was announced with.
        # The kernel provides zeros as they are touched: announcing much and sending little costs nothing.
        self.stream = BytesIO(bytes(self.size))

    def add(self, data: memoryview) -> None:
        assert self.stream is not None
        self.received += self.stream.write(data)

    def body(self) -> bytes:
        assert self.stream is not None
        return self.stream.getvalue()


class _Arguments:
    """Read the arguments of one method, each length checked against what remains."""

    __slots__ = ("data", "offset", "end", "method")

    def __init__(self, data: Any, offset: int, end: int, method: str) -> None:
        self.data = data
        self.offset = offset
        self.end = end
        self.method = method

    def take(self, size: int, what: str) -> int:
        offset = self.offset
        if size > self.end - offset:
            raise amqp_errors.FrameSyntaxError(
                f"{what} of {size} bytes in {self.method} exceeds the {self.end - offset} that remain"
            )
        self.offset = offset + size
        return offset

    def octet(self) -> int:
        return self.data[self.take(1, "octet")]

    def short(self) -> int:
        return _SHORT.unpack_from(self.data, self.take(2, "short"))[0]

    def long(self) -> int:
        return _LONG.unpack_from(self.data, self.take(4, "long"))[0]

    def longlong(self) -> int:
        return _LONGLONG.unpack_from(self.data, self.take(8, "long long"))[0]

    def shortstr(self) -> str:
        size = self.octet()
        offset = self.take(size, "short string")
        try:
            return self.data[offset:offset + size].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise amqp_errors.FrameSyntaxError(f"short string in {self.method} is not UTF-8") from None

    def finish(self) -> None:
        if self.offset != self.end:
            raise amqp_errors.FrameSyntaxError(
                f"{self.end - self.offset} bytes are left over after the arguments of {self.method}"
            )


class Inbound(ReceiveBuffer):
    """Receive buffer of one connection, and the contents that come out of it.

    Arguments:
        channels: the connection's channels by number, shared with it.  Used of a channel are its ``deliveries``,
            a :class:`~kombu._pure.deliveries.Deliveries`, and where these have a window, ``is_closing`` and ``events``.
        frame_max: largest frame accepted, in bytes with its eight of framing; 0 for any.
        max_body_size: largest body accepted, in bytes.
    """

    def __init__(
        self, channels: dict[int, Any], frame_max: int = 131072, max_body_size: int = MAX_BODY_SIZE
    ) -> None:
        super().__init__()
        self.channels = channels
        self.frame_max = frame_max
        self.max_body_size = max_body_size
        #: Frames received so far, heartbeats included.
        self.frames_received = 0
        #: Whether another whole frame waits behind the event cut last; any thread may look.
        self.more_waits = False

        self._contents: dict[int, _Content] = {}
        # While a body frame is under way: its content, the payload still to come, and its channel.
        self._filling: _Content | None = None
        self._frame_left = 0
        self._filling_channel = 0
        self._known_properties: set[bytes] = set()

    # -- frames

    def _frame_waits(self) -> bool:
        """Return whether the receive buffer begins with a whole frame."""
        available = self._end - self._start
        if self._filling is not None:
            return available > self._frame_left
        return available >= 8 and available >= 8 + _LONG.unpack_from(self._buffer, self._start + 3)[0]

    def next_event(self) -> tuple[int, tuple[int, int], Any, Any] | None:
        """Cut one event out of the receive buffer.

        Returns:
            ``(channel_id, method_sig, payload, content)``, or None when no whole event is buffered.  For
            ``basic.deliver`` *payload* is the consumer tag, for ``basic.return`` its arguments, for ``basic.get-ok``
            None, and *content* the message; otherwise *payload* is the method frame's payload and *content* None.
            :data:`SETTLED` in place of a ``basic.ack`` by which publishes were confirmed that nobody is told of.

        Raises:
            amqp.exceptions.FrameError: a frame or body above its limit, or a heartbeat on a channel.
            amqp.exceptions.FrameSyntaxError: arguments or properties that cannot be decoded.
            amqp.exceptions.UnexpectedFrame: a frame out of order, of unknown type, or with a wrong end octet.
            amqp.exceptions.ChannelNotOpen: content for a channel that is not open.
        """
        self.more_waits = False
        event = self._cut()
        self.more_waits = event is not None and self._frame_waits()
        return event

    def _cut(self) -> tuple | None:
        while True:
            if self._filling is not None:
                event = self._fill_body()
                if self._filling is not None:
                    return None
                if event is not None:
                    return event
                continue
            start = self._start
            available = self._end - start
            if available < 7:
                if not available:
                    self._start = self._end = 0
                return None
            frame_type, channel_id, size = _FRAME.unpack_from(self._buffer, start)
            self._check_frame(frame_type, channel_id, size)
            if frame_type == FRAME_BODY:
                self._begin_body(channel_id, size)
                continue
            if available < size + 8:
                if len(self._buffer) - start < size + 8:
                    # Room for what is announced, but no more than as much again as has come: the size may be a lie.
                    self._make_room(min(size + 8 - available, max(available, SMALLEST_BUFFER)))
                return None
            end = start + 7 + size
            self._check_end(self._buffer[end])
            self._start = end + 1
            self.frames_received += 1
            if frame_type == FRAME_METHOD:
                event = self._on_method_frame(channel_id, start + 7, end)
            elif frame_type == FRAME_HEADER:
                event = self._on_header_frame(channel_id, start + 7, end)
            else:
                event = None
            if event is not None:
                return event

    def _check_frame(self, frame_type: int, channel_id: int, size: int) -> None:
        content = self._contents.get(channel_id)
        if content is None:
            expected = FRAME_METHOD
        else:
            expected = FRAME_HEADER if content.properties is None else FRAME_BODY
        if frame_type == FRAME_HEARTBEAT:
            if channel_id:
                raise amqp_errors.FrameError(
                    f"Received a heartbeat on channel {channel_id}; heartbeats belong to channel 0"
                )
        elif frame_type != expected:
            raise amqp_errors.UnexpectedFrame(f"Received frame {frame_type} while expecting type: {expected}")
        if self.frame_max and size > self.frame_max - 8:
            raise amqp_errors.FrameError(
                f"Received a frame of {size + 8} bytes; the negotiated frame_max is {self.frame_max}"
            )

    @staticmethod
    def _check_end(octet: int) -> None:
        if octet != FRAME_END:
            raise amqp_errors.UnexpectedFrame(f"Received frame_end {octet:#04x} while expecting 0xce")

    def _on_method_frame(self, channel_id: int, start: int, end: int) -> tuple | None:
        if end - start < 4:
            raise amqp_errors.FrameSyntaxError(f"Received a method frame of {end - start} bytes; the shortest has 4")
        method = _METHOD.unpack_from(self._buffer, start)
        if method == DELIVER:
            read = _Arguments(self._buffer, start + 4, end, "basic.deliver")
            tag, number, redelivered = read.shortstr(), read.longlong(), bool(read.octet() & 1)
            arguments: tuple = (tag, number, redelivered, read.shortstr(), read.shortstr())
        elif method == GET_OK:
            read = _Arguments(self._buffer, start + 4, end, "basic.get-ok")
            arguments = (read.longlong(), bool(read.octet() & 1), read.shortstr(), read.shortstr(), read.long())
        elif method == RETURN:
            read = _Arguments(self._buffer, start + 4, end, "basic.return")
            arguments = (read.short(), read.shortstr(), read.shortstr(), read.shortstr())
        else:
            if method == ACK and end - start == 13:
                tag, multiple = _ACK.unpack_from(self._buffer, start + 4)
                if self._confirms(channel_id, tag, bool(multiple & 1)):
                    return SETTLED
            return channel_id, method, bytes(self._view[start:end]), None
        read.finish()
        if not channel_id or channel_id not in self.channels:
            raise amqp_errors.ChannelNotOpen(f"Received {read.method} for channel {channel_id}, which is not open")
        self._contents[channel_id] = _Content(method, arguments)
        return None

    def _confirms(self, channel_id: int, tag: int, multiple: bool) -> bool:
        """Note that the broker has confirmed publishes of a channel, if that is all there is to be done."""
        channel = self.channels.get(channel_id) if channel_id else None
        if channel is None:
            return False
        window = channel.deliveries.window
        if window is None or channel.is_closing or channel.events.get("basic_ack"):
            return False
        return window.confirm(tag, multiple)  # type: ignore[no-any-return]

    def _on_header_frame(self, channel_id: int, start: int, end: int) -> tuple | None:
        if end - start < 14:
            raise amqp_errors.FrameSyntaxError(f"Received a content header of {end - start} bytes; the shortest has 14")
        class_id, weight, size = _HEADER.unpack_from(self._buffer, start)
        content = self._contents[channel_id]
        if class_id != content.method[0]:
            raise amqp_errors.FrameSyntaxError(
                f"Received a content header of class {class_id}; it belongs to a method of class 60"
            )
        if weight:
            raise amqp_errors.FrameSyntaxError(f"Received a content header of weight {weight}; it has to be 0")
        if size > self.max_body_size:
            raise amqp_errors.FrameError(
                f"Received a header that announces {size} bytes; max_body_size is {self.max_body_size}"
            )
        properties = bytes(self._view[start + 12:end])
        if properties not in self._known_properties:
            # To check them is to decode them, which the message need not do again.
            decoded = decode_properties(properties)
            if len(self._known_properties) >= KNOWN_PROPERTIES:
                self._known_properties.clear()
            if len(properties) <= 256:
                self._known_properties.add(properties)
            content.properties = decoded
        else:
            content.properties = properties
        content.size = size
        return None if size else self._complete(channel_id, content, b"")

    def _begin_body(self, channel_id: int, size: int) -> None:
        content = self._contents[channel_id]
        if size > content.size - content.received:
            raise amqp_errors.FrameError(
                f"Received a body frame of {size} bytes while {content.size - content.received} are left of the body"
            )
        self._start += 7
        self._filling = content
        self._filling_channel = channel_id
        self._frame_left = size

    def _fill_body(self) -> tuple | None:
        """Move what is buffered of a body frame into its body; return the event if that completes it."""
        content = self._filling
        assert content is not None
        start, available, left = self._start, self._end - self._start, self._frame_left
        if left == content.size and available > left:
            # The whole body, in one frame: no need for a place to collect it.
            body = bytes(self._view[start:start + left])
            content.received = left
            self._start = start = start + left
            self._frame_left = left = 0
            available = self._end - start
        else:
            body = None
            if content.stream is None:
                content.allocate()
            count = min(available, left)
            if count:
                content.add(self._view[start:start + count])
                self._start = start = start + count
                self._frame_left = left = left - count
                available -= count
        if left or not available:
            return None
        self._check_end(self._buffer[start])
        self._start = start + 1
        self.frames_received += 1
        self._filling = None
        if content.received < content.size:
            return None
        return self._complete(self._filling_channel, content, content.body() if body is None else body)

    def _complete(self, channel_id: int, content: _Content, body: bytes) -> tuple:
        del self._contents[channel_id]
        channel = self.channels.get(channel_id)
        if channel is None:
            raise amqp_errors.ChannelNotOpen(f"Received content for channel {channel_id}, which is not open")
        method, arguments = content.method, content.arguments
        deliveries = channel.deliveries
        make = deliveries.delivered_as.from_delivery
        if method == DELIVER:
            tag = arguments[0]
            if tag not in deliveries.no_ack_consumers:
                deliveries.unacked.add(arguments[1])
            return channel_id, DELIVER, tag, make(channel, *arguments, content.properties, body)
        if method == GET_OK:
            return channel_id, GET_OK, None, make(channel, None, *arguments[:4], content.properties, body, arguments[4])
        message = make(channel, None, None, False, arguments[2], arguments[3], content.properties, body)
        return channel_id, RETURN, arguments, message
