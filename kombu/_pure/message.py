"""The message that a consumer gets.

One made by :meth:`Message.from_delivery` keeps what came over the wire and decodes it piece by piece as it is asked
for: most consumers never look at most of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from sys import exc_info
from typing import TYPE_CHECKING, Any, TypeVar

from kombu._pure.decoding import decode_properties
from kombu.exceptions import MessageStateError, reraise

if TYPE_CHECKING:
    import logging

__all__ = ("Message", "configure")

_MessageT = TypeVar("_MessageT", bound="Message")
#: What sys.exc_info() returns.
_ErrorInfo = tuple[Any, Any, Any]

#: The states of a message that has been settled.
_SETTLED = frozenset(("ACK", "REJECTED", "REQUEUED"))

#: Content encodings that say that the body is bytes; looking for a codec of that name would be slow and vain.
_NOT_A_CODEC = frozenset(("binary", "ascii-8bit", ""))

#: What a pickled message consists of besides its extra attributes and ``errors``; kombu 5.7 reads and writes the same.
_STATE_FIELDS = (
    "_state",
    "channel",
    "delivery_tag",
    "content_type",
    "content_encoding",
    "delivery_info",
    "headers",
    "properties",
    "body",
    "_decoded_cache",
    "accept",
)


def _not_configured(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("the message core has no serializers yet: import kombu.message first")


_loads: Callable[..., Any] = _not_configured
_decompress: Callable[..., Any] = _not_configured


def configure(
    loads: Callable[..., Any],
    decompress: Callable[..., Any],
    decoders: dict[str, Callable[[Any], Any]] | None = None,
    disabled: Collection[str] = frozenset(),
    trusted: Collection[str] = frozenset(),
) -> None:
    """Set the functions that messages are deserialized and decompressed with.

    *loads* is called as ``loads(body, content_type, content_encoding, accept=accept)``, *decompress* as
    ``decompress(body, compression)``.  The core imports neither: they stand above it.

    *decoders* (by content type), and the content types that are *disabled* or *trusted*, are the live tables that
    *loads* goes by, for the compiled core to take the same decision without calling it.
    """
    global _loads, _decompress
    _loads, _decompress = loads, decompress


class Message:
    """A received message: body, properties, where it came from, and whether it has been settled.

    *properties* are those of class basic, *headers* their ``application_headers``; *delivery_info* says by which
    consumer, exchange and routing key the message came.  A ``compression`` header has *body* decompressed, a
    *postencode* has a str *body* encoded; where that fails, ``errors`` holds the :func:`sys.exc_info` of it.
    *accept* is the set of content types that :meth:`decode` may deserialize (None: whatever is enabled).
    Other keyword arguments are ignored.
    """

    __slots__ = (
        "_body",
        "_compression",
        "_content_encoding",
        "_content_type",
        "_decoded",
        "_delivery_info",
        "_errors",
        "_headers",
        "_payload",
        "_properties",
        "_raw_body",
        "_raw_properties",
        "_route",
        "_state",
        "__dict__",
        "__weakref__",
        "accept",
        "channel",
        "delivery_tag",
    )

    _body: Any
    _compression: Any
    _content_encoding: str | None
    _content_type: str | None
    _decoded: bool
    _delivery_info: dict[str, Any] | None
    _errors: list[_ErrorInfo] | None
    _headers: dict[str, Any]
    _payload: Any
    _properties: dict[str, Any]
    #: What came over the wire, as long as it has not been decoded.
    _raw_body: bytes | None
    _raw_properties: bytes | None
    #: What delivery_info will be made of: consumer tag, redelivered, exchange, routing key, message count.
    _route: tuple[str | None, bool, str, str, int | None] | None
    _state: str
    accept: Any
    channel: Any
    delivery_tag: Any

    MessageStateError = MessageStateError

    # Pickles, and whoever reads a traceback, shall find the class where it is public.
    __module__ = "kombu.message"

    def __init__(
        self,
        body: Any = None,
        delivery_tag: Any = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        delivery_info: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
        headers: dict[str, Any] | None = None,
        postencode: str | None = None,
        accept: Any = None,
        channel: Any = None,
        **kwargs: Any,
    ) -> None:
        # A subclass may have noted errors before it calls this; they are kept, and the body is left as it is.
        noted: list[_ErrorInfo] | None = getattr(self, "_errors", None)
        errors = [] if noted is None else noted
        self._raw_body = self._raw_properties = self._route = None
        self._errors = errors
        self.channel = channel
        self.delivery_tag = delivery_tag
        self._content_type = content_type
        self._content_encoding = content_encoding
        self._delivery_info = delivery_info or {}
        self._headers = headers or {}
        self._properties = properties or {}
        self._payload = None
        self._decoded = False
        self._state = "RECEIVED"
        self.accept = accept
        self._compression = self._headers.get("compression")
        if self._compression and not errors:
            body = _decompressed(body, self._compression, errors)
        if postencode and not errors and isinstance(body, str):
            try:
                body = body.encode(postencode)
            except Exception:
                errors.append(exc_info())
        self._body = body

    @classmethod
    def from_delivery(
        cls: type[_MessageT],
        channel: Any,
        consumer_tag: str | None,
        delivery_tag: int,
        redelivered: bool,
        exchange: str,
        routing_key: str,
        raw_properties: bytes,
        body: bytes,
        message_count: int | None = None,
    ) -> _MessageT:
        """Make a message of what basic.deliver, or with a *consumer_tag* of None basic.get-ok, brought.

        *raw_properties* are the property flags and list of the content header, which
        :func:`~kombu._core.frames.check_properties` must have accepted; they and *body* are decoded on first use.
        ``__init__`` is not called.
        """
        self = cls.__new__(cls)
        self.channel = channel
        self.delivery_tag = delivery_tag
        self._route = (consumer_tag, redelivered, exchange, routing_key, message_count)
        self._raw_properties = raw_properties
        self._raw_body = body
        self._delivery_info = None
        self._errors = None
        self._payload = self.accept = None
        self._decoded = False
        self._state = "RECEIVED"
        return self

    # -- what came over the wire ---------------------------------------------------------------------------------
    # Results are stored before the raw bytes are dropped, so that threads which race here do the work twice at worst.

    def _settle_properties(self) -> None:
        """Decode the properties, if that is still to be done."""
        raw = self._raw_properties
        if raw is None:
            return
        properties = decode_properties(raw)
        headers = properties.get("application_headers") or {}
        self._content_type = properties.get("content_type")
        self._content_encoding = properties.get("content_encoding")
        # The dicts are the caller's to change, the body depends on what was received.
        self._compression = headers.get("compression")
        self._headers = headers
        self._properties = properties
        self._raw_properties = None

    def _settle_body(self) -> None:
        """Turn the body into what the user gets, if that is still to be done."""
        raw = self._raw_body
        if raw is None:
            return
        self._settle_properties()
        errors: list[_ErrorInfo] = []
        body = None
        if self._compression:
            body = _decompressed(raw, self._compression, errors)
        if not self._compression or errors:
            body = _text_where_encoded(raw, self._content_encoding)
        self._body = body
        if self._errors is None:
            self._errors = errors
        self._raw_body = None

    @property
    def body(self) -> Any:
        """The body: decompressed, and a str where its content encoding is a codec that it can be decoded with."""
        self._settle_body()
        return self._body

    @body.setter
    def body(self, value: Any) -> None:
        self._settle_body()
        self._body = value

    @property
    def errors(self) -> list[_ErrorInfo]:
        """The :func:`sys.exc_info` of what went wrong while the body was decompressed or encoded."""
        self._settle_properties()
        if self._compression:
            self._settle_body()
        errors = self._errors
        if errors is None:
            self._errors = errors = []
        return errors

    @errors.setter
    def errors(self, value: list[_ErrorInfo] | None) -> None:
        self._errors = value

    @property
    def content_type(self) -> str | None:
        """The MIME type of the body, by which it is deserialized."""
        self._settle_properties()
        return self._content_type

    @content_type.setter
    def content_type(self, value: str | None) -> None:
        self._settle_properties()
        self._content_type = value

    @property
    def content_encoding(self) -> str | None:
        """The name of the codec that the body is text by, or ``"binary"``."""
        self._settle_properties()
        return self._content_encoding

    @content_encoding.setter
    def content_encoding(self, value: str | None) -> None:
        # What has been received is text by the encoding it came with.
        self._settle_body()
        self._content_encoding = value

    @property
    def headers(self) -> dict[str, Any]:
        """The application's headers."""
        self._settle_properties()
        return self._headers

    @headers.setter
    def headers(self, value: dict[str, Any]) -> None:
        self._settle_properties()
        self._headers = value

    @property
    def properties(self) -> dict[str, Any]:
        """The properties of class basic that are present, by name."""
        self._settle_properties()
        return self._properties

    @properties.setter
    def properties(self, value: dict[str, Any]) -> None:
        self._settle_properties()
        self._properties = value

    @property
    def delivery_info(self) -> dict[str, Any]:
        """Where the message came from: exchange, routing key, delivery tag, consumer tag, and so on."""
        info = self._delivery_info
        if info is None:
            assert self._route is not None
            consumer_tag, redelivered, exchange, routing_key, message_count = self._route
            info = {} if consumer_tag is None else {"consumer_tag": consumer_tag}
            info["delivery_tag"] = self.delivery_tag
            info["redelivered"] = redelivered
            info["exchange"] = exchange
            info["routing_key"] = routing_key
            if consumer_tag is None:
                info["message_count"] = message_count
            self._delivery_info = info
        return info

    @delivery_info.setter
    def delivery_info(self, value: dict[str, Any]) -> None:
        self._delivery_info = value

    # -- deserializing -------------------------------------------------------------------------------------------

    def decode(self) -> Any:
        """Return the body deserialized, which is done once.

        Raises :exc:`~kombu.exceptions.DecodeError`, or :exc:`~kombu.exceptions.ContentDisallowed` for a content
        type that is not accepted.
        """
        if not self._decoded:
            self._payload = self._decode()
            self._decoded = True
        return self._payload

    def _decode(self) -> Any:
        """Deserialize the body anew."""
        return _loads(self.body, self.content_type, self.content_encoding, accept=self.accept)

    @property
    def payload(self) -> Any:
        """The deserialized body."""
        return self._payload if self._decoded else self.decode()

    @property
    def _decoded_cache(self) -> Any:
        """The deserialized body, None before there is one."""
        return self._payload

    @_decoded_cache.setter
    def _decoded_cache(self, value: Any) -> None:
        self._payload = value
        self._decoded = value is not None

    def _reraise_error(self, callback: Callable[[Message, Exception], Any] | None = None) -> None:
        """Raise the first of the errors, or give the message and it to *callback*."""
        try:
            reraise(*self.errors[0])
        except Exception as error:
            if callback is None:
                raise
            callback(self, error)

    # -- settling ------------------------------------------------------------------------------------------------

    def ack(self, multiple: bool = False) -> None:
        """Acknowledge this message, with *multiple* also all earlier ones of the channel.

        Nothing is sent for a consumer that needs no acknowledgements.  Raises
        :exc:`~kombu.exceptions.MessageStateError` if the message is settled or has no channel; after any error of
        the channel it is still unsettled.
        """
        if self.channel is None:
            raise self._without_channel()
        no_ack_consumers = self.channel.no_ack_consumers
        if no_ack_consumers and self._consumer_tag() in no_ack_consumers:
            return
        if self._state in _SETTLED:
            raise self._settled_before()
        self.channel.basic_ack(self.delivery_tag, multiple=multiple)
        self._state = "ACK"

    def ack_log_error(self, logger: logging.Logger, errors: Any, multiple: bool = False) -> None:
        """Acknowledge this message; log *errors* instead of raising them, a broken pipe as well as raising it."""
        try:
            self.ack(multiple=multiple)
        except BrokenPipeError as error:
            logger.critical("Couldn't ack %r, reason:%r", self.delivery_tag, error, exc_info=True)
            raise
        except errors as error:
            logger.critical("Couldn't ack %r, reason:%r", self.delivery_tag, error, exc_info=True)

    def reject(self, requeue: bool = False) -> None:
        """Refuse this message: the broker drops or dead-letters it, or with *requeue* puts it back.

        Raises :exc:`~kombu.exceptions.MessageStateError` if the message is settled or has no channel.
        """
        self._refuse(requeue, "REJECTED")

    def reject_log_error(self, logger: logging.Logger, errors: Any, requeue: bool = False) -> None:
        """Refuse this message; log *errors* instead of raising them."""
        try:
            self.reject(requeue=requeue)
        except errors as error:
            logger.critical("Couldn't reject %r, reason: %r", self.delivery_tag, error, exc_info=True)

    def requeue(self) -> None:
        """Refuse this message and have the broker put it back; it may come to the same consumer again.

        Raises :exc:`~kombu.exceptions.MessageStateError` if the message is settled or has no channel.
        """
        self._refuse(True, "REQUEUED")

    @property
    def acknowledged(self) -> bool:
        """Whether the message is settled: acknowledged, rejected or requeued."""
        return self._state in _SETTLED

    def _refuse(self, requeue: bool, state: str) -> None:
        if self.channel is None:
            raise self._without_channel()
        if self._state in _SETTLED:
            raise self._settled_before()
        self.channel.basic_reject(self.delivery_tag, requeue=requeue)
        self._state = state

    def _consumer_tag(self) -> str | None:
        if self._delivery_info is None:
            return self._route and self._route[0]
        return self._delivery_info.get("consumer_tag")

    def _without_channel(self) -> Exception:
        return self.MessageStateError("This message does not have a receiving channel")

    def _settled_before(self) -> Exception:
        return self.MessageStateError(f"Message already acknowledged with state: {self._state}")

    # -- the object ----------------------------------------------------------------------------------------------

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The older protocols cannot hold the fields.
        return super().__reduce_ex__(max(protocol, 2))

    def __getstate__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"errors": self.errors, **self.__dict__}, {name: getattr(self, name) for name in _STATE_FIELDS}

    def __setstate__(self, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
        extra, fields = state
        Message.__init__(self)
        for name, value in fields.items():
            setattr(self, name, value)
        for name, value in extra.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        details = {
            "state": self._state,
            "content_type": self.content_type,
            "delivery_tag": self.delivery_tag,
            "body_length": None if self.body is None else len(self.body),
            "properties": _present(self.properties, "correlation_id", "type"),
            "delivery_info": _present(self.delivery_info, "exchange", "routing_key"),
        }
        return f"<{type(self).__name__} object at {id(self):#x} with details {_present(details, *details)!r}>"


def _decompressed(body: Any, compression: Any, errors: list[_ErrorInfo]) -> Any:
    """Return *body* decompressed, or as it is after a failure, which goes to *errors*."""
    try:
        return _decompress(body, compression)
    except Exception:
        errors.append(exc_info())
        return body


def _text_where_encoded(raw: bytes, content_encoding: str | None) -> str | bytes:
    """Return *raw* decoded by *content_encoding* where that is possible, otherwise as it is; empty it is a str."""
    if not raw:
        return ""
    if content_encoding is None or content_encoding in _NOT_A_CODEC:
        return raw
    try:
        return raw.decode(content_encoding)
    except Exception:
        # Not text, or not by a codec we have: whoever deserializes the bytes will say so.
        return raw


def _present(mapping: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: mapping[name] for name in names if mapping.get(name) is not None}
