"""The workloads on pika's BlockingConnection; see ``measure``."""

from __future__ import annotations

import json
import time
from typing import Any

import pika
from contents import document
from measure import Check, Clock, Failed, latencies, main

Order = dict[str, Any]
Result = dict[str, Any]


def connect(order: Order) -> Any:
    # pika takes its own heartbeat where the peer asks for none.
    return pika.BlockingConnection(pika.URLParameters(order["url"].removesuffix("//") + "/%2F?heartbeat=0"))


def consume(order: Order) -> Result:
    count, no_ack, is_json = order["count"], order.get("no_ack", False), order["content"] != "raw"
    check, clock = Check(order), Clock()
    seen = total = begun = 0
    last: Any = None

    def take(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        nonlocal seen, total, last, begun
        if is_json:
            last = json.loads(body)
            total += last["id"]
        else:
            last = body
            total += len(body)
        if seen < check.warm:
            check.one(seen, last)
        seen += 1
        if not no_ack:
            channel.basic_ack(method.delivery_tag)
        if seen == check.warm:
            check.begin()
            begun, total = seen, 0
            clock.start()
        elif seen == count:
            clock.stop()

    connection = connect(order)
    channel = connection.channel()
    channel.queue_declare(order["queue"], durable=False)
    channel.basic_consume(order["queue"], take, auto_ack=no_ack)
    while seen < count:
        connection.process_data_events(time_limit=None)
    connection.close()
    check.end(begun, seen, total, last)
    return clock.result(seen - begun)


def publish(order: Order) -> Result:
    count, clock = order["count"], Clock()
    made = Check(order).content
    is_json = order["content"] != "raw"
    body = document(order["size"]) if is_json else made.body
    properties = pika.BasicProperties(content_type=made.content_type, delivery_mode=2)
    connection = connect(order)
    channel = connection.channel()
    if order["how"] == "confirm":
        channel.confirm_delivery()

    def send(number: int) -> None:
        for _ in range(number):
            channel.basic_publish("", "bench", json.dumps(body) if is_json else body, properties)
        channel.basic_qos()  # an answer to this says that the peer has read all that came before

    send(order["warm"])
    clock.start()
    send(count)
    clock.stop()
    connection.close()
    return clock.result(count)


def round_trip(order: Order) -> Result:
    count, warm, clock = order["count"], order["warm"], Clock()
    body = Check(order).content.body
    seen = wrong = 0
    times: list[float] = []

    def take(channel: Any, method: Any, properties: Any, received: bytes) -> None:
        nonlocal seen, wrong
        wrong += received != body
        seen += 1
        channel.basic_ack(method.delivery_tag)

    connection = connect(order)
    channel = connection.channel()
    channel.queue_declare(order["queue"], durable=False, auto_delete=True)
    channel.basic_consume(order["queue"], take)
    for number in range(warm + count):
        if number == warm:
            clock.start()
        before = time.perf_counter()
        channel.basic_publish("", order["queue"], body)
        while seen <= number:
            connection.process_data_events(time_limit=None)
        if number >= warm:
            times.append(time.perf_counter() - before)
    clock.stop()
    connection.close()
    if wrong or seen != warm + count:
        raise Failed(f"{seen} messages came back, {wrong} of them not as they were sent")
    return clock.result(count, **latencies(times))


def connections(order: Order) -> Result:
    count, warm, clock = order["count"], order["warm"], Clock()
    for number in range(warm + count):
        if number == warm:
            clock.start()
        connection = connect(order)
        connection.channel()
        connection.close()
    clock.stop()
    return clock.result(count)


if __name__ == "__main__":
    main(
        {"consume": consume, "publish": publish, "round_trip": round_trip, "connections": connections},
        version=pika.__version__,
    )
