"""Programs that consume for as long as they run, and reconnect by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count
from time import sleep
from typing import TYPE_CHECKING, Any

from .common import ignore_errors
from .log import get_logger
from .messaging import Consumer, Producer
from .utils.compat import nested
from .utils.encoding import safe_repr
from .utils.limits import TokenBucket
from .utils.objects import cached_property

if TYPE_CHECKING:
    from collections.abc import Iterable

    from . import messaging
    from .connection import Connection
    from .message import Message

__all__ = ("ConsumerMixin", "ConsumerProducerMixin")

logger = get_logger(__name__)
debug, info, warn, error = logger.debug, logger.info, logger.warning, logger.error

W_CONN_LOST = "Connection to broker lost, trying to re-establish connection..."

W_CONN_ERROR = "Broker connection error, trying again in %s seconds: %r."


class ConsumerMixin:
    """Consume in a loop, on a connection that is made anew whenever it is lost.

    A subclass sets :attr:`connection` and says in :meth:`get_consumers` what to consume::

        class Worker(ConsumerMixin):
            def __init__(self, connection):
                self.connection = connection

            def get_consumers(self, Consumer, channel):
                return [Consumer(queues=[Queue("tasks")], callbacks=[self.on_task])]

            def on_task(self, body, message):
                print(body)
                message.ack()

        with Connection("amqp://") as connection:
            Worker(connection).run()

    Several consumers may be returned, on channels of their own if they need prefetch counts of their own.  The methods
    that begin with ``on_`` are called on the way and may be overridden.  Another thread stops the program by setting
    :attr:`should_stop`, which is looked at at least once a second.
    """

    #: The connection whose clones are consumed from; set by the subclass.
    connection: Connection

    #: How often to try again to connect before giving up; for ever if not set.
    connect_max_retries: int | None = None

    #: Set it to have :meth:`run` return.
    should_stop: bool = False

    def get_consumers(self, Consumer: Any, channel: Any) -> Iterable[messaging.Consumer]:
        """Return the consumers to run; *Consumer* makes one on *channel*."""
        raise NotImplementedError("Subclass responsibility")

    def on_connection_revived(self) -> None:
        """A connection has been established."""

    def on_consume_ready(self, connection: Connection, channel: Any, consumers: Any, **kwargs: Any) -> None:
        """The consumers are running; *kwargs* are those of :meth:`consume`."""

    def on_consume_end(self, connection: Connection, channel: Any) -> None:
        """The consumers have been cancelled."""

    def on_iteration(self) -> None:
        """The loop is about to wait for the next event."""

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """A message could not be decoded: log that, and acknowledge it, as it will not get any better."""
        error(
            "Can't decode message body: %r (type:%r encoding:%r raw:%r')",
            exc, message.content_type, message.content_encoding, safe_repr(message.body),
        )
        message.ack()

    def on_connection_error(self, exc: Exception, interval: float) -> None:
        """There is no connection; the next try comes in *interval* seconds."""
        warn(W_CONN_ERROR, interval, exc, exc_info=True)

    @contextmanager
    def extra_context(self, connection: Connection, channel: Any) -> Iterator[None]:
        """Wrap what runs while the consumers do."""
        yield

    def run(self, _tokens: float = 1, **kwargs: Any) -> None:
        """Consume until :attr:`should_stop` is set; *kwargs* are those of :meth:`consume`.

        Connection and channel errors start over, about once a second at the most (:attr:`restart_limit`).
        """
        restart_limit = self.restart_limit
        lost = tuple(self.connection.connection_errors) + tuple(self.connection.channel_errors)
        while not self.should_stop:
            try:
                if not restart_limit.can_consume(_tokens):
                    sleep(restart_limit.expected_time(_tokens))
                    continue
                for _ in self.consume(limit=None, **kwargs):
                    pass
            except lost:
                warn(W_CONN_LOST, exc_info=True)

    @contextmanager
    def consumer_context(self, **kwargs: Any) -> Iterator[tuple[Connection, Any, Any]]:
        """Connect, start the consumers, and end both afterwards; gives ``(connection, channel, consumers)``."""
        with self.Consumer() as parts:
            connection, channel, consumers = parts
            with self.extra_context(connection, channel):
                self.on_consume_ready(connection, channel, consumers, **kwargs)
                yield connection, channel, consumers

    def consume(
        self, limit: int | None = None, timeout: float | None = None, safety_interval: float = 1, **kwargs: Any,
    ) -> Iterator[None]:
        """Wait for events for ever, or *limit* times, and yield after each one.

        Arguments:
            limit: How many times to wait.
            timeout: Seconds without any event after which :exc:`TimeoutError` is raised, to within
                *safety_interval*.
            safety_interval: Seconds after which to look at :attr:`should_stop` and heartbeats in between.
            kwargs: For :meth:`on_consume_ready`.
        """
        idle: float = 0
        with self.consumer_context(**kwargs) as (connection, _channel, _consumers):
            for _ in range(limit) if limit else count():
                if self.should_stop:
                    break
                self.on_iteration()
                try:
                    connection.drain_events(timeout=safety_interval)
                except TimeoutError:
                    connection.heartbeat_check()
                    idle += safety_interval
                    if timeout and idle >= timeout:
                        raise
                except OSError:
                    if not self.should_stop:
                        raise
                else:
                    yield
                    idle = 0
        debug("consume exiting")

    def maybe_conn_error(self, fun: Callable[[], Any]) -> Any:
        """Call *fun* and ignore connection errors, as :func:`kombu.common.ignore_errors` does."""
        return ignore_errors(self, fun)

    def create_connection(self) -> Connection:
        """Return the connection to consume from."""
        return self.connection.clone()

    @contextmanager
    def establish_connection(self) -> Iterator[Connection]:
        """Connect, trying again as often as :attr:`connect_max_retries` says, and close the connection afterwards."""
        with self.create_connection() as connection:
            connection.ensure_connection(self.on_connection_error, self.connect_max_retries)
            yield connection

    @contextmanager
    def Consumer(self) -> Iterator[tuple[Connection, Any, Any]]:
        """Run the consumers on a new connection; gives ``(connection, channel, consumers)``."""
        with self.establish_connection() as connection:
            self.on_connection_revived()
            info("Connected to %s", connection.as_uri())
            channel = connection.default_channel
            make = partial(Consumer, channel, on_decode_error=self.on_decode_error)
            with self._consume_from(*self.get_consumers(make, channel)) as consumers:
                yield connection, channel, consumers
            debug("Consumers canceled")
            self.on_consume_end(connection, channel)
        debug("Connection closed")

    def _consume_from(self, *consumers: Any) -> AbstractContextManager[Any]:
        return nested(*consumers)

    @cached_property
    def restart_limit(self) -> TokenBucket:
        """How often the loop may start over: once a second, unless a subclass says otherwise."""
        return TokenBucket(1)

    @cached_property
    def connection_errors(self) -> tuple[type[Exception], ...]:
        """The errors that a lost connection raises."""
        return tuple(self.connection.connection_errors)

    @cached_property
    def channel_errors(self) -> tuple[type[Exception], ...]:
        """The errors that a closed channel raises."""
        return tuple(self.connection.channel_errors)


class ConsumerProducerMixin(ConsumerMixin):
    """Consume as :class:`ConsumerMixin` does, and publish on a second connection::

        def handle(self, message):
            self.producer.publish(
                {"hello": "to you"}, exchange="", routing_key=message.properties["reply_to"], retry=True,
            )

    The broker stops reading from connections that publish too fast; with two connections the consumers are not
    stopped along with the producer.
    """

    _producer_connection: Connection | None = None

    def on_consume_end(self, connection: Connection, channel: Any) -> None:
        """Close the producer's connection; an override should call this one too."""
        producer_connection, self._producer_connection = self._producer_connection, None
        if producer_connection is not None:
            producer_connection.close()

    @property
    def producer(self) -> Producer:
        """A new producer on the producer's connection."""
        return Producer(self.producer_connection)

    @property
    def producer_connection(self) -> Connection:
        """The connection to publish on, made when it is first needed."""
        if self._producer_connection is None:
            connection = self.connection.clone()
            connection.ensure_connection(self.on_connection_error, self.connect_max_retries)
            self._producer_connection = connection
        return self._producer_connection
