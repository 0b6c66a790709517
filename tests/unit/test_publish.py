"""Planned publishes and the buffer that gathers them: the bytes are those of encode_publish."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from amqp.exceptions import FrameError
from hypothesis import given
from hypothesis import strategies as st

from kombu._pure import frames as pure_frames
from kombu._pure import publish as pure_publish

PROPERTIES = pure_frames.encode_properties({"content_type": "text/plain", "delivery_mode": 2})
ADDRESS = (7, "exchange", "key", True, False)


def expected(body: bytes, frame_max: int = 131072) -> bytes:
    return b"".join(pure_frames.encode_publish(*ADDRESS, PROPERTIES, body, frame_max))


def plan(core: Any, frame_max: int = 131072) -> Any:
    return core.publish.PublishPlan(*ADDRESS, PROPERTIES, frame_max)


@pytest.mark.parametrize("size", [0, 1, 255, 4088, 4089, 16 * 1024, 16 * 1024 + 1, 300_000])
@pytest.mark.parametrize("frame_max", [0, 4096, 131072])
def test_a_plan_encodes_what_encode_publish_does(core, size, frame_max):
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    buffers = plan(core, frame_max).encode(body)
    assert b"".join(buffers) == expected(body, frame_max)
    # One buffer, or slices of the body itself.
    assert len(buffers) == 1 or any(isinstance(each, memoryview) and each.obj is body for each in buffers)
    buffer = core.publish.PublishBuffer(10, 1 << 20)
    assert not buffer.add(plan(core, frame_max), body)
    assert buffer.take(1) == expected(body, frame_max)


def test_the_number_of_the_channel_is_the_plans(core):
    assert plan(core).channel_id == 7


@pytest.mark.parametrize("body", [b"bytes", bytearray(b"bytes"), memoryview(b"xbytes")[1:], "bytes"])
def test_whatever_is_one_run_of_bytes_is_a_body(core, body):
    assert plan(core).encode(body) == [expected(b"bytes")]
    buffer = core.publish.PublishBuffer(10, 1 << 20)
    buffer.add(plan(core), body)
    assert buffer.take(1) == expected(b"bytes")


def test_text_is_utf_8_large_or_small(core):
    for text in ("h\u00e9\U0001f600", "\u20ac" * 20_000):
        assert b"".join(plan(core).encode(text)) == expected(text.encode())


def test_larger_items_count_by_their_bytes(core):
    view = memoryview(bytes(8)).cast("H")
    assert plan(core).encode(view) == [expected(bytes(8))]
    large = memoryview(bytes(40_000)).cast("I")
    assert b"".join(plan(core).encode(large)) == expected(bytes(40_000))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (None, TypeError),
        (12, TypeError),
        ({}, TypeError),
        ("\ud800", UnicodeEncodeError),
        (memoryview(b"abcd")[::2], BufferError),
    ],
)
def test_what_is_no_body_is_refused_and_leaves_no_trace(core, body, error):
    buffer = core.publish.PublishBuffer(10, 1 << 20)
    buffer.add(plan(core), b"1")
    with pytest.raises(error):
        plan(core).encode(body)
    with pytest.raises(error):
        buffer.add(plan(core), body)
    assert buffer.count == 1
    assert buffer.take(5) == expected(b"1")


def test_a_plan_refuses_what_encode_publish_refuses(core):
    with pytest.raises(struct.error, match="short string of 300 bytes"):
        core.publish.PublishPlan(1, "", "x" * 300, False, False, PROPERTIES, 4096)
    with pytest.raises(FrameError, match="properties of 5000 bytes"):
        core.publish.PublishPlan(1, "", "x", False, False, bytes(5000), 4096)


def test_a_buffer_is_full_by_messages_or_by_bytes(core):
    by_count = core.publish.PublishBuffer(3, 1 << 20)
    assert [by_count.add(plan(core), b"x") for _ in range(4)] == [False, False, True, True]
    by_bytes = core.publish.PublishBuffer(100, 1000)
    full = [by_bytes.add(plan(core), bytes(300)) for _ in range(4)]
    assert full == [False, False, True, True]
    assert len(by_bytes) == 4 * len(expected(bytes(300)))
    assert (by_bytes.most_messages, by_bytes.most_bytes) == (100, 1000)


def test_messages_are_taken_from_the_front(core):
    buffer = core.publish.PublishBuffer(100, 1 << 20)
    bodies = [b"%d" % number * (number + 1) for number in range(10)]
    for body in bodies:
        buffer.add(plan(core), body)
    assert buffer.take(0) == b""
    assert buffer.take(3) == b"".join(map(expected, bodies[:3]))
    assert (buffer.count, len(buffer)) == (7, len(b"".join(map(expected, bodies[3:]))))
    buffer.add_frames([b"whole ", b"frames"])
    assert buffer.take(6) == b"".join(map(expected, bodies[3:9]))
    assert buffer.take(99) == expected(bodies[9]) + b"whole frames"
    assert (buffer.count, len(buffer), buffer.take(1)) == (0, 0, b"")


def test_clearing_leaves_nothing(core):
    buffer = core.publish.PublishBuffer(2, 1 << 20)
    buffer.add(plan(core), b"x")
    buffer.clear()
    assert (buffer.count, len(buffer)) == (0, 0)
    assert not buffer.add(plan(core), b"y")
    assert buffer.take(1) == expected(b"y")


@given(bodies=st.lists(st.binary(max_size=5000)), cuts=st.lists(st.integers(0, 4)))
def test_both_gather_the_same(bodies, cuts):
    compiled_publish = pytest.importorskip("kombu._speedups.publish")
    made = [module.PublishBuffer(1000, 1 << 30) for module in (pure_publish, compiled_publish)]
    plans = [module.PublishPlan(*ADDRESS, PROPERTIES, 4096) for module in (pure_publish, compiled_publish)]
    for body in bodies:
        assert made[0].add(plans[0], body) == made[1].add(plans[1], body)
    for cut in cuts:
        assert made[0].take(cut) == made[1].take(cut)
        assert (made[0].count, len(made[0])) == (made[1].count, len(made[1]))
