"""Quality of service, channels and transport of an emulated broker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from multiprocessing.util import Finalize
from queue import Empty
from time import monotonic, sleep
from typing import Any

from amqp.exceptions import RecoverableConnectionError

from kombu._core import unsettled as _unsettled
from kombu._core import virtual as _virtual
from kombu.log import get_logger
from kombu.transport import base
from kombu.utils.div import emergency_dump_state
from kombu.utils.scheduling import FairCycle
from kombu.utils.uuid import uuid

from .exchange import STANDARD_EXCHANGE_TYPES
from .message import Base64, Message
from .routing import (
    NOT_EQUIVALENT_FMT,
    UNDELIVERABLE_FMT,
    AbstractChannel,
    NotEquivalentError,
    RoutingChannel,
    UndeliverableWarning,
)
from .state import BrokerState, ChannelIds, binding_key_t, free_channel_id, queue_binding_t

__all__ = (
    "ARRAY_TYPE_H",
    "AbstractChannel",
    "Base64",
    "BrokerState",
    "Channel",
    "Empty",
    "Management",
    "Message",
    "NOT_EQUIVALENT_FMT",
    "NotEquivalentError",
    "QoS",
    "RESTORE_PANIC_FMT",
    "RESTORING_FMT",
    "STANDARD_EXCHANGE_TYPES",
    "Transport",
    "UNDELIVERABLE_FMT",
    "UndeliverableWarning",
    "W_NO_CONSUMERS",
    "binding_key_t",
    "queue_binding_t",
)

#: Type code of the array that kombu 5.7 keeps the numbers of channels in.
ARRAY_TYPE_H = "H"

#: Seconds that a call which may deliver several messages always has for those that are there.
GRACE = 0.02

W_NO_CONSUMERS = "Requeuing undeliverable message for queue %r: No consumers.\n"
RESTORING_FMT = "Restoring {0!r} unacknowledged message(s)"
RESTORE_PANIC_FMT = "UNABLE TO RESTORE {0} MESSAGES: {1}"

logger = get_logger(__name__)


class QoS(_unsettled.Unsettled):
    """Keep the messages of a channel that are delivered and not yet acknowledged, and limit their number.

    Arguments:
        channel: The channel.
        prefetch_count: Most messages that may be unacknowledged at once; 0 means any number.
    """

    #: Whether messages still unacknowledged when the channel or the process ends go back to their queues.
    restore_at_shutdown = True

    def __init__(self, channel: Any, prefetch_count: int | None = 0) -> None:
        self.channel = channel
        self.prefetch_count = prefetch_count or 0
        self._dirty = set()
        self._delivered = _unsettled.Delivered()
        self._quick_append = self._delivered.__setitem__
        self._quick_ack = self._dirty.add
        self._on_collect = Finalize(self, self.restore_unacked_once, exitpriority=1)

    def can_consume_max_estimate(self) -> int | None:
        """Return how many more messages the limit allows (0 or more), or None where there is no limit.

        For brokers that hand out several messages at once.
        """
        limit = self.prefetch_count
        if not limit:
            return None
        return max(0, limit - len(self._delivered) + len(self._dirty))

    def get(self, delivery_tag: Any) -> Any:
        """Return the unacknowledged message with *delivery_tag*.

        Raises:
            KeyError: There is none.
        """
        return self._delivered[delivery_tag]

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        """Settle a message as refused; with *requeue* it goes back to its queue."""
        if requeue:
            self.channel._restore_at_beginning(self._delivered[delivery_tag])
        self._quick_ack(delivery_tag)

    def restore_unacked(self) -> list[tuple[BaseException, Any]]:
        """Put every unacknowledged message back, newest first.

        Returns:
            The messages that could not be put back, each with the exception.
        """
        self._flush()
        restore = self.channel._restore
        failed = []
        while self._delivered:
            try:
                tag, message = self._delivered.popitem()
            except KeyError:  # another thread has taken the last one
                break
            try:
                restore(message)
            except BaseException as exc:
                # Another thread may have acknowledged it since; then it is no longer there to be restored.
                if tag not in self._dirty:
                    failed.append((exc, message))
        return failed

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Put every unacknowledged message back as the channel or the process ends; later calls do nothing.

        What cannot be put back is saved to a file, whose name is logged (or written to *stderr*).
        """
        self._on_collect.cancel()
        self._flush()
        delivered = self._delivered
        if not (self.restore_at_shutdown and self.channel.do_restore):
            return
        if getattr(delivered, "restored", False) and not delivered:
            return
        try:
            if delivered:
                self._report(RESTORING_FMT.format(len(delivered)), stderr, logger.info)
                failed = self.restore_unacked()
                if failed:
                    errors = tuple(exc for exc, _ in failed)
                    self._report(RESTORE_PANIC_FMT.format(len(errors), errors), stderr, logger.error)
                    emergency_dump_state([message.serializable() for _, message in failed], stderr=stderr)
        finally:
            delivered.restored = True

    @staticmethod
    def _report(text: str, stderr: Any, log: Callable[[str], None]) -> None:
        if stderr is None:
            log(text)
        else:
            print(text, file=stderr)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Put back what has been unacknowledged for too long, where a transport has such a limit."""


class Channel(_virtual.MessageChannel, RoutingChannel):
    """A channel of an emulated broker.

    Arguments:
        connection: The :class:`Transport` that it belongs to (an emulated connection is its transport).
    """

    #: Class of the messages.
    Message = Message

    #: Class that keeps the unacknowledged ones.
    QoS = QoS

    #: Whether unacknowledged messages go back to their queues when the channel closes.
    do_restore = True

    #: Names of the transport options that become attributes of the channel.
    from_transport_options: tuple[str, ...] = ("body_encoding", "deadletter_queue")

    _delivery_tags = count(1)

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        self.connection = connection
        self.closed = False
        self._qos: Any = None
        self._cycle: Any = None
        self._active_queues: list[str] = []
        self._consumers: set[str] = set()
        self._tag_to_queue: dict[str, str] = {}
        self._deliveries: dict[str, _virtual.Delivery] = {}
        self.exchange_types = {name: cls(self) for name, cls in self.exchange_types.items()}
        self.channel_id = self._get_free_channel_id()
        options = connection.client.transport_options
        for name in self.from_transport_options:
            if name in options:
                setattr(self, name, options[name])

    def _next_delivery_tag(self) -> Any:
        return uuid()

    # -- Consuming.

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], Any], consumer_tag: str, **kwargs: Any
    ) -> None:
        """Have the messages of *queue* delivered to *callback*."""
        self._check_open("consume from {!r}", queue)
        delivery = _virtual.Delivery(self, queue, no_ack, callback)
        self._tag_to_queue[consumer_tag] = queue
        self._deliveries[consumer_tag] = delivery
        self._active_queues.append(queue)
        self.connection._callbacks[queue] = delivery
        self._consumers.add(consumer_tag)
        self._reset_cycle()

    def basic_cancel(self, consumer_tag: str) -> None:
        """Have no more messages delivered to the consumer with *consumer_tag*."""
        if consumer_tag not in self._consumers:
            return
        self._consumers.remove(consumer_tag)
        delivery = self._deliveries.pop(consumer_tag, None)
        queue = self._tag_to_queue.pop(consumer_tag, None)
        try:
            self._active_queues.remove(queue)
        except ValueError:  # its messages come some other way than by polling
            pass
        self._reset_cycle()
        callbacks = self.connection._callbacks
        current = callbacks.get(queue)
        if current is delivery or not isinstance(current, _virtual.Delivery):
            callbacks.pop(queue, None)
            self._hand_over(queue)

    def _hand_over(self, queue: str) -> None:
        """Have another consumer of *queue* on this connection receive what a cancelled one received."""
        for channel in tuple(self.connection.channels or ()):
            for delivery in tuple(getattr(channel, "_deliveries", {}).values()):
                if delivery.queue == queue:
                    self.connection._callbacks[queue] = delivery
                    return

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Return the next message of *queue*, or None if it is empty."""
        self._check_open("get from {!r}", queue)
        try:
            raw_message = self._get(queue)
        except Empty:
            return None
        return self._take_delivery(raw_message, queue, no_ack)

    def drain_events(self, timeout: float | None = None, callback: Callable[..., Any] | None = None) -> Any:
        """Deliver one message.

        Raises:
            queue.Empty: There is none, or the prefetch limit is reached.
        """
        if not (self._consumers and self.qos.can_consume()):
            raise Empty()
        if hasattr(self, "_get_many"):
            return self._get_many(self._active_queues, timeout=timeout)
        return self._poll(self.cycle, callback or self.connection._deliver, timeout=timeout)

    def basic_reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        """Refuse a message; with *requeue* it goes back to its queue.

        Raises:
            amqp.RecoverableConnectionError: The channel is closed; the message has left it.
        """
        self._check_open("reject delivery tag {!r}", delivery_tag)
        self.qos.reject(delivery_tag, requeue=requeue)

    def basic_recover(self, requeue: bool = False) -> Any:
        """Put the unacknowledged messages back into their queues."""
        self._check_open("recover")
        if not requeue:
            raise NotImplementedError("Does not support recover(requeue=False)")
        return self.qos.restore_unacked()

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        """Limit the number of unacknowledged messages to *prefetch_count*; the other limits are not emulated."""
        self.qos.prefetch_count = prefetch_count

    def flow(self, active: bool = True) -> None:
        """Refuse: the flow of messages cannot be switched off."""
        raise NotImplementedError("virtual channels do not support flow.")

    def _restore(self, message: Any) -> None:
        """Route *message*, which has been delivered, as when it was published."""
        info = message.delivery_info
        payload = message.serializable()
        payload["redelivered"] = True
        for queue in self._lookup(info["exchange"], info["routing_key"]):
            self._put(queue, payload)

    def _restore_at_beginning(self, message: Any) -> None:
        """Put *message* back where it is delivered next, as far as the broker is able to."""
        return self._restore(message)

    # -- The channel itself.

    def close(self) -> None:
        """Cancel the consumers, put unacknowledged messages back (see :attr:`do_restore`), and close."""
        if not self.closed:
            self.closed = True
            for consumer_tag in tuple(self._consumers):
                self.basic_cancel(consumer_tag)
            if self._qos:
                self._qos.restore_unacked_once()
            cycle, self._cycle = self._cycle, None
            if cycle is not None:
                cycle.close()
            if self.connection is not None:
                self.connection.close_channel(self)
        self.exchange_types = None

    @property
    def cycle(self) -> Any:
        """What polls the consumed queues in turn."""
        if self._cycle is None:
            self._reset_cycle()
        return self._cycle

    def _reset_cycle(self) -> None:
        self._cycle = FairCycle(self._get_and_deliver, self._active_queues, Empty)

    def _get_free_channel_id(self) -> int:
        return free_channel_id(self.connection._used_channel_ids, self.connection.channel_max)


