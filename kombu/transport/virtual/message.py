"""Messages of an emulated broker: how they are laid out in its queues, and what a consumer gets."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from typing import Any

from kombu.transport import base

__all__ = ("Base64", "Message", "MessageFormat")


class Base64:
    """Write bytes as ASCII text, for brokers whose messages are text."""

    def encode(self, s: str | bytes) -> str:
        """Return *s* (text as UTF-8) in base64."""
        return b2a_base64(s.encode() if isinstance(s, str) else s, newline=False).decode("ascii")

    def decode(self, s: str | bytes) -> bytes:
        """Return the bytes that *s* is the base64 of.

        Raises:
            binascii.Error: It is no base64.
        """
        return a2b_base64(s.encode() if isinstance(s, str) else s)


class Message(base.Message):
    """A message that came from an emulated broker.

    Arguments:
        payload (dict): The message as it stands in the queue: ``body``, ``properties``, ``headers``,
            ``content-type`` and ``content-encoding``, as :meth:`Channel.prepare_message` lays them out.
        channel: The channel that received it; its codecs decode the body.
    """

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


class MessageFormat:
    """The part of a channel that lays out messages for the queues of its broker."""

    #: Name -> codec of message bodies.
    codecs: dict[str, Any] = {"base64": Base64()}

    #: Name of the codec to write bodies with; ``transport_options["body_encoding"]`` overrides it.
    body_encoding: str | None = "base64"

    #: Priority of a message that has none, and the bounds of priorities.
    default_priority = 0
    min_priority = 0
    max_priority = 9

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
