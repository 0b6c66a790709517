"""The message that a consumer gets.

One made by :meth:`Message.from_delivery` keeps what came over the wire and decodes it piece by piece as it is asked
for: most consumers never look at most of it.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import exc_info
from typing import Any, TypeVar

from kombu._pure.bodies import ErrorInfo, decompressed, deserialized, text_where_encoded
from kombu._pure.decoding import decode_properties
from kombu._pure.received import Received
from kombu.exceptions import reraise

__all__ = ("Message",)

_MessageT = TypeVar("_MessageT", bound="Message")

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


class Message(Received):
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
        "_errors",
        "_headers",
        "_payload",
        "_properties",
        "_raw_body",
        "_raw_properties",
        "__dict__",
        "__weakref__",
        "accept",
    )

    _body: Any
    _compression: Any
    _content_encoding: str | None
    _content_type: str | None
    _decoded: bool
    _errors: list[ErrorInfo] | None
    _headers: dict[str, Any]
    _payload: Any
    _properties: dict[str, Any]
    #: What came over the wire, as long as it has not been decoded.
    _raw_body: bytes | None
    _raw_properties: bytes | dict[str, Any] | None
    accept: Any

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
        noted: list[ErrorInfo] | None = getattr(self, "_errors", None)
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
            body = decompressed(body, self._compression, errors)
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
        raw_properties: bytes | dict[str, Any],
        body: bytes,
        message_count: int | None = None,
    ) -> _MessageT:
        """Make a message of what basic.deliver, or with a *consumer_tag* of None basic.get-ok, brought.

        *raw_properties* are the property flags and list of the content header, which
        :func:`~kombu._core.frames.check_properties` must have accepted; they and *body* are decoded on first use.
        Here they may also be what they have been decoded to, which becomes the message's own.  ``__init__`` is not
        called.
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
        properties = raw if isinstance(raw, dict) else decode_properties(raw)
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
        errors: list[ErrorInfo] = []
        body = None
        if self._compression:
            body = decompressed(raw, self._compression, errors)
        if not self._compression or errors:
            body = text_where_encoded(raw, self._content_encoding)
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
    def errors(self) -> list[ErrorInfo]:
        """The :func:`sys.exc_info` of what went wrong while the body was decompressed or encoded."""
        self._settle_properties()
        if self._compression:
            self._settle_body()
        errors = self._errors
        if errors is None:
            self._errors = errors = []
        return errors

    @errors.setter
    def errors(self, value: list[ErrorInfo] | None) -> None:
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
        return deserialized(self.body, self.content_type, self.content_encoding, self.accept)

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


def _present(mapping: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: mapping[name] for name in names if mapping.get(name) is not None}
