"""Exchange types of an emulated broker: direct, topic and fanout."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from kombu.utils.text import escape_regex

__all__ = ("DirectExchange", "ExchangeType", "FanoutExchange", "STANDARD_EXCHANGE_TYPES", "TopicExchange")

#: A row in the routing table of an exchange: routing key, pattern made of it (or None), queue.
Row = tuple[str, "str | None", str]


class ExchangeType:
    """Base of the exchange types: how a type of exchange routes messages.

    Arguments:
        channel: The channel that publishes.
    """

    #: Name of the type, as exchanges are declared with it.
    type: str | None = None

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def lookup(self, table: Iterable[Row], exchange: str, routing_key: str, default: str | None) -> set[str]:
        """Return the names of the queues in *table* that a message with *routing_key* goes to."""
        raise NotImplementedError("subclass responsibility")

    def deliver(self, message: dict[str, Any], exchange: str, routing_key: str, **kwargs: Any) -> None:
        """Put *message* into every queue that it goes to."""
        raise NotImplementedError("subclass responsibility")

    def prepare_bind(self, queue: str, exchange: str, routing_key: str, arguments: Any) -> Row:
        """Return the row that a binding becomes in the exchange's table."""
        return routing_key, None, queue

    def equivalent(
        self, prev: dict[str, Any], exchange: str, type: str, durable: bool, auto_delete: bool, arguments: Any
    ) -> bool:
        """Return whether *exchange*, declared as *prev* before, is declared with the same properties again."""
        declared = (prev["type"], prev["durable"], prev["auto_delete"], prev["arguments"] or {})
        return declared == (type, durable, auto_delete, arguments or {})


class DirectExchange(ExchangeType):
    """Route by equal routing keys."""

    type = "direct"

    def lookup(self, table: Iterable[Row], exchange: str, routing_key: str, default: str | None) -> set[str]:
        return {row[2] for row in table if row[0] == routing_key}

    def deliver(self, message: dict[str, Any], exchange: str, routing_key: str, **kwargs: Any) -> None:
        put = self.channel._put
        for queue in self.channel._lookup(exchange, routing_key):
            put(queue, message, **kwargs)


class TopicExchange(ExchangeType):
    """Route by patterns of words between dots: ``*`` stands for one word, ``#`` for any text."""

    type = "topic"

    #: Wildcard -> regular expression.
    wildcards = {"#": r".*?", "*": r"[^\.]+"}

    #: Pattern -> its compiled form; patterns repeat with every message.
    _compiled: dict[str, re.Pattern[str]] = {}

    def lookup(self, table: Iterable[Row], exchange: str, routing_key: str, default: str | None) -> set[str]:
        matches = self._match
        return {row[2] for row in table if matches(row[1], routing_key)}

    def deliver(self, message: dict[str, Any], exchange: str, routing_key: str, **kwargs: Any) -> None:
        channel = self.channel
        for queue in channel._lookup(exchange, routing_key):
            # What no binding matches is dropped by a topic exchange; the dead letter queue gets none of it.
            if queue and queue != channel.deadletter_queue:
                channel._put(queue, message, **kwargs)

    def prepare_bind(self, queue: str, exchange: str, routing_key: str, arguments: Any) -> Row:
        return routing_key, self.key_to_pattern(routing_key), queue

    def key_to_pattern(self, rkey: str) -> str:
        """Return the regular expression that the binding key *rkey* stands for."""
        words = escape_regex(rkey, ".#*").split(".")
        return "^" + r"\.".join([self.wildcards.get(word, word) for word in words]) + "$"

    def _match(self, pattern: str, string: str) -> Any:
        compiled = self._compiled.get(pattern)
        if compiled is None:
            compiled = self._compiled[pattern] = re.compile(pattern)
        return compiled.match(string)


class FanoutExchange(ExchangeType):
    """Route to every queue that is bound, whatever the routing key.

    A channel that has fanout exchanges sets ``supports_fanout`` and implements ``_put_fanout``; where its bindings
    are shared between processes it implements ``_queue_bind`` and ``get_table`` as well.
    """

    type = "fanout"

    def lookup(self, table: Iterable[Row], exchange: str, routing_key: str, default: str | None) -> set[str]:
        return {row[2] for row in table}

    def deliver(self, message: dict[str, Any], exchange: str, routing_key: str, **kwargs: Any) -> None:
        channel = self.channel
        if channel.supports_fanout:
            channel._put_fanout(exchange, message, routing_key, **kwargs)


#: Name -> class of the exchange types that every channel has.
STANDARD_EXCHANGE_TYPES: dict[str, type[ExchangeType]] = {
    cls.type: cls for cls in (DirectExchange, TopicExchange, FanoutExchange)
}
