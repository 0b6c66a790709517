"""The broker inside the process: its queues, and the way of a message through them."""

from __future__ import annotations

from collections import deque
from os import urandom
from queue import Empty
from typing import Any

from kombu._pure.virtual import MessageChannel

__all__ = ("Layout", "MemoryChannel", "MemoryConnection", "MessageQueue")


class MessageQueue:
    """Messages in order of priority, and within a priority in the order of their arrival.

    There is no lock: a deque adds and takes whole, with the GIL and without it, and so nothing can be left locked
    in the child of a fork.  With a *max_priority*, messages up to that are kept apart; 0 makes a plain queue.
    """

    __module__ = "kombu.transport.memory"

    __slots__ = ("levels", "max_priority")

    def __init__(self, max_priority: int = 0) -> None:
        self.max_priority = max_priority
        #: One deque for each priority, the highest first.
        self.levels: tuple[deque[Any], ...] = tuple(deque() for _ in range(max_priority + 1))

    @property
    def queue(self) -> deque[Any]:
        """The waiting messages, next first: the deque itself where there are no priorities, otherwise a copy."""
        if not self.max_priority:
            return self.levels[0]
        return deque(message for level in self.levels for message in tuple(level))

    def put(self, message: Any, priority: int = 0) -> None:
        """Add *message* behind those of its priority."""
        self.levels[self.max_priority - max(0, min(priority, self.max_priority))].append(message)

    def get(self, block: bool = False) -> Any:
        """Take the next message; never waits.

        Raises:
            queue.Empty: There is none.
        """
        for level in self.levels:
            try:
                return level.popleft()
            except IndexError:
                continue
        raise Empty()

    def take(self) -> Any:
        """Take the next message, or return None if there is none."""
        for level in self.levels:
            if level:
                try:
                    return level.popleft()
                except IndexError:  # another thread was faster
                    continue
        return None

    def qsize(self) -> int:
        """Return the number of messages."""
        return sum(map(len, self.levels))

    def empty(self) -> bool:
        """Return whether there is no message."""
        for level in self.levels:
            if level:
                return False
        return True

    def clear(self) -> int:
        """Remove every message and return their number."""
        removed = 0
        for level in self.levels:
            try:
                while True:
                    level.popleft()
                    removed += 1
            except IndexError:
                continue
        return removed


class Layout:
    """A message as ``prepare_message`` lays it out, but for its body, and where it is published to."""

    __slots__ = ("channel_id", "exchange", "immediate", "mandatory", "message", "routing_key")

    def __init__(
        self,
        channel_id: Any,
        message: dict[str, Any],
        exchange: str,
        routing_key: str,
        mandatory: bool,
        immediate: bool,
    ) -> None:
        self.channel_id = channel_id
        self.message = message
        self.exchange = exchange
        self.routing_key = routing_key
        self.mandatory = mandatory
        self.immediate = immediate


