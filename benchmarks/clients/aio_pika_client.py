"""The workloads on aio-pika; see ``measure``."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import Any

import aio_pika
from contents import document
from measure import Check, Clock, Failed, latencies, main

Order = dict[str, Any]
Result = dict[str, Any]


async def connect(order: Order) -> Any:
    return await aio_pika.connect(order["url"].removesuffix("//") + "/?heartbeat=0")


async def consume(order: Order) -> Result:
    count, no_ack, is_json = order["count"], order.get("no_ack", False), order["content"] != "raw"
    check, clock = Check(order), Clock()
    seen = total = begun = finished = 0
    last: Any = None
    done = asyncio.get_running_loop().create_future()

    async def take(message: Any) -> None:
        nonlocal seen, total, last, begun, finished
        try:
            if is_json:
                last = json.loads(message.body)
                total += last["id"]
            else:
                last = message.body
                total += len(last)
            if seen < check.warm:
                check.one(seen, last)
            seen += 1
            if seen == check.warm:
                check.begin()
                begun, total = seen, 0
                clock.start()
            if not no_ack:
                await message.ack()  # other callbacks run meanwhile
            finished += 1
            if finished == count:
                clock.stop()
                done.set_result(None)
        except Exception as exc:
            if not done.done():
                done.set_exception(exc)
            raise

    connection = await connect(order)
    channel = await connection.channel()
    queue = await channel.declare_queue(order["queue"], durable=False)
    await queue.consume(take, no_ack=no_ack)
    await done
    await connection.close()
    check.end(begun, seen, total, last)
    return clock.result(seen - begun)


async def publish(order: Order) -> Result:
    """``window``: so many publishes are awaited together."""
    count, clock, how, window = order["count"], Clock(), order["how"], 1000
    made = Check(order).content
    is_json = order["content"] != "raw"
    body = document(order["size"]) if is_json else made.body
    connection = await connect(order)
    channel = await connection.channel(publisher_confirms=how != "plain")
    exchange = channel.default_exchange

    def one() -> Coroutine[Any, Any, Any]:
        octets = json.dumps(body).encode() if is_json else body
        message = aio_pika.Message(octets, content_type=made.content_type, delivery_mode=2)
        return exchange.publish(message, "bench", mandatory=False)

    async def send(number: int) -> None:
        if how == "window":
            for done in range(0, number, window):
                await asyncio.gather(*(one() for _ in range(min(window, number - done))))
        else:
            for _ in range(number):
                await one()
        await channel.set_qos()  # an answer to this says that the peer has read all that came before

    await send(order["warm"])
    clock.start()
    await send(count)
    clock.stop()
    await connection.close()
    return clock.result(count)


async def round_trip(order: Order) -> Result:
    count, warm, clock = order["count"], order["warm"], Clock()
    body = Check(order).content.body
    wrong = 0
    times: list[float] = []
    arrived: asyncio.Queue[Any] = asyncio.Queue()

    async def take(message: Any) -> None:
        await message.ack()
        arrived.put_nowait(message.body)

    connection = await connect(order)
    channel = await connection.channel(publisher_confirms=False)
    queue = await channel.declare_queue(order["queue"], durable=False, auto_delete=True)
    await queue.consume(take)
    for number in range(warm + count):
        if number == warm:
            clock.start()
        before = time.perf_counter()
        await channel.default_exchange.publish(aio_pika.Message(body), order["queue"], mandatory=False)
        wrong += await arrived.get() != body
        if number >= warm:
            times.append(time.perf_counter() - before)
    clock.stop()
    await connection.close()
    if wrong:
        raise Failed(f"{wrong} of {warm + count} messages came back not as they were sent")
    return clock.result(count, **latencies(times))


async def connections(order: Order) -> Result:
    count, warm, clock = order["count"], order["warm"], Clock()
    for number in range(warm + count):
        if number == warm:
            clock.start()
        connection = await connect(order)
        await connection.channel()
        await connection.close()
    clock.stop()
    return clock.result(count)


def run(work: Callable[[Order], Coroutine[Any, Any, Result]]) -> Callable[[Order], Result]:
    return lambda order: asyncio.run(work(order))


if __name__ == "__main__":
    main(
        {
            "consume": run(consume),
            "publish": run(publish),
            "round_trip": run(round_trip),
            "connections": run(connections),
        },
        version=version("aio-pika"),
    )
