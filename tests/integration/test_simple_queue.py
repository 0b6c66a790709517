"""SimpleQueue and SimpleBuffer on a real broker."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kombu import Connection, Consumer, Queue
from patience import PATIENCE, Background, drain_until, until


def test_put_and_get(connection: Connection, queue_name: str) -> None:
    with connection.SimpleQueue(queue_name) as queue:
        for n in range(10):
            queue.put({"n": n}, headers={"n": n})
        until(lambda: queue.qsize() == 10)
        for n in range(10):
            message = queue.get(timeout=10)
            assert (message.payload, message.headers) == ({"n": n}, {"n": n})
            message.ack()
        assert len(queue) == 0
        assert queue


def test_get_nowait_asks_for_one_message_only(connection: Connection, queue_name: str) -> None:
    with connection.SimpleQueue(queue_name) as queue:
        with pytest.raises(queue.Empty):
            queue.get_nowait()
        queue.put(1)
        queue.put(2)
        message = queue.get_nowait()
        assert message.payload == 1
        message.ack()
        assert queue.get(block=False).payload == 2


def test_what_was_not_acknowledged_is_there_again(connect: Any, queue_name: str) -> None:
    with connect() as connection, connection.SimpleQueue(queue_name) as queue:
        queue.put("kept")
        assert queue.get(timeout=10).payload == "kept"
    with connect() as connection, connection.SimpleQueue(queue_name) as queue:
        message = queue.get(timeout=10)
        assert message.delivery_info["redelivered"]
        message.ack()


def test_clear_tells_how_many_messages_went(connection: Connection, queue_name: str) -> None:
    with connection.SimpleQueue(queue_name) as queue:
        for n in range(4):
            queue.put(n)
        assert queue.clear() == 4
        with pytest.raises(queue.Empty):
            queue.get_nowait()


def test_a_buffer_needs_no_acknowledgement_and_goes_with_its_connection(connect: Any, queue_name: str) -> None:
    connection = connect()
    with connection.SimpleBuffer(queue_name) as buffer:
        buffer.put("now")
        message = buffer.get(timeout=10)
        assert message.payload == "now"
        assert buffer.no_ack
    connection.release()
    other = connect()
    with pytest.raises(other.channel_errors) as caught:
        Queue(queue_name)(other.default_channel).queue_declare(passive=True)
    assert caught.value.reply_code == 404


def test_an_empty_queue_raises_when_the_time_is_over(connection: Connection, queue_name: str) -> None:
    with connection.SimpleQueue(queue_name) as queue:
        started = time.monotonic()
        with pytest.raises(queue.Empty):
            queue.get(timeout=0.2)
        assert 0.19 <= time.monotonic() - started < PATIENCE
        with pytest.raises(queue.Empty):
            queue.get(timeout=0)


def test_messages_for_others_do_not_make_the_wait_longer(
    connect: Any, connection: Connection, queue_name: str
) -> None:
    other = f"{queue_name}-other"
    stop = False
    end = time.monotonic() + 2 * PATIENCE

    def flood() -> None:
        with connect() as publishing:
            producer = publishing.Producer()
            # With an end, which would come too late: what waits for a pause must not do so for ever.
            while not stop and time.monotonic() < end:
                producer.publish("for the other", routing_key=other)
                time.sleep(0.01)

    seen: list[Any] = []
    with (
        connection.SimpleQueue(queue_name) as queue,
        Consumer(connection.channel(), Queue(other, durable=False), on_message=seen.append, no_ack=True),
        Background(flood, timeout=3 * PATIENCE),
    ):
        drain_until(connection, lambda: seen)
        before = len(seen)
        started = time.monotonic()
        try:
            with pytest.raises(queue.Empty):
                queue.get(timeout=0.5)
            elapsed = time.monotonic() - started
        finally:
            stop = True
    assert len(seen) > before
    assert 0.49 <= elapsed < PATIENCE


def test_a_message_that_comes_while_get_waits_ends_the_wait(connect: Any, queue_name: str) -> None:
    connection, other = connect(), connect()
    with connection.SimpleQueue(queue_name) as queue, other.SimpleQueue(queue_name) as sender:
        waiting = Background(queue.get, True, 10)
        with waiting:
            sender.put("late")
        assert waiting.result.payload == "late"
        waiting.result.ack()
