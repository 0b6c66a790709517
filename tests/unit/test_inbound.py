"""The receive buffer: whole streams come out as events however they are cut, and hostile ones are refused."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from amqp.exceptions import ChannelNotOpen, FrameError, FrameSyntaxError, UnexpectedFrame

import wire
from streams import Channel, cut_at, delivery, described, facts, make_inbound, pump

DELIVER = (60, 60)
GET_OK = (60, 71)
RETURN = (60, 50)
HEADERS = {"n": 1, "nested": {"list": [1, "two", None, True]}, "text": "häder"}
PROPERTIES = {
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "application_headers": HEADERS,
    "delivery_mode": 2,
    "priority": 5,
    "correlation_id": "id-1",
    "reply_to": "back",
}


def header(size: int, *, channel: int = 1, class_id: int = 60, weight: int = 0, properties: bytes = b"\0\0") -> bytes:
    return wire.frame(wire.HEADER, channel, struct.pack(">HHQ", class_id, weight, size) + properties)


def body(data: bytes, *, channel: int = 1, end: int = wire.FRAME_END) -> bytes:
    return wire.frame(wire.BODY, channel, data, end)


def deliver(channel: int = 1, **args) -> bytes:
    return wire.method("basic.deliver", channel, **{"consumer_tag": "c", "delivery_tag": 1, **args})


def all_events(inbound):
    return list(iter(inbound.next_event, None))


# -- whole streams


def test_a_delivery_comes_with_all_that_it_brought(core):
    inbound = make_inbound(core)
    inbound.feed(
        delivery(
            b'{"a": 1}', delivery_tag=7, redelivered=True, exchange="ex", routing_key="r.k", properties=PROPERTIES
        )
    )
    channel_id, method, consumer_tag, message = inbound.next_event()
    assert (channel_id, method, consumer_tag) == (1, DELIVER, "c")
    assert type(message) is core.message.Message
    assert message.channel is inbound.channels[1]
    assert facts(message) == {
        "body": '{"a": 1}',
        "properties": PROPERTIES,
        "headers": HEADERS,
        "delivery_info": {
            "consumer_tag": "c",
            "delivery_tag": 7,
            "redelivered": True,
            "exchange": "ex",
            "routing_key": "r.k",
        },
        "delivery_tag": 7,
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "state": "RECEIVED",
        "errors": [],
    }
    assert inbound.next_event() is None


def test_what_basic_get_brings_has_the_number_of_messages_left(core):
    inbound = make_inbound(core)
    method = wire.method(
        "basic.get-ok", 1, delivery_tag=2**64 - 1, exchange="ex", routing_key="rk", message_count=2**32 - 1
    )
    inbound.feed(method + header(3) + body(b"got"))
    channel_id, sig, payload, message = inbound.next_event()
    assert (channel_id, sig, payload, message.body) == (1, GET_OK, None, b"got")
    assert message.delivery_info == {
        "delivery_tag": 2**64 - 1,
        "redelivered": False,
        "exchange": "ex",
        "routing_key": "rk",
        "message_count": 2**32 - 1,
    }
    assert not inbound.channels[1].unacked


def test_what_is_returned_comes_with_the_reason(core):
    inbound = make_inbound(core)
    method = wire.method("basic.return", 1, reply_code=312, reply_text="NO_ROUTE", exchange="ex", routing_key="rk")
    inbound.feed(method + header(4) + body(b"back"))
    channel_id, sig, arguments, message = inbound.next_event()
    assert (channel_id, sig, arguments) == (1, RETURN, (312, "NO_ROUTE", "ex", "rk"))
    assert message.body == b"back"
    assert message.delivery_tag is None
    assert (message.delivery_info["exchange"], message.delivery_info["routing_key"]) == ("ex", "rk")


def test_other_methods_are_handed_on_undecoded(core):
    inbound = make_inbound(core, channels=())
    # Who the channel belongs to is for the connection to say.
    inbound.feed(wire.method("queue.declare-ok", 9, queue="q", message_count=1) + wire.method("connection.close-ok"))
    assert all_events(inbound) == [
        (9, (50, 11), wire.method_payload("queue.declare-ok", queue="q", message_count=1), None),
        (0, (10, 51), b"\x00\x0a\x00\x33", None),
    ]


def test_heartbeats_are_counted_and_swallowed(core):
    inbound = make_inbound(core)
    inbound.feed(wire.HEARTBEAT_FRAME * 3)
    assert inbound.next_event() is None
    assert inbound.frames_received == 3
    # One may stand between the frames of a content, too.
    inbound.feed(deliver() + wire.HEARTBEAT_FRAME + header(2) + wire.HEARTBEAT_FRAME + body(b"ab"))
    assert inbound.next_event()[3].body == b"ab"
    assert inbound.frames_received == 8


@pytest.mark.parametrize("size", [0, 1, 4088, 4089, 100_000])
def test_bodies_of_any_number_of_frames(core, size):
    sent = bytes(index * 7 & 255 for index in range(size))
    inbound = make_inbound(core, frame_max=4096)
    inbound.feed(delivery(sent, frame_max=4096) + delivery(b"next", delivery_tag=2, frame_max=4096))
    messages = [event[3] for event in all_events(inbound)]
    assert [message.body for message in messages] == [sent or "", b"next"]


def test_body_frames_may_be_empty(core):
    inbound = make_inbound(core)
    inbound.feed(deliver() + header(4) + body(b"") + body(b"ab") + body(b"") + body(b"") + body(b"cd"))
    assert inbound.next_event()[3].body == b"abcd"
    assert inbound.next_event() is None


def test_contents_of_several_channels_may_be_interleaved(core):
    inbound = make_inbound(core, channels=(1, 2, 3))
    inbound.feed(
        deliver(1) + deliver(2) + header(4, channel=2) + deliver(3) + header(2, channel=1) + body(b"2.", channel=2)
        + wire.method("queue.purge-ok", 4) + header(0, channel=3) + body(b"..", channel=2) + body(b"1.", channel=1)
    )  # fmt: skip
    events = [(event[0], event[1], event[3] and event[3].body) for event in all_events(inbound)]
    assert events == [(4, (50, 31), None), (3, DELIVER, ""), (2, DELIVER, b"2..."), (1, DELIVER, b"1.")]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 8, 9, 50])
def test_events_do_not_depend_on_how_the_stream_is_cut(core, step):
    data = (
        delivery(b"x" * 10, properties=PROPERTIES)
        + wire.HEARTBEAT_FRAME
        + wire.method("basic.ack", 1, delivery_tag=3)
        + delivery(b"", delivery_tag=2)
        + delivery(b"y" * 9000, delivery_tag=3, frame_max=4096)
        + delivery(b"z", channel=2)
    )
    whole = pump(make_inbound(core, (1, 2), frame_max=4096), [data])
    pieces = [data[start:start + step] for start in range(0, len(data), step)]
    assert pump(make_inbound(core, (1, 2), frame_max=4096), pieces) == whole
    assert len(whole[0]) == 5 and whole[1] is None


def test_any_buffer_of_bytes_can_be_fed(core):
    data = delivery(b"abc")
    for kind in (bytes, bytearray, memoryview):
        inbound = make_inbound(core)
        inbound.feed(kind(data[:20]))
        inbound.feed(kind(b""))
        inbound.feed(kind(data[20:]))
        assert inbound.next_event()[3].body == b"abc"


def test_deliveries_that_want_an_acknowledgement_are_noted(core):
    inbound = make_inbound(core)
    channel = inbound.channels[1]
    channel.no_ack_consumers.add("silent")
    inbound.feed(
        delivery(delivery_tag=1)
        + delivery(delivery_tag=2, consumer_tag="silent")
        + delivery(delivery_tag=3)
        + deliver(delivery_tag=4)
    )
    assert len(all_events(inbound)) == 3
    assert channel.unacked == {1, 3}


def test_more_waits_says_whether_another_whole_frame_is_buffered(core):
    first, second = delivery(b"first"), delivery(b"second", delivery_tag=2)
    inbound = make_inbound(core)
    assert not inbound.more_waits
    inbound.feed(first + second)
    assert inbound.next_event()[3].body == b"first"
    assert inbound.more_waits
    assert inbound.next_event()[3].body == b"second"
    assert not inbound.more_waits
    # Half a frame is not worth waiting for with an acknowledgement.
    inbound.feed(first + second[:10])
    inbound.next_event()
    assert not inbound.more_waits
    inbound.feed(second[10:] + wire.method("basic.ack", 1, delivery_tag=1))
    inbound.next_event()
    assert inbound.more_waits


def test_more_waits_no_longer_once_the_stream_is_broken(core):
    inbound = make_inbound(core)
    inbound.feed(delivery(b"first") + wire.frame(9, 0, b""))
    inbound.next_event()
    assert inbound.more_waits
    with pytest.raises(UnexpectedFrame):
        inbound.next_event()
    assert not inbound.more_waits


@pytest.mark.parametrize("text", ["", "a", "ä", "€", "😀", "x" * 255, "é" * 127, "\ud800"])
def test_short_strings_of_any_text(core, text):
    inbound = make_inbound(core)
    data = text.encode("utf-8", "surrogatepass")
    arguments = bytes([len(data)]) + data + bytes(9) + (bytes([len(data)]) + data) * 2
    for _ in range(2):  # the second one may come out of a cache
        inbound.feed(wire.frame(wire.METHOD, 1, struct.pack(">HH", *DELIVER) + arguments) + header(0))
        _, _, consumer_tag, message = inbound.next_event()
        assert consumer_tag == text
        assert message.delivery_info["exchange"] == message.delivery_info["routing_key"] == text


def test_short_strings_that_differ_in_length_or_end_are_not_confused(core):
    inbound = make_inbound(core)
    tags = ["abc", "abd", "ab", "abc", "abcd", "", "abc"]
    inbound.feed(b"".join(delivery(consumer_tag=tag, exchange=tag[::-1], routing_key=tag * 2) for tag in tags))
    events = all_events(inbound)
    assert [event[2] for event in events] == tags
    assert [event[3].delivery_info["exchange"] for event in events] == [tag[::-1] for tag in tags]
    assert [event[3].delivery_info["routing_key"] for event in events] == [tag * 2 for tag in tags]


def test_short_strings_of_the_same_length_together_are_not_confused(core):
    inbound = make_inbound(core)
    differing = ["ab c d", "a bc d", "a b cd", "a b ce", "b b ce", "b c ce"]
    routes = [tuple(route.split()) for route in differing for _ in range(3)]
    inbound.feed(
        b"".join(
            delivery(consumer_tag=tag, exchange=exchange, routing_key=key, delivery_tag=number, redelivered=number % 2)
            for number, (tag, exchange, key) in enumerate(routes, 1)
        )
    )
    events = all_events(inbound)
    assert [event[2] for event in events] == [tag for tag, _, _ in routes]
    found = [event[3].delivery_info for event in events]
    assert [(info["consumer_tag"], info["exchange"], info["routing_key"]) for info in found] == routes
    assert [info["delivery_tag"] for info in found] == list(range(1, len(routes) + 1))
    assert [bool(info["redelivered"]) for info in found] == [bool(n % 2) for n in range(1, len(routes) + 1)]


@pytest.mark.parametrize("missing", range(1, 9))
def test_arguments_cut_short_are_refused_behind_a_delivery_of_the_same_route(core, missing):
    inbound = make_inbound(core)
    whole = delivery(consumer_tag="ctag", exchange="", routing_key="")
    size = struct.unpack(">I", whole[3:7])[0]
    inbound.feed(whole + whole)
    assert len(all_events(inbound)) == 2
    inbound.feed(wire.frame(wire.METHOD, 1, whole[7 : 7 + size - missing]) + header(0))
    with pytest.raises(FrameSyntaxError):
        inbound.next_event()


def test_property_blocks_that_differ_are_not_confused(core):
    inbound = make_inbound(core)
    wanted = [{"priority": number % 7, "correlation_id": str(number)} for number in range(200)] * 2
    inbound.feed(b"".join(delivery(properties=properties) for properties in wanted))
    assert [event[3].properties for event in all_events(inbound)] == wanted


def test_messages_outlive_the_buffer_that_they_came_in(core):
    inbound = make_inbound(core)
    messages = []
    for number in range(100):
        inbound.feed(delivery(b"%d" % number * 500, properties={"message_id": f"m{number}"}))
        messages.append(inbound.next_event()[3])
    del inbound
    assert [message.body for message in messages] == [b"%d" % number * 500 for number in range(100)]
    assert [message.properties["message_id"] for message in messages] == [f"m{number}" for number in range(100)]


# -- memory


def test_a_body_is_held_once(core):
    size = 8 * 1024 * 1024
    sent = bytes(size)
    frames = deliver() + header(size)
    chunk = wire.frame(wire.BODY, 1, bytes(131072 - 8))
    inbound = make_inbound(core)
    inbound.feed(frames)
    inbound.next_event()
    tracemalloc.start()
    try:
        left = size
        event = None
        while left:
            piece = chunk if left >= 131064 else wire.frame(wire.BODY, 1, bytes(left))
            left -= len(piece) - 8
            inbound.feed(piece)
            event = inbound.next_event()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert event is not None and event[3].body == sent
    # The body, the piece that is fed, and a receive buffer with room for it.
    assert peak < size + 6 * 131072


def test_announcing_a_body_costs_nothing_until_it_comes(core):
    inbound = make_inbound(core, channels=range(1, 101))
    tracemalloc.start()
    try:
        for number in range(1, 101):
            inbound.feed(deliver(number) + header(512 * 1024 * 1024, channel=number))
        assert inbound.next_event() is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1024 * 1024


@pytest.mark.parametrize("kind", [wire.METHOD, wire.HEARTBEAT])
def test_announcing_a_frame_costs_nothing_until_it_comes(core, kind):
    inbound = make_inbound(core, frame_max=0)
    inbound.feed(struct.pack(">BHI", kind, 0, 2**32 - 1) + bytes(1000))
    assert inbound.next_event() is None
    assert inbound.buffer_size <= 256 * 1024


def test_a_large_frame_comes_through_without_a_frame_max(core):
    payload = wire.method_payload("connection.blocked", reason="r" * 200) + bytes(3_000_000)
    data = wire.frame(wire.METHOD, 0, payload)
    inbound = make_inbound(core, frame_max=0)
    for start in range(0, len(data), 5000):
        assert inbound.next_event() is None
        inbound.feed(data[start:start + 5000])
    assert inbound.next_event() == (0, (10, 60), payload, None)


def test_the_buffer_does_not_grow_with_what_passes_through(core):
    inbound = make_inbound(core)
    data = delivery(b"x" * 300)
    for _ in range(2000):
        inbound.feed(data)
        assert inbound.next_event() is not None
    assert inbound.buffer_size == 16 * 1024


# -- hostile streams

OVERSIZED = wire.frame(wire.METHOD, 1, bytes(4089))
LONGER_BODY = deliver() + header(3) + body(b"abcd")
TRUNCATED_TABLE = bytes.fromhex("2000") + struct.pack(">I", 100) + b"\x01kI\0\0\0\1"
ARGUMENTS = wire.method_payload("basic.deliver", consumer_tag="c", delivery_tag=1, exchange="e", routing_key="k")


def method(payload: bytes, channel: int = 1) -> bytes:
    return wire.frame(wire.METHOD, channel, payload)


HOSTILE = {
    "oversized frame": (OVERSIZED, FrameError, "Received a frame of 4097 bytes; the negotiated frame_max is 4096"),
    "oversized frame, not there yet": (
        struct.pack(">BHI", wire.METHOD, 1, 2**32 - 1),
        FrameError,
        "Received a frame of 4294967303 bytes; the negotiated frame_max is 4096",
    ),
    "oversized heartbeat": (
        wire.frame(wire.HEARTBEAT, 0, bytes(5000)),
        FrameError,
        "Received a frame of 5008 bytes; the negotiated frame_max is 4096",
    ),
    "wrong end octet of a method": (
        wire.frame(wire.METHOD, 1, b"\0\x32\0\x0b", end=0),
        UnexpectedFrame,
        "Received frame_end 0x00 while expecting 0xce",
    ),
    "wrong end octet of a header": (
        deliver() + header(3)[:-1] + b"\xcf",
        UnexpectedFrame,
        "Received frame_end 0xcf while expecting 0xce",
    ),
    "wrong end octet of a body": (
        deliver() + header(3) + body(b"abc", end=0x41),
        UnexpectedFrame,
        "Received frame_end 0x41 while expecting 0xce",
    ),
    "wrong end octet of a heartbeat": (
        wire.frame(wire.HEARTBEAT, 0, b"", end=1),
        UnexpectedFrame,
        "Received frame_end 0x01 while expecting 0xce",
    ),
    "unknown type": (wire.frame(4, 1, b""), UnexpectedFrame, "Received frame 4 while expecting type: 1"),
    "unknown type 0": (wire.frame(0, 0, b""), UnexpectedFrame, "Received frame 0 while expecting type: 1"),
    "unknown type 255": (
        deliver() + wire.frame(255, 1, b""), UnexpectedFrame, "Received frame 255 while expecting type: 2"
    ),
    "header without its method": (header(3), UnexpectedFrame, "Received frame 2 while expecting type: 1"),
    "body without its header": (deliver() + body(b"a"), UnexpectedFrame, "Received frame 3 while expecting type: 2"),
    "body of nothing": (body(b"a"), UnexpectedFrame, "Received frame 3 while expecting type: 1"),
    "method in place of a header": (
        deliver() + deliver(delivery_tag=2), UnexpectedFrame, "Received frame 1 while expecting type: 2"
    ),
    "method within a body": (
        deliver() + header(3) + body(b"a") + deliver(), UnexpectedFrame, "Received frame 1 while expecting type: 3"
    ),
    "header within a body": (
        deliver() + header(3) + body(b"a") + header(3), UnexpectedFrame, "Received frame 2 while expecting type: 3"
    ),
    "heartbeat on a channel": (
        wire.frame(wire.HEARTBEAT, 7, b""),
        FrameError,
        "Received a heartbeat on channel 7; heartbeats belong to channel 0",
    ),
    "method of three bytes": (
        method(b"\0\x3c\0"), FrameSyntaxError, "Received a method frame of 3 bytes; the shortest has 4"
    ),
    "no arguments": (
        method(b"\0\x3c\0\x3c"), FrameSyntaxError, "octet of 1 bytes in basic.deliver exceeds the 0 that remain"
    ),
    "short string that is longer than its frame": (
        method(struct.pack(">HH", *DELIVER) + b"\x05tag"),
        FrameSyntaxError,
        "short string of 5 bytes in basic.deliver exceeds the 3 that remain",
    ),
    "delivery tag cut short": (
        method(struct.pack(">HH", *DELIVER) + b"\x01c" + bytes(7)),
        FrameSyntaxError,
        "long long of 8 bytes in basic.deliver exceeds the 7 that remain",
    ),
    "message count cut short": (
        method(struct.pack(">HH", *GET_OK) + bytes(8 + 1 + 1 + 1 + 3)),
        FrameSyntaxError,
        "long of 4 bytes in basic.get-ok exceeds the 3 that remain",
    ),
    "reply code cut short": (
        method(struct.pack(">HH", *RETURN) + b"\0"),
        FrameSyntaxError,
        "short of 2 bytes in basic.return exceeds the 1 that remain",
    ),
    "short string that is not UTF-8": (
        method(struct.pack(">HH", *DELIVER) + b"\x02\xc3(" + bytes(11)),
        FrameSyntaxError,
        "short string in basic.deliver is not UTF-8",
    ),
    "leftover after the arguments": (
        method(ARGUMENTS + b"ab"), FrameSyntaxError, "2 bytes are left over after the arguments of basic.deliver"
    ),
    "content header of twelve bytes": (
        deliver() + wire.frame(wire.HEADER, 1, bytes(12)),
        FrameSyntaxError,
        "Received a content header of 12 bytes; the shortest has 14",
    ),
    "content header of another class": (
        deliver() + header(3, class_id=50),
        FrameSyntaxError,
        "Received a content header of class 50; it belongs to a method of class 60",
    ),
    "content header with a weight": (
        deliver() + header(3, weight=1),
        FrameSyntaxError,
        "Received a content header of weight 1; it has to be 0",
    ),
    "body larger than announced": (
        LONGER_BODY, FrameError, "Received a body frame of 4 bytes while 3 are left of the body"
    ),
    "second body frame larger than announced": (
        deliver() + header(3) + body(b"ab") + body(b"cd"),
        FrameError,
        "Received a body frame of 2 bytes while 1 are left of the body",
    ),
    "body above max_body_size": (
        deliver() + header(1_000_001),
        FrameError,
        "Received a header that announces 1000001 bytes; max_body_size is 1000000",
    ),
    "body of 2**64 - 1": (
        deliver() + header(2**64 - 1),
        FrameError,
        "Received a header that announces 18446744073709551615 bytes; max_body_size is 1000000",
    ),
    "content for an unknown channel": (
        deliver(5), ChannelNotOpen, "Received basic.deliver for channel 5, which is not open"
    ),
    "content on channel 0": (
        wire.method("basic.return", 0), ChannelNotOpen, "Received basic.return for channel 0, which is not open"
    ),
}  # fmt: skip


@pytest.mark.parametrize("before", [b"", delivery(b"fine", consumer_tag="b")], ids=["alone", "after a delivery"])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_streams_are_refused(core, case, before):
    data, kind, text = HOSTILE[case]
    for pieces in ([before + data], [bytes([octet]) for octet in before + data]):
        inbound = make_inbound(core, frame_max=4096, max_body_size=1_000_000)
        events, error = pump(inbound, pieces)
        assert error == (kind, text)
        assert len(events) == bool(before)
        assert inbound.buffer_size <= 64 * 1024


PROPERTY_BLOCKS = {
    "truncated table": (TRUNCATED_TABLE, "table"),
    "table that is longer than its block": (bytes.fromhex("2000ffffffff"), ""),
    "bad short string": (bytes.fromhex("8000") + b"\x02\xc3(", "UTF-8"),
    "short string that is longer than its block": (bytes.fromhex("8000") + b"\x09abc", ""),
    "flags for more than there is": (bytes.fromhex("f800"), ""),
    "continuation flag": (bytes.fromhex("0001"), ""),
    "reserved flag": (bytes.fromhex("0002"), ""),
    "leftover": (bytes.fromhex("0000") + b"x", ""),
    "unknown letter in a table": (bytes.fromhex("2000") + struct.pack(">I", 3) + b"\x01k?", ""),
}


@pytest.mark.parametrize("case", PROPERTY_BLOCKS)
def test_bad_properties_are_refused_before_a_message_is_made(core, case):
    block, part = PROPERTY_BLOCKS[case]
    inbound = make_inbound(core)
    events, error = pump(inbound, [delivery(b"fine") + deliver(delivery_tag=2) + header(3, properties=block)])
    assert len(events) == 1
    assert error is not None and error[0] is FrameSyntaxError and part in error[1]
    with pytest.raises(FrameSyntaxError) as decoded:
        core.frames.decode_properties(block)
    assert error[1] == str(decoded.value)
    assert inbound.channels[1].unacked == {1}


def test_a_body_ends_where_its_header_said(core):
    inbound = make_inbound(core)
    events, error = pump(inbound, [deliver() + header(1) + body(b"a") + body(b"")])
    assert len(events) == 1
    assert error == (UnexpectedFrame, "Received frame 3 while expecting type: 1")


def test_a_bad_block_is_refused_however_often_it_comes(core):
    for _ in range(3):
        inbound = make_inbound(core)
        good = deliver() + header(0, properties=b"\0\0")
        bad = deliver() + header(0, properties=b"\0\1")
        events, error = pump(inbound, [good * 2 + bad])
        assert len(events) == 2 and error is not None and error[0] is FrameSyntaxError


def test_a_channel_that_closed_while_its_content_came_is_not_open(core):
    inbound = make_inbound(core)
    inbound.feed(deliver() + header(3))
    assert inbound.next_event() is None
    del inbound.channels[1]
    inbound.feed(body(b"abc"))
    with pytest.raises(ChannelNotOpen, match="Received content for channel 1, which is not open"):
        inbound.next_event()


def test_a_number_may_go_to_another_channel(core):
    inbound = make_inbound(core)
    for _ in range(2):
        for number in range(2):
            inbound.feed(delivery(b"x", delivery_tag=number))
            assert inbound.next_event()[3].channel is inbound.channels[1]
        inbound.channels[1] = Channel(core, 1)
    del inbound.channels[1]
    inbound.feed(delivery(b"x"))
    with pytest.raises(ChannelNotOpen, match="Received basic.deliver for channel 1, which is not open"):
        inbound.next_event()


@pytest.mark.parametrize("limit", ["frame_max", "max_body_size"])
def test_a_limit_that_is_lowered_holds_for_a_delivery_like_the_one_before(core, limit):
    inbound = make_inbound(core)
    for _ in range(2):
        inbound.feed(delivery(bytes(300)))
        assert len(inbound.next_event()[3].body) == 300
    setattr(inbound, limit, 299)
    inbound.feed(delivery(bytes(300)))
    with pytest.raises(FrameError, match="299"):
        inbound.next_event()


def test_limits_are_exact(core):
    inbound = make_inbound(core, frame_max=4096, max_body_size=4088)
    inbound.feed(deliver() + header(4088) + body(bytes(4088)))
    assert len(inbound.next_event()[3].body) == 4088
    inbound.feed(deliver() + header(4089))
    with pytest.raises(FrameError, match="announces 4089 bytes; max_body_size is 4088"):
        inbound.next_event()


def test_limits_can_be_changed_on_the_way(core):
    inbound = make_inbound(core, frame_max=4096)
    inbound.frame_max = 8192
    inbound.feed(wire.frame(wire.METHOD, 0, bytes(5000)))
    assert inbound.next_event() is not None
    inbound.frame_max = 0
    inbound.feed(wire.frame(wire.METHOD, 0, bytes(200_000)))
    assert inbound.next_event() is not None
    inbound.max_body_size = 3
    inbound.feed(deliver() + header(4))
    with pytest.raises(FrameError, match="max_body_size is 3"):
        inbound.next_event()


def test_unpacked_pieces_agree_with_the_whole(core):
    data = delivery(b"abc") + wire.method("basic.cancel", 1, consumer_tag="c")
    inbound = make_inbound(core)
    inbound.feed(data)
    whole = [described(event) for event in all_events(inbound)]
    for place in range(len(data)):
        assert pump(make_inbound(core), cut_at(data, [place])) == (whole, None)
