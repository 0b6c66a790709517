"""The receive buffers of both cores and the ``amqp`` package's on generated streams: valid, cut, and spoilt."""

from __future__ import annotations

import struct
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from amqp import serialization, spec
from amqp.channel import Channel as AmqpChannel
from amqp.method_framing import frame_handler
from hypothesis import given
from hypothesis import strategies as st

import wire
from core import Core
from streams import cut_at, delivery, described, make_inbound, pump

pytestmark = pytest.mark.c_extensions

FRAME_MAX = 4096
MAX_BODY_SIZE = 100_000
CHANNELS = (1, 2, 3)
CORES = [Core("c"), Core("python")]
BASIC_CONTENT = {spec.Basic.Deliver, spec.Basic.GetOk, spec.Basic.Return}

shortstrs = st.text(max_size=12) | st.sampled_from(["", "exchange", "ctag1.0", "x" * 255])
tags = st.integers(1, 20) | st.integers(0, 2**64 - 1)
headers = st.dictionaries(
    st.text(max_size=6),
    st.text(max_size=6) | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.none() | st.lists(st.integers(0, 9)),
    max_size=3,
)
properties = st.fixed_dictionaries(
    {},
    optional={
        "content_type": st.sampled_from(["application/json", "text/plain", ""]),
        "content_encoding": st.sampled_from(["utf-8", "binary", "latin-1", "no such"]),
        "application_headers": headers,
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(0, 255),
        "correlation_id": shortstrs,
        "message_id": shortstrs,
        "timestamp": st.integers(0, 2**63),
        "cluster_id": shortstrs,
    },
)
bodies = st.binary(max_size=40) | st.builds(bytes, st.integers(0, 3 * FRAME_MAX)) | st.sampled_from([b"{}", b"\xff"])


@st.composite
def contents(draw: st.DrawFn, channel: int) -> list[bytes]:
    """The frames of one method with its content, body frames of any size, empty ones among them."""
    name = draw(st.sampled_from(["basic.deliver"] * 3 + ["basic.get-ok", "basic.return"]))
    exchange, routing_key = draw(shortstrs), draw(shortstrs)
    arguments: dict[str, Any] = {"exchange": exchange, "routing_key": routing_key}
    if name == "basic.deliver":
        arguments |= {"consumer_tag": draw(shortstrs)}
    if name == "basic.return":
        arguments |= {"reply_code": draw(st.integers(0, 65535)), "reply_text": draw(shortstrs)}
    else:
        arguments |= {"delivery_tag": draw(tags), "redelivered": draw(st.booleans())}
    if name == "basic.get-ok":
        arguments |= {"message_count": draw(st.integers(0, 2**32 - 1))}
    body = draw(bodies)
    frames = [wire.method(name, channel, **arguments)]
    frames += wire.content(channel, draw(properties), body, FRAME_MAX)[:1]
    places = draw(st.lists(st.integers(0, len(body)), max_size=4)) if body else []
    step = FRAME_MAX - 8
    for piece in cut_at(body, places) if body else []:
        frames += [wire.frame(wire.BODY, channel, piece[start:start + step]) for start in range(0, len(piece), step)]
        if not piece and len(frames) < 3:
            frames.append(wire.frame(wire.BODY, channel, b""))
    return frames


@st.composite
def plain_methods(draw: st.DrawFn, channel: int) -> list[bytes]:
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return [wire.method("basic.ack", channel, delivery_tag=draw(tags), multiple=draw(st.booleans()))]
    if kind == 1:
        return [wire.method("queue.declare-ok", channel, queue=draw(shortstrs))]
    if kind == 2:
        return [wire.method("channel.close", channel, reply_code=404, reply_text=draw(shortstrs))]
    payload = struct.pack(">HH", draw(st.integers(0, 59)), draw(st.integers(0, 99))) + draw(st.binary(max_size=20))
    return [wire.frame(wire.METHOD, channel, payload)]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """The frames of several channels, interleaved, heartbeats between them."""
    queues: list[list[bytes]] = []
    for channel in draw(st.lists(st.sampled_from((0, *CHANNELS)), max_size=4, unique=True)):
        items = contents(channel) | plain_methods(channel) if channel else plain_methods(channel)
        queues.append([frame for item in draw(st.lists(items, max_size=4)) for frame in item])
    frames = []
    while queues := [queue for queue in queues if queue]:
        queue = draw(st.sampled_from(queues))
        frames.append(queue.pop(0))
        if draw(st.integers(0, 9)) == 0:
            frames.append(wire.HEARTBEAT_FRAME)
    return b"".join(frames)


