"""A transport as a third party writes it on kombu.transport.base alone: deques of this process, with a doorbell.

It knows nothing of this kombu that kombu 5.7 does not have, and runs on either.  The connection is an object of its own
with ``sock``, ``connected`` and ``drain_events``, so that the event loop is served by the base class.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from kombu.transport import base


class Broker:
    """All queues and bindings of a virtual host."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.queues: dict[str, deque[dict[str, Any]]] = {}
        self.bindings: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.types: dict[str, str] = {}
        self.connections: list[Connection] = []

    def route(self, exchange: str, routing_key: str) -> list[str]:
        if not exchange:
            return [routing_key] if routing_key in self.queues else []
        fanout = self.types.get(exchange) == "fanout"
        return [queue for queue, key in self.bindings[exchange] if fanout or key == routing_key]

    def tell(self) -> None:
        """Wake whoever waits for messages; called with the lock held."""
        self.changed.notify_all()
        for connection in self.connections:
            connection.ring()


BROKERS: dict[str, Broker] = defaultdict(Broker)


class ConnectionLost(Exception):
    """The connection is closed."""


class ChannelFailed(Exception):
    """The broker refuses."""


class Message(base.Message):
    """A message of this transport."""

    def __init__(self, raw: dict[str, Any], channel: Channel, tag: int) -> None:
        properties = raw["properties"]
        super().__init__(
            body=raw["body"],
            channel=channel,
            delivery_tag=tag,
            content_type=properties.get("content_type"),
            content_encoding=properties.get("content_encoding"),
            delivery_info={key: raw[key] for key in ("exchange", "routing_key", "redelivered")},
            properties=properties,
            headers=properties.get("headers") or {},
        )


class Channel(base.StdChannel):
    """A channel."""

    Message = Message

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection: Any = connection
        self.channel_id = number
        self.no_ack_consumers = set()
        self.consumers: dict[str, tuple[str, Callable[[Any], Any]]] = {}
        self.unsettled: dict[int, tuple[str, dict[str, Any]]] = {}
        self.prefetch = 0
        self.tags = itertools.count(1)

    @property
    def broker(self) -> Broker:
        if self.connection is None or not self.connection.connected:
            raise ConnectionLost("closed")
        return self.connection.broker

    def exchange_declare(self, exchange: str, type: str = "direct", **kwargs: Any) -> None:
        self.broker.types[exchange] = type

    def queue_declare(self, queue: str = "", passive: bool = False, **kwargs: Any) -> tuple[str, int, int]:
        with self.broker.changed:
            if passive and queue not in self.broker.queues:
                raise ChannelFailed(f"no queue {queue}")
            size = len(self.broker.queues.setdefault(queue, deque()))
        return queue, size, 0

    def queue_bind(self, queue: str, exchange: str = "", routing_key: str = "", **kwargs: Any) -> None:
        with self.broker.changed:
            if (queue, routing_key) not in self.broker.bindings[exchange]:
                self.broker.bindings[exchange].append((queue, routing_key))

    def queue_purge(self, queue: str, **kwargs: Any) -> int:
        with self.broker.changed:
            purged, self.broker.queues[queue] = self.broker.queues[queue], deque()
        return len(purged)

    def queue_delete(self, queue: str, **kwargs: Any) -> None:
        with self.broker.changed:
            self.broker.queues.pop(queue, None)
            for bound in self.broker.bindings.values():
                bound[:] = [each for each in bound if each[0] != queue]

    def prepare_message(
        self, body: Any, priority: Any = None, content_type: Any = None, content_encoding: Any = None,
        headers: Any = None, properties: Any = None,
    ) -> dict[str, Any]:
        told = {"content_type": content_type, "content_encoding": content_encoding, "headers": headers}
        return {"body": body, "properties": {**(properties or {}), **told}}

    def basic_publish(self, message: dict[str, Any], exchange: str = "", routing_key: str = "", **kwargs: Any) -> None:
        raw = {**message, "exchange": exchange, "routing_key": routing_key, "redelivered": False}
        with self.broker.changed:
            for queue in self.broker.route(exchange, routing_key):
                self.broker.queues[queue].append(dict(raw))
            self.broker.tell()

    def basic_qos(self, prefetch_size: int, prefetch_count: int, a_global: bool) -> None:
        self.prefetch = prefetch_count

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], Any], consumer_tag: str, **kwargs: Any
    ) -> None:
        with self.broker.changed:
            self.consumers[consumer_tag] = (queue, callback)
            if no_ack:
                self.no_ack_consumers.add(consumer_tag)
            self.broker.tell()

    def basic_cancel(self, consumer_tag: str) -> None:
        self.consumers.pop(consumer_tag, None)
        self.no_ack_consumers.discard(consumer_tag)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Message | None:
        with self.broker.changed:
            return self._take(queue, no_ack)

    def message_to_python(self, message: Any) -> Any:
        return message

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        with self.broker.changed:
            for tag in [tag for tag in self.unsettled if tag == delivery_tag or multiple and tag < delivery_tag]:
                del self.unsettled[tag]
            self.broker.tell()

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        with self.broker.changed:
            queue, raw = self.unsettled.pop(delivery_tag)
            if requeue:
                self.broker.queues[queue].appendleft({**raw, "redelivered": True})
            self.broker.tell()

    def basic_recover(self, requeue: bool = False) -> None:
        for tag in sorted(self.unsettled, reverse=True):
            self.basic_reject(tag, requeue=True)

    def flow(self, active: bool) -> None:
        pass

    def close(self) -> None:
        if self.connection is not None:
            if self.connection.connected:
                self.basic_recover()
            self.connection.channels.remove(self)
            self.connection = None

    def _take(self, queue: str, no_ack: bool) -> Message | None:
        waiting = self.broker.queues.get(queue)
        if not waiting:
            return None
        raw, tag = waiting.popleft(), next(self.tags)
        if not no_ack:
            self.unsettled[tag] = (queue, raw)
        return Message(raw, self, tag)

    def next_delivery(self) -> tuple[Callable[[Any], Any], Message] | None:
        for tag, (queue, callback) in self.consumers.items():
            no_ack = tag in self.no_ack_consumers
            if no_ack or not self.prefetch or len(self.unsettled) < self.prefetch:
                message = self._take(queue, no_ack)
                if message is not None:
                    return callback, message
        return None


