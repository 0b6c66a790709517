"""Connections, with everything that can be said about one."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu import Connection, connections, parse_url
from kombu.exceptions import ConnectionLimitExceeded, OperationalError
from kombu.pools import PoolGroup, get_limit, register_group, reset, set_limit

logger = logging.getLogger(__name__)

OPTIONS = {"confirm_publish": True, "confirm_timeout": 10.0, "ack_writes": "immediate", "max_retries": 3}


def password() -> str:
    """Return what the secret store says now; asked each time the connection is made."""
    return os.environ["BROKER_PASSWORD"]


def make(url: str, *others: str) -> Connection:
    """Return a connection that fails over from *url* to *others*."""
    return Connection(
        url,
        password=password,
        ssl={"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": "/etc/ssl/broker.pem"},
        heartbeat=10,
        connect_timeout=3.5,
        transport_options=OPTIONS,
        alternates=others,
        failover_strategy="shuffle",
    )


def told(exc: Exception, interval: float) -> None:
    logger.warning("no broker: %s; trying again in %.1f s", exc, interval)


def connect(connection: Connection) -> bool:
    """Connect, and return whether that was possible; the errors of all hosts are logged."""
    try:
        connected = connection.ensure_connection(errback=told, max_retries=3, interval_start=0.5, timeout=30)
    except OperationalError:
        logger.exception("gave up on %s", connection.as_uri())
        return False
    logger.info("connected to %s, heartbeat %s s", connected.host, connected.get_heartbeat_interval())
    return connected.connected


@contextmanager
def pooled(connection: Connection) -> Iterator[Connection]:
    """Give a connection from the pool of the process, or fail after a second."""
    try:
        with connections[connection].acquire(block=True, timeout=1.0) as ours:
            yield ours
    except ConnectionLimitExceeded as exc:
        raise RuntimeError(f"all {get_limit()} connections are in use") from exc


class Replies(PoolGroup):
    """Connections for replies, in pools of their own."""

    def create(self, connection: Connection, limit: int | None) -> Any:
        return connection.Pool(limit, preload=1)


REPLIES = register_group(Replies(limit=2))


def channel_of(connection: Connection) -> Any:
    pool = connection.ChannelPool(limit=4)
    channel = pool.acquire(block=True)
    try:
        return channel.channel_id
    finally:
        channel.release()


def shut_down() -> None:
    set_limit(1, force=True)
    reset()


def host_of(url: str) -> str:
    return str(parse_url(url)["hostname"])
