"""Connect to the first of several brokers that answers: ``python failover.py [URL]``.

The first two URLs lead to ports where nobody listens; the one that is given comes last.
"""

from __future__ import annotations

import sys

from kombu import Connection
from kombu.exceptions import OperationalError

NOBODY = ["amqp://guest:guest@127.0.0.1:1//", "amqp://guest:guest@127.0.0.1:2//"]


def failed(exc: Exception, interval: float) -> None:
    # Between hosts nothing is slept; the interval is 0 until all of them have failed.
    print(f"not there: {exc}")


def main(url: str) -> None:
    with Connection([*NOBODY, url], connect_timeout=5) as connection:
        connection.ensure_connection(errback=failed, max_retries=3)
        print(f"connected by the transport {connection.info()['transport']}")
        with connection.SimpleBuffer("failover") as buffer:
            buffer.put("made it")
            print(buffer.get(timeout=5).payload)
    with Connection(NOBODY, connect_timeout=5) as connection:
        try:
            connection.ensure_connection(max_retries=0)
        except OperationalError as exc:
            print(f"nobody at all: {exc}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
