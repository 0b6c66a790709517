"""The interface of carrot, the library before this one; kept for the programs that still use it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from . import messaging
from .entity import Exchange, Queue

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("Publisher", "Consumer")

_PublisherT = TypeVar("_PublisherT", bound="Publisher")
_ConsumerT = TypeVar("_ConsumerT", bound="Consumer")

entry_to_queue = Queue.from_dict


def _iterconsume(
    connection: Any, consumer: Any, no_ack: bool | None = False, limit: int | None = None,
) -> Iterator[Any]:
    """Start *consumer*, then drain one event an iteration, *limit* of them or for ever."""
    consumer.consume(no_ack=no_ack)
    for _ in range(limit) if limit else count():
        yield connection.drain_events()


class Publisher(messaging.Producer):
    """A producer that makes its exchange from keywords."""

    exchange: Any = ""
    exchange_type: str = "direct"
    routing_key = ""
    durable = True
    auto_delete = False
    _closed = False

    def __init__(
        self, connection: Any, exchange: Any = None, routing_key: str | None = None, exchange_type: str | None = None,
        durable: bool | None = None, auto_delete: bool | None = None, channel: Any = None, **kwargs: Any,
    ) -> None:
        self.exchange_type = exchange_type or self.exchange_type
        self.routing_key = routing_key or self.routing_key
        self.durable = self.durable if durable is None else durable
        self.auto_delete = self.auto_delete if auto_delete is None else auto_delete
        exchange = exchange or self.exchange
        if not isinstance(exchange, Exchange):
            exchange = Exchange(exchange, self.exchange_type, durable=self.durable, auto_delete=self.auto_delete)
        super().__init__(channel or connection, exchange, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> Any:
        """Publish, under carrot's name."""
        return self.publish(*args, **kwargs)

    def close(self) -> None:
        """Note that the publisher is done with."""
        super().close()
        self._closed = True

    def __enter__(self: _PublisherT) -> _PublisherT:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def backend(self) -> Any:
        """The channel, under carrot's name."""
        return self.channel


class Consumer(messaging.Consumer):
    """A consumer of one queue that makes it, and its exchange, from keywords, on a channel of its own."""

    queue = ""
    exchange = ""
    routing_key = ""
    exchange_type = "direct"
    durable = True
    exclusive = False
    auto_delete = False
    _closed = False

    def __init__(
        self, connection: Any, queue: str | None = None, exchange: str | None = None, routing_key: str | None = None,
        exchange_type: str | None = None, durable: bool | None = None, exclusive: bool | None = None,
        auto_delete: bool | None = None, **kwargs: Any,
    ) -> None:
        self.backend = connection.channel()
        self.queue = queue or self.queue
        self.exchange = exchange or self.exchange
        self.routing_key = routing_key or self.routing_key
        self.exchange_type = exchange_type or self.exchange_type
        self.durable = self.durable if durable is None else durable
        self.exclusive = self.exclusive if exclusive is None else exclusive
        self.auto_delete = self.auto_delete if auto_delete is None else auto_delete
        options: dict[str, Any] = {"durable": self.durable, "auto_delete": self.auto_delete}
        source = Exchange(self.exchange, self.exchange_type, **options)
        super().__init__(
            self.backend, Queue(self.queue, source, self.routing_key, exclusive=self.exclusive, **options), **kwargs,
        )

    def revive(self, channel: Any) -> None:
        """Move to *channel*."""
        self.backend = channel
        super().revive(channel)

    def close(self) -> None:
        """Stop consuming and close the channel."""
        self.cancel()
        self.backend.close()
        self._closed = True

    def __enter__(self: _ConsumerT) -> _ConsumerT:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return self.iterqueue(infinite=True)

    def fetch(self, no_ack: bool | None = None, enable_callbacks: bool = False) -> Any:
        """Fetch one message, or :const:`None`; with *enable_callbacks* hand it to the callbacks too."""
        message = self.queues[0].get(self.no_ack if no_ack is None else no_ack)
        if message and enable_callbacks:
            self.receive(message.payload, message)
        return message

    def process_next(self) -> None:
        """Not supported: use ``fetch(enable_callbacks=True)``."""
        raise NotImplementedError("Use fetch(enable_callbacks=True)")

    def discard_all(self, filterfunc: Any = None) -> int:
        """Delete all messages that wait; *filterfunc* is not supported."""
        if filterfunc is not None:
            raise NotImplementedError("discard_all does not implement filters")
        return self.purge()

    def iterconsume(self, limit: int | None = None, no_ack: bool | None = None) -> Iterator[Any]:
        """Consume, one event an iteration."""
        return _iterconsume(self.connection, self, no_ack, limit)

    def wait(self, limit: int | None = None) -> list[Any]:
        """Consume *limit* events."""
        return list(self.iterconsume(limit))

    def iterqueue(self, limit: int | None = None, infinite: bool = False) -> Iterator[Any]:
        """Fetch messages until there is none; with *infinite* go on and yield :const:`None` for none."""
        for _ in range(limit) if limit else count():
            message = self.fetch()
            if message is None and not infinite:
                return
            yield message


class ConsumerSet(messaging.Consumer):
    """A consumer of several queues, given as flat options or taken from other consumers."""

    def __init__(
        self, connection: Any, from_dict: dict[str, dict[str, Any]] | None = None, consumers: Any = None,
        channel: Any = None, **kwargs: Any,
    ) -> None:
        self._provided_channel = bool(channel)
        self.backend = channel or connection.channel()
        queues = [queue for consumer in consumers or () for queue in consumer.queues]
        queues += [Queue.from_dict(name, **options) for name, options in (from_dict or {}).items()]
        super().__init__(self.backend, queues, **kwargs)

    def iterconsume(self, limit: int | None = None, no_ack: bool = False) -> Iterator[Any]:
        """Consume, one event an iteration."""
        return _iterconsume(self.connection, self, no_ack, limit)

    def discard_all(self) -> int:
        """Delete all messages that wait."""
        return self.purge()

    def add_consumer_from_dict(self, queue: str, **options: Any) -> Any:
        """Add a queue, given as flat options."""
        return self.add_queue(Queue.from_dict(queue, **options))

    def add_consumer(self, consumer: Any) -> None:
        """Add the queues of another consumer."""
        for queue in consumer.queues:
            self.add_queue(queue)

    def revive(self, channel: Any) -> None:
        """Move to *channel*."""
        self.backend = channel
        super().revive(channel)

    def close(self) -> None:
        """Stop consuming, and close the channel unless it was given."""
        self.cancel()
        if not self._provided_channel:
            self.channel.close()
