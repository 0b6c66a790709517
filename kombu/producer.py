"""The producer: what becomes of a body before a channel publishes it, and when that is tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from ._core import planning, shared
from ._lazy import amqp_errors
from .batch import DEFAULT_BATCH_SIZE, CurrentBatch
from .batch import ProducerBatch as _ProducerBatch
from .channels import is_connection
from .common import maybe_declare
from .compression import compress
from .entity import Exchange, Queue, maybe_delivery_mode
from .exceptions import ConfirmError, OperationalError
from .serialization import dumps, registry
from .utils.functional import ChannelPromise

if TYPE_CHECKING:
    from .abstract import MaybeChannelBound
    from .connection import Connection

__all__ = ("Producer",)

UNPLANNED = planning.UNPLANNED


class Producer(planning.Planned):
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

    # Where it is imported from, and what pickles call it.
    __module__ = "kombu.messaging"

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

    #: Whether it has ever been in a batch: to see whether it is in one costs each publish a look at the thread's.
    batched: bool = False

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

    @planning.quicken
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
            plans is not None and headers is None and declare is None and expiration is None and compression is None
            and not (properties or retry or confirm_callback)
        ):
            # Most publishes come this way; those of the compiled core mostly before this function is entered.
            result = plans.publish(
                self, body, routing_key, delivery_mode, mandatory, immediate, priority, content_type, content_encoding,
                serializer, exchange, timeout, confirm_timeout,
            )
            if result is not UNPLANNED:
                return result
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
        if plans is None or not plans.fits(self):
            self._begin_planning()
        return result

    def _begin_planning(self) -> None:
        """Have further publishes on this channel planned, if it can do that and nobody has put in something else."""
        channel, exchange = self._channel, self.exchange
        self._plans = None
        if (
            type(self)._prepare is _METHODS["_prepare"] and "_prepare" not in self.__dict__
            and getattr(channel, "plans_publishes", False) is True and channel.connection is not None
        ):
            declares = bool(self.auto_declare and exchange.name)
            self._plans = plans = planning.Plans(channel, exchange, declares, _METHODS, dumps, registry.settings)
            for window in plans.windows:
                self._note_window(window)

    def _plan(self, key: tuple[Any, ...]) -> Any:
        """Plan the publishes that *key*, one of ``Plans.known``, says all of but the body, and return the plan."""
        routing_key, exchange, delivery_mode, mandatory, immediate, priority, content_type, content_encoding = key
        name, mode = self._delivery_details(exchange or self.exchange, delivery_mode)
        return self._channel.plan_publish(
            priority, content_type, content_encoding, {"delivery_mode": mode}, name, routing_key, mandatory, immediate,
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
            if shared.rejoin(self, channel):
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

    def _replaced_after(self, exc: BaseException) -> bool:
        connection = self.__connection__
        pool = None if connection is None else connection._pool
        if pool is not None and _is_connection_error(exc, connection):
            pool.replace(connection)
        # The producer itself goes back, and gets another connection.
        return False

    close = planning.Planned.release

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
            raise amqp_errors.RecoverableConnectionError(
                f"cannot publish with retry=True: {self!r} has no open channel and none that it had is known; "
                "give the producer a channel or a connection",
            )
        return connection


#: The methods that planned publishes pass by.
_METHODS = {"_publish": Producer._publish, "_prepare": Producer._prepare}


def _is_connection_error(exc: BaseException, connection: Any) -> bool:
    """Tell whether *exc* means that *connection* is broken, and not that the application or a channel is."""
    if isinstance(exc, OperationalError) and exc.__cause__ is not None:
        exc = exc.__cause__  # ensure() wraps what it could not retry any more
    return isinstance(exc, connection.connection_errors)
