"""Consume and acknowledge everything a streaming peer sends, and print how long it took as one line of JSON.

Run by ``run.py`` in the environment of each library in turn; uses nothing but kombu 5.7's public interface.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import kombu


class Counter:
    """The Python callback: look at the body, acknowledge, count."""

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        self.size = size
        self.seen = 0
        self.wrong = 0
        self.started = self.ended = self.cpu_started = self.cpu_ended = 0.0

    def on_message(self, message: Any) -> None:
        self.take(message.body, message)

    def take(self, body: Any, message: Any) -> None:
        if self.seen == 0:
            self.started, self.cpu_started = time.perf_counter(), time.process_time()
        if len(body) != self.size:
            self.wrong += 1
        message.ack()
        self.seen += 1
        if self.seen == self.count:
            self.ended, self.cpu_ended = time.perf_counter(), time.process_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    parser.add_argument("size", type=int)
    parser.add_argument("mode", choices=["callbacks", "on_message"])
    options = parser.parse_args()
    counter = Counter(options.count, options.size)
    how = {"callbacks": [counter.take]} if options.mode == "callbacks" else {"on_message": counter.on_message}
    with kombu.Connection(options.url) as connection:
        queue = kombu.Queue("bench", durable=False)
        with connection.Consumer([queue], accept=None, **how):
            while counter.seen < options.count:
                connection.drain_events(timeout=30)
    if counter.seen != options.count or counter.wrong:
        raise SystemExit(f"{counter.seen} of {options.count} messages arrived, {counter.wrong} of them wrong")
    # The first message is what starts the clock.
    timed = options.count - 1
    print(
        json.dumps(
            {
                "kombu": kombu.__version__,
                "core": getattr(kombu, "__impl__", None),
                "seconds": counter.ended - counter.started,
                "messages_per_second": timed / (counter.ended - counter.started),
                "cpu_us_per_message": 1e6 * (counter.cpu_ended - counter.cpu_started) / timed,
            }
        )
    )


if __name__ == "__main__":
    main()
