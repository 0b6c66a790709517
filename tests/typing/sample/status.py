"""Asking how it stands: a request, a reply, and a queue with the interface of the standard library's."""

from __future__ import annotations

from typing import Any

import kombu
from kombu import Connection, Consumer, Message, Producer, Queue, uuid
from kombu.common import collect_replies, send_reply
from kombu.mixins import ConsumerProducerMixin
from kombu.simple import SimpleBuffer, SimpleQueue

from .entities import STATUS


class StatusServer(ConsumerProducerMixin):
    """Answers each request on a second connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def get_consumers(self, Consumer: Any, channel: Any) -> list[Consumer]:
        return [Consumer(queues=[STATUS], on_message=self.on_request, prefetch_count=1)]

    def on_request(self, message: Message) -> None:
        answer = {"version": kombu.__version__, "core": kombu.__impl__, "asked": message.payload}
        send_reply("", message, answer, self.producer, retry=True, retry_policy={"max_retries": 1})
        message.ack()

    def announce(self) -> None:
        with self.producer as producer:
            producer.publish({"up": True}, exchange="amq.fanout", retry=True)


def ask(connection: Connection, question: str) -> list[Any]:
    replies = Queue(uuid(), exclusive=True, durable=False, auto_delete=True, expires=30.0)
    channel = connection.channel()
    with Producer(channel) as producer:
        producer.publish(
            {"question": question}, routing_key=STATUS.name, declare=[replies], reply_to=replies.name,
            correlation_id=uuid(),
        )  # fmt: skip
    return list(collect_replies(connection, channel, replies(channel), limit=1, timeout=2.0, no_ack=True))


def put_and_get(connection: Connection) -> tuple[Any, int]:
    with connection.SimpleQueue("jobs", queue_args={"x-queue-type": "quorum"}, serializer="json") as queue:
        queue.put({"n": 1}, headers={"lang": "py"}, compression="gzip")
        try:
            message = queue.get(timeout=1)
        except queue.Empty:
            return None, 0
        message.ack()
        left: int = len(queue) + queue.qsize()
        return message.payload, left


class Log:
    """Lines that nobody needs after a restart."""

    def __init__(self, connection: Connection) -> None:
        self.lines: SimpleBuffer = connection.SimpleBuffer("log", no_ack=True)
        self.own: SimpleQueue = SimpleQueue(connection, Queue("own"), accept=["json"])

    def write(self, line: str) -> None:
        self.lines.put(line)

    def read(self) -> str:
        body: str = self.lines.get(block=False).payload
        return body

    def close(self) -> None:
        self.lines.close()
        self.own.close()
