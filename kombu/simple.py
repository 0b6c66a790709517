"""Queues with the interface of :mod:`queue`: put, get, and no consumers or producers to look after."""

from __future__ import annotations

from collections import deque
from queue import Empty
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from ._lazy import amqp_errors
from .channels import maybe_channel
from .entity import Exchange, Queue
from .messaging import Consumer, Producer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from .message import Message

__all__ = ("SimpleQueue", "SimpleBuffer")

_SimpleT = TypeVar("_SimpleT", bound="SimpleBase")


class SimpleBase:
    """Put and get messages through a producer and a consumer that are made already.

    Arguments:
        channel: Channel or connection.
        producer: What :meth:`put` publishes with.
        consumer: What :meth:`get` consumes with; it has the one queue.
        no_ack: Messages need no acknowledgement.
    """

    Empty = Empty
    _consuming = False

    def __init__(self, channel: Any, producer: Producer, consumer: Consumer, no_ack: bool = False) -> None:
        self.channel = maybe_channel(channel)
        self.producer = producer
        self.consumer = consumer
        self.no_ack = no_ack
        self.queue = consumer.queues[0]
        self.buffer: deque[Message] = deque()
        consumer.register_callback(self._receive)

    def __enter__(self: _SimpleT) -> _SimpleT:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None,
    ) -> None:
        self.close()

    def get(self, block: bool = True, timeout: float | None = None) -> Message:
        """Return the next :class:`~kombu.Message`, waiting up to *timeout* seconds in all, or for ever.

        Whatever else arrives on the connection meanwhile does not make the wait longer.

        Raises:
            SimpleBase.Empty: There was none in time, or with *block* false, at once.
        """
        if not block:
            return self.get_nowait()
        deadline = None if timeout is None else monotonic() + timeout
        self._consume()
        buffer = self.buffer
        while not buffer:
            remaining = None
            if deadline is not None:
                remaining = deadline - monotonic()
                if remaining <= 0:
                    raise self.Empty()
            connection = self.channel.connection
            if connection is None:
                raise amqp_errors.RecoverableConnectionError(
                    f"cannot get from {self.queue.name!r}: its channel is closed"
                )
            try:
                connection.client.drain_events(timeout=remaining)
            except TimeoutError:
                if not buffer:
                    raise self.Empty() from None
        return buffer.popleft()

    def get_nowait(self) -> Message:
        """Fetch a message by a request of its own (``basic.get``); raises :exc:`SimpleBase.Empty` if there is none."""
        message = self.queue.get(no_ack=self.no_ack, accept=self.consumer.accept)
        if message is None:
            raise self.Empty()
        return message

    def put(
        self, message: Any, serializer: str | None = None, headers: Mapping[str, Any] | None = None,
        compression: str | None = None, routing_key: str | None = None, **kwargs: Any,
    ) -> None:
        """Publish *message*; *kwargs* are those of :meth:`kombu.Producer.publish`."""
        self.producer.publish(
            message, serializer=serializer, routing_key=routing_key, headers=headers, compression=compression, **kwargs,
        )

    def clear(self) -> int:
        """Delete all messages that wait in the queue and return how many those were."""
        return self.consumer.purge()

    def qsize(self) -> int:
        """Return how many messages wait in the queue, as the broker counts them."""
        return self.queue.queue_declare(passive=True)[1]  # type: ignore[no-any-return]

    def close(self) -> None:
        """Stop consuming."""
        self.consumer.cancel()

    def _receive(self, message_data: Any, message: Message) -> None:
        self.buffer.append(message)

    def _consume(self) -> None:
        if not self._consuming:
            self.consumer.consume(no_ack=self.no_ack)
            self._consuming = True

    def __len__(self) -> int:
        return self.qsize()

    def __bool__(self) -> bool:
        # Not a question to the broker: an empty queue is a queue.
        return True

    __nonzero__ = __bool__


class SimpleQueue(SimpleBase):
    """A durable queue whose messages are acknowledged with ``message.ack()``.

    Arguments:
        channel: Channel or connection.
        name: Name of queue, exchange and routing key; or a :class:`~kombu.Queue`, which brings its own.
        no_ack: Messages need no acknowledgement.
        queue_opts: Keywords for :class:`~kombu.Queue`.
        queue_args: Its ``queue_arguments``.
        exchange_opts: Keywords for :class:`~kombu.Exchange`.
        serializer, compression: Defaults for :meth:`put`.
        accept: Content types (or names of serializers) that may be decoded.
    """

    no_ack = False
    queue_opts: dict[str, Any] = {}
    queue_args: dict[str, Any] = {}
    exchange_opts: dict[str, Any] = {"type": "direct"}

    def __init__(
        self, channel: Any, name: str | Queue, no_ack: bool | None = None,
        queue_opts: Mapping[str, Any] | None = None, queue_args: Mapping[str, Any] | None = None,
        exchange_opts: Mapping[str, Any] | None = None,
        serializer: str | None = None, compression: str | None = None, accept: Iterable[str] | None = None,
    ) -> None:
        if isinstance(name, Queue):
            queue = name
        else:
            queue = Queue(
                name,
                Exchange(name, **{**self.exchange_opts, **(exchange_opts or {})}),
                name,
                queue_arguments={**self.queue_args, **(queue_args or {})},
                **{**self.queue_opts, **(queue_opts or {})},
            )
        consumer = Consumer(channel, queue, accept=accept)
        producer = Producer(
            channel, queue.exchange, routing_key=queue.routing_key, serializer=serializer, compression=compression,
        )
        super().__init__(channel, producer, consumer, self.no_ack if no_ack is None else no_ack)


class SimpleBuffer(SimpleQueue):
    """A queue for the moment: its messages are not kept on disk nor acknowledged, and it goes with its connection."""

    no_ack = True
    queue_opts = {"durable": False, "auto_delete": True, "exclusive": True}
    exchange_opts = {"durable": False, "delivery_mode": "transient", "auto_delete": True}