def inbounds() -> list[Any]:
    return [make_inbound(core, CHANNELS, frame_max=FRAME_MAX, max_body_size=MAX_BODY_SIZE) for core in CORES]


def amqp_events(data: bytes) -> list[tuple[Any, ...]]:
    """Return what the ``amqp`` package makes of *data*: events as :func:`in_terms_of_amqp` has them."""
    events: list[tuple[Any, ...]] = []
    on_frame = frame_handler(SimpleNamespace(bytes_recv=0), lambda *event: events.append(event))
    offset = 0
    while offset < len(data):
        frame_type, channel, size = struct.unpack_from(">BHI", data, offset)
        on_frame((frame_type, channel, data[offset + 7:offset + 7 + size]))
        offset += size + 8
    found = []
    for channel, method, payload, message in events:
        if message is None:
            found.append((channel, method, payload, None))
            continue
        arguments, _ = serialization.loads(AmqpChannel._METHODS[method].args, payload, 4)
        found.append((channel, method, arguments, (dict(message.properties), bytes(message.body or b""))))
    return found


def in_terms_of_amqp(event: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return one of our events as channel, method, arguments, and properties and body if it has content."""
    channel, method, payload, message = event
    if message is None:
        return event
    info = message.delivery_info
    if method == spec.Basic.Return:
        arguments = list(payload)
        assert (info["exchange"], info["routing_key"]) == payload[2:]
    elif method == spec.Basic.Deliver:
        names = ("consumer_tag", "delivery_tag", "redelivered", "exchange", "routing_key")
        arguments = [info[name] for name in names]
        assert payload == arguments[0]
    else:
        names = ("delivery_tag", "redelivered", "exchange", "routing_key", "message_count")
        arguments = [info[name] for name in names]
    body = message.body
    if isinstance(body, str):
        body = body.encode(message.content_encoding) if body else b""
    return channel, method, arguments, (message.properties, body)


cuts = st.lists(st.integers(0, 20_000), max_size=12)


@given(streams(), cuts)
def test_valid_streams_are_the_same_to_all_three(data, places):
    expected = amqp_events(data)
    states = []
    for inbound in inbounds():
        events, progress = [], []
        for piece in cut_at(data, places):
            inbound.feed(piece)
            while (event := inbound.next_event()) is not None:
                events.append(event)
                progress.append((inbound.more_waits, inbound.frames_received))
            progress.append((inbound.more_waits, inbound.frames_received))
        assert [in_terms_of_amqp(event) for event in events] == expected
        unacked = {number: channel.unacked for number, channel in inbound.channels.items()}
        states.append((progress, unacked, [described(event) for event in events]))
    assert states[0] == states[1]
    assert pump(inbounds()[0], [data]) == (states[0][2], None)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A valid stream of which some octets were flipped, dropped, put in or cut off."""
    data = bytearray(draw(streams()))
    for _ in range(draw(st.integers(1, 3))):
        # Most of a long body says nothing: the beginning and the end have what matters.
        place = draw(st.integers(0, max(0, len(data) - 1)) | st.integers(0, 80) | st.integers(-80, -1))
        place = max(0, min(len(data) - 1, place % len(data) if data else 0))
        match draw(st.sampled_from(["flip", "set", "drop", "insert", "truncate"])):
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[place] = draw(st.sampled_from([0, 1, 2, 3, 8, 0xCE, 0xFF]))
            case "drop":
                del data[place:place + draw(st.integers(1, 9))]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=9))
            case "truncate":
                del data[place:]
    return bytes(data)


def outcome(inbound: Any, pieces: list[bytes]) -> tuple[Any, ...]:
    events, error = pump(inbound, pieces)
    unacked = {number: channel.unacked for number, channel in inbound.channels.items()}
    # A body may be announced larger than it is, and the buffer twice as large as what it has to hold.
    assert inbound.buffer_size <= 16 * 1024 + 4 * sum(map(len, pieces))
    return events, error, inbound.frames_received, inbound.more_waits, unacked


@given(spoilt(), cuts)
def test_spoilt_streams_fail_alike(data, places):
    pieces = cut_at(data, places)
    compiled, pure = (outcome(inbound, pieces) for inbound in inbounds())
    assert compiled == pure
    # Nor does it matter how the stream was cut.
    assert outcome(inbounds()[0], [data])[:2] == compiled[:2]


