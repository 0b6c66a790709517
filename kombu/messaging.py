"""Producers and consumers: entities, a channel, and the serialization of what goes through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from amqp import RecoverableConnectionError

from ._core import dispatch
from ._core import pool as _pool
from .batch import DEFAULT_BATCH_SIZE, CurrentBatch
from .batch import BatchState as _ProducerBatchState  # noqa: F401 (the name that 5.7 has here)
from .batch import ProducerBatch as _ProducerBatch
from .channels import is_connection, maybe_channel
from .common import maybe_declare
from .compression import compress
from .consumer_batch import DEFAULT_BATCH_SIZE as DEFAULT_CONSUMER_BATCH
from .consumer_batch import Gatherer, MessageBatch
from .entity import Exchange, Queue, maybe_delivery_mode
from .exceptions import ConfirmError, ContentDisallowed, OperationalError
from .log import get_logger
from .message import Message
from .serialization import dumps, prepare_accept_content
from .utils.functional import ChannelPromise, maybe_list

if TYPE_CHECKING:
    from types import TracebackType

    from .abstract import MaybeChannelBound
    from .connection import Connection

__all__ = ("Exchange", "Queue", "Producer", "Consumer")

logger = get_logger(__name__)

_ProducerT = TypeVar("_ProducerT", bound="Producer")
_ConsumerT = TypeVar("_ConsumerT", bound="Consumer")


class Producer(_pool.Lent):
    """Publish messages.

    A producer that is given a connection takes its default channel when it is first needed.

    Arguments:
        channel: Channel or connection.
        exchange: Default exchange; without one, the broker's default exchange.
        routing_key: Default routing key.
        serializer: Name of the default serializer; ``"json"`` if not given (text and bytes are sent as they are).
        auto_declare: Declare the default exchange before the first publish on a connection (default true).
        compression: Name of the default compression; none if not given.
        on_return: Called with ``(exception, exchange, routing_key, message)`` for a mandatory message that the broker
            could not route.  Somebody has to drain events for that.
    """

    exchange: Any = None
    routing_key: str = ""
    serializer: str | None = None
    compression: str | None = None
    auto_declare: bool = True
    on_return: Callable[..., Any] | None = None

    #: The connection, if the producer was given one rather than a channel.
    __connection__: Any = None

    #: The connection that it was given last, and the promise of a channel there.
    _last_connection: Any = None
    _last_promise: Any = None

    #: The connection of the last channel: a channel that was closed does not know it any more.
    _client: Any = None

    #: What further publishes on the present channel have in common, and the exchange that this was worked out for.
    _plans: Any = None
    _plans_for: Any = None

    #: The windows of unconfirmed publishes that flush() has to look at.
    _windows: tuple[Any, ...] = ()

    def __init__(
        self, channel: Any, exchange: Exchange | None = None, routing_key: str | None = None,
        serializer: str | None = None, auto_declare: bool | None = None, compression: str | None = None,
        on_return: Callable[..., Any] | None = None,
    ) -> None:
        self._channel = channel
        self.exchange = Exchange("") if exchange is None else exchange
        self.routing_key = routing_key or self.routing_key
        self.serializer = serializer or self.serializer
        self.compression = compression or self.compression
        self.on_return = on_return or self.on_return
        self._channel_promise = None
        self._batch_local = CurrentBatch()
        if auto_declare is not None:
            self.auto_declare = auto_declare
        if channel:
            self.revive(channel)

    def __repr__(self) -> str:
        return f"<Producer: {self._channel}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return self.__class__, self.__reduce_args__()

    def __reduce_args__(self) -> tuple[Any, ...]:
        return (None, self.exchange, self.routing_key, self.serializer, self.auto_declare, self.compression)

    def declare(self) -> None:
        """Declare the default exchange, unless that is the broker's default exchange."""
        if self.exchange.name:
            self.exchange.declare()

    def maybe_declare(self, entity: MaybeChannelBound | None, retry: bool = False, **retry_policy: Any) -> bool | None:
        """Declare *entity* unless that was done on this connection; see :func:`kombu.common.maybe_declare`."""
        if entity:
            return maybe_declare(entity, self.channel, retry, **retry_policy)
        return None

    @property
    def supports_batch_publish(self) -> bool:
        """Whether publishes within :meth:`batch` are held back until it ends or is full."""
        connection = self.connection
        if connection is None:
            return False
        try:
            able = connection.transport.implements.batch_publish
        except AttributeError:
            return False
        channel = self._channel
        if channel is None or isinstance(channel, ChannelPromise):
            channel = connection.transport
        return bool(able and getattr(channel, "supports_batch_publish", able))

    def batch(self, max_size: int = DEFAULT_BATCH_SIZE) -> _ProducerBatch:
        """Return a context in which :meth:`publish` gathers messages where the transport can send many at once.

        The outermost context sends what is left when it ends, and discards it when it ends by an exception.  On other
        transports each message is sent at once, as outside.

        Raises:
            ValueError: *max_size*, the number of messages that are sent together at the most, is no positive integer.
            kombu.exceptions.BatchPublishError: (at the end) It is not known which of the messages arrived.
        """
        if isinstance(max_size, bool) or not isinstance(max_size, int) or max_size < 1:
            raise ValueError(f"max_size must be a positive integer, not {max_size!r}")
        return _ProducerBatch(self, max_size)

    def _delivery_details(self, exchange: Any, delivery_mode: Any = None) -> tuple[str, int]:
        """Return the name of *exchange* and the number of the delivery mode, whose default is the exchange's."""
        if isinstance(exchange, Exchange):
            return exchange.name, maybe_delivery_mode(delivery_mode or exchange.delivery_mode)
        return exchange, maybe_delivery_mode(delivery_mode or self.exchange.delivery_mode)

    def publish(
        self, body: Any, routing_key: str | None = None, delivery_mode: int | str | None = None,
        mandatory: bool = False, immediate: bool = False, priority: int = 0, content_type: str | None = None,
        content_encoding: str | None = None, serializer: str | None = None, headers: Mapping[str, Any] | None = None,
        compression: str | None = None, exchange: Exchange | str | None = None, retry: bool = False,
        retry_policy: Mapping[str, Any] | None = None, declare: Iterable[MaybeChannelBound] | None = None,
        expiration: float | None = None, timeout: float | None = None, confirm_timeout: float | None = None,
        confirm_callback: Callable[[Any], Any] | None = None, **properties: Any,
    ) -> Any:
        """Publish one message.

        With the transport option ``confirm_window`` this returns a promise of the broker's answer; see :meth:`flush`.

        No argument is changed: the message gets a copy of *headers*, and *retry_policy* ends with this call.

        Arguments:
            body: What to send; serialized unless *content_type* is given.
            routing_key: Instead of the producer's.
            delivery_mode: 1 or ``"transient"``, 2 or ``"persistent"``; the exchange's if not given.
            mandatory: The broker returns the message if no queue gets it.
            immediate: RabbitMQ 3.0 and later refuse it.
            priority: 0 to 255.
            content_type, content_encoding: What *body*, bytes or text, is already encoded as.
            serializer, compression: Names of what to encode *body* with.
            headers: Application headers.
            exchange: Instead of the producer's, as object or by name; a name is not declared.
            retry: Reconnect and publish again after connection errors.
            retry_policy: Keywords of :meth:`kombu.Connection.ensure`.  They bound the whole operation, connecting
                and declaring included.
            declare: Entities to declare first, unless that was done on this connection.
            expiration: Seconds after which the broker drops the message.
            timeout: Seconds to wait for the socket.
            confirm_timeout: Seconds to wait for the broker's confirmation, where the channel confirms publishes; with
                ``confirm_window``, for room in the window.
            confirm_callback: Called with the promise once the broker has answered; needs ``confirm_window``.
            properties: Further message properties of AMQP 0-9-1 (``correlation_id``, ``reply_to``...).

        Raises:
            kombu.exceptions.EncodeError: *body* cannot be serialized.
            kombu.exceptions.OperationalError: With *retry*, the connection was lost and the policy is exhausted.
            ValueError: *confirm_callback* is given, and the channel has no ``confirm_window``; nothing was published.
        """
        plans = self._plans
        if (
            plans is not None and plans.channel is self._channel and self._plans_for is self.exchange
            and headers is None and declare is None and expiration is None and compression is None
            and not (properties or retry or self.compression or confirm_callback)
            and (exchange is None or type(exchange) is str)
            and (plans.declared is None or plans.ident in plans.declared)
            and getattr(self._publish, "__func__", None) is _publish_once
        ):
            # What follows costs no call that can be spared: most publishes come this way.
            if not content_type:
                content_type, content_encoding, body = dumps(body, serializer=serializer or self.serializer)
            elif isinstance(body, str):
                content_encoding = content_encoding or "utf-8"
                body = body.encode(content_encoding)
            elif not content_encoding:
                content_encoding = "binary"
            if routing_key is None:
                routing_key = self.routing_key
            key = (
                routing_key, exchange, delivery_mode or self.exchange.delivery_mode, mandatory, immediate, priority,
                content_type, content_encoding,
            )
            plan = plans.known.get(key) or self._make_plan(plans, key)
            if type(body) is not bytes:
                body = _planned_body(body, content_encoding)
            batch = self._batch_local.current
            if batch is None:
                return plans.channel.publish_planned(plan, body, timeout, confirm_timeout)
            session = batch.session
            if session is not None and session.channel is plans.channel and not batch.aborted:
                return session.publish_planned(plan, body, timeout, confirm_timeout)
            return batch.publish_planned(plans.channel, plan, body, timeout, confirm_timeout)
        default_exchange = self.exchange
        # Compression adds a header, some transports add theirs, and memory:// hands the very dict to the consumer.
        headers = dict(headers) if headers else {}
        exchange_name, properties["delivery_mode"] = self._delivery_details(
            exchange or default_exchange, delivery_mode,
        )
        if expiration is not None:
            properties["expiration"] = str(int(expiration * 1000))
        body, content_type, content_encoding = self._prepare(
            body, serializer, content_type, content_encoding,
            self.compression if compression is None else compression, headers,
        )
        entities = [] if declare is None else list(declare)
        if self.auto_declare and default_exchange.name and default_exchange not in entities:
            entities.append(default_exchange)

        _publish = self._publish
        if retry:
            if retry_policy is None:
                retry_policy = {}
            _publish = self._retry_connection().ensure(self, _publish, **retry_policy)
        # All by position: tracing tools wrap _publish and count its arguments.
        result = _publish(
            body, priority, content_type, content_encoding, headers, properties,
            self.routing_key if routing_key is None else routing_key, mandatory, immediate,
            exchange_name, entities, timeout, confirm_timeout, retry, retry_policy,
            *(() if confirm_callback is None else (confirm_callback,)),
        )
        if plans is None or plans.channel is not self._channel or self._plans_for is not self.exchange:
            self._begin_planning()
        return result

    def _begin_planning(self) -> None:
        """Have further publishes on this channel planned, if it can do that and nobody has put in something else."""
        channel, exchange = self._channel, self.exchange
        self._plans = None
        if (
            type(self)._prepare is _prepare_body and "_prepare" not in self.__dict__
            and getattr(channel, "plans_publishes", False) is True and channel.connection is not None
        ):
            declares = self.auto_declare and exchange.name
            self._plans_for = exchange
            self._plans = channel.new_plans(exchange if declares else None)
            for window in self._plans.windows:
                self._note_window(window)

    def _make_plan(self, plans: Any, key: tuple[Any, ...]) -> Any:
        """Plan the publishes that *key* says all of but the body, and return the plan."""
        routing_key, exchange, delivery_mode, mandatory, immediate, priority, content_type, content_encoding = key
        name, mode = self._delivery_details(exchange or self.exchange, delivery_mode)
        return plans.make(
            key, priority, content_type, content_encoding, {"delivery_mode": mode}, name, routing_key, mandatory,
            immediate,
        )

    def _publish(
        self, body: Any, priority: int, content_type: str | None, content_encoding: str | None,
        headers: dict[str, Any], properties: dict[str, Any], routing_key: str, mandatory: bool, immediate: bool,
        exchange: str, declare: Iterable[Any] | None, timeout: float | None = None,
        confirm_timeout: float | None = None, retry: bool = False, retry_policy: Mapping[str, Any] | None = None,
        confirm_callback: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Publish an encoded body, once.

        With *retry* this runs within ``Connection.ensure``, which spends the one budget of the whole operation.  So
        nothing in here retries: a declaration that loses the connection ends this try as the publish itself would.
        """
        channel = self._channel
        if isinstance(channel, ChannelPromise):
            channel = self.channel
        if declare:
            for entity in declare:
                self.maybe_declare(entity, retry=False)
        reply_to = properties.get("reply_to")
        if isinstance(reply_to, Queue):  # its name may have been chosen by the declaration above
            properties["reply_to"] = reply_to.name
        message = channel.prepare_message(body, priority, content_type, content_encoding, headers, properties)
        options: dict[str, Any] = {}
        window = getattr(channel, "confirm_window", None)
        if window is not None:
            self._note_window(window)
        if confirm_callback is not None:
            if window is None:
                raise ValueError(
                    "confirm_callback needs a channel that confirms in a window: "
                    "set confirm_publish and confirm_window in transport_options"
                )
            options["confirm_callback"] = confirm_callback
        batch = self._batch_local.current
        if batch is None:
            return channel.basic_publish(
                message, exchange=exchange, routing_key=routing_key, mandatory=mandatory, immediate=immediate,
                timeout=timeout, confirm_timeout=confirm_timeout, **options,
            )
        return batch.publish(
            channel, message, exchange=exchange, routing_key=routing_key, mandatory=mandatory, immediate=immediate,
            timeout=timeout, confirm_timeout=confirm_timeout, **options,
        )

    def _note_window(self, window: Any) -> None:
        """Remember the unconfirmed publishes of a channel for :meth:`flush`, its next channel or not."""
        windows = self._windows
        if window not in windows:
            # A new tuple, as other threads may be looking at the old one; without those that have nothing to say.
            self._windows = (*[each for each in windows if not each.idle], window)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the broker has answered all that was published.

        That is of use with the transport option ``confirm_window``, where :meth:`publish` returns before.  It covers
        every publish on the channels that this producer has used since the last flush; a batch that the producer is in
        is sent first.  Otherwise it returns at once.

        Arguments:
            timeout: Seconds for all of it; by default the connection's ``confirm_timeout``.

        Raises:
            socket.timeout: Some have no answer yet, and the exception says how many; they stay outstanding.
            kombu.exceptions.ConfirmError: Some failed, and nobody had been told of that: by their ``wait()``, by an
                ``on_error`` of their ``then()``, by ``confirm_callback`` or by ``on_return``.
        """
        batch = self._batch_local.current
        if batch is not None:
            batch.flush()
        deadline = None if timeout is None else monotonic() + timeout
        failures: list[Any] = []
        count = 0
        windows = self._windows
        for position, window in enumerate(windows):
            try:
                window.flush(None if deadline is None else max(0.0, deadline - monotonic()))
            except ConfirmError as error:
                failures += error.failures
                count += error.count
            except BaseException:
                # What failed on an earlier channel is told the next time.
                for failed in failures:
                    failed.window.keep(failed)
                self._windows = windows[position:] + windows[:position]
                raise
        current = getattr(self._channel, "confirm_window", None)
        self._windows = tuple(window for window in windows if window is current)
        if failures:
            raise ConfirmError(failures, count) from failures[0].reason

    def _get_channel(self) -> Any:
        channel = self._channel
        if isinstance(channel, ChannelPromise):
            channel = self._channel = channel()
            self.exchange.revive(channel)
            if self.on_return:
                channel.events["basic_return"].add(self.on_return)
        return channel

    def _set_channel(self, channel: Any) -> None:
        self._channel = channel
        self._client = None

    channel = property(_get_channel, _set_channel, doc="The channel; a promised one is made on first use.")

    def revive(self, channel: Any) -> None:
        """Move to *channel*, or to the default channel of a connection, for instance after a reconnect."""
        if is_connection(channel):
            if _pool.rejoin(self, channel):
                return
            self.__connection__ = self._last_connection = channel
            channel = self._last_promise = ChannelPromise(partial(getattr, channel, "default_channel"))
        self._client = None
        if not isinstance(channel, ChannelPromise):
            self._client = getattr(getattr(channel, "connection", None), "client", None)
            if self.on_return:
                channel.events["basic_return"].add(self.on_return)
        self._channel = channel
        self.exchange = self.exchange(channel)

    def __enter__(self: _ProducerT) -> _ProducerT:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None,
    ) -> None:
        if exc_val is not None:
            connection = self.__connection__
            pool = None if connection is None else connection._pool
            if pool is not None and _is_connection_error(exc_val, connection):
                pool.replace(connection)
        self.release()

    close = _pool.Lent.release

    def _prepare(
        self, body: Any, serializer: str | None = None, content_type: str | None = None,
        content_encoding: str | None = None, compression: str | None = None, headers: Any = None,
    ) -> tuple[Any, str | None, str | None]:
        """Return the encoded body, its content type and its encoding; note the compression in *headers*."""
        if not content_type:
            content_type, content_encoding, body = dumps(body, serializer=serializer or self.serializer)
        elif isinstance(body, str):
            content_encoding = content_encoding or "utf-8"
            body = body.encode(content_encoding)
        elif not content_encoding:
            content_encoding = "binary"
        if compression:
            body, headers["compression"] = compress(body, compression)
        return body, content_type, content_encoding

    @property
    def connection(self) -> Connection | None:
        """The connection that the producer publishes on, or :const:`None` when its channel is closed."""
        try:
            return self.__connection__ or self.channel.connection.client  # type: ignore[no-any-return]
        except AttributeError:
            return None

    def _retry_connection(self) -> Any:
        """Return the connection that a lost channel can be replaced from."""
        connection = self.connection or self._client
        if connection is None:
            raise RecoverableConnectionError(
                f"cannot publish with retry=True: {self!r} has no open channel and none that it had is known; "
                "give the producer a channel or a connection",
            )
        return connection


