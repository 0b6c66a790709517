"""AMQP 0-9-1 transport, over the ``amqp`` package.

Features:
    * Type: Native
    * Supports Direct: Yes
    * Supports Topic: Yes
    * Supports Fanout: Yes
    * Supports Priority: Yes
    * Supports TTL: Yes

Connection string: ``amqp://[USER:PASSWORD@]HOST[:PORT][/VIRTUALHOST]``, ``amqps://`` for TLS.

Transport options are passed to :class:`.amqp.connection.Connection` and so to :class:`amqp.Connection`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import amqp

from ..utils.amq_manager import get_manager
from ..utils.text import version_string_as_tuple
from . import base
from .amqp.channel import Channel
from .amqp.connection import Connection
from .amqp.message import Message

if TYPE_CHECKING:
    # Transport has an attribute of the plain name.
    from .amqp.connection import Connection as AmqpConnection

__all__ = ("Channel", "Connection", "Message", "SSLTransport", "Transport")

DEFAULT_PORT = 5672
DEFAULT_SSL_PORT = 5671


class Transport(base.Transport):
    """AMQP transport."""

    Connection = Connection

    default_port = DEFAULT_PORT
    default_ssl_port = DEFAULT_SSL_PORT

    # A test of an exception against these happens at every retry, so they are the amqp package's own tuples.
    connection_errors = Connection.connection_errors
    channel_errors = Connection.channel_errors
    recoverable_connection_errors = Connection.recoverable_connection_errors
    recoverable_channel_errors = Connection.recoverable_channel_errors

    driver_name = "py-amqp"
    driver_type = "amqp"

    implements = base.Transport.implements.extend(asynchronous=True, heartbeats=True, batch_publish=True)

    #: The receive loop raises for a connection that is lost, or a parent process's, so that nobody else has to look.
    refuses_lost_connections = True

    def __init__(
        self, client: Any, default_port: int | None = None, default_ssl_port: int | None = None, **kwargs: Any
    ) -> None:
        self.client = client
        self.default_port = default_port or self.default_port
        self.default_ssl_port = default_ssl_port or self.default_ssl_port

    def driver_version(self) -> str:
        """Return the version of the ``amqp`` package."""
        return amqp.__version__

    @property
    def default_connection_params(self) -> dict[str, Any]:
        """What a connection uses where its URL and arguments say nothing."""
        return {
            "userid": "guest",
            "password": "guest",
            "port": self.default_ssl_port if self.client.ssl else self.default_port,
            "hostname": "localhost",
            "login_method": "PLAIN",
        }

    def establish_connection(self) -> AmqpConnection:
        """Connect to the broker that the client names and return the connection."""
        client = self.client
        for name, default in self.default_connection_params.items():
            if not getattr(client, name, None):
                setattr(client, name, default)
        if client.hostname == "localhost":
            # Both families would be tried; brokers on this host listen on the old one more often than on both.
            client.hostname = "127.0.0.1"
        ssl = client.ssl
        if isinstance(ssl, dict) and "server_hostname" in ssl and ssl["server_hostname"] is None:
            ssl = {**ssl, "server_hostname": client.hostname}
        password = client.password
        options = {
            "host": client.host,
            "userid": client.userid,
            "password": password() if callable(password) else password,
            "login_method": client.login_method,
            "virtual_host": client.virtual_host,
            "insist": client.insist,
            "ssl": ssl,
            "connect_timeout": client.connect_timeout,
            "heartbeat": client.heartbeat,
            **(client.transport_options or {}),
        }
        connection = self.Connection(**options)
        connection.client = client
        connection.connect()
        return connection

    def create_channel(self, connection: AmqpConnection) -> Channel:
        """Open a channel."""
        return connection.channel()

    def drain_events(
        self, connection: AmqpConnection, timeout: float | None = None, max_events: int = 1, **kwargs: Any
    ) -> int | None:
        """Dispatch up to *max_events* events; see :meth:`.amqp.connection.Connection.drain_events`."""
        if max_events == 1:
            # A subclass of the connection may know of one at a time alone.
            return connection.drain(timeout, **kwargs)
        return connection.drain(timeout, max_events=max_events, **kwargs)

    def drainer(self, connection: AmqpConnection) -> Callable[[float | None, int], int] | None:
        """Return what :meth:`drain_events` comes to for *connection*, if a call of it would add nothing."""
        overridden = (
            type(self).drain_events is not Transport.drain_events
            or type(connection).drain_events is not Connection.drain_events
        )
        return None if overridden else connection.drain

    def verify_connection(self, connection: AmqpConnection) -> bool:
        """Return whether the connection is open as far as is known."""
        return connection.connected

    def close_connection(self, connection: AmqpConnection) -> None:
        """Close the connection."""
        connection.client = None
        connection.close()

    def _collect(self, connection: AmqpConnection | None) -> None:
        if connection is not None:
            connection.collect()

    # -- heartbeats and event loops

    def get_heartbeat_interval(self, connection: AmqpConnection) -> float:
        """Return the negotiated heartbeat interval in seconds."""
        return connection.heartbeat

    def heartbeat_check(self, connection: AmqpConnection, rate: int = 2) -> None:
        """Send a heartbeat if one is due; raise if the peer has fallen silent."""
        connection.heartbeat_tick(rate=rate)

    def register_with_event_loop(self, connection: AmqpConnection, loop: Any) -> None:
        """Have *loop* drain the connection when it becomes readable."""
        loop.add_reader(connection.sock, self.on_readable, connection, loop)
        connection.on_leftover = self._leftover_handler(connection, loop)
        if connection.has_leftover:
            # The reply to basic.consume has brought the first deliveries along.
            connection.on_leftover()

    def unregister_from_event_loop(self, connection: AmqpConnection, loop: Any) -> None:
        """Undo :meth:`register_with_event_loop`."""
        connection.on_leftover = None
        sock = connection._transport.sock if connection._transport is not None else None
        if sock is not None:
            loop.remove_reader(sock)

    def _leftover_handler(self, connection: AmqpConnection, loop: Any) -> Callable[[], Any]:
        """Return what to call when a reply brought deliveries along: no poll would show them."""
        return partial(loop.call_soon, self.on_readable, connection, loop)

    # -- the broker

    def qos_semantics_matches_spec(self, connection: AmqpConnection) -> bool:
        """Return whether ``basic.qos`` is what the specification says; from 3.3 to 3.x RabbitMQ counts by consumer."""
        properties = connection.server_properties
        if properties.get("product") != "RabbitMQ" or not properties.get("version"):
            return True
        version = version_string_as_tuple(properties["version"])
        return version < (3, 3) or version >= (4, 0)

    def get_manager(self, *args: Any, **kwargs: Any) -> Any:
        """Return a client of RabbitMQ's management interface."""
        return get_manager(self.client, *args, **kwargs)


class SSLTransport(Transport):
    """AMQP transport over TLS."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Options given in ``ssl`` are kept; without any, the defaults are used.
        if not self.client.ssl:
            self.client.ssl = True
