"""The workloads on kombu's public interface; the same program runs on this library and on kombu 5.7.

See ``measure`` for what it is told and what it prints.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any

from contents import FIRST_NUMBER, document
from measure import Check, Clock, Failed, Unsupported, latencies, main, status_kib

import kombu
from kombu.mixins import ConsumerMixin

Order = dict[str, Any]
Result = dict[str, Any]


def connect(order: Order) -> Any:
    options = order.get("transport_options") or {}
    return kombu.Connection(order["url"], transport_options=options)


def needs(supported: bool, what: str) -> None:
    if not supported:
        raise Unsupported(f"no {what} in kombu {kombu.__version__}")


def accepts(function: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(function).parameters


class Counted:
    """A callback that looks at the body, acknowledges and counts: what it has seen, the sum, the last body."""

    def __init__(self, content: str, ack: bool) -> None:
        # One closure a kind, since a branch in the callback would be measured too.
        seen = total = 0
        last: Any = None

        def raw(body: Any, message: Any) -> None:
            nonlocal seen, total, last
            total += len(body)
            last = body
            seen += 1
            message.ack()

        def raw_unacknowledged(body: Any, message: Any) -> None:
            nonlocal seen, total, last
            total += len(body)
            last = body
            seen += 1

        def decoded(body: Any, message: Any) -> None:
            nonlocal seen, total, last
            total += body["id"]
            last = body
            seen += 1
            message.ack()

        def with_headers(body: Any, message: Any) -> None:
            nonlocal seen, total, last
            total += body["id"] + message.headers["retries"]
            last = body
            seen += 1
            message.ack()

        def reset() -> None:
            nonlocal total
            total = 0

        kinds = {"raw": raw if ack else raw_unacknowledged, "json": decoded, "task": with_headers}
        self.callback = kinds[content]
        self.reset = reset
        self.seen: Callable[[], int] = lambda: seen
        self.total: Callable[[], int] = lambda: total
        self.last: Callable[[], Any] = lambda: last


def consume(order: Order) -> Result:
    """``drain_events`` in a loop below ``with Consumer``; ``max_events``: so many a call."""
    count, no_ack, many = order["count"], order.get("no_ack", False), order.get("max_events")
    needs(many is None or accepts(kombu.Connection.drain_events, "max_events"), "drain_events(max_events)")
    check, clock = Check(order), Clock()
    counted = Counted(order["content"], ack=not no_ack)
    seen, last = counted.seen, counted.last
    with connect(order) as connection:
        queue = kombu.Queue(order["queue"], durable=False)
        with connection.Consumer([queue], callbacks=[counted.callback], no_ack=no_ack):
            drain = connection.drain_events
            while seen() < check.warm:
                drain()
                check.one(seen() - 1, last())
            check.begin()
            counted.reset()
            begun = seen()
            clock.start()
            if many is None:
                while seen() < count:
                    drain()
            else:
                while seen() < count:
                    drain(max_events=many)
            clock.stop()
    check.end(begun, seen(), counted.total(), last())
    return clock.result(seen() - begun)


def batches(order: Order) -> Result:
    """A callback for lists of messages, one acknowledgement a list."""
    needs(accepts(kombu.Consumer.__init__, "on_batch"), "Consumer(on_batch)")
    count, check, clock = order["count"], Check(order), Clock()
    seen = total = 0
    early: list[Any] = []
    last: Any = None

    def on_batch(batch: Any) -> None:
        nonlocal seen, total, last
        for last in batch.payloads:
            total += len(last)
        if seen < check.warm:
            early.extend(batch.payloads)
        seen += len(batch)
        batch.ack()

    with connect(order) as connection:
        queue = kombu.Queue(order["queue"], durable=False)
        consumer = connection.Consumer([queue], on_batch=on_batch, batch_size=order["batch_size"])
        with consumer:
            drain = connection.drain_events
            many = order.get("max_events") or order["batch_size"]
            while seen < check.warm:
                drain(max_events=many)
            for number, body in enumerate(early):
                check.one(number, body)
            check.begin()
            begun, total = seen, 0
            clock.start()
            while seen < count:
                drain(max_events=many)
            clock.stop()
    check.end(begun, seen, total, last)
    return clock.result(seen - begun)


def mixin(order: Order) -> Result:
    """A ``ConsumerMixin`` that stops itself after the last message."""
    count, check, clock = order["count"], Check(order), Clock()

    class Worker(ConsumerMixin):
        seen = total = 0
        last: Any = None

        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def get_consumers(self, Consumer: Any, channel: Any) -> list[Any]:
            return [Consumer([kombu.Queue(order["queue"], durable=False)], callbacks=[self.take])]

        def take(self, body: Any, message: Any) -> None:
            if self.seen < check.warm:
                check.one(self.seen, body)
            elif self.seen == check.warm:
                check.begin()
                clock.start()
            self.seen += 1
            self.total += len(body)
            self.last = body
            message.ack()
            if self.seen == count:
                clock.stop()
                self.should_stop = True

    worker = Worker(connect(order))
    worker.run()
    worker.connection.release()
    check.end(0, worker.seen, worker.total, worker.last)
    return clock.result(count - check.warm - 1)  # the first message is what starts the clock


def simple_queue(order: Order) -> Result:
    """``SimpleQueue.get`` and ``ack`` of each message."""
    count, check, clock = order["count"], Check(order), Clock()
    total = 0
    with connect(order) as connection:
        with connection.SimpleQueue(order["queue"], queue_opts={"durable": False}) as queue:
            get = queue.get
            for number in range(check.warm):
                message = get()
                check.one(number, message.payload)
                message.ack()
            check.begin()
            clock.start()
            for _ in range(check.warm, count):
                message = get()
                last = message.payload
                total += len(last)
                message.ack()
            clock.stop()
    check.end(check.warm, count, total, last)
    return clock.result(count - check.warm)


def body_to_publish(order: Order) -> Any:
    return Check(order).content.body if order["content"] == "raw" else document(order["size"])


def publish(order: Order) -> Result:
    """``Producer.publish``; ``how``: ``plain`` (no waiting), ``batch``, ``confirm`` (one by one) or ``window``."""
    how, count, warm, clock = order["how"], order["count"], order["warm"], Clock()
    needs(how != "batch" or hasattr(kombu.Producer, "batch"), "Producer.batch")
    needs(how != "window" or hasattr(kombu.Producer, "flush"), "window of confirms")
    body = body_to_publish(order)
    with connect(order) as connection:
        producer = connection.Producer()
        if how == "batch":
            needs(producer.supports_batch_publish or order.get("lenient", False), "batches on amqp://")

        def send(number: int) -> None:
            publish = producer.publish
            if how == "batch":
                with producer.batch():
                    for _ in range(number):
                        publish(body, routing_key="bench")
            else:
                for _ in range(number):
                    publish(body, routing_key="bench")
            if how == "window":
                producer.flush(timeout=60)
            # An answer to this says that the peer has read all that came before.
            producer.channel.basic_qos(0, 0, False)

        send(warm)
        clock.start()
        send(count)
        clock.stop()
    return clock.result(count)


def round_trip(order: Order) -> Result:
    """Publish to a queue and wait for the message to arrive, again and again."""
    count, warm, clock = order["count"], order["warm"], Clock()
    body = body_to_publish(order)
    seen, wrong = 0, 0
    times: list[float] = []

    def take(received: Any, message: Any) -> None:
        nonlocal seen, wrong
        wrong += received != body
        seen += 1
        message.ack()

    with connect(order) as connection:
        queue = kombu.Queue(order["queue"], durable=False, auto_delete=True)
        producer = connection.Producer()
        publish, drain, now = producer.publish, connection.drain_events, time.perf_counter
        with connection.Consumer([queue], callbacks=[take]):
            for number in range(warm + count):
                if number == warm:
                    clock.start()
                before = now()
                publish(body, routing_key=queue.name, delivery_mode=1)
                while seen <= number:
                    drain()
                if number >= warm:
                    times.append(now() - before)
            clock.stop()
    if wrong or seen != warm + count:
        raise Failed(f"{seen} messages came back, {wrong} of them not as they were sent")
    return clock.result(count, **latencies(times))


def connections(order: Order) -> Result:
    """Connect, open a channel, close."""
    count, warm, clock = order["count"], order["warm"], Clock()
    for number in range(warm + count):
        if number == warm:
            clock.start()
        connection = connect(order)
        connection.connect()
        connection.channel()
        connection.close()
    clock.stop()
    return clock.result(count)


def memory(order: Order) -> Result:
    """Publish and consume on ``memory://``, a hundred and a hundred in turn."""
    clock, burst = Clock(), 100
    count = -(-order["count"] // burst) * burst
    body = document(order["size"])
    seen = total = 0

    def take(received: Any, message: Any) -> None:
        nonlocal seen, total
        total += received["id"]
        seen += 1
        message.ack()

    with kombu.Connection("memory://") as connection:
        queue = kombu.Queue("bench")
        producer = connection.Producer()
        with connection.Consumer([queue], callbacks=[take]):
            publish, drain = producer.publish, connection.drain_events

            def bursts(limit: int) -> None:
                while seen < limit:
                    for _ in range(burst):
                        publish(body, routing_key="bench")
                    wanted = seen + burst
                    while seen < wanted:
                        drain()

            bursts(burst)
            begun = seen
            clock.start()
            bursts(begun + count)
            clock.stop()
    if seen != begun + count or total != seen * FIRST_NUMBER:
        raise Failed(f"{seen} messages with a sum of {total} arrived")
    return clock.result(count)


def fill(order: Order) -> Result:
    """Declare a queue and publish the numbered messages into it; return when it has them all."""
    made = Check(order).content
    with connect(order) as connection:
        channel = connection.channel()
        queue = kombu.Queue(order["queue"], durable=False)(channel)
        queue.declare()
        producer = kombu.Producer(channel)
        for number in range(order["count"]):
            producer.publish(made.body_of(number), routing_key=order["queue"], delivery_mode=1)
        deadline = time.monotonic() + 60
        while queue.queue_declare(passive=True).message_count < order["count"]:
            if time.monotonic() > deadline:
                raise Failed(f"the queue has not got {order['count']} messages")
            time.sleep(0.01)
        return {"messages": order["count"], "broker": connection.connection.server_properties["version"]}


def remove(order: Order) -> Result:
    """Delete a queue and tell how many messages it held."""
    with connect(order) as connection:
        queue = kombu.Queue(order["queue"], durable=False)(connection.channel())
        left = queue.queue_declare(passive=True).message_count
        queue.delete()
    return {"left": left}


def soak(order: Order) -> Result:
    """Consume (or publish) very many messages and tell the resident size at equal distances."""
    count, samples = order["count"], 100
    check, clock = Check(order), Clock()
    sizes: list[int] = []
    with connect(order) as connection:
        if order["direction"] == "publish":
            producer, body = connection.Producer(), body_to_publish(order)
            clock.start()
            for _ in range(samples):
                for _ in range(count // samples):
                    producer.publish(body, routing_key="bench")
                sizes.append(status_kib("VmRSS"))
            producer.channel.basic_qos(0, 0, False)
            clock.stop()
        else:
            counted = Counted(order["content"], ack=True)
            seen = counted.seen
            queue = kombu.Queue(order["queue"], durable=False)
            with connection.Consumer([queue], callbacks=[counted.callback]):
                drain = connection.drain_events
                clock.start()
                for sample in range(1, samples + 1):
                    while seen() < count * sample // samples:
                        drain()
                    sizes.append(status_kib("VmRSS"))
                clock.stop()
            check.end(0, seen(), counted.total(), counted.last())
    return clock.result(count, rss_kib=sizes)


if __name__ == "__main__":
    main(
        {
            "consume": consume,
            "batches": batches,
            "mixin": mixin,
            "simple_queue": simple_queue,
            "publish": publish,
            "round_trip": round_trip,
            "connections": connections,
            "memory": memory,
            "fill": fill,
            "remove": remove,
            "soak": soak,
        },
        version=kombu.__version__,
        core=getattr(kombu, "__impl__", None),
    )