def _planned_body(body: Any, content_encoding: str | None) -> Any:
    """Return *body* as a planned publish takes it: bytes of any kind, or text that is to be UTF-8."""
    if body is None:
        return b""
    if isinstance(body, str) and content_encoding != "utf-8":
        return body.encode(content_encoding or "utf-8")
    return body


_publish_once = Producer._publish
_prepare_body = Producer._prepare


def _is_connection_error(exc: BaseException, connection: Any) -> bool:
    """Tell whether *exc* means that *connection* is broken, and not that the application or a channel is."""
    if isinstance(exc, OperationalError) and exc.__cause__ is not None:
        exc = exc.__cause__  # ensure() wraps what it could not retry any more
    return isinstance(exc, connection.connection_errors)


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
    _tags_mutex = Lock()

    def __init__(
        self, channel: Any, queues: Queue | Iterable[Queue] | None = None, no_ack: bool | None = None,
        auto_declare: bool | None = None, callbacks: Sequence[Callable[[Any, Message], Any]] | None = None,
        on_decode_error: Callable[[Message, Exception], Any] | None = None,
        on_message: Callable[[Message], Any] | None = None, accept: Iterable[str] | None = None,
        prefetch_count: int | None = None, tag_prefix: str | None = None,
        on_cancel: Callable[[str], Any] | None = None, on_batch: Callable[[MessageBatch], Any] | None = None,
        batch_size: int = DEFAULT_CONSUMER_BATCH,
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
