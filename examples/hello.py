"""Publish one message and get it back: ``python hello.py [URL]``."""

from __future__ import annotations

import sys
from typing import Any

from kombu import Connection, Consumer, Exchange, Message, Producer, Queue

letters = Exchange("letters", type="direct")
inbox = Queue("inbox", letters, routing_key="ada")


def read(body: Any, message: Message) -> None:
    print(f"{body['from']} writes: {body['text']}")
    message.ack()


def main(url: str) -> None:
    with Connection(url) as connection:
        with Producer(connection, exchange=letters) as producer:
            producer.publish({"from": "Charles", "text": "Hello!"}, routing_key="ada", declare=[inbox])
        with Consumer(connection, queues=[inbox], callbacks=[read], accept=["json"]):
            connection.drain_events(timeout=5)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
