"""A transport as a third party writes it: messages in a SQLite file, by the hooks of kombu.transport.virtual alone.

It knows nothing of this kombu that kombu 5.7 does not have, and runs on either.  All processes that use one file share
its queues and bindings.  The file is the virtual host: ``Connection(transport="sqlite_transport:Transport",
virtual_host="/tmp/broker.db")``.

An event loop cannot wait for a file, so each connection has a doorbell, a datagram socket whose port stands in the
file, and who puts a message in rings at all of them.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
from queue import Empty
from typing import Any

from kombu.transport import virtual

TABLES = """
CREATE TABLE IF NOT EXISTS queues (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS bindings (exchange TEXT, routing_key TEXT, pattern TEXT, queue TEXT,
    PRIMARY KEY (exchange, routing_key, pattern, queue));
CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT, priority INTEGER, text TEXT);
CREATE INDEX IF NOT EXISTS next ON messages (queue, priority DESC, id);
CREATE TABLE IF NOT EXISTS doorbells (port INTEGER PRIMARY KEY);
"""


class Channel(virtual.Channel):
    """A channel whose queues are rows."""

    supports_fanout = True

    def _sql(self, statement: str, *values: Any) -> list[Any]:
        return self.connection.sql(statement, *values)

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        self._sql("INSERT OR IGNORE INTO queues VALUES (?)", queue)

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return bool(self._sql("SELECT 1 FROM queues WHERE name = ?", queue))

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        self._sql("DELETE FROM messages WHERE queue = ?", queue)
        self._sql("DELETE FROM bindings WHERE queue = ?", queue)
        self._sql("DELETE FROM queues WHERE name = ?", queue)

    def _size(self, queue: str) -> int:
        return self._sql("SELECT count(*) FROM messages WHERE queue = ?", queue)[0][0]

    def _purge(self, queue: str) -> int:
        return len(self._sql("DELETE FROM messages WHERE queue = ? RETURNING id", queue))

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        priority = self._get_message_priority(message)
        text = json.dumps(message)
        self._sql("INSERT INTO messages (queue, priority, text) VALUES (?, ?, ?)", queue, priority, text)
        self.connection.ring()

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        found = self._sql(
            "DELETE FROM messages WHERE id ="
            " (SELECT id FROM messages WHERE queue = ? ORDER BY priority DESC, id LIMIT 1) RETURNING text",
            queue,
        )
        if not found:
            raise Empty()
        return json.loads(found[0][0])

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **kwargs: Any) -> None:
        for _, _, queue in self.get_table(exchange):
            self._put(queue, message, **kwargs)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        self._sql("INSERT OR IGNORE INTO bindings VALUES (?, ?, ?, ?)", exchange, routing_key, pattern or "", queue)

    def get_table(self, exchange: str) -> list[tuple[str, str, str]]:
        return self._sql("SELECT routing_key, pattern, queue FROM bindings WHERE exchange = ?", exchange)

    def basic_ack(self, *args: Any, **kwargs: Any) -> None:
        super().basic_ack(*args, **kwargs)
        # There may be room below the prefetch limit now.
        self.connection.ring()


class Transport(virtual.Transport):
    """A connection to the file; it is the channel's ``connection`` as well, as with all transports of this kind."""

    Channel = Channel

    #: The exchanges that were declared, of all connections of this process.
    global_state = virtual.BrokerState()

    driver_type = "sqlite"
    driver_name = "sqlite3"
    polling_interval = 0.01
    connection_errors = (*virtual.Transport.connection_errors, sqlite3.OperationalError)
    channel_errors = (*virtual.Transport.channel_errors, sqlite3.IntegrityError)
    implements = virtual.Transport.implements.extend(
        asynchronous=True, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.state = self.global_state
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._doorbell: socket.socket | None = None

    def driver_version(self) -> str:
        return sqlite3.sqlite_version

    def establish_connection(self) -> Any:
        self._database = sqlite3.connect(
            self.client.virtual_host, timeout=30, isolation_level=None, check_same_thread=False
        )
        self._database.executescript(TABLES)
        return super().establish_connection()

    def close_connection(self, connection: Any) -> None:
        super().close_connection(connection)
        if self._doorbell is not None:
            self.sql("DELETE FROM doorbells WHERE port = ?", self._doorbell.getsockname()[1])
            self._doorbell.close()
            self._doorbell = None
        if self._database is not None:
            self._database.close()
            self._database = None

    def sql(self, statement: str, *values: Any) -> list[Any]:
        with self._lock:
            if self._database is None:
                raise sqlite3.OperationalError("not connected")
            return self._database.execute(statement, values).fetchall()

    def ring(self) -> None:
        """Tell every event loop that waits for messages of this file to have a look."""
        ports = self.sql("SELECT port FROM doorbells")
        if ports:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ringer:
                for (port,) in ports:
                    ringer.sendto(b"!", ("127.0.0.1", port))

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        if self._doorbell is None:
            self._doorbell = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._doorbell.bind(("127.0.0.1", 0))
            self._doorbell.setblocking(False)
            self.sql("INSERT INTO doorbells VALUES (?)", self._doorbell.getsockname()[1])
        loop.add_reader(self._doorbell, self._answer, connection)
        # What has come before is not announced again.
        loop.call_soon(self._answer, connection)

    def _answer(self, connection: Any) -> None:
        try:
            while self._doorbell is not None:
                self._doorbell.recv(64)
        except BlockingIOError:
            pass
        try:
            while True:
                self.drain_events(connection, timeout=0)
        except TimeoutError:
            pass