@given(st.binary(max_size=300), st.sampled_from([0, 1, 2, 3, 8]), st.integers(0, 4))
def test_noise_fails_alike(data, kind, channel):
    """Octets of which only the first header is plausible."""
    noise = struct.pack(">BHI", kind, channel, max(0, len(data) - 2)) + data
    compiled, pure = (outcome(inbound, [noise]) for inbound in inbounds())
    assert compiled == pure


@given(streams().filter(bool), st.integers(0, 2**32))
def test_a_stream_that_ends_early_is_only_incomplete(data, place):
    data = data[: place % len(data)]
    compiled, pure = (outcome(inbound, [data]) for inbound in inbounds())
    assert compiled == pure
    assert compiled[1] is None


#: Deliveries and others that have most in common with the one before.
alike = st.builds(
    lambda name, channel, texts, tag, redelivered, properties, body: (
        wire.method(
            f"basic.{name}",
            channel,
            exchange=texts[1],
            routing_key=texts[2],
            **({"consumer_tag": texts[0]} if name == "deliver" else {}),
            **(
                {"reply_code": 312, "reply_text": texts[0]}
                if name == "return"
                else {"delivery_tag": tag, "redelivered": redelivered}
            ),
            **({"message_count": 0} if name == "get-ok" else {}),
        )
        + b"".join(wire.content(channel, properties, body, FRAME_MAX))
    ),
    st.sampled_from(["deliver"] * 6 + ["return", "get-ok"]),
    st.sampled_from([1] * 4 + [2]),
    st.sampled_from([("ab", "c", "d")] * 4 + [("a", "bc", "d"), ("ab", "x", "d"), ("zz", "c", "d"), ("c", "c", "d")]),
    st.integers(1, 9),
    st.booleans(),
    st.sampled_from([{"priority": 1}] * 4 + [{"priority": 2}, {}, {"message_id": "x" * 200}]),
    st.sampled_from([b"", b"{}", b"[]", b"x" * 300, bytes(FRAME_MAX)]),
)


@given(st.lists(alike | st.just(wire.HEARTBEAT_FRAME), min_size=2, max_size=12), cuts)
def test_deliveries_that_have_most_in_common_are_not_confused(frames, places):
    pieces = cut_at(b"".join(frames), [place % 2000 for place in places])
    compiled, pure = (outcome(inbound, pieces) for inbound in inbounds())
    assert compiled == pure and compiled[1] is None
    assert outcome(inbounds()[0], frames)[:3] == compiled[:3]


def test_a_delivery_that_differs_in_one_octet_from_the_one_before_is_the_same_to_both():
    whole = delivery(
        b'{"a": 1}', consumer_tag="ctag", delivery_tag=5, exchange="ex", routing_key="key",
        properties={"content_type": "application/json", "application_headers": {"n": 1}, "priority": 3},
    )
    for place in range(len(whole)):
        for change in (1, 0x80, 0xFF):
            changed = bytearray(whole)
            changed[place] ^= change
            compiled, pure = (outcome(inbound, [whole, bytes(changed), whole]) for inbound in inbounds())
            assert compiled == pure, (place, change)


#: What may happen to the deliveries of a channel: one comes, is settled, all up to one are, somebody looks or adds.
happenings = st.tuples(
    st.sampled_from(["comes"] * 4 + ["settled"] * 3 + ["up to", "seen", "added", "replaced"]), st.integers(0, 4)
)


@given(st.lists(happenings, max_size=20))
def test_both_know_the_same_deliveries_to_await_an_acknowledgement(steps):
    seen: list[list[Any]] = [[], []]
    for inbound, found in zip(inbounds(), seen, strict=True):
        deliveries = inbound.channels[1].deliveries
        for what, tag in steps:
            if what == "comes":
                inbound.feed(delivery(b"x", delivery_tag=tag))
                assert inbound.next_event()[3].delivery_tag == tag
            elif what == "settled":
                deliveries.settle(tag)
            elif what == "up to":
                deliveries.settle(tag, True)
            elif what == "added":
                deliveries.unacked.add(tag)
            elif what == "replaced":
                deliveries.unacked = {tag, tag + 1}
            else:
                found.append(set(deliveries.unacked))
        found.append(deliveries.unacked)
    assert seen[0] == seen[1]


def test_both_cores_are_told_apart():
    modules = [import_module(f"{core.package}.inbound") for core in CORES]
    assert modules[0].Inbound is not modules[1].Inbound
    assert [type(inbound) for inbound in inbounds()] == [module.Inbound for module in modules]
