"""Use a queue of the broker like one of the standard library: ``python simple_queue.py [URL]``."""

from __future__ import annotations

import sys

from kombu import Connection


def main(url: str) -> None:
    with Connection(url) as connection, connection.SimpleQueue("jobs", serializer="json") as queue:
        for n in range(3):
            queue.put({"job": n}, headers={"from": "example"}, compression="gzip")
        while True:
            try:
                message = queue.get(timeout=0.5)
            except queue.Empty:
                break
            print(f"job {message.payload['job']} from {message.headers['from']}")
            message.ack()
        print("none is left")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
