"""Messages of an emulated broker, and the codec that makes their bodies text."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from typing import Any

from kombu.transport import base

__all__ = ("Base64", "Message")


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