class Connection:
    """A connection; ``sock`` is readable when there may be something to drain."""

    def __init__(self, client: Any, broker: Broker) -> None:
        self.client = client
        self.broker = broker
        self.connected = True
        self.channels: list[Channel] = []
        self.numbers = itertools.count(1)
        self.sock, self._ringer = socket.socketpair()
        self.sock.setblocking(False)
        self._ringer.setblocking(False)
        broker.connections.append(self)

    def ring(self) -> None:
        try:
            self._ringer.send(b"!")
        except BlockingIOError:
            pass  # it rings already

    def drain_events(self, timeout: float | None = None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while self.sock.recv(4096):
                pass
        except BlockingIOError:
            pass
        with self.broker.changed:
            while True:
                if not self.connected:
                    raise ConnectionLost("closed")
                found = next(filter(None, (channel.next_delivery() for channel in list(self.channels))), None)
                if found is not None:
                    break
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError("timed out")
                self.broker.changed.wait(left)
        callback, message = found
        callback(message)

    def close(self) -> None:
        if self.connected:
            for channel in list(self.channels):
                channel.close()
            with self.broker.changed:
                self.connected = False
                self.broker.connections.remove(self)
                self.broker.tell()
            self.sock.close()
            self._ringer.close()


class Transport(base.Transport):
    """The transport; ``transport_options`` may have the name of the broker in this process."""

    driver_type = "deque"
    driver_name = "collections"
    connection_errors = (*base.Transport.connection_errors, ConnectionLost)
    channel_errors = (*base.Transport.channel_errors, ChannelFailed)
    implements = base.Transport.implements.extend(asynchronous=True, exchange_type=frozenset(["direct", "fanout"]))

    def driver_version(self) -> str:
        return "1.0"

    def establish_connection(self) -> Connection:
        return Connection(self.client, BROKERS[self.client.virtual_host])

    def close_connection(self, connection: Connection) -> None:
        connection.close()

    def create_channel(self, connection: Connection) -> Channel:
        if not connection.connected:
            raise ConnectionLost("closed")
        channel = Channel(connection, next(connection.numbers))
        connection.channels.append(channel)
        return channel

    def close_channel(self, channel: Channel) -> None:
        channel.close()

    def drain_events(self, connection: Connection, **kwargs: Any) -> None:
        connection.drain_events(**kwargs)

    def verify_connection(self, connection: Connection) -> bool:
        return connection.connected

    def register_with_event_loop(self, connection: Connection, loop: Any) -> None:
        loop.add_reader(connection.sock, self.on_readable, connection, loop)

    @property
    def default_connection_params(self) -> dict[str, Any]:
        return {"hostname": "localhost", "virtual_host": "/"}
