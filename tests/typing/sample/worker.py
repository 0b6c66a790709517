"""The mail service's side: a worker that reconnects, and a plain consumer."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

from kombu import Connection, Consumer, Message, Queue, eventloop
from kombu.common import QoS, ignore_errors, itermessages, maybe_declare
from kombu.exceptions import ContentDisallowed, MessageStateError
from kombu.mixins import ConsumerMixin

from .encoding import CONTENT_TYPE, Order
from .entities import EVERYTHING, MAIL, ORDERS

logger = logging.getLogger(__name__)


class MailWorker(ConsumerMixin):
    """Sends mail for each order."""

    connect_max_retries = 10

    def __init__(self, connection: Connection, send: Callable[[Order], bool]) -> None:
        self.connection = connection
        self.send = send
        self.sent = 0

    def get_consumers(self, Consumer: Any, channel: Any) -> list[Consumer]:
        return [
            Consumer([MAIL], callbacks=[self.on_order], accept=["order"], prefetch_count=20),
            Consumer(EVERYTHING, on_message=self.on_raw, no_ack=True),
        ]

    def on_order(self, order: Order, message: Message) -> None:
        try:
            if self.send(order):
                self.sent += 1
                message.ack()
            else:
                message.requeue()
        except MessageStateError:
            logger.warning("settled before: %r", message.delivery_tag)
        except Exception:
            message.reject_log_error(logger, self.connection_errors)
        self.should_stop = self.sent >= 1000

    def on_raw(self, message: Message) -> None:
        logger.debug("%s bytes of %s", len(message.body), message.headers.get("lang", "?"))

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        logger.error("cannot decode %s: %s", message.content_type, exc)
        message.reject()

    def on_connection_error(self, exc: Exception, interval: float) -> None:
        logger.error("lost %s, back in %.0f s", self.connection.as_uri(), interval)


class Plain:
    """The same by hand."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.handled = 0

    def on_message(self, body: Any, message: Message) -> None:
        if message.properties.get("priority", 0) < 5 or message.delivery_info["redelivered"]:
            message.reject(requeue=False)
            return
        self.handled += 1
        message.ack()

    def run(self, seconds: float) -> int:
        channel = self.connection.channel()
        maybe_declare(ORDERS, channel, retry=True, max_retries=2)
        with Consumer(channel, queues=[MAIL], callbacks=[self.on_message], accept=[CONTENT_TYPE], tag_prefix="plain-",
                      on_cancel=self.cancelled) as consumer:
            consumer.qos(prefetch_count=10)
            qos = QoS(consumer.qos, 10, max_prefetch=50)
            while True:
                try:
                    self.connection.drain_events(timeout=seconds)
                except socket.timeout:  # noqa: UP041 (the name that the documentation has used for years)
                    return self.handled
                except self.connection.recoverable_connection_errors as exc:
                    logger.warning("lost: %s", exc)
                    consumer.revive(self.connection.ensure_connection(max_retries=3).channel())
                except ContentDisallowed:
                    logger.exception("somebody sends what we do not accept")
                if self.handled % 100 == 0 and qos.increment_eventually(5) != qos.prev:
                    qos.update()

    def cancelled(self, tag: str) -> None:
        logger.warning("the broker ended consumer %s", tag)


def drain(connection: Connection, queue: Queue, limit: int) -> list[Any]:
    bodies: list[Any] = []
    for body, message in itermessages(connection, connection.default_channel, queue, limit=limit, timeout=1):
        bodies.append(body)
        message.ack()
    return bodies


def keep_alive(connection: Connection) -> None:
    for _ in eventloop(connection, limit=10, timeout=1, ignore_timeouts=True):
        connection.heartbeat_check()
    ignore_errors(connection, connection.close)
