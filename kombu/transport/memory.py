"""A broker inside the process: messages go from thread to thread through memory.

``memory://`` needs no server. Every connection of the process shares the same exchanges and queues, which live as
long as the process; several threads may publish and consume at once. A message published wakes who waits for it.
After a fork the child has a copy of its own.

Features
========
* Type: Virtual
* Supports Direct: Yes
* Supports Topic: Yes
* Supports Fanout: Yes
* Supports Priority: Yes, in queues declared with ``max_priority`` (``x-max-priority``)
* Supports TTL: No
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict, deque
from functools import partial
from queue import Empty
from random import Random
from typing import Any

from . import base, virtual

__all__ = ("Channel", "MessageQueue", "Transport")


class MessageQueue:
    """Messages in order of priority, and within a priority in the order of their arrival.

    There is no lock: a deque adds and takes whole, with the GIL and without it, and so nothing can be left locked
    in the child of a fork.

    Arguments:
        max_priority: Highest priority that is kept apart; 0 makes a plain queue.
    """

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


class Arrivals:
    """Who waits, by what is waited for: a message in a queue (its name), or another change (the transport).

    A consumer registers, looks into its queues once more, and only then waits; a publisher adds its message and
    only then looks who is registered. So one of the two always sees the other, and publishing takes no lock.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everybody: in the child of a fork the waiting threads do not exist, nor who held the lock."""
        self._lock = threading.Lock()
        self._waiting: dict[Any, tuple[threading.Event, ...]] = {}

    def register(self, watched: set[Any], event: threading.Event) -> None:
        """Have *event* set when something happens to what is *watched*."""
        with self._lock:
            for each in watched:
                self._waiting[each] = (*self._waiting.get(each, ()), event)

    def unregister(self, watched: set[Any], event: threading.Event) -> None:
        """Undo :meth:`register`."""
        with self._lock:
            for each in watched:
                others = tuple(other for other in self._waiting.get(each, ()) if other is not event)
                if others:
                    self._waiting[each] = others
                else:
                    self._waiting.pop(each, None)

    def notify(self, changed: Any) -> None:
        """Wake who waits for *changed*."""
        # All of them: who is woken need not take the message, and another one could.
        if self._waiting:
            for event in self._waiting.get(changed, ()):
                event.set()


_arrivals = Arrivals()

#: Delivery tags need only be different from each other, and a generator of our own is not seeded by anybody else.
_random_bits = Random().getrandbits

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_arrivals.reset)


class Channel(virtual.Channel):
    """A channel of the broker in memory."""

    #: Name -> :class:`MessageQueue`; one dict for all channels of the process.
    queues: dict[str, MessageQueue] = {}

    events: defaultdict[Any, set[Any]] = defaultdict(set)

    do_restore = False
    supports_fanout = True

    #: Index of the consumed queue whose turn it is.
    _position = 0

    # -- Queues.

    def prepare_queue_arguments(self, arguments: Any, **kwargs: Any) -> Any:
        return base.to_rabbitmq_queue_arguments(arguments, **kwargs)

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return queue in self.queues

    def _new_queue(self, queue: str, arguments: Any = None, **kwargs: Any) -> None:
        if queue not in self.queues:
            wanted = int((arguments or {}).get("x-max-priority") or 0)
            # In one step: of two threads that declare it, both must use the same.
            self.queues.setdefault(queue, MessageQueue(max(0, min(wanted, self.max_priority))))

    def _queue_for(self, queue: str) -> MessageQueue:
        while True:
            found = self.queues.get(queue)
            if found is not None:
                return found
            self._new_queue(queue)

    def _size(self, queue: str) -> int:
        found = self.queues.get(queue)
        return 0 if found is None else found.qsize()

    def _purge(self, queue: str) -> int:
        found = self.queues.get(queue)
        return 0 if found is None else found.clear()

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        self.queues.pop(queue, None)

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any) -> None:
        """Delete *queue* with its bindings, if it has any; with *if_empty* only when it holds no message."""
        if if_empty and self._size(queue):
            return
        super().queue_delete(queue, if_unused=if_unused, **kwargs)
        self._delete(queue)

    def _queue_bind(self, *args: Any) -> None:
        """Nothing to do: the routing table of the exchange is all there is."""

    def after_reply_message_received(self, queue: str) -> None:
        """Keep the queue: more replies may come through it."""

    # -- Messages in.

    def _next_delivery_tag(self) -> str:
        return f"memory-{_random_bits(96):x}"

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        if "routed" in message:
            message = self._another(message)
        message["routed"] = True
        target = self._queue_for(queue)
        target.put(message, self._get_message_priority(message) if target.max_priority else 0)
        _arrivals.notify(queue)

    def _put_fanout(self, exchange: str, message: Any, routing_key: str | None = None, **kwargs: Any) -> None:
        for queue in self._lookup(exchange, routing_key):
            self._put(queue, message)

    def _another(self, message: dict[str, Any]) -> dict[str, Any]:
        """Copy a message that is in one queue already, for another.

        Each queue's message is acknowledged for itself, and its consumer may change the headers.
        """
        properties = {**message["properties"], "delivery_tag": self._next_delivery_tag()}
        properties["delivery_info"] = dict(properties["delivery_info"])
        return {**message, "headers": dict(message["headers"]), "properties": properties}

    # -- Messages out.

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        found = self.queues.get(queue)
        if found is None:
            raise Empty()
        return found.get(block=False)

    def drain_events(self, timeout: float | None = None, callback: Any = None) -> Any:
        # What the cycle of the base does, without its layers.
        if self._consumers and self.qos.can_consume():
            queues = tuple(self._active_queues)
            for index in range(self._position, self._position + len(queues)):
                queue = queues[index % len(queues)]
                try:
                    message = self._get(queue)
                except Empty:
                    continue
                self._position = index % len(queues) + 1
                return (callback or self.connection._deliver)(message, queue)
        raise Empty()

    def _reset_cycle(self) -> None:
        self._position = 0
        super()._reset_cycle()

    def _take_delivery(self, raw_message: Any, queue: str, no_ack: bool) -> Any:
        message = self.Message(raw_message, channel=self)
        message._queue = queue
        if not no_ack:
            self.qos.append(message, message.delivery_tag)
        return message

    def _restore(self, message: Any) -> None:
        """Put *message* at the end of the queue that it was taken from.

        Routing it again, which is all that other brokers allow, would add it to every queue that had it.
        """
        queue = getattr(message, "_queue", None)
        if queue not in self.queues:
            return super()._restore(message)
        self._put(queue, {**message.serializable(), "redelivered": True})

    # -- What a consumer that waits has to hear of.

    def basic_consume(self, *args: Any, **kwargs: Any) -> None:
        super().basic_consume(*args, **kwargs)
        self.connection.wake()

    def basic_ack(self, delivery_tag: Any, multiple: bool = False) -> None:
        super().basic_ack(delivery_tag, multiple)
        if self.qos.prefetch_count:
            self.connection.wake()

    def basic_reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        super().basic_reject(delivery_tag, requeue)
        if self.qos.prefetch_count:
            self.connection.wake()

    def basic_qos(self, *args: Any, **kwargs: Any) -> None:
        super().basic_qos(*args, **kwargs)
        self.connection.wake()


def _collect(found: list[tuple[Any, str]], message: Any, queue: str) -> None:
    found.append((message, queue))


class Transport(virtual.Transport):
    """The broker in memory.

    A consumer waits until a message arrives; ``polling_interval`` is only the longest time until it looks by itself.
    """

    Channel = Channel

    driver_name = driver_type = "memory"

    implements = base.Transport.implements

    #: Exchanges and bindings of all connections of the process.
    global_state = virtual.BrokerState()

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.state = self.global_state

    def wake(self) -> None:
        """Have every thread that waits in :meth:`drain_events` of this transport look again."""
        _arrivals.notify(self)

    def close_connection(self, connection: Any) -> None:
        super().close_connection(connection)
        self.wake()

    def _drain_once(self, timeout: float | None) -> bool:
        return self._deliver_all(self._take(timeout))

    def _more_waits(self) -> bool:
        for channel in tuple(self.channels):
            if channel.qos.can_consume():
                for name in tuple(channel._active_queues):
                    queue = channel.queues.get(name)
                    if queue is not None and not queue.empty():
                        return True
        return False

    def _take(self, timeout: float | None) -> list[tuple[Any, str]] | None:
        """Take a message out of its queue; None if there is none."""
        found: list[tuple[Any, str]] = []
        try:
            self.cycle.get(partial(_collect, found), timeout=timeout)
        except Empty:
            return None
        return found

    def _deliver_all(self, found: list[tuple[Any, str]] | None) -> bool:
        # Not in the cycle, where an Empty that the consumer raises would be swallowed: it means that there is nothing.
        for message, queue in found or ():
            self._deliver(message, queue)
        return found is not None

    def _wait_for_messages(self, timeout: float | None) -> bool:
        event = threading.Event()
        watched: set[Any] = {self}
        # By acknowledgements and the like first: these may add to the queues to watch.
        _arrivals.register(watched, event)
        found = None
        try:
            queues = {
                queue
                for channel in tuple(self.channels)
                if channel.qos.can_consume()
                for queue in tuple(channel._active_queues)
            }
            watched |= queues
            _arrivals.register(queues, event)
            # What came before that has set no event.
            if not self._connection_closed:
                found = self._take(0)
                if found is None:
                    limits = [seconds for seconds in (timeout, self.polling_interval or None) if seconds is not None]
                    event.wait(min(limits, default=None))
        finally:
            _arrivals.unregister(watched, event)
        return self._deliver_all(found)
