"""What publishes have in common, worked out once: their frames but for the body."""

from __future__ import annotations

from typing import Any

from amqp.exceptions import RecoverableConnectionError

from ..._core import frames, publish

__all__ = ("Plan", "Plans")

#: Plans that one producer keeps.  Routing keys may be as many as messages, and then there is nothing in common.
MOST_PLANS = 256


class Plan:
    """A publish but for its body.

    Arguments:
        channel: the channel that it is for.
        message: what its ``prepare_message`` made, whatever the body.

    Attributes:
        frames: the frames as ``PublishPlan``; :meth:`renew` makes them for a channel that has another number now.
    """

    __slots__ = ("exchange", "frames", "immediate", "mandatory", "properties", "routing_key")

    def __init__(
        self, channel: Any, message: Any, exchange: str, routing_key: str, mandatory: bool, immediate: bool
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.mandatory = mandatory
        self.immediate = immediate
        self.properties = frames.encode_properties(message.properties)
        self.renew(channel)

    def renew(self, channel: Any) -> Any:
        """Make the frames again, for the channel as it is now, and return them.

        Raises:
            amqp.exceptions.RecoverableConnectionError: the channel is closed.
        """
        connection = channel.connection
        if connection is None:
            raise RecoverableConnectionError("connection already closed")
        self.frames = publish.PublishPlan(
            channel.channel_id, self.exchange, self.routing_key, bool(self.mandatory), bool(self.immediate),
            self.properties, connection.frame_max,
        )
        return self.frames


class Plans:
    """The plans of one producer on one channel, by all that they depend on.

    Arguments:
        channel: the channel; one that ``plans_publishes``.
        exchange: the producer's, whose declaration is looked for; None where none is declared.
    """

    __slots__ = ("channel", "declared", "ident", "known", "windows")

    def __init__(self, channel: Any, exchange: Any = None) -> None:
        self.channel = channel
        #: The windows of unconfirmed publishes that what is published here gets into.
        self.windows = () if channel.confirm_window is None else (channel.confirm_window,)
        #: Key -> plan.
        self.known: dict[Any, Plan] = {}
        #: What has been declared on the connection, and what of that has to be; None where nothing has.
        self.declared: Any = None
        self.ident: Any = None
        if exchange is not None:
            self.declared = channel.connection.client.declared_entities
            self.ident = hash(exchange)

    def make(
        self, key: Any, priority: Any, content_type: Any, content_encoding: Any, properties: dict[str, Any],
        exchange: str, routing_key: str, mandatory: bool, immediate: bool,
    ) -> Plan:
        """Make, keep and return a plan; raises what ``prepare_message`` and encoding the frames raise."""
        message = self.channel.prepare_message(b"", priority, content_type, content_encoding, {}, properties)
        plan = Plan(self.channel, message, exchange, routing_key, mandatory, immediate)
        if len(self.known) >= MOST_PLANS:
            self.known.clear()
        self.known[key] = plan
        return plan
