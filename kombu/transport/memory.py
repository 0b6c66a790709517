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
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from queue import Empty
from typing import Any

from kombu._core import memory as _memory
from kombu._locks import new_lock
from kombu.utils.scheduling import FairCycle

from . import base, virtual

__all__ = ("Channel", "MessageQueue", "Transport")

MessageQueue = _memory.MessageQueue


class Arrivals:
    """Who waits, by what is waited for: a message in a queue (its name), or another change (the transport).

    A consumer registers, looks into its queues once more, and only then waits; a publisher adds its message and
    only then looks who is registered. So one of the two always sees the other, and publishing takes no lock.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everybody: in the child of a fork the waiting threads do not exist, nor who held the lock."""
        self._lock = new_lock()
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

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_arrivals.reset)


class Channel(_memory.MemoryChannel, virtual.Channel):
    """A channel of the broker in memory."""

    _arrivals = _arrivals

    #: Name -> :class:`MessageQueue`; one dict for all channels of the process.
    queues: dict[str, MessageQueue] = {}

    events: defaultdict[Any, set[Any]] = defaultdict(set)

    do_restore = False
    supports_fanout = True

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

    # -- Messages.

    def _put_fanout(self, exchange: str, message: Any, routing_key: str | None = None, **kwargs: Any) -> None:
        for queue in self._lookup(exchange, routing_key):
            self._put(queue, message)

    def _reset_cycle(self) -> None:
        self._position = 0
        super()._reset_cycle()

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

    def basic_reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        super().basic_reject(delivery_tag, requeue)
        if self.qos.prefetch_count:
            self.connection.wake()

    def basic_qos(self, *args: Any, **kwargs: Any) -> None:
        super().basic_qos(*args, **kwargs)
        self.connection.wake()


def _collect(found: list[tuple[Any, str]], message: Any, queue: str) -> None:
    found.append((message, queue))


class Transport(_memory.MemoryConnection, virtual.Transport):
    """The broker in memory.

    A consumer waits until a message arrives; ``polling_interval`` is only the longest time until it looks by itself.
    """

    Channel = Channel

    driver_name = driver_type = "memory"

    implements = base.Transport.implements

    #: A connection that is closed refuses to be drained, so that nobody else has to look.
    refuses_lost_connections = True

    #: Exchanges and bindings of all connections of the process.
    global_state = virtual.BrokerState()

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.state = self.global_state
        if type(self.cycle) is FairCycle and type(self)._drain_channel is virtual.Transport._drain_channel:
            self._own_cycle = self.cycle

    def drainer(self, connection: Any) -> Callable[[float | None, int], int] | None:
        """Return what :meth:`drain_events` comes to for *connection*, if a call of it would add nothing."""
        overridden = type(self).drain_events is not Transport.drain_events or "drain_events" in self.__dict__
        return None if overridden else self._drain_now

    def wake(self) -> None:
        """Have every thread that waits in :meth:`drain_events` of this transport look again."""
        _arrivals.notify(self)

    def close_connection(self, connection: Any) -> None:
        super().close_connection(connection)
        self.wake()

    def _drain_once(self, timeout: float | None) -> bool:
        return self._deliver_next() or self._deliver_all(self._take(timeout))

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
