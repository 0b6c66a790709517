"""The consumer: queues that are consumed from on one channel, and what is called for their messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from ._core import dispatch
from ._locks import new_lock
from .channels import maybe_channel
from .consumer_batch import DEFAULT_BATCH_SIZE, Gatherer, MessageBatch
from .entity import Queue
from .exceptions import ContentDisallowed
from .log import get_logger
from .message import Message
from .serialization import prepare_accept_content
from .utils.functional import maybe_list

if TYPE_CHECKING:
    from types import TracebackType

    from .connection import Connection

__all__ = ("Consumer",)

logger = get_logger("kombu.messaging")

_ConsumerT = TypeVar("_ConsumerT", bound="Consumer")


class Consumer:
    """Consume messages from one or several queues on one channel.

    Arguments:
        channel: Channel or connection (its default channel).
        queues: A :class:`~kombu.Queue` or several.
        no_ack: Messages need no acknowledgement; the queue's own setting if not given.
        auto_declare: Declare the queues, with exchanges and bindings, at once and after each reconnect (default true).
        callbacks: Called one after the other with ``(body, message)``, *body* being the decoded one.
        on_decode_error: Called with ``(message, exc)`` for a message that cannot be decoded; without it the error is
            raised where events are drained.
        on_message: Called with ``message``, not decoded, instead of :meth:`receive` and the callbacks.
        accept: Content types (or names of serializers) that may be decoded; any other raises
            :exc:`ContentDisallowed`.  Without it, those that are enabled for all of the process.
        prefetch_count: How many messages the broker may send ahead of their acknowledgement.
        on_batch: Called with a :class:`~kombu.consumer_batch.MessageBatch` of decoded messages, not the callbacks:
            when it is full, and when ``drain_events`` has nothing left to dispatch.
        batch_size: How many messages make a batch full.
        tag_prefix: Start of the consumer tags.
        on_cancel: Called with the consumer tag when the broker ends a consumer, for instance because its queue was
            deleted.  The others go on, and :meth:`consume` would start it again.
    """

    # Where it is imported from, and what pickles call it.
    __module__ = "kombu.messaging"

    ContentDisallowed = ContentDisallowed

    channel: Any = None
    no_ack: bool | None = None
    auto_declare: bool = True
    callbacks: Any = None
    on_message: Callable[[Message], Any] | None = None
    on_decode_error: Callable[[Message, Exception], Any] | None = None
    on_cancel: Callable[[str], Any] | None = None

    #: Content types that may be decoded, worked out when the consumer is made; None for the process-wide setting.
    accept: set[str] | None = None

    prefetch_count: int | None = None

    #: What gathers messages for on_batch.
    _gatherer: Gatherer | None = None

    #: Queues by name, in the order in which they were added.
    _queues: dict[str, Queue]

    #: Numbers for consumer tags, unique in this process.
    _tags = count(1)
    _tags_mutex = new_lock()

    def __init__(
        self, channel: Any, queues: Queue | Iterable[Queue] | None = None, no_ack: bool | None = None,
        auto_declare: bool | None = None, callbacks: Sequence[Callable[[Any, Message], Any]] | None = None,
        on_decode_error: Callable[[Message, Exception], Any] | None = None,
        on_message: Callable[[Message], Any] | None = None, accept: Iterable[str] | None = None,
        prefetch_count: int | None = None, tag_prefix: str | None = None,
        on_cancel: Callable[[str], Any] | None = None, on_batch: Callable[[MessageBatch], Any] | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> None:
        self.channel = channel
        self.queues = maybe_list(queues or [])
        self.no_ack = self.no_ack if no_ack is None else no_ack
        self.callbacks = (self.callbacks or []) if callbacks is None else callbacks
        if on_batch is not None:
            if self.callbacks or on_message is not None:
                raise ValueError("on_batch takes the place of callbacks and on_message: give one of them")
            self._gatherer = Gatherer(on_batch, batch_size)
            self.callbacks = [self._gatherer]
        self.on_message = on_message
        self.tag_prefix = tag_prefix
        self._active_tags: dict[str, str] = {}
        self._active_queue_no_ack: dict[str, bool | None] = {}
        if auto_declare is not None:
            self.auto_declare = auto_declare
        if on_decode_error is not None:
            self.on_decode_error = on_decode_error
        if on_cancel is not None:
            self.on_cancel = on_cancel
        self.accept = prepare_accept_content(accept)
        self.prefetch_count = prefetch_count
        if channel:
            self.revive(channel)

    @property
    def queues(self) -> list[Queue]:
        """The queues, as a new list; set it to replace them all."""
        return list(self._queues.values())

    @queues.setter
    def queues(self, queues: Iterable[Queue]) -> None:
        self._queues = {queue.name: queue for queue in queues}

    def revive(self, channel: Any) -> None:
        """Move to *channel*, for instance after a reconnect.

        Declares the queues again, sets the prefetch count, and consumes from those queues that were consumed from.
        """
        self._active_tags.clear()
        channel = self.channel = maybe_channel(channel)
        bound = [queue(channel) for queue in self._queues.values()]
        # Keyed anew, as a queue may have been named by its declaration.
        self._queues = {queue.name: queue for queue in bound}
        for queue in bound:
            queue.revive(channel)
        if self.auto_declare:
            self.declare()
        if self.prefetch_count is not None:
            self.qos(prefetch_count=self.prefetch_count)
        # Kept until here: where this connection is lost as well, the next one has to know what to consume from.
        active = {name: no_ack for name, no_ack in self._active_queue_no_ack.items() if name in self._queues}
        self._active_queue_no_ack = active
        self._consume_queues(dict(active))

    def declare(self) -> None:
        """Declare the queues, their exchanges and bindings."""
        for queue in self._queues.values():
            queue.declare()

    def register_callback(self, callback: Callable[[Any, Message], Any]) -> None:
        """Add a callback, called with ``(body, message)`` after those that are there."""
        # A new list: the present one may be the caller's, or the class's.
        self.callbacks = [*self.callbacks, callback]

    def __enter__(self: _ConsumerT) -> _ConsumerT:
        self.consume()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None,
    ) -> None:
        connection = self.channel.connection if self.channel else None
        if not connection or isinstance(exc_val, connection.client.connection_errors):
            return  # nothing to cancel: the consumers ended with the connection
        gatherer = self._gatherer
        try:
            if gatherer is None:
                self.cancel()
            else:
                self._cancel()
        except Exception as exc:
            logger.debug("could not cancel %r: %r", self, exc, exc_info=True)
        if gatherer is not None and exc_val is None:
            # What it raises is the program's.
            gatherer.hand_on()

    def add_queue(self, queue: Queue) -> Queue:
        """Add a queue, declared if :attr:`auto_declare` is set, and return it bound; :meth:`consume` starts it."""
        queue = queue(self.channel)
        if self.auto_declare:
            queue.declare()
        self._queues[queue.name] = queue
        return queue

    def consume(self, no_ack: bool | None = None) -> None:
        """Start consuming from all queues that are not consumed from yet.

        May be called again after queues were added.  Removed queues go on until :meth:`cancel_by_queue`.
        """
        if no_ack is None:
            no_ack = self.no_ack
        self._consume_queues({queue.name: no_ack for queue in self._queues.values()})

    def _consume_queues(self, no_ack_by_queue: dict[str, bool | None]) -> None:
        """Consume from the queues named, each with its own ``no_ack``; only the last waits for the broker's answer."""
        queues = [queue for queue in self._queues.values() if queue.name in no_ack_by_queue]
        for queue in queues:
            self._basic_consume(queue, no_ack=no_ack_by_queue[queue.name], nowait=queue is not queues[-1])

    def cancel(self) -> None:
        """End all consumers; messages that have arrived already are not affected.

        Those that wait for their batch to be full are handed on.
        """
        self._cancel()
        if self._gatherer is not None:
            self._gatherer.hand_on()

    def _cancel(self) -> None:
        cancel = self.channel.basic_cancel
        for tag in list(self._active_tags.values()):
            cancel(tag)
        self._active_tags.clear()
        self._active_queue_no_ack.clear()

    close = cancel

    def cancel_by_queue(self, queue: Queue | str) -> None:
        """End the consumer of one queue, given as object or by name, and forget the queue."""
        name = queue.name if isinstance(queue, Queue) else queue
        self._active_queue_no_ack.pop(name, None)
        tag = self._active_tags.pop(name, None)
        try:
            if tag is not None:
                self.channel.basic_cancel(tag)
        finally:
            self._queues.pop(name, None)

    def consuming_from(self, queue: Queue | str) -> bool:
        """Return whether a queue, given as object or by name, is being consumed from."""
        return (queue.name if isinstance(queue, Queue) else queue) in self._active_tags

    def purge(self) -> int:
        """Delete all messages that wait in the queues and return how many those were.  There is no way back."""
        return sum(queue.purge() for queue in self._queues.values())

    def flow(self, active: bool) -> None:
        """Ask the broker to stop (false) or resume (true) sending; RabbitMQ knows no flow control by the client."""
        self.channel.flow(active)

    def qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> Any:
        """Limit what the broker sends ahead of acknowledgements (``basic.qos``); without effect under ``no_ack``.

        Arguments:
            prefetch_size: Most bytes, 0 for any number; RabbitMQ knows 0 only.
            prefetch_count: Most messages, 0 for any number.
            apply_global: What counts is the channel (for RabbitMQ) and not each consumer.
        """
        return self.channel.basic_qos(prefetch_size, prefetch_count, apply_global)

    def recover(self, requeue: bool = False) -> Any:
        """Have all messages delivered anew that are not acknowledged, with *requeue* perhaps to other consumers."""
        return self.channel.basic_recover(requeue=requeue)

    #: ``receive(body, message)`` hands a decoded message to the callbacks; override it to do something else.
    receive = dispatch.receive

    def _basic_consume(
        self, queue: Any, consumer_tag: str | None = None, no_ack: bool | None = None, nowait: bool = True,
    ) -> str:
        name = queue.name
        tag = self._active_tags.get(name)
        if tag is None:
            if no_ack is None:
                no_ack = queue.no_ack
            tag = self._add_tag(queue, consumer_tag)
            self._active_queue_no_ack[name] = no_ack
            # Only those who ask for it: without it, a transport may raise where events are drained.
            options: dict[str, Any] = {"on_cancel": self._on_cancel} if self.on_cancel else {}
            queue.consume(tag, self._receiver(), no_ack=no_ack, nowait=nowait, **options)
        return tag

    def _add_tag(self, queue: Any, consumer_tag: str | None = None) -> str:
        if not consumer_tag:
            with self._tags_mutex:
                consumer_tag = f"{self.tag_prefix}{next(self._tags)}"
        self._active_tags[queue.name] = consumer_tag
        return consumer_tag

    def _on_cancel(self, consumer_tag: str) -> None:
        """The broker has ended one of the consumers."""
        for name, tag in list(self._active_tags.items()):
            if tag == consumer_tag:
                del self._active_tags[name]
                self._active_queue_no_ack.pop(name, None)
        if self.on_cancel:
            self.on_cancel(consumer_tag)

    def _receiver(self) -> Callable[[Any], Any]:
        """Return what the transport is to call for each delivery."""
        if type(self)._receive_callback is not Consumer._receive_callback:
            return self._receive_callback
        return self._dispatcher()

    def _dispatcher(self) -> dispatch.Dispatcher:
        return dispatch.Dispatcher(self, getattr(self.channel, "finished", None))

    def _receive_callback(self, message: Any) -> Any:
        """Take a message from the channel as if it had been delivered."""
        return self._dispatcher()(message)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.queues}>"

    @property
    def connection(self) -> Connection | None:
        """The connection that the consumer's channel belongs to, or :const:`None` when the channel is closed."""
        try:
            return self.channel.connection.client  # type: ignore[no-any-return]
        except AttributeError:
            return None
