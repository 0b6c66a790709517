"""Exchanges, queues and the bindings between them (AMQP 0-9-1, sections 3.1.1 to 3.1.3)."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .abstract import MaybeChannelBound, Object
from .exceptions import ContentDisallowed
from .serialization import prepare_accept_content

if TYPE_CHECKING:
    from typing_extensions import TypedDict, Unpack

    from .message import Message

    class ExchangeOptions(TypedDict, total=False):
        """The keywords that :class:`Exchange` takes besides its parameters."""

        arguments: Mapping[str, Any] | None
        durable: bool | None
        passive: bool | None
        auto_delete: bool | None
        delivery_mode: int | str | None
        no_declare: bool | None

    class QueueOptions(TypedDict, total=False):
        """The keywords that :class:`Queue` takes besides its parameters."""

        queue_arguments: Mapping[str, Any] | None
        binding_arguments: Mapping[str, Any] | None
        consumer_arguments: Mapping[str, Any] | None
        durable: bool | None
        exclusive: bool | None
        auto_delete: bool | None
        no_ack: bool | None
        alias: str | None
        no_declare: bool | None
        expires: float | None
        message_ttl: float | None
        max_length: int | None
        max_length_bytes: int | None
        max_priority: int | None

__all__ = ("Exchange", "Queue", "binding", "maybe_delivery_mode")

_QueueT = TypeVar("_QueueT", bound="Queue")

TRANSIENT_DELIVERY_MODE = 1
PERSISTENT_DELIVERY_MODE = 2
DELIVERY_MODES = {"transient": TRANSIENT_DELIVERY_MODE, "persistent": PERSISTENT_DELIVERY_MODE}

#: Exchanges with these prefixes belong to the broker: using them is allowed, declaring them is refused (403).
INTERNAL_EXCHANGE_PREFIX = ("amq.",)


def _reprstr(s: Any) -> str:
    """Return the repr of a string without its quotes."""
    return repr(s)[1:-1]


def pretty_bindings(bindings: Iterable[Any]) -> str:
    """Show *bindings* as one bracketed list."""
    return f"[{', '.join(str(b) for b in bindings)}]"


def maybe_delivery_mode(
    v: Any, modes: Mapping[str, int] | None = None, default: int = PERSISTENT_DELIVERY_MODE,
) -> int:
    """Return delivery mode *v* as a number, whether it is given as one or by name.

    *default* stands in for a mode that is not given.  An unknown name raises :exc:`KeyError`.
    """
    if not v:
        return default
    number: Any = v if isinstance(v, numbers.Integral) else (modes or DELIVERY_MODES)[v]
    return number  # type: ignore[no-any-return]


def _delivery_mode_number(mode: Any) -> Any:
    return DELIVERY_MODES.get(mode) or mode


def _name_of(exchange: Any) -> Any:
    """Return the name that goes on the wire for an exchange given as object or by name."""
    return exchange.name if isinstance(exchange, Exchange) else exchange


class Exchange(MaybeChannelBound):
    """Describe an exchange: where messages are published to.

    Arguments:
        name: Name of the exchange; the empty name is the default exchange, which routes to the queue that is named by
            the routing key.
        type: How messages find their queues: ``"direct"`` (routing key equals the key of the binding), ``"topic"``
            (the binding's key is a pattern of dot-separated words, ``*`` for one word and ``#`` for any number),
            ``"fanout"`` (every bound queue), ``"headers"`` (the binding's arguments are compared with the headers;
            ``x-match`` says whether ``"all"`` or ``"any"`` have to agree), or a type that a broker's plugin adds.
        channel: Channel or connection to bind to at once.
        durable: Survive a restart of the broker (default true).
        auto_delete: Vanish when the last queue is unbound (default false).  Such an exchange is declared anew each
            time it is needed.
        delivery_mode: Default mode of messages sent through it: 1 or ``"transient"``, 2 or ``"persistent"``.
        passive: Only check that it exists.
        arguments: Table of further arguments for ``exchange.declare``.
        no_declare: Never declare it.
    """

    TRANSIENT_DELIVERY_MODE = TRANSIENT_DELIVERY_MODE
    PERSISTENT_DELIVERY_MODE = PERSISTENT_DELIVERY_MODE

    name: str = ""
    type: str = "direct"
    arguments: dict[str, Any] | None
    durable: bool = True
    auto_delete: bool = False
    passive: bool = False
    delivery_mode: int | None = None
    no_declare: bool = False

    attrs: tuple[tuple[str, Any], ...] = (
        ("name", None), ("type", None), ("arguments", None),
        ("durable", bool), ("passive", bool), ("auto_delete", bool),
        ("delivery_mode", _delivery_mode_number), ("no_declare", bool),
    )

    def __init__(
        self, name: str = "", type: str = "", channel: Any = None, **kwargs: Unpack[ExchangeOptions],
    ) -> None:
        super().__init__(**kwargs)
        if name:
            self.name = name
        if type:
            self.type = type
        self.maybe_bind(channel)

    def __hash__(self) -> int:
        return hash(f"E|{self.name}")

    def _can_declare(self) -> bool:
        return bool(self.name) and not self.no_declare and not self.name.startswith(INTERNAL_EXCHANGE_PREFIX)

    def declare(self, nowait: bool = False, passive: bool | None = None, channel: Any = None) -> Any:
        """Create the exchange on the broker, or with *passive* check that it exists.

        Does nothing for the default exchange, for the broker's own ones, and with :attr:`no_declare`.
        With *nowait* no reply is waited for; a refusal then closes the channel later.
        """
        if not self._can_declare():
            return None
        return (channel or self.channel).exchange_declare(
            exchange=self.name,
            type=self.type,
            durable=self.durable,
            auto_delete=self.auto_delete,
            arguments=self.arguments,
            nowait=nowait,
            passive=self.passive if passive is None else passive,
        )

    def bind_to(
        self, exchange: Exchange | str = "", routing_key: str = "", arguments: dict[str, Any] | None = None,
        nowait: bool = False, channel: Any = None, **kwargs: Any,
    ) -> Any:
        """Let messages that reach *exchange* flow on to this one (RabbitMQ's ``exchange.bind``)."""
        return (channel or self.channel).exchange_bind(
            destination=self.name, source=_name_of(exchange), routing_key=routing_key,
            nowait=nowait, arguments=arguments,
        )

    def unbind_from(
        self, source: Exchange | str = "", routing_key: str = "", nowait: bool = False,
        arguments: dict[str, Any] | None = None, channel: Any = None,
    ) -> Any:
        """Take back what :meth:`bind_to` did, with the same key and arguments."""
        return (channel or self.channel).exchange_unbind(
            destination=self.name, source=_name_of(source), routing_key=routing_key,
            nowait=nowait, arguments=arguments,
        )

    def Message(
        self, body: Any, delivery_mode: int | str | None = None, properties: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Make a transport message of *body* that :meth:`publish` takes.

        Keywords go to the channel's ``prepare_message``: ``priority``, ``content_type``, ``content_encoding``,
        ``headers``.  *body* is not serialized; text is said to be UTF-8.
        """
        mode = maybe_delivery_mode(delivery_mode or self.delivery_mode)
        if isinstance(body, str) and (properties or {}).get("content_encoding") is None:
            kwargs["content_encoding"] = "utf-8"
        return self.channel.prepare_message(body, properties={**(properties or {}), "delivery_mode": mode}, **kwargs)

    def publish(
        self, message: Any, routing_key: str | None = None, mandatory: bool = False, immediate: bool = False,
        exchange: str | None = None,
    ) -> Any:
        """Publish *message*, a transport message or text, here or to the exchange named."""
        if isinstance(message, str):
            message = self.Message(message)
        return self.channel.basic_publish(
            message, exchange=exchange or self.name, routing_key=routing_key,
            mandatory=mandatory, immediate=immediate,
        )

    def delete(self, if_unused: bool = False, nowait: bool = False) -> Any:
        """Delete the exchange on the broker; with *if_unused* only while nothing is bound to it."""
        return self.channel.exchange_delete(exchange=self.name, if_unused=if_unused, nowait=nowait)

    def binding(
        self, routing_key: str = "", arguments: dict[str, Any] | None = None,
        unbind_arguments: dict[str, Any] | None = None,
    ) -> binding:
        """Return a :class:`binding` to this exchange."""
        return binding(self, routing_key, arguments, unbind_arguments)

    def _identity(self) -> tuple[Any, ...]:
        return (self.name, self.type, self.arguments, self.durable, self.auto_delete, self.delivery_mode)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Exchange):
            return NotImplemented
        return self is other or self._identity() == other._identity()

    def __repr__(self) -> str:
        return self._repr_entity(self)

    def __str__(self) -> str:
        shown = _reprstr(self.name) or "''"
        return f"Exchange {shown}({self.type})"

    @property
    def can_cache_declaration(self) -> bool:
        """Whether the exchange stays declared; one that deletes itself may be gone by the next publish."""
        return not self.auto_delete


class binding(Object):
    """Describe how a queue or an exchange is tied to an exchange.

    Arguments:
        exchange: Where messages come from.
        routing_key: The binding's key.
        arguments: Table of arguments for the bind operation (what a headers exchange compares).
        unbind_arguments: The same for the unbind operation.
    """

    exchange: Any
    routing_key: Any
    arguments: dict[str, Any] | None
    unbind_arguments: dict[str, Any] | None

    attrs = (("exchange", None), ("routing_key", None), ("arguments", None), ("unbind_arguments", None))

    def __init__(
        self, exchange: Exchange | None = None, routing_key: str = "", arguments: dict[str, Any] | None = None,
        unbind_arguments: dict[str, Any] | None = None,
    ) -> None:
        self.exchange, self.routing_key = exchange, routing_key
        self.arguments, self.unbind_arguments = arguments, unbind_arguments

    def declare(self, channel: Any, nowait: bool = False) -> None:
        """Declare the exchange, unless it is the default one."""
        exchange = self.exchange
        if exchange and exchange.name:
            exchange.declare(channel=channel, nowait=nowait)

    def bind(self, entity: Queue | Exchange, nowait: bool = False, channel: Any = None) -> None:
        """Tie *entity* to the exchange."""
        entity.bind_to(
            exchange=self.exchange, routing_key=self.routing_key, arguments=self.arguments,
            nowait=nowait, channel=channel,
        )

    def unbind(self, entity: Queue | Exchange, nowait: bool = False, channel: Any = None) -> None:
        """Untie *entity* from the exchange."""
        entity.unbind_from(
            self.exchange, routing_key=self.routing_key, arguments=self.unbind_arguments,
            nowait=nowait, channel=channel,
        )

    def __repr__(self) -> str:
        return f"<binding: {self}>"

    def __str__(self) -> str:
        return f"{_reprstr(self.exchange.name)}->{_reprstr(self.routing_key)}"


class Queue(MaybeChannelBound):
    """Describe a queue and how messages get into it.

    Arguments:
        name: Name of the queue; without one the broker picks a name when the queue is declared.
        exchange: The :class:`Exchange` (or its name) that the queue is bound to, or a list of :class:`binding`.
        routing_key: Key of the binding; what it means depends on the exchange's type.
        channel: Channel or connection to bind to at once.
        bindings: Bindings to several exchanges; they take the place of *exchange* and *routing_key*.
        on_declared: Called with ``(name, messages, consumers)`` after each declaration.

    Keywords:
        durable: Survive a restart of the broker (default true); whether its messages do is up to their delivery mode.
        exclusive: Only this connection may use it; implies *auto_delete*.
        auto_delete: Vanish when the last of its consumers is gone (one that never had a consumer stays).
        no_ack: Consumers of this queue do not acknowledge.
        no_declare: Never declare the queue nor what belongs to it.
        alias: Free for applications, for instance a fixed name for a queue that the broker named.
        queue_arguments, binding_arguments, consumer_arguments: Tables for ``queue.declare``, ``queue.bind`` and
            ``basic.consume``.
        expires: Seconds without use after which the broker deletes the queue (RabbitMQ, Redis).
        message_ttl: Seconds that a message may wait (RabbitMQ).
        max_length, max_length_bytes: Most messages, or bytes of bodies, that may wait (RabbitMQ).
        max_priority: Highest priority that the queue tells apart, 0 to 255 (RabbitMQ).
    """

    ContentDisallowed = ContentDisallowed

    name: str = ""
    exchange: Any = Exchange("")
    routing_key: str = ""

    queue_arguments: dict[str, Any] | None
    binding_arguments: dict[str, Any] | None
    consumer_arguments: dict[str, Any] | None

    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    no_ack: bool = False

    alias: str | None
    bindings: Any
    no_declare: bool | None
    expires: float | None
    message_ttl: float | None
    max_length: int | None
    max_length_bytes: int | None
    max_priority: int | None

    attrs: tuple[tuple[str, Any], ...] = (
        ("name", None), ("exchange", None), ("routing_key", None),
        ("queue_arguments", None), ("binding_arguments", None), ("consumer_arguments", None),
        ("durable", bool), ("exclusive", bool), ("auto_delete", bool), ("no_ack", None),
        ("alias", None), ("bindings", list), ("no_declare", bool),
        ("expires", float), ("message_ttl", float),
        ("max_length", int), ("max_length_bytes", int), ("max_priority", int),
    )

    def __init__(
        self, name: str = "",
        exchange: Exchange | str | list[binding] | tuple[binding, ...] | set[binding] | None = None,
        routing_key: str = "", channel: Any = None, bindings: Iterable[binding] | None = None,
        on_declared: Callable[[str, int, int], Any] | None = None, **kwargs: Unpack[QueueOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.name = name or self.name
        self.routing_key = routing_key or self.routing_key
        self.bindings = set(bindings or ())
        self.on_declared = on_declared
        if isinstance(exchange, str):
            self.exchange = Exchange(exchange)
        elif isinstance(exchange, Exchange):
            self.exchange = exchange
        elif isinstance(exchange, (list, tuple, set)):  # Queue("name", [binding(...), binding(...)])
            self.bindings.update(exchange)
        if self.bindings:
            self.exchange = None
        if self.exclusive:
            self.auto_delete = True
        self.maybe_bind(channel)

    def bind(self: _QueueT, channel: Any) -> _QueueT:
        """Return a copy that is bound to *channel* and keeps :attr:`on_declared`, which no other copy does."""
        bound = super().bind(channel)
        bound.on_declared = self.on_declared
        return bound

    def __hash__(self) -> int:
        return hash(f"Q|{self.name}")

    def when_bound(self) -> None:
        """Bind the exchange to the same channel."""
        if self.exchange:
            self.exchange = self.exchange(self.channel)

    def declare(self, nowait: bool = False, channel: Any = None) -> str:
        """Declare the exchange and the queue, then bind one to the other; return the queue's name."""
        if not self.no_declare:
            self._create_exchange(nowait=nowait, channel=channel)
            self._create_queue(nowait=nowait, channel=channel)
            self._create_bindings(nowait=nowait, channel=channel)
        return self.name

    def _create_exchange(self, nowait: bool = False, channel: Any = None) -> None:
        exchange = self.exchange
        if exchange:
            exchange.declare(nowait=nowait, channel=channel)

    def _create_queue(self, nowait: bool = False, channel: Any = None) -> None:
        self.queue_declare(nowait=nowait, passive=False, channel=channel)
        if self.exchange and self.exchange.name:
            self.queue_bind(nowait=nowait, channel=channel)

    def _create_bindings(self, nowait: bool = False, channel: Any = None) -> None:
        if self.bindings:
            channel = channel or self.channel
            for each in self.bindings:
                each.declare(channel)
                each.bind(self, nowait=nowait, channel=channel)

    def queue_declare(self, nowait: bool = False, passive: bool = False, channel: Any = None) -> Any:
        """Declare the queue alone and return ``(name, messages, consumers)``.

        With *passive* the broker only looks whether it exists.  A queue without a name takes the one that the broker
        gave it.  With *nowait* there is no answer to wait for, so a name is needed and :attr:`on_declared` cannot be
        told the counts.
        """
        channel = channel or self.channel
        limits = {
            limit: getattr(self, limit)
            for limit in ("expires", "message_ttl", "max_length", "max_length_bytes", "max_priority")
        }
        declared = channel.queue_declare(
            queue=self.name,
            passive=passive,
            durable=self.durable,
            exclusive=self.exclusive,
            auto_delete=self.auto_delete,
            arguments=channel.prepare_queue_arguments(self.queue_arguments or {}, **limits),
            nowait=nowait,
        )
        if not self.name:
            self.name = declared[0]
        if self.on_declared:
            self.on_declared(*declared)
        return declared

    def queue_bind(self, nowait: bool = False, channel: Any = None) -> Any:
        """Bind the queue to its own exchange with its own key and arguments."""
        return self.bind_to(self.exchange, self.routing_key, self.binding_arguments, channel=channel, nowait=nowait)

    def bind_to(
        self, exchange: Exchange | str = "", routing_key: str = "", arguments: dict[str, Any] | None = None,
        nowait: bool = False, channel: Any = None,
    ) -> Any:
        """Bind the queue to *exchange*, given as object or by name."""
        return (channel or self.channel).queue_bind(
            queue=self.name, exchange=_name_of(exchange), routing_key=routing_key,
            arguments=arguments, nowait=nowait,
        )

    def get(self, no_ack: bool | None = None, accept: Iterable[str] | None = None) -> Message | None:
        """Fetch one message (``basic.get``), or return :const:`None` when the queue is empty.

        A round trip a message: a :class:`~kombu.Consumer` is the faster way.  *accept* are the content types (or
        names of serializers) that the message may be decoded from.  A message that cannot be decompressed raises
        the error that says why.
        """
        channel = self.channel
        message: Any = channel.basic_get(queue=self.name, no_ack=self.no_ack if no_ack is None else no_ack)
        if message is None:
            return None
        to_python = getattr(channel, "message_to_python", None)
        if to_python:
            message = to_python(message)
        if message.errors:
            message._reraise_error()
        message.accept = prepare_accept_content(accept)
        return message  # type: ignore[no-any-return]

    def purge(self, nowait: bool = False) -> int:
        """Delete all messages that wait in the queue and return how many those were (0 with *nowait*)."""
        return self.channel.queue_purge(queue=self.name, nowait=nowait) or 0

    def consume(
        self, consumer_tag: str = "", callback: Callable[[Message], Any] | None = None, no_ack: bool | None = None,
        nowait: bool = False, on_cancel: Callable[[str], Any] | None = None,
    ) -> Any:
        """Start a consumer on this queue; it lasts until it is cancelled or its channel closes.

        Arguments:
            consumer_tag: Name of the consumer, unique on its channel; without one the broker picks it.
            callback: Called with each message.
            no_ack: The broker forgets messages as it sends them (default: :attr:`no_ack`).
            nowait: Do not wait for the broker's answer.
            on_cancel: Called with the consumer tag when the broker ends the consumer, for instance because the queue
                was deleted.
        """
        return self.channel.basic_consume(
            queue=self.name,
            no_ack=self.no_ack if no_ack is None else no_ack,
            consumer_tag=consumer_tag or "",
            callback=callback,
            nowait=nowait,
            arguments=self.consumer_arguments,
            on_cancel=on_cancel,
        )

    def cancel(self, consumer_tag: str) -> Any:
        """End the consumer with this tag."""
        return self.channel.basic_cancel(consumer_tag)

    def delete(self, if_unused: bool = False, if_empty: bool = False, nowait: bool = False) -> Any:
        """Delete the queue on the broker.

        With *if_unused* or *if_empty* a queue that has consumers or messages is kept, and a channel error is raised.
        """
        return self.channel.queue_delete(queue=self.name, if_unused=if_unused, if_empty=if_empty, nowait=nowait)

    def queue_unbind(self, arguments: dict[str, Any] | None = None, nowait: bool = False, channel: Any = None) -> Any:
        """Take back what :meth:`queue_bind` did."""
        return self.unbind_from(self.exchange, self.routing_key, arguments, nowait, channel)

    def unbind_from(
        self, exchange: Exchange | str = "", routing_key: str = "", arguments: dict[str, Any] | None = None,
        nowait: bool = False, channel: Any = None,
    ) -> Any:
        """Delete one binding between *exchange*, given as object or by name, and this queue."""
        return (channel or self.channel).queue_unbind(
            queue=self.name, exchange=_name_of(exchange), routing_key=routing_key,
            arguments=arguments, nowait=nowait,
        )

    def _identity(self) -> tuple[Any, ...]:
        return (
            self.name, self.exchange, self.routing_key,
            self.queue_arguments, self.binding_arguments, self.consumer_arguments,
            self.durable, self.exclusive, self.auto_delete,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Queue):
            return NotImplemented
        return self is other or self._identity() == other._identity()

    def __repr__(self) -> str:
        if self.bindings:
            target = pretty_bindings(self.bindings)
        else:
            target = f"{self.exchange!r} -> {_reprstr(self.routing_key)}"
        return self._repr_entity(f"Queue {_reprstr(self.name)} -> {target}")

    @property
    def can_cache_declaration(self) -> bool:
        """Whether the queue stays declared: one that expires or deletes itself may be gone by the next use."""
        return not self.auto_delete and "x-expires" not in (self.queue_arguments or ())

    #: What :meth:`from_dict` reads under names of its own; every other attribute is passed on as it is.
    _from_dict_explicit_attrs = frozenset({"name", "exchange", "routing_key", "durable", "auto_delete"})

    @classmethod
    def from_dict(cls, queue: str, **options: Any) -> Queue:
        """Make a queue and its exchange of flat options.

        ``exchange_durable``, ``queue_durable``, ``exchange_auto_delete``, ``queue_auto_delete`` fall back on
        ``durable`` and ``auto_delete``, ``binding_key`` on ``routing_key``; ``exchange``, ``exchange_type``,
        ``exchange_arguments`` and ``delivery_mode`` describe the exchange, and all else that is in :attr:`attrs`
        the queue.
        """
        def of(kind: str, option: str) -> Any:
            value = options.get(f"{kind}_{option}")
            return options.get(option) if value is None else value

        exchange = Exchange(
            options.get("exchange") or "",
            options.get("exchange_type") or "",
            durable=of("exchange", "durable"),
            auto_delete=of("exchange", "auto_delete"),
            delivery_mode=options.get("delivery_mode"),
            arguments=options.get("exchange_arguments"),
        )
        rest = {
            name: options[name]
            for name, _ in cls.attrs
            if name in options and name not in cls._from_dict_explicit_attrs
        }
        return Queue(
            queue,
            exchange,
            options.get("binding_key") or options.get("routing_key") or "",
            durable=of("queue", "durable"),
            auto_delete=of("queue", "auto_delete"),
            **rest,
        )

    def as_dict(self, recurse: bool = False) -> dict[str, Any]:
        """Return the queue's attributes; with *recurse* those of its exchange and bindings as dicts too."""
        res = super().as_dict(recurse)
        if recurse and res.get("bindings"):
            res["bindings"] = [each.as_dict(recurse=True) for each in res["bindings"]]
        return res
