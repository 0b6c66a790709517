"""What an emulated broker does with each message: how it is laid out in a queue, and delivered.

The classes here are bases of those that :mod:`kombu.transport.virtual` has for transports of third parties. Whatever
such a transport may replace is called by its name, on the channel, each time.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from typing import Any

from kombu._pure.message import Message as _Message

__all__ = ("Base64", "Delivery", "Message", "MessageChannel", "MessageConnection")


class Base64:
    """Write bytes as ASCII text, for brokers whose messages are text."""

    __module__ = "kombu.transport.virtual.message"

    def encode(self, s: Any) -> str:
        """Return *s* (text as UTF-8) in base64."""
        return b2a_base64(s.encode() if isinstance(s, str) else s, newline=False).decode("ascii")

    def decode(self, s: Any) -> bytes:
        """Return the bytes that *s* is the base64 of.

        Raises:
            binascii.Error: It is no base64.
        """
        return a2b_base64(s.encode() if isinstance(s, str) else s)


class Message(_Message):
    """A message that came from an emulated broker.

    *payload* is the message as it stands in the queue: a dict of ``body``, ``properties``, ``headers``,
    ``content-type`` and ``content-encoding``, as :meth:`Channel.prepare_message` lays them out.  *channel* is the one
    that received it; its codecs decode the body.
    """

    __module__ = "kombu.transport.virtual.message"

    #: The queue that it came out of, where the broker is in memory.
    _queue: str | None = None

    def __init__(self, payload: dict[str, Any], channel: Any = None, **kwargs: Any) -> None:
        self._raw = payload
        get = payload.get
        properties = payload["properties"]
        body = get("body")
        super().__init__(
            body=channel.decode_body(body, properties.get("body_encoding")) if body else body,
            delivery_tag=properties["delivery_tag"],
            delivery_info=properties.get("delivery_info"),
            properties=properties,
            headers=get("headers"),
            content_type=get("content-type"),
            content_encoding=get("content-encoding"),
            channel=channel,
            postencode="utf-8",
            **kwargs,
        )

    def serializable(self) -> dict[str, Any]:
        """Return the message in the layout of its payload, to be put into a queue again or saved.

        The body has been decompressed when the message was received, so the header that names the compression is
        left out.
        """
        properties = self.properties
        body, _ = self.channel.encode_body(self.body, properties.get("body_encoding"))
        headers = {name: value for name, value in self.headers.items() if name != "compression"}
        return {
            "headers": headers,
            "properties": properties,
            "body": body,
            "content-encoding": self.content_encoding,
            "content-type": self.content_type,
        }


class Delivery:
    """What a transport calls with each message of a queue: makes it a :class:`Message` for the consumer."""

    __slots__ = ("channel", "queue", "no_ack", "callback")

    def __init__(self, channel: Any, queue: str, no_ack: bool, callback: Callable[[Any], Any]) -> None:
        self.channel = channel
        self.queue = queue
        self.no_ack = no_ack
        self.callback = callback

    def __call__(self, raw_message: Any) -> Any:
        """Deliver what came out of the queue."""
        return self.callback(self.channel._take_delivery(raw_message, self.queue, self.no_ack))


class MessageChannel:
    """The part of a channel that lays out messages for the queues of its broker, publishes and receives them.

    What it needs of the rest of the channel: ``_put()``, ``typeof()``, ``closed`` and ``_check_open()``.
    """

    #: Class of the messages.
    Message: Any = Message

    #: Class that keeps the unacknowledged ones.
    QoS: Any = None

    closed: bool

    #: Name -> codec of message bodies.
    codecs: dict[str, Any] = {"base64": Base64()}

    #: Name of the codec to write bodies with; ``transport_options["body_encoding"]`` overrides it.
    body_encoding: str | None = "base64"

    #: Priority of a message that has none, and the bounds of priorities.
    default_priority: int = 0
    min_priority: int = 0
    max_priority: int = 9

    _qos: Any = None

    # -- the layout ----------------------------------------------------------------------------------------------

    def prepare_message(
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Lay out a message as :meth:`basic_publish` takes it; the caller's dicts are not changed by that."""
        properties = dict(properties) if properties else {}
        properties["delivery_info"] = dict(properties.get("delivery_info") or ())
        properties.setdefault("priority", priority or self.default_priority)
        return {
            "body": body,
            "headers": dict(headers) if headers else {},
            "properties": properties,
            "content-type": content_type,
            "content-encoding": content_encoding,
        }

    def encode_body(self, body: Any, encoding: str | None = None) -> tuple[Any, str | None]:
        """Return *body* written by the codec *encoding*, and the name of the codec."""
        if encoding and encoding.lower() != "utf-8":
            body = self._body_codec(encoding).encode(body)
        return body, encoding

    def decode_body(self, body: Any, encoding: str | None = None) -> Any:
        """Return the body that the codec *encoding* has written."""
        if encoding and encoding.lower() != "utf-8":
            return self._body_codec(encoding).decode(body)
        return body

    def _body_codec(self, name: str) -> Any:
        try:
            return self.codecs[name]
        except KeyError:
            known = ", ".join(sorted(self.codecs))
            raise ValueError(f"no codec for message bodies is called {name!r}; there are: utf-8, {known}") from None

    def _get_message_priority(self, message: dict[str, Any], reverse: bool = False) -> int:
        """Return the priority of *message*, brought into bounds; higher is sooner, with *reverse* lower is."""
        highest = self.max_priority
        try:
            wanted = int(message["properties"]["priority"])
        except (KeyError, TypeError, ValueError):
            priority = self.default_priority
        else:
            priority = max(self.min_priority, min(wanted, highest))
        return highest - priority if reverse else priority

    # -- publishing ----------------------------------------------------------------------------------------------

    def basic_publish(self, message: dict[str, Any], exchange: str | None, routing_key: str, **kwargs: Any) -> Any:
        """Publish a message made by :meth:`prepare_message`, which is changed by it.

        An empty *exchange* is the default exchange: *routing_key* names the queue.

        Raises:
            amqp.RecoverableConnectionError: The channel is closed.
        """
        if self.closed:
            self._check_open("publish a message")
        self._inplace_augment_message(message, exchange, routing_key)
        if not exchange:
            return self._put(routing_key, message, **kwargs)  # type: ignore[attr-defined]
        return self.typeof(exchange).deliver(message, exchange, routing_key, **kwargs)  # type: ignore[attr-defined]

    def _inplace_augment_message(self, message: dict[str, Any], exchange: str | None, routing_key: str) -> None:
        """Encode the body of *message* and note where it goes."""
        message["body"], encoding = self.encode_body(message["body"], self.body_encoding)
        properties = message["properties"]
        properties["body_encoding"] = encoding
        properties["delivery_tag"] = self._next_delivery_tag()
        info = properties["delivery_info"]
        info["exchange"] = exchange
        info["routing_key"] = routing_key

    def _next_delivery_tag(self) -> Any:
        raise NotImplementedError("a channel has to make delivery tags")

    # -- receiving -----------------------------------------------------------------------------------------------

    @property
    def qos(self) -> Any:
        """The :class:`QoS` of the channel, made when first used."""
        if self._qos is None:
            self._qos = self.QoS(self)
        return self._qos

    def _take_delivery(self, raw_message: Any, queue: str, no_ack: bool) -> Any:
        """Make a message of what came out of *queue*."""
        message = self.Message(raw_message, channel=self)
        if not no_ack:
            self.qos.append(message, message.delivery_tag)
        return message

    def message_to_python(self, raw_message: Any) -> Any:
        """Return *raw_message* as a :class:`Message`."""
        if isinstance(raw_message, self.Message):
            return raw_message
        return self.Message(payload=raw_message, channel=self)

    def basic_ack(self, delivery_tag: Any, multiple: bool = False) -> None:
        """Acknowledge a message.

        Raises:
            amqp.RecoverableConnectionError: The channel is closed; the message has left it.
        """
        if self.closed:
            self._check_open("acknowledge delivery tag {!r}", delivery_tag)
        self.qos.ack(delivery_tag)


class MessageConnection:
    """The part of a connection that hands messages to their consumers."""

    #: Name of a queue -> what to call with its messages.
    _callbacks: Any = None

    def _deliver(self, message: Any, queue: str) -> None:
        """Hand a message that came out of *queue* to the consumer of it."""
        callback = self._callbacks.get(queue) if queue else None
        if callback is None:
            self._refuse(message, queue)  # type: ignore[attr-defined]
        else:
            callback(message)
