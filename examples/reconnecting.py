"""Go on consuming after the connection was lost, without the mixin: ``python reconnecting.py [URL]``.

In the middle the program cuts its own connection, as a failing network would.
"""

from __future__ import annotations

import sys
from typing import Any

from kombu import Connection, Consumer, Message, Queue

numbers = Queue("numbers")


class Sum:
    """Adds up ten numbers, each once, however often it comes."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.seen: set[int] = set()

    def add(self, body: Any, message: Message) -> None:
        self.seen.add(body)
        message.ack()
        if len(self.seen) == 5:
            self.connection.collect()

    def run(self) -> int:
        connection = self.connection
        with Consumer(connection.channel(), [numbers], callbacks=[self.add], accept=["json"]) as consumer:
            while len(self.seen) < 10:
                try:
                    connection.drain_events(timeout=5)
                except TimeoutError:  # an OSError, as a lost connection is: so it comes first
                    break
                except connection.recoverable_connection_errors as exc:
                    print(f"lost: {type(exc).__name__}")
                    connection.ensure_connection(max_retries=10)
                    consumer.revive(connection.channel())
        return sum(self.seen)


def main(url: str) -> None:
    with Connection(url) as connection:
        with connection.Producer(serializer="json") as producer:
            for number in range(1, 11):
                producer.publish(number, routing_key=numbers.name, declare=[numbers])
        print(f"the sum is {Sum(connection).run()}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