class MemoryChannel(MessageChannel):
    """What the channel of the broker in memory does with each message.

    What it needs of the rest of the channel: ``queues``, ``_queue_for()``, ``connection`` and what the base needs.
    """

    queues: dict[str, Any]

    #: Who waits for messages: has ``notify(queue)``, and ``_waiting`` that is true if anybody does.
    _arrivals: Any

    channel_id: Any
    _consumers: Any
    _active_queues: Any
    connection: Any

    #: Index of the consumed queue whose turn it is.
    _position: int = 0

    # -- messages in ---------------------------------------------------------------------------------------------

    @property
    def plans_publishes(self) -> bool:
        """Whether messages may be laid out beforehand: nobody has put in another ``prepare_message``."""
        mine = MessageChannel.prepare_message
        return type(self).prepare_message is mine and "prepare_message" not in self.__dict__

    def plan_publish(
        self,
        priority: int | None,
        content_type: str | None,
        content_encoding: str | None,
        properties: dict[str, Any],
        exchange: str,
        routing_key: str,
        mandatory: bool,
        immediate: bool,
    ) -> Layout:
        """Lay out a message but for its body."""
        message = self.prepare_message(None, priority, content_type, content_encoding, None, properties)
        return Layout(self.channel_id, message, exchange, routing_key, mandatory, immediate)

    def publish_planned(
        self, plan: Layout, body: Any, timeout: float | None = None, confirm_timeout: float | None = None
    ) -> Any:
        """Publish *body* as it was planned; see :meth:`basic_publish`."""
        properties = {**plan.message["properties"], "delivery_info": {}}
        return self.basic_publish(
            {**plan.message, "body": body, "headers": {}, "properties": properties},
            exchange=plan.exchange,
            routing_key=plan.routing_key,
            mandatory=plan.mandatory,
            immediate=plan.immediate,
            timeout=timeout,
            confirm_timeout=confirm_timeout,
        )

    def _next_delivery_tag(self) -> Any:
        return f"memory-{urandom(12).hex()}"

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        if "routed" in message:
            message = self._another(message)
        message["routed"] = True
        target = self._queue_for(queue)  # type: ignore[attr-defined]
        target.put(message, self._get_message_priority(message) if target.max_priority else 0)
        arrivals = self._arrivals
        if arrivals._waiting:
            arrivals.notify(queue)

    def _another(self, message: dict[str, Any]) -> dict[str, Any]:
        """Copy a message that is in one queue already, for another.

        Each queue's message is acknowledged for itself, and its consumer may change the headers.
        """
        properties = {**message["properties"], "delivery_tag": self._next_delivery_tag()}
        properties["delivery_info"] = dict(properties["delivery_info"])
        return {**message, "headers": dict(message["headers"]), "properties": properties}

    # -- messages out --------------------------------------------------------------------------------------------

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        found = self.queues.get(queue)
        if found is None:
            raise Empty()
        return found.get(block=False)

    def drain_events(self, timeout: float | None = None, callback: Any = None) -> Any:
        """Deliver one message.

        Raises:
            queue.Empty: There is none, or the prefetch limit is reached.
        """
        # What the cycle of the base does, without its layers.
        found = self._next_message()
        if found is None:
            raise Empty()
        return (callback or self.connection._deliver)(*found)

    def _next_message(self) -> tuple[Any, str] | None:
        """Take a message of the queue whose turn it is, and return it with the queue's name; None if there is none."""
        if not (self._consumers and self.qos.can_consume()):
            return None
        get = self._get
        is_plain = getattr(get, "__func__", None) is _plain_get
        queues = tuple(self._active_queues)
        for index in range(self._position, self._position + len(queues)):
            queue = queues[index % len(queues)]
            found = self.queues.get(queue) if is_plain else None
            if type(found) is MessageQueue:
                message = found.take()
                if message is None:
                    continue
            else:
                try:
                    message = get(queue)
                except Empty:
                    continue
            self._position = index % len(queues) + 1
            return message, queue
        return None

    def _take_delivery(self, raw_message: Any, queue: str, no_ack: bool) -> Any:
        message = self.Message(raw_message, channel=self)
        message._queue = queue
        if not no_ack:
            self.qos.append(message, message.delivery_tag)
        return message

    def basic_ack(self, delivery_tag: Any, multiple: bool = False) -> None:
        """Acknowledge a message.

        Raises:
            amqp.RecoverableConnectionError: The channel is closed; the message has left it.
        """
        if self.closed:
            self._check_open("acknowledge delivery tag {!r}", delivery_tag)
        qos = self.qos
        qos.ack(delivery_tag)
        if qos.prefetch_count:
            # A consumer may be waiting for room.
            self.connection.wake()


_plain_get = MemoryChannel._get
_plain_drain = MemoryChannel.drain_events


class MemoryConnection:
    """How the connection to the broker in memory delivers what waits."""

    #: What polls the channels in turn, and the one that does it as we do here; None if that is replaced.
    cycle: Any
    _own_cycle: Any = None

    _at_rest: Any
    _connection_closed: bool

    def _drain_now(self, timeout: float | None, max_events: int) -> int:
        """Do what ``drain_events`` does, which is called only if there is more to it than to deliver a message."""
        if max_events == 1 and not self._at_rest and not self._connection_closed and self._deliver_next():
            if self._at_rest and not self._more_waits():  # type: ignore[attr-defined]
                self._rest()  # type: ignore[attr-defined]
            return 1
        return self.drain_events(self, timeout, max_events)  # type: ignore[attr-defined,no-any-return]

    def _deliver_next(self) -> bool:
        """Deliver a message if one waits for a channel that has it delivered as channels here do."""
        cycle = self.cycle
        if cycle is not self._own_cycle:
            return False
        channels = tuple(cycle.resources)
        for index in range(cycle.pos, cycle.pos + len(channels)):
            channel = channels[index % len(channels)]
            if (
                getattr(channel.drain_events, "__func__", None) is not _plain_drain
                or getattr(channel._get, "__func__", None) is not _plain_get
            ):
                # It has its turn, which the cycle gives it.
                return False
            found = channel._next_message()
            if found is not None:
                cycle.pos = index % len(channels) + 1
                self._deliver(*found)  # type: ignore[attr-defined]
                return True
        return False
