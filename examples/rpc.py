"""Ask a server and wait for its answer: ``python rpc.py [URL]``."""

from __future__ import annotations

import sys
import threading
from typing import Any

from kombu import Connection, Consumer, Message, Queue, uuid
from kombu.mixins import ConsumerProducerMixin

requests = Queue("rpc.fibonacci", durable=False, auto_delete=True)


class Server(ConsumerProducerMixin):
    """Answers on a connection of its own, so that a broker that stops publishers does not stop the consumer."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.ready = threading.Event()

    def get_consumers(self, Consumer: Any, channel: Any) -> list[Any]:
        return [Consumer(queues=[requests], on_message=self.on_request, accept=["json"], prefetch_count=1)]

    def on_consume_ready(self, *args: Any, **kwargs: Any) -> None:
        self.ready.set()

    def on_request(self, message: Message) -> None:
        before, result = 0, 1
        for _ in range(message.payload["n"] - 1):
            before, result = result, before + result
        self.producer.publish(
            {"result": result},
            routing_key=message.properties["reply_to"],
            correlation_id=message.properties["correlation_id"],
            retry=True,
        )
        message.ack()


class Client:
    """Has a queue for the answers, which goes away with its connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.answers = Queue(f"rpc.answers.{uuid()}", exclusive=True, durable=False)
        self.results: dict[str, int] = {}

    def on_answer(self, message: Message) -> None:
        self.results[message.properties["correlation_id"]] = message.payload["result"]

    def fibonacci(self, n: int) -> int:
        ticket = uuid()
        with Consumer(self.connection, queues=[self.answers], on_message=self.on_answer, no_ack=True, accept=["json"]):
            with self.connection.Producer() as producer:
                producer.publish(
                    {"n": n},
                    routing_key=requests.name,
                    reply_to=self.answers.name,
                    correlation_id=ticket,
                )
            while ticket not in self.results:
                self.connection.drain_events(timeout=5)
        return self.results.pop(ticket)


def main(url: str) -> None:
    server = Server(Connection(url))
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        server.ready.wait(timeout=10)
        with Connection(url) as connection:
            print(f"fibonacci(30) is {Client(connection).fibonacci(30)}")
    finally:
        server.should_stop = True
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
