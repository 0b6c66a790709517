"""Work on tasks until all are done, whatever happens to the connection: ``python worker.py [URL]``."""

from __future__ import annotations

import sys
from typing import Any

from kombu import Connection, Message, Queue
from kombu.mixins import ConsumerMixin

tasks = Queue("tasks", queue_arguments={"x-max-length": 1000})


class Worker(ConsumerMixin):
    """Adds numbers; a lost connection is made again by the mixin, and what was not acknowledged comes again."""

    def __init__(self, connection: Connection, expected: int) -> None:
        self.connection = connection
        self.expected = expected
        self.sums: list[int] = []

    def get_consumers(self, Consumer: Any, channel: Any) -> list[Any]:
        return [Consumer(queues=[tasks], callbacks=[self.on_task], accept=["json"], prefetch_count=10)]

    def on_task(self, task: dict[str, Any], message: Message) -> None:
        self.sums.append(sum(task["numbers"]))
        message.ack()
        # run() looks at it after each event.
        self.should_stop = len(self.sums) >= self.expected

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        print(f"cannot read a task: {exc}", file=sys.stderr)
        message.reject()


def main(url: str) -> None:
    with Connection(url, heartbeat=10) as connection:
        with connection.Producer() as producer:
            for n in range(20):
                producer.publish({"numbers": [n, n + 1]}, routing_key=tasks.name, declare=[tasks])
        worker = Worker(connection, expected=20)
        worker.run()
        print(f"{len(worker.sums)} tasks done, the last sum is {worker.sums[-1]}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
