"""Publish from many threads through few connections, with retries: ``python pooled_publisher.py [URL]``."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from kombu import Connection, Queue, pools, producers

readings = Queue("readings")

#: For the whole of a publish, connecting and declaring included.
RETRY = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1.0}


def failed(exc: Exception, interval: float) -> None:
    print(f"{exc}; trying again in {interval:.1f} s", file=sys.stderr)


def publish(url: str, sensor: int) -> None:
    # Equal connections share one pool, so there is no need to pass it around.
    connection = Connection(url, transport_options={"confirm_publish": True})
    with producers[connection].acquire(block=True, timeout=10) as producer:
        producer.publish(
            {"sensor": sensor},
            routing_key=readings.name,
            declare=[readings],
            retry=True,
            retry_policy={**RETRY, "errback": failed},
        )


def main(url: str) -> None:
    pools.set_limit(4)
    with ThreadPoolExecutor(max_workers=16) as executor:
        list(executor.map(lambda sensor: publish(url, sensor), range(100)))
    with Connection(url) as connection:
        queue = readings(connection.default_channel)
        print(f"{queue.purge()} readings arrived")
    pools.reset()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