class Management(base.Management):
    """Answer what a management interface would, over a channel of its own."""

    def __init__(self, transport: Any) -> None:
        super().__init__(transport)
        self.channel = transport.client.channel()

    def get_bindings(self) -> list[dict[str, str]]:
        """Return the bindings as dicts of ``source``, ``destination`` and ``routing_key``."""
        return [
            {"source": exchange, "destination": queue, "routing_key": routing_key}
            for queue, exchange, routing_key in self.channel.list_bindings()
        ]

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()


class Transport(_virtual.MessageConnection, base.Transport):
    """Base of the transports to emulated brokers; it is its own connection.

    Arguments:
        client: The :class:`~kombu.Connection`; of its ``transport_options``, ``polling_interval`` is read here.
    """

    Channel = Channel
    Cycle = FairCycle
    Management = Management

    default_port = None

    #: Seconds to sleep after finding no message before looking again; None means not to sleep, for brokers whose
    #: channels wait for a message themselves.
    polling_interval: float | None = 1.0

    #: Most channels of one connection.
    channel_max = 65535

    #: Open channels.
    channels: Any = None

    #: What polls the channels in turn.
    cycle: Any = None

    #: Whether the connection has been closed, and not been established again.
    _connection_closed = False

    implements = base.Transport.implements.extend(
        asynchronous=False,
        exchange_type=frozenset({"direct", "topic"}),
        heartbeats=False,
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.state = BrokerState()
        self.channels = []
        self._avail_channels: list[Any] = []
        self._used_channel_ids = ChannelIds()
        self._callbacks = {}
        self._at_rest: deque[Callable[[], Any]] = deque()
        self.cycle = self.Cycle(self._drain_channel, self.channels, Empty)
        interval = client.transport_options.get("polling_interval")
        if interval is not None:
            self.polling_interval = interval

    @property
    def default_connection_params(self) -> dict[str, Any]:
        return {"hostname": "localhost", "port": self.default_port}

    def establish_connection(self) -> Any:
        """Open a channel, which shows that the broker is there; it is the first that :meth:`create_channel` gives."""
        self._connection_closed = False
        self._avail_channels.append(self.create_channel(self))
        return self

    def create_channel(self, connection: Any) -> Any:
        """Return a new channel, or the one that was opened to establish the connection."""
        try:
            return self._avail_channels.pop()
        except IndexError:
            channel = self.Channel(connection)
        self.channels.append(channel)
        return channel

    def close_channel(self, channel: Any) -> None:
        """Forget *channel*."""
        try:
            for collection, item in (self._used_channel_ids, channel.channel_id), (self.channels, channel):
                try:
                    collection.remove(item)
                except ValueError:  # forgotten already
                    continue
        finally:
            channel.connection = None

    def close_connection(self, connection: Any) -> None:
        """Close every channel."""
        self._connection_closed = True
        self.cycle.close()
        for channels in (self._avail_channels, self.channels):
            while channels:
                try:
                    channel = channels.pop()
                except IndexError:  # another thread has closed the last one
                    break
                channel.close()

    def drain_events(self, connection: Any, timeout: float | None = None, max_events: int = 1) -> int:
        """Deliver up to *max_events* messages and return how many; wait for the first at most *timeout* seconds.

        Further ones are those that can be had without waiting; none is begun once the time is up, of which there are
        always 0.02 seconds for them.  With None for a timeout it waits any time, with 0 not at all.

        Raises:
            socket.timeout: There was none in that time.
            amqp.RecoverableConnectionError: The connection is closed.
        """
        started = monotonic()
        self._drain_first(None if timeout is None else started + timeout, timeout)
        delivered = 1
        while delivered < max_events and not self._connection_closed:
            if timeout is not None and monotonic() >= started + max(timeout, GRACE):
                break
            if not self._drain_once(0):
                break
            delivered += 1
        if self._at_rest and not self._more_waits():
            self._rest()
        return delivered

    def _drain_first(self, deadline: float | None, left: float | None) -> None:
        while True:
            if self._connection_closed:
                raise RecoverableConnectionError("Connection is closed: connect again to receive messages")
            if self._at_rest:
                # Nobody waits for more while what has been gathered is not handed on.
                if self._drain_once(0):
                    return
                self._rest()
                if deadline is not None:
                    left = max(0, deadline - monotonic())
            if self._drain_once(left):
                return
            if deadline is not None:
                left = deadline - monotonic()
                if left <= 0:
                    raise TimeoutError("timed out")  # which is what socket.timeout is
            if self._wait_for_messages(left):
                return
            if deadline is not None:
                left = max(0, deadline - monotonic())

    def call_at_rest(self, function: Callable[[], Any]) -> None:
        """Have *function* called once :meth:`drain_events` has nothing left to deliver, or is about to wait."""
        self._at_rest.append(function)

    def _rest(self) -> None:
        while True:
            try:
                function = self._at_rest.popleft()
            except IndexError:  # empty, or another thread was faster
                return
            function()

    def _more_waits(self) -> bool:
        """Return whether a call of :meth:`drain_events` would find a message; False where that is not known."""
        return False

    def _drain_once(self, timeout: float | None) -> bool:
        """Deliver a message if there is one, and return whether there was."""
        try:
            self.cycle.get(self._deliver, timeout=timeout)
        except Empty:
            return False
        return True

    def _wait_for_messages(self, timeout: float | None) -> bool:
        """Wait until it is worth looking for messages again, at most *timeout* seconds (None: any time).

        Returns:
            Whether a message has been delivered meanwhile.
        """
        interval = self.polling_interval
        if interval is not None:
            sleep(interval if timeout is None else min(interval, timeout))
        return False

    def _drain_channel(self, channel: Any, callback: Callable[..., Any], timeout: float | None = None) -> Any:
        return channel.drain_events(callback=callback, timeout=timeout)

    def _refuse(self, message: Any, queue: str) -> None:
        """Put a message back that came out of a queue without consumers."""
        if not queue:
            raise KeyError(f"Received message without destination queue: {message}")
        logger.warning(W_NO_CONSUMERS, queue)
        self._reject_inbound_message(message)

    def _reject_inbound_message(self, raw_message: Any) -> None:
        """Put a message that nobody consumes back."""
        for channel in self.channels:
            if channel:
                message = channel.Message(raw_message, channel=channel)
                channel.qos.append(message, message.delivery_tag)
                channel.basic_reject(message.delivery_tag, requeue=True)
                return

    def on_message_ready(self, channel: Any, message: Any, queue: str) -> None:
        """Hand a message to the consumer of *queue*, for transports whose events come from an event loop.

        Raises:
            KeyError: Nobody consumes the queue.
        """
        callback = self._callbacks.get(queue) if queue else None
        if callback is None:
            raise KeyError(f"Message for queue {queue!r} without consumers: {message}")
        callback(message)
