"""Know of each message that the broker has taken it: ``python confirmed_publisher.py [URL]``.

On ``amqp://`` every publish waits for the broker's answer.  ``memory://`` has no broker to lose a message, and nothing
to answer.
"""

from __future__ import annotations

import sys

from kombu import Connection, Queue

payments = Queue("payments")


def main(url: str) -> None:
    with Connection(url, transport_options={"confirm_publish": True, "confirm_timeout": 10}) as connection:
        payments(connection.default_channel).declare()
        with connection.Producer(serializer="json") as producer:
            for cents in (100, 250):
                try:
                    producer.publish({"cents": cents}, routing_key=payments.name, mandatory=True)
                except connection.recoverable_connection_errors as exc:
                    # No answer in time, a lost connection, or a nack: published again, it may arrive twice.
                    print(f"{cents} cents: not confirmed, {exc!r}")
                else:
                    print(f"{cents} cents: safe")
            try:
                producer.publish({"cents": 1}, routing_key="no such queue", mandatory=True)
            except connection.channel_errors as exc:
                print(f"returned: {exc}")
        payments(connection.default_channel).delete()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
