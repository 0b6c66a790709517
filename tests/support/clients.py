"""Clients of the scripted peer."""

from __future__ import annotations

from typing import Any

from peer import Peer, Session


class Clients:
    """Connects kombu to a peer; what it made is let go of at the end, whatever became of the test."""

    def __init__(self) -> None:
        self._made: list[Any] = []

    def __call__(self, peer: Peer, *, heartbeat: float = 0, **transport_options: Any) -> Any:
        """Return a connected :class:`kombu.Connection`; *transport_options* without confirms unless they say so."""
        # Not at the top: which kombu is tested is settled while the tests are collected.
        import kombu

        options = {"confirm_publish": False, **transport_options}
        connection = kombu.Connection(peer.url, heartbeat=heartbeat, transport_options=options, **peer.options)
        self._made.append(connection)
        connection.connect()
        return connection

    def close(self) -> None:
        """Let go of all connections, without a word to their peers."""
        for connection in self._made:
            connection.collect()


def consume(channel: Any, callback: Any, consumer_tag: str = "c", **options: Any) -> Session | None:
    """Have *callback* called with each message that the peer sends for *consumer_tag*."""
    channel.basic_consume("q", consumer_tag, callback=callback, **options)


def publish(channel: Any, body: Any = b"body", **options: Any) -> None:
    """Publish *body* to the default exchange, as a :class:`kombu.Producer` does."""
    arguments = {"exchange": "", "routing_key": "q", **options}
    channel.basic_publish(channel.prepare_message(body), **arguments)


def no_answer(peer: Peer, *names: str) -> None:
    """Have the peer stay silent on these methods."""
    for name in names:
        peer.on(name, None)
