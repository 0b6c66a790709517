"""Exchanges, queues and bindings of an emulated broker, and the way of a message through them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from amqp.exceptions import RecoverableConnectionError
from amqp.protocol import queue_declare_ok_t

from kombu.exceptions import ChannelError
from kombu.transport import base
from kombu.utils.uuid import uuid

from .exchange import STANDARD_EXCHANGE_TYPES, ExchangeType

__all__ = ("AbstractChannel", "NotEquivalentError", "RoutingChannel", "UndeliverableWarning")

NOT_EQUIVALENT_FMT = (
    "Cannot redeclare exchange {0!r} in vhost {1!r} with different type, durable, autodelete or arguments value."
)
UNDELIVERABLE_FMT = (
    "Message could not be delivered: No queues bound to exchange {exchange!r} using binding key {routing_key!r}.\n"
)


class NotEquivalentError(Exception):
    """An exchange is declared again with other properties than before."""


class UndeliverableWarning(UserWarning):
    """A message matched no binding and went to the dead letter queue."""


class AbstractChannel:
    """What a channel has to say about its queues; derive from :class:`Channel`, not from this."""

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        """Take the next message out of *queue*.

        Raises:
            queue.Empty: There is none.
        """
        raise NotImplementedError("Virtual channels must implement _get")

    def _put(self, queue: str, message: Any) -> Any:
        """Put *message* into *queue*."""
        raise NotImplementedError("Virtual channels must implement _put")

    def _purge(self, queue: str) -> int:
        """Remove all messages from *queue* and return their number."""
        raise NotImplementedError("Virtual channels must implement _purge")

    def _size(self, queue: str) -> int:
        """Return the number of messages in *queue*."""
        return 0

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        """Delete *queue*; called for each of its bindings with exchange, routing key, pattern and queue."""
        self._purge(queue)

    def _new_queue(self, queue: str, **kwargs: Any) -> Any:
        """Create *queue*, where the broker needs that."""

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        """Return whether *queue* exists."""
        return True

    def _poll(self, cycle: Any, callback: Callable[..., Any], timeout: float | None = None) -> Any:
        """Deliver one message of the queues in *cycle* to *callback*."""
        return cycle.get(callback)

    def _get_and_deliver(self, queue: str, callback: Callable[..., Any]) -> None:
        callback(self._get(queue), queue)


class RoutingChannel(AbstractChannel, base.StdChannel):
    """What a channel declares, binds and deletes, and where its messages go."""

    #: The :class:`Transport` that the channel belongs to, which is its own connection; None once the channel is closed.
    connection: Any = None

    closed = False
    channel_id: int | None = None

    #: Name -> class of the exchange types; on an instance, name -> exchange type of that channel.
    exchange_types: Any = dict(STANDARD_EXCHANGE_TYPES)

    #: Whether the channel has fanout exchanges.
    supports_fanout = False

    #: Queue for messages that match no binding; ``transport_options["deadletter_queue"]`` sets it.
    deadletter_queue: str | None = None

    def _check_open(self, action: str, *args: Any) -> None:
        """Raise an error that asks for another channel, if this one is closed."""
        if self.closed:
            raise self._closed_error(action.format(*args))

    def _closed_error(self, action: str) -> RecoverableConnectionError:
        return RecoverableConnectionError(
            f"Channel {self.channel_id} is closed: cannot {action}; open another channel"
        )

    @property
    def state(self) -> Any:
        """The :class:`BrokerState` of the connection.

        Raises:
            amqp.RecoverableConnectionError: The channel is closed.
        """
        connection = self.connection
        if connection is None:
            raise self._closed_error("use the exchanges and bindings of its broker")
        return connection.state

    def exchange_declare(
        self,
        exchange: str | None = None,
        type: str | None = "direct",
        durable: bool = False,
        auto_delete: bool = False,
        arguments: dict[str, Any] | None = None,
        nowait: bool = False,
        passive: bool = False,
    ) -> None:
        """Declare an exchange; with *passive* only ask whether it is there.

        Raises:
            ChannelError: *passive*, and it is not there.
            NotEquivalentError: It is there with other properties.
        """
        type = type or "direct"
        exchange = exchange or f"amq.{type}"
        exchanges = self.state.exchanges
        if passive:
            if exchange not in exchanges:
                raise self._not_found("exchange", exchange)
            return
        wanted = {
            "type": type,
            "durable": durable,
            "auto_delete": auto_delete,
            "arguments": arguments or {},
            "table": [],
        }
        # In one step: of two threads that declare it, neither may replace the table of the other.
        present = exchanges.setdefault(exchange, wanted)
        if present is wanted:
            return
        kind = self.exchange_types.get(present["type"]) or ExchangeType(self)
        if not kind.equivalent(present, exchange, type, durable, auto_delete, arguments):
            raise NotEquivalentError(NOT_EQUIVALENT_FMT.format(exchange, self._virtual_host))

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        """Delete *exchange* with its bindings, and the queues bound to it that are empty."""
        for routing_key, _, queue in tuple(self.get_table(exchange)):
            self.queue_delete(queue, if_unused=True, if_empty=True)
            # A queue that is not empty stays, but a binding of it that stayed would make the next queue_bind to
            # an exchange of this name do nothing.
            self.state.binding_delete(queue, exchange, routing_key)
        self.state.exchanges.pop(exchange, None)

    def queue_declare(self, queue: str | None = None, passive: bool = False, **kwargs: Any) -> queue_declare_ok_t:
        """Declare a queue, named by the broker if *queue* is empty; with *passive* only ask whether it is there.

        Returns:
            Its name, the number of its messages, and 0 for the number of consumers.

        Raises:
            ChannelError: *passive*, and it is not there.
        """
        self._check_open("declare queue {!r}", queue)
        queue = queue or f"amq.gen-{uuid()}"
        if passive and not self._has_queue(queue, **kwargs):
            raise self._not_found("queue", queue)
        self._new_queue(queue, **kwargs)
        return queue_declare_ok_t(queue, self._size(queue), 0)

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any) -> None:
        """Delete *queue* with its bindings; with *if_empty* only when it holds no message."""
        if if_empty and self._size(queue):
            return
        for exchange, routing_key, arguments in self.state.queue_bindings(queue):
            row = self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments)
            self._delete(queue, exchange, *row, **kwargs)
            # Or the exchange would go on routing to a queue that is gone.
            self._forget_row(exchange, row)
        self.state.queue_bindings_delete(queue)

    def after_reply_message_received(self, queue: str) -> None:
        """Delete the queue that the reply came through: it does not expire."""
        self.queue_delete(queue)

    def queue_purge(self, queue: str, **kwargs: Any) -> int:
        """Remove all messages that wait in *queue* and return their number."""
        self._check_open("purge queue {!r}", queue)
        return self._purge(queue)

    def queue_bind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", arguments: Any = None, **kwargs: Any
    ) -> None:
        """Bind *queue* to *exchange* by *routing_key*.

        Raises:
            KeyError: There is no such exchange.
        """
        exchange = exchange or "amq.direct"
        state = self.state
        if state.has_binding(queue, exchange, routing_key):
            return
        row = self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments)
        table = state.exchanges[exchange].setdefault("table", [])
        state.binding_declare(queue, exchange, routing_key, arguments)
        table.append(row)
        if self.supports_fanout:
            self._queue_bind(exchange, *row)

    def queue_unbind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", arguments: Any = None, **kwargs: Any
    ) -> None:
        """Remove the binding of *queue* to *exchange* by *routing_key*, if it is there."""
        self.state.binding_delete(queue, exchange, routing_key)
        try:
            table = self.get_table(exchange)
        except KeyError:
            return
        _remove_all(table, self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments))

    def exchange_bind(
        self, destination: str, source: str = "", routing_key: str = "", nowait: bool = False, arguments: Any = None
    ) -> None:
        """Refuse: emulated exchanges are bound to queues only."""
        raise NotImplementedError("transport does not support exchange_bind")

    def exchange_unbind(
        self, destination: str, source: str = "", routing_key: str = "", nowait: bool = False, arguments: Any = None
    ) -> None:
        """Refuse: emulated exchanges are bound to queues only."""
        raise NotImplementedError("transport does not support exchange_unbind")

    def get_exchanges(self) -> list[str]:
        """Return the names of the exchanges."""
        return list(self.state.exchanges)

    def list_bindings(self) -> Iterator[tuple[str, str, str]]:
        """Iterate over the bindings as (queue, exchange, routing key)."""
        for exchange in self.get_exchanges():
            for routing_key, _, queue in tuple(self.get_table(exchange)):
                yield queue, exchange, routing_key

    def get_table(self, exchange: str) -> Any:
        """Return the routing table of *exchange*.

        Raises:
            KeyError: There is no such exchange.
        """
        return self.state.exchanges[exchange]["table"]

    def typeof(self, exchange: str, default: str = "direct") -> Any:
        """Return the exchange type of *exchange*, that of *default* if there is no such exchange."""
        declared = self.state.exchanges.get(exchange)
        return self.exchange_types[default if declared is None else declared["type"]]

    def _forget_row(self, exchange: str, row: tuple[Any, ...]) -> None:
        declared = self.state.exchanges.get(exchange)
        if declared is not None:
            _remove_all(declared.get("table", []), row)

    @property
    def _virtual_host(self) -> str:
        return self.connection.client.virtual_host or "/"

    def _not_found(self, kind: str, name: str) -> ChannelError:
        text = f"NOT_FOUND - no {kind} {name!r} in vhost {self._virtual_host!r}"
        return ChannelError(text, (50, 10), f"Channel.{kind}_declare", "404")

    def _lookup(self, exchange: str | None, routing_key: str, default: str | None = None) -> Iterable[str]:
        """Return the names of the queues that a message goes to.

        What matches no binding goes to *default*, which is the dead letter queue unless given.
        """
        if default is None:
            default = self.deadletter_queue
        if not exchange:
            return [routing_key or default]
        try:
            queues = self.typeof(exchange).lookup(self.get_table(exchange), exchange, routing_key, default)
        except KeyError:  # no such exchange
            queues = []
        if not queues and default is not None:
            text = UNDELIVERABLE_FMT.format(exchange=exchange, routing_key=routing_key)
            warnings.warn(UndeliverableWarning(text), stacklevel=2)
            self._new_queue(default)
            queues = [default]
        return queues


def _remove_all(table: list[Any], row: tuple[Any, ...]) -> None:
    """Remove *row* from a routing table, which other threads may be adding rows to."""
    try:
        while True:
            table.remove(row)
    except ValueError:
        return
