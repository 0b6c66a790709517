"""The workloads on AMQPStorm; see ``measure``.  It reads the socket in a thread of its own."""

from __future__ import annotations

import json
import time
from importlib.metadata import version
from typing import Any

import amqpstorm
from contents import document
from measure import Check, Clock, Failed, latencies, main

Order = dict[str, Any]
Result = dict[str, Any]


def connect(order: Order) -> Any:
    return amqpstorm.UriConnection(order["url"].removesuffix("//") + "/%2F?heartbeat=0")


def consume(order: Order) -> Result:
    count, no_ack, is_json = order["count"], order.get("no_ack", False), order["content"] != "raw"
    check, clock = Check(order), Clock()
    seen = total = begun = 0
    last: Any = None
    connection = connect(order)
    channel = connection.channel()
    channel.queue.declare(order["queue"], durable=False)
    channel.basic.consume(queue=order["queue"], no_ack=no_ack)
    for message in channel.build_inbound_messages(auto_decode=False):
        if is_json:
            last = json.loads(message.body)
            total += last["id"]
        else:
            last = message.body
            total += len(last)
        if seen < check.warm:
            check.one(seen, last)
        seen += 1
        if not no_ack:
            message.ack()
        if seen == check.warm:
            check.begin()
            begun, total = seen, 0
            clock.start()
        elif seen == count:
            clock.stop()
            break
    connection.close()
    check.end(begun, seen, total, last)
    return clock.result(seen - begun)


def publish(order: Order) -> Result:
    count, clock = order["count"], Clock()
    made = Check(order).content
    is_json = order["content"] != "raw"
    body = document(order["size"]) if is_json else made.body
    connection = connect(order)
    channel = connection.channel()
    if order["how"] == "confirm":
        channel.confirm_deliveries()

    def send(number: int) -> None:
        properties = {"content_type": made.content_type, "delivery_mode": 2}
        for _ in range(number):
            channel.basic.publish(json.dumps(body) if is_json else body, "bench", "", properties)
        channel.basic.qos()  # an answer to this says that the peer has read all that came before

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
    connection = connect(order)
    channel = connection.channel()
    channel.queue.declare(order["queue"], durable=False, auto_delete=True)
    channel.basic.consume(queue=order["queue"])
    messages = channel.build_inbound_messages(auto_decode=False)
    for number in range(warm + count):
        if number == warm:
            clock.start()
        before = time.perf_counter()
        channel.basic.publish(body, order["queue"])
        message = next(messages)
        message.ack()
        seen += 1
        wrong += message.body != body
        if number >= warm:
            times.append(time.perf_counter() - before)
    clock.stop()
    connection.close()
    if wrong:
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
        version=version("amqpstorm"),
    )
