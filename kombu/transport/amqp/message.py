"""Message as the AMQP transport delivers it."""

from __future__ import annotations

from typing import Any

from ...message import Message as CoreMessage

__all__ = ("Message",)


class _Property:
    """One of the properties of class basic, as an attribute that a message without it does not have."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, message: CoreMessage | None, owner: type | None = None) -> Any:
        if message is None:
            return self
        try:
            return message.properties[self.name]
        except KeyError:
            raise AttributeError(f"the message has no property {self.name!r}") from None


class Message(CoreMessage):
    """A message received over AMQP; its properties are attributes too, as on :class:`amqp.basic_message.Message`.

    Arguments:
        msg: a message of the ``amqp`` package.  The receive loop does not come this way: it makes messages by
            ``from_delivery``.
        channel: the channel that it came on.
    """

    application_headers = _Property("application_headers")
    delivery_mode = _Property("delivery_mode")
    priority = _Property("priority")
    correlation_id = _Property("correlation_id")
    reply_to = _Property("reply_to")
    expiration = _Property("expiration")
    message_id = _Property("message_id")
    timestamp = _Property("timestamp")
    type = _Property("type")
    user_id = _Property("user_id")
    app_id = _Property("app_id")
    cluster_id = _Property("cluster_id")

    def __init__(self, msg: Any, channel: Any = None, **kwargs: Any) -> None:
        properties = msg.properties
        super().__init__(
            body=msg.body,
            channel=channel,
            delivery_tag=msg.delivery_tag,
            content_type=properties.get("content_type"),
            content_encoding=properties.get("content_encoding"),
            delivery_info=msg.delivery_info,
            properties=properties,
            headers=properties.get("application_headers") or {},
            **kwargs,
        )
