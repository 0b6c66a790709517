"""Frames in, events out: the contents put together from the frames in a receive buffer.

Twin of :mod:`kombu._pure.inbound`, which says more.

Source: AMQP 0-9-1, section 2.3.5 (frame details) and 4.2 (wire format).
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from kombu._speedups.bodies cimport PropertyBlock, make_block
from kombu._speedups.buffer cimport ReceiveBuffer, SMALLEST_BUFFER
from kombu._speedups.deliveries cimport Deliveries
from kombu._speedups.message cimport Message, make_delivery
from kombu._speedups.frames cimport check_block
from kombu._speedups.objects cimport version_of_dict
from kombu._speedups.window cimport Window
from kombu._speedups.wire cimport Cursor, load16, load32, load64, take

from kombu._lazy import amqp_errors

__all__ = ("Inbound", "MAX_BODY_SIZE", "SETTLED")

ABI = 1

#: Largest body accepted unless told otherwise, in bytes: the most that RabbitMQ can be configured to carry.
MAX_BODY_SIZE = 512 * 1024 * 1024

#: In place of a ``basic.ack`` by which publishes were confirmed that nobody has to be told of.
SETTLED = (0, (60, 80), None, None)

cdef enum:
    KNOWN_PROPERTIES = 64

    FRAME_METHOD = 1
    FRAME_HEADER = 2
    FRAME_BODY = 3
    FRAME_HEARTBEAT = 8
    FRAME_END = 0xCE

    CLASS_BASIC = 60
    RETURN_ID = 50
    DELIVER_ID = 60
    GET_OK_ID = 71
    ACK_ID = 80

cdef tuple RETURN = (60, 50)
cdef tuple DELIVER = (60, 60)
cdef tuple GET_OK = (60, 71)


@cython.final
@cython.freelist(8)
cdef class Content:
    """A content under way on one channel: its method, then its header, then its body."""


cdef int missing(Cursor *cursor, uint64_t size, str what, str method) except -1:
    raise amqp_errors.FrameSyntaxError(
        f"{what} of {size} bytes in {method} exceeds the {cursor.limit - cursor.offset} that remain"
    )


cdef int octet(Cursor *cursor, str method) except -1:
    cdef const unsigned char *found = take(cursor, 1)
    if found == NULL:
        missing(cursor, 1, "octet", method)
    return found[0]


cdef const unsigned char *fixed(Cursor *cursor, int size, str what, str method) except NULL:
    cdef const unsigned char *found = take(cursor, size)
    if found == NULL:
        missing(cursor, size, what, method)
    return found


cdef class Inbound(ReceiveBuffer):
    """Receive buffer of one connection, and the contents that come out of it; see :class:`kombu._pure.inbound.Inbound`."""

    def __init__(self, dict channels, frame_max=131072, max_body_size=MAX_BODY_SIZE):
        cdef int place
        self.channels = channels
        self.frame_max = frame_max
        self.max_body_size = max_body_size
        self.contents = {}
        self.known_properties = {}
        self.last_str = [None, None, None]
        for place in range(3):
            self.last_text[place].size = -1

    # -- frames

    cdef bint frame_waits(self) noexcept:
        """Return whether the receive buffer begins with a whole frame."""
        cdef Py_ssize_t available = self.end - self.start
        if self.filling is not None:
            return available > self.frame_left
        return available >= 8 and <uint64_t>available >= 8 + <uint64_t>load32(self.data + self.start + 3)

    def next_event(self):
        """Cut one event out of the receive buffer; see :meth:`kombu._pure.inbound.Inbound.next_event`."""
        return as_tuple(self.cut())

    cdef object cut(self):
        """Return an event: a message for a consumer, or a tuple for anything else; None if there is none."""
        cdef object event = None
        cdef Py_ssize_t start, available, end
        cdef unsigned int frame_type, channel_id
        cdef uint64_t size
        self.more_waits = False
        while event is None:
            if self.filling is not None:
                event = self.fill_body()
                if self.filling is not None:
                    return None
                continue
            event = self.repeated()
            if event is not None:
                break
            start = self.start
            available = self.end - start
            if available < 7:
                if not available:
                    self.start = self.end = 0
                return None
            frame_type = self.data[start]
            channel_id = load16(self.data + start + 1)
            size = load32(self.data + start + 3)
            self.check_frame(frame_type, channel_id, size)
            if frame_type == FRAME_BODY:
                self.begin_body(channel_id, size)
                continue
            if <uint64_t>available < size + 8:
                if <uint64_t>(self.capacity - start) < size + 8:
                    # Room for what is announced, but no more than as much again as has come: the size may be a lie.
                    self.make_room(min(<Py_ssize_t>(size + 8) - available, max(available, <Py_ssize_t>SMALLEST_BUFFER)))
                return None
            end = start + 7 + <Py_ssize_t>size
            check_end(self.data[end])
            self.start = end + 1
            self.frames_received += 1
            if frame_type == FRAME_METHOD:
                event = self.on_method_frame(channel_id, start + 7, end)
            elif frame_type == FRAME_HEADER:
                event = self.on_header_frame(channel_id, start + 7, end)
        self.more_waits = self.frame_waits()
        return event

    cdef Content content_of(self, unsigned int channel_id):
        if self.content is not None and self.content.channel_id == channel_id:
            return self.content
        return self.contents.get(channel_id) if self.contents else None

    cdef int forget(self, Content content) except -1:
        if self.content is content:
            self.content = None
        else:
            del self.contents[content.channel_id]
        return 0

    cdef int check_frame(self, unsigned int frame_type, unsigned int channel_id, uint64_t size) except -1:
        cdef Content content = self.content_of(channel_id)
        cdef unsigned int expected
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
        if self.frame_max and size + 8 > self.frame_max:
            raise amqp_errors.FrameError(
                f"Received a frame of {size + 8} bytes; the negotiated frame_max is {self.frame_max}"
            )
        return 0

    cdef object on_method_frame(self, unsigned int channel_id, Py_ssize_t start, Py_ssize_t end):
        cdef Cursor cursor
        cdef Content content
        cdef str method, tag, exchange, routing_key
        cdef unsigned int class_id, method_id
        cdef tuple arguments
        cdef object event
        if end - start < 4:
            raise amqp_errors.FrameSyntaxError(f"Received a method frame of {end - start} bytes; the shortest has 4")
        class_id = load16(self.data + start)
        method_id = load16(self.data + start + 2)
        if class_id != CLASS_BASIC or (method_id != DELIVER_ID and method_id != GET_OK_ID and method_id != RETURN_ID):
            if class_id == CLASS_BASIC and method_id == ACK_ID and end - start == 13:
                if self.confirms(channel_id, load64(self.data + start + 4), self.data[start + 12] & 1):
                    return SETTLED
            return (channel_id, (class_id, method_id), PyBytes_FromStringAndSize(<char *>self.data + start, end - start), None)
        cursor.data = self.data
        cursor.offset = start + 4
        cursor.limit = end
        cdef const unsigned char *number
        cdef bint redelivered = False
        if method_id == DELIVER_ID:
            method = "basic.deliver"
            tag = self.short_string(&cursor, 0, method)
            number = fixed(&cursor, 8, "long long", method)
            redelivered = octet(&cursor, method) & 1
            exchange = self.short_string(&cursor, 1, method)
            routing_key = self.short_string(&cursor, 2, method)
            arguments = None
        elif method_id == GET_OK_ID:
            method = "basic.get-ok"
            number = fixed(&cursor, 8, "long long", method)
            redelivered = octet(&cursor, method) & 1
            exchange = self.short_string(&cursor, 1, method)
            routing_key = self.short_string(&cursor, 2, method)
            arguments = (load64(number), redelivered, exchange, routing_key, load32(fixed(&cursor, 4, "long", method)))
        else:
            method = "basic.return"
            number = fixed(&cursor, 2, "short", method)
            tag = self.short_string(&cursor, 0, method)
            exchange = self.short_string(&cursor, 1, method)
            routing_key = self.short_string(&cursor, 2, method)
            arguments = (load16(number), tag, exchange, routing_key)
        if cursor.offset != end:
            raise amqp_errors.FrameSyntaxError(
                f"{end - cursor.offset} bytes are left over after the arguments of {method}"
            )
        if not self.is_open(channel_id):
            raise amqp_errors.ChannelNotOpen(f"Received {method} for channel {channel_id}, which is not open")
        if method_id == DELIVER_ID:
            event = self.whole_delivery(channel_id, start - 7, number, redelivered)
            if event is not None:
                return event
            arguments = (tag, load64(number), redelivered, exchange, routing_key)
        content = Content.__new__(Content)
        content.channel_id = channel_id
        content.method_id = method_id
        content.arguments = arguments
        if self.content is None:
            self.content = content
        else:
            self.contents[channel_id] = content
        return None

    cdef bint confirms(self, unsigned int channel_id, uint64_t tag, bint multiple) except -1:
        """Note that the broker has confirmed publishes of a channel, if that is all there is to be done."""
        cdef object channel
        cdef Window window
        if not self.is_open(channel_id):
            return False
        channel = self.last_channel
        window = self.last_deliveries.window
        if window is None or channel.is_closing or channel.events.get("basic_ack"):
            return False
        return window.confirm_quietly(tag, multiple)

    cdef str short_string(self, Cursor *cursor, int place, str method):
        """Read a short string; the one seen last in the same place is made once."""
        cdef Text *last = &self.last_text[place]
        cdef int size = octet(cursor, method)
        cdef const unsigned char *text = fixed(cursor, size, "short string", method)
        cdef str made
        if last.size == size and memcmp(last.data, text, size) == 0:
            return <str>self.last_str[place]
        try:
            made = PyUnicode_DecodeUTF8(<char *>text, size, "surrogatepass")
        except UnicodeDecodeError:
            raise amqp_errors.FrameSyntaxError(f"short string in {method} is not UTF-8") from None
        # A delivery that is like the one before would get this text.
        self.pattern.size = 0
        memcpy(last.data, text, size)
        last.size = size
        self.last_str[place] = made
        return made

    cdef object on_header_frame(self, unsigned int channel_id, Py_ssize_t start, Py_ssize_t end):
        cdef Content content = self.content_of(channel_id)
        cdef const unsigned char *data = self.data + start
        cdef unsigned int class_id, weight
        cdef uint64_t size
        cdef PropertyBlock properties
        cdef Py_ssize_t length = end - start - 12
        if length < 2:
            raise amqp_errors.FrameSyntaxError(f"Received a content header of {end - start} bytes; the shortest has 14")
        class_id = load16(data)
        weight = load16(data + 2)
        size = load64(data + 4)
        if class_id != CLASS_BASIC:
            raise amqp_errors.FrameSyntaxError(
                f"Received a content header of class {class_id}; it belongs to a method of class 60"
            )
        if weight:
            raise amqp_errors.FrameSyntaxError(f"Received a content header of weight {weight}; it has to be 0")
        if size > self.max_body_size:
            raise amqp_errors.FrameError(
                f"Received a header that announces {size} bytes; max_body_size is {self.max_body_size}"
            )
        properties = self.properties_at(data + 12, length)
        content.properties = properties
        content.size = size
        if size:
            return None
        content.body = b""
        return self.complete(content)

    cdef PropertyBlock properties_at(self, const unsigned char *data, Py_ssize_t length):
        """Return a valid property block; that of the delivery before, and short ones seen lately, are made once."""
        cdef PropertyBlock block = self.last_properties
        cdef bytes raw
        if (
            block is not None
            and len(block.raw) == length
            and memcmp(PyBytes_AS_STRING(block.raw), data, length) == 0
        ):
            return block
        raw = PyBytes_FromStringAndSize(<char *>data, length)
        block = self.known_properties.get(raw)
        if block is None:
            check_block(<const unsigned char *>PyBytes_AS_STRING(raw), 0, length)
            block = make_block(raw)
            if len(self.known_properties) >= KNOWN_PROPERTIES:
                self.known_properties.clear()
            if length <= 256:
                self.known_properties[raw] = block
        return block

    cdef Message whole_delivery(
        self, unsigned int channel_id, Py_ssize_t start, const unsigned char *number, bint redelivered
    ):
        """Return the message of a delivery whose header and body stand whole behind its method, in one body frame.

        None for any other, faulty ones included: those go frame by frame.  The method's frame begins at *start*, its
        texts are those seen last, and is_open() has just found the channel.
        """
        cdef const unsigned char *data = self.data + self.start
        cdef Py_ssize_t available = self.end - self.start
        cdef Py_ssize_t header, body
        cdef uint64_t size
        if available < 22 or data[0] != FRAME_HEADER or load16(data + 1) != channel_id:
            return None
        header = <Py_ssize_t>load32(data + 3) + 8
        if header < 22 or available < header or data[header - 1] != FRAME_END:
            return None
        if load16(data + 7) != CLASS_BASIC or load16(data + 9) or (self.frame_max and <uint64_t>header > self.frame_max):
            return None
        size = load64(data + 11)
        body = self.whole_body(channel_id, data + header, available - header, size)
        if body < 0:
            return None
        self.frames_received += 1
        self.last_properties = self.properties_at(data + 19, header - 20)
        self.learn(channel_id, start, number - self.data, self.start + 11, self.start + header)
        return self.delivered(load64(number), redelivered, header, body)

    cdef Py_ssize_t whole_body(
        self, unsigned int channel_id, const unsigned char *data, Py_ssize_t available, uint64_t size
    ) noexcept:
        """Return how many octets the frame at *data* has, if it holds the whole body of *size*; -1 if it does not."""
        if not size:
            return 0
        if size > self.max_body_size or available < 8 or size > <uint64_t>available - 8:
            return -1
        if self.frame_max and size + 8 > self.frame_max:
            return -1
        if data[0] != FRAME_BODY or load16(data + 1) != channel_id or load32(data + 3) != size:
            return -1
        return <Py_ssize_t>size + 8 if data[7 + size] == FRAME_END else -1

    cdef int learn(
        self, unsigned int channel_id, Py_ssize_t start, Py_ssize_t tag_at, Py_ssize_t size_at, Py_ssize_t end
    ) noexcept:
        """Remember what the frames of a delivery are like but for its tag, its flag and the size of its body."""
        cdef Py_ssize_t size = end - start
        self.pattern.size = 0
        if size <= <Py_ssize_t>sizeof(self.pattern.octets):
            memcpy(self.pattern.octets, self.data + start, size)
            self.pattern.channel_id = channel_id
            self.pattern.tag_at = tag_at - start
            self.pattern.size_at = size_at - start
            self.pattern.size = size
        return 0

    cdef Message repeated(self):
        """Return the message of a delivery that is like the one before but for tag, flag and body; None for any other.

        A queue's deliveries hardly ever differ in more, so that to compare them is to have read them.
        """
        cdef Pattern *pattern = &self.pattern
        cdef const unsigned char *data = self.data + self.start
        cdef const unsigned char *octets = pattern.octets
        cdef Py_ssize_t size = pattern.size
        cdef Py_ssize_t behind_flag = pattern.tag_at + 9
        cdef Py_ssize_t behind_size = pattern.size_at + 8
        cdef Py_ssize_t body
        if not size or self.end - self.start < size or self.content is not None or len(self.contents):
            return None
        if memcmp(data, octets, pattern.tag_at) or memcmp(
            data + behind_flag, octets + behind_flag, pattern.size_at - behind_flag
        ) or memcmp(data + behind_size, octets + behind_size, size - behind_size):
            return None
        if self.frame_max and <uint64_t>size > self.frame_max:
            # One of the two frames may be too large by now.
            return None
        body = self.whole_body(
            pattern.channel_id, data + size, self.end - self.start - size, load64(data + pattern.size_at)
        )
        if body < 0 or not self.is_open(pattern.channel_id):
            return None
        self.frames_received += 2
        return self.delivered(load64(data + pattern.tag_at), data[pattern.tag_at + 8] & 1, size, body)

    cdef Message delivered(self, uint64_t number, bint redelivered, Py_ssize_t head, Py_ssize_t frame):
        """Return the message whose body's *frame* stands behind *head* octets that have been read; step over both.

        Its texts, properties and channel are those seen last.
        """
        cdef const unsigned char *data = self.data + self.start + head
        cdef Deliveries deliveries = self.last_deliveries
        cdef str tag = <str>self.last_str[0]
        cdef bytes body = b""
        if frame:
            body = PyBytes_FromStringAndSize(<char *>data + 7, frame - 8)
            self.frames_received += 1
        self.start += head + frame
        if not len(deliveries.no_ack_consumers) or tag not in deliveries.no_ack_consumers:
            deliveries.expect(number)
        return make_delivery(
            deliveries.delivered_as, self.last_channel, deliveries, tag, number, redelivered, <str>self.last_str[1],
            <str>self.last_str[2], self.last_properties, body, None,
        )

    cdef bint is_open(self, unsigned int channel_id) except -1:
        """Return whether a channel of this number is open; if so, last_channel and last_deliveries are its."""
        if (
            channel_id == self.last_number
            and self.channels_version
            and self.channels_version == version_of_dict(self.channels)
        ):
            return True
        channel = self.channels.get(channel_id) if channel_id else None
        if channel is None:
            return False
        if channel is not self.last_channel:
            self.last_deliveries = channel.deliveries
            self.last_channel = channel
        self.last_number = channel_id
        self.channels_version = version_of_dict(self.channels)
        return True

    cdef int begin_body(self, unsigned int channel_id, uint64_t size) except -1:
        cdef Content content = self.content_of(channel_id)
        if size > content.size - content.received:
            raise amqp_errors.FrameError(
                f"Received a body frame of {size} bytes while {content.size - content.received} are left of the body"
            )
        if content.body is None:
            # Allocated once, at the size that the header announced, and filled in place.
            content.body = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>content.size)
        self.start += 7
        self.filling = content
        self.frame_left = <Py_ssize_t>size
        return 0

    cdef object fill_body(self):
        """Move what is buffered of a body frame into its body; return the event if that completes it."""
        cdef Content content = self.filling
        cdef Py_ssize_t count = min(self.end - self.start, self.frame_left)
        if count:
            memcpy(PyBytes_AS_STRING(content.body) + content.received, self.data + self.start, count)
            content.received += count
            self.start += count
            self.frame_left -= count
        if self.frame_left or self.start == self.end:
            return None
        check_end(self.data[self.start])
        self.start += 1
        self.frames_received += 1
        self.filling = None
        if content.received < content.size:
            return None
        return self.complete(content)

    cdef object complete(self, Content content):
        cdef tuple arguments = content.arguments
        cdef Deliveries deliveries
        cdef object channel
        self.forget(content)
        if not self.is_open(content.channel_id):
            raise amqp_errors.ChannelNotOpen(f"Received content for channel {content.channel_id}, which is not open")
        channel = self.last_channel
        deliveries = self.last_deliveries
        if content.method_id == DELIVER_ID:
            if arguments[0] not in deliveries.no_ack_consumers:
                deliveries.expect(arguments[1])
            return make_delivery(
                deliveries.delivered_as, channel, deliveries, arguments[0], arguments[1], arguments[2], arguments[3],
                arguments[4], content.properties, content.body, None,
            )
        if content.method_id == GET_OK_ID:
            return (
                content.channel_id, GET_OK, None,
                make_delivery(
                    deliveries.delivered_as, channel, None, None, arguments[0], arguments[1], arguments[2],
                    arguments[3], content.properties, content.body, arguments[4],
                ),
            )
        return (
            content.channel_id, RETURN, arguments,
            make_delivery(
                deliveries.delivered_as, channel, None, None, None, False, arguments[2], arguments[3],
                content.properties, content.body, None,
            ),
        )


cdef tuple as_tuple(event):
    """Return an event in the form that both cores share."""
    cdef Message message
    if isinstance(event, Message):
        message = event
        return (message.deliveries.channel_id, DELIVER, message.consumer_tag_, message)
    return event


cdef int check_end(unsigned int found) except -1:
    if found != FRAME_END:
        raise amqp_errors.UnexpectedFrame(f"Received frame_end {found:#04x} while expecting 0xce")
    return 0
