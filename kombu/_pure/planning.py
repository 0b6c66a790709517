"""Publishes of one producer that have all but the body in common: planned once, and found again by what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any, TypeVar

from .pool import Lent

__all__ = ("LOOK_AFTER", "MOST_PLANS", "UNPLANNED", "Planned", "Plans", "quicken")

_F = TypeVar("_F", bound=Callable[..., Any])

#: Plans that one producer keeps.  Routing keys may be as many as messages, and then there is nothing in common.
MOST_PLANS = 256

#: Seconds after which a publish first looks at what the peer has to say.
LOOK_AFTER = 0.02

#: What :meth:`Plans.publish` returns when it has done nothing.
UNPLANNED = object()


class Planned(Lent):
    """A producer that has plans; to be derived from."""

    #: What further publishes on the present channel have in common, as :class:`Plans`.
    _plans: Any = None


class Plans:
    """The plans of one producer on one channel, by all that they depend on.

    Arguments:
        channel: the channel; one that ``plans_publishes``.
        exchange: the producer's.
        declares: whether that has to have been declared on the connection.
        methods: the functions that the producer's methods have to be still, by their names.
        dumps: turns a body and the name of a serializer into content type, content encoding and payload.
        settings: what *dumps* goes by, as it changes; the compiled core calls the encoders that stand there itself.

    Attributes:
        known: plan, which is the channel's own, by (routing key, exchange, delivery mode, mandatory, immediate,
            priority, content type, content encoding).
        windows: the windows of unconfirmed publishes that what is published here gets into.
    """

    __slots__ = ("channel", "dumps", "exchange", "known", "methods", "windows", "_declared", "_ident")

    def __init__(
        self,
        channel: Any,
        exchange: Any,
        declares: bool,
        methods: Mapping[str, Callable[..., Any]],
        dumps: Callable[..., tuple[str, str, Any]],
        settings: Mapping[str, Any],
    ) -> None:
        self.channel = channel
        self.exchange = exchange
        self.methods = methods
        self.dumps = dumps
        self.known: dict[Any, Any] = {}
        window = getattr(channel, "confirm_window", None)
        self.windows: tuple[Any, ...] = () if window is None else (window,)
        self._declared: Any = None
        self._ident: Any = None
        if declares:
            self._declared = channel.connection.client.declared_entities
            self._ident = hash(exchange)

    def fits(self, producer: Any) -> bool:
        """Return whether *producer* still has the channel and the exchange that this is for."""
        return producer._channel is self.channel and producer.exchange is self.exchange

    def publish(
        self,
        producer: Any,
        body: Any,
        routing_key: str | None,
        delivery_mode: int | str | None,
        mandatory: bool,
        immediate: bool,
        priority: int,
        content_type: str | None,
        content_encoding: str | None,
        serializer: str | None,
        exchange: Any,
        timeout: float | None,
        confirm_timeout: float | None,
    ) -> Any:
        """Publish for *producer*, whose ``publish`` describes the arguments, and return what the channel returns.

        Returns :data:`UNPLANNED`, nothing done, where the publish has to take the long way.
        """
        if (
            producer._channel is not self.channel
            or producer.exchange is not self.exchange
            or producer.compression
            or (exchange is not None and type(exchange) is not str)
            or (self._declared is not None and self._ident not in self._declared)
            or not self._is_untouched(producer)
        ):
            return UNPLANNED
        if not content_type:
            content_type, content_encoding, body = self.dumps(body, serializer or producer.serializer)
        elif isinstance(body, str):
            content_encoding = content_encoding or "utf-8"
            body = body.encode(content_encoding)
        elif not content_encoding:
            content_encoding = "binary"
        if routing_key is None:
            routing_key = producer.routing_key
        key = (
            routing_key, exchange, delivery_mode or self.exchange.delivery_mode, mandatory, immediate, priority,
            content_type, content_encoding,
        )
        plan = self.known.get(key)
        if plan is None or plan.channel_id != self.channel.channel_id:
            plan = self._make(producer, key)
        if body is None:
            body = b""
        elif isinstance(body, str) and content_encoding != "utf-8":
            body = body.encode(content_encoding or "utf-8")
        batch = producer._batch_local.current if producer.batched else None
        if batch is not None:
            return batch.publish_planned(self.channel, plan, body, timeout, confirm_timeout)
        return self.channel.publish_planned(plan, body, timeout, confirm_timeout)

    def _is_untouched(self, producer: Any) -> bool:
        """Return whether nobody has put in another of the methods, not even one that passes for the same."""
        for name, function in self.methods.items():
            method = getattr(producer, name)
            if type(method) is not MethodType or method.__func__ is not function:
                return False
        return True

    def _make(self, producer: Any, key: Any) -> Any:
        plan = producer._plan(key)
        known = self.known
        if len(known) >= MOST_PLANS:
            known.clear()
        known[key] = plan
        return plan


def quicken(function: _F) -> _F:
    """Return *function*, ``Producer.publish``.

    The compiled core has calls of it come to :meth:`Plans.publish` first, without the frame of a function that takes
    nineteen arguments; what is not planned goes to the function after that.  It stays a function to all who look at it.

    Raises:
        TypeError: it has other parameters than the core knows.
    """
    return function
