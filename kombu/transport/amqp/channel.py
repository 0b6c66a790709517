"""AMQP channel: its states, consuming and acknowledging on our receive and write paths."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, NoReturn

import amqp
from amqp import spec
from amqp.exceptions import ChannelError, ConsumerCancelled, RecoverableConnectionError, error_for_code
from amqp.protocol import queue_declare_ok_t

from ..._core import deliveries, frames, settling
from ...forks import ProcessLock
from ...message import Message as CoreMessage
from ..base import StdChannel, to_rabbitmq_queue_arguments
from .message import Message
from .publishing import Publishes

__all__ = ("Channel",)

logger = logging.getLogger("amqp")


def _kept(name: str, doc: str) -> Any:
    """Return an attribute that is kept in the channel's ``deliveries``, for the receive loop to find it there."""

    def keep(channel: Channel, value: Any) -> None:
        setattr(channel.deliveries, name, value)

    return property(attrgetter(f"deliveries.{name}"), keep, doc=doc)


class Channel(Publishes, amqp.Channel, StdChannel):
    """A channel of a :class:`~kombu.transport.amqp.connection.Connection`.

    When the broker closes it, a channel that had consumers or unacknowledged deliveries stays closed, and each later
    use raises the reply code and text again: what it held is with other consumers now.  One that had neither opens
    again at its next use.

    Threads: one at a time, but for publishing and acknowledging, which any number may do at once.
    """

    Message = Message

    # RabbitMQ sends the whole method; amqp 5.4 knows its first argument alone.
    _METHODS = {**amqp.Channel._METHODS, spec.Basic.Cancel: spec.method(spec.Basic.Cancel, "sb")}

    def __init__(
        self,
        connection: Any,
        channel_id: int | None = None,
        auto_decode: bool = True,
        on_open: Callable[..., Any] | None = None,
    ) -> None:
        # A subclass with a constructor of its own is made by it, in message_to_python.
        delivered_as = self.Message if self.Message.__init__ is Message.__init__ else Message
        #: Where the receive loop finds what it needs of the channel.
        self.deliveries = deliveries.Deliveries(channel_id, delivered_as, connection._writer, connection._receiver)
        #: The class of messages that message_to_python, unless a subclass has one of its own, returns as they are.
        self.finished = delivered_as if type(self).message_to_python is Channel.message_to_python else None
        #: What closed the channel last, open again or not.
        self.last_close_error: Any = None
        self._may_reopen = False
        #: Held while the channel opens again, and from numbering a confirmed publish until it is written.
        self._opening = ProcessLock()
        #: Held while the channel is closed by the broker.
        self._closing = ProcessLock()
        self._unnamed: list[tuple[Any, Any, bool]] = []
        # The connection, while the channel is given up but its number is not free: the peer has yet to agree.
        self._left_behind: Any = None
        self._writer: Any = connection._writer
        # The amqp package's constructor shows the channel to the connection's other threads before it makes these.
        self.is_open = False
        self.cancel_callbacks: dict[str, Callable[..., Any]] = {}
        self.events: dict[str, set[Any]] = {}
        super().__init__(connection, channel_id, auto_decode, on_open)

    channel_id = _kept("channel_id", "The channel's number.")
    connection = _kept("connection", "The connection, while the channel is not closed.")
    close_error = _kept("close_error", "What closed the channel, while it is closed by the broker.")
    callbacks = _kept("callbacks", "What is called for each delivery, by consumer tag.")
    no_ack_consumers = _kept("no_ack_consumers", "Tags of the consumers whose deliveries count as acknowledged.")
    held_back = _kept("held_back", "Batches of publishes that go before anything else that is written.")
    unacked = _kept("unacked", "Tags of the deliveries that await an acknowledgement.")

    def _setup_listeners(self) -> None:
        super()._setup_listeners()
        self._callbacks[spec.Basic.ConsumeOk] = self._on_consume_ok

    # -- state

    def check_open(self) -> None:
        """Raise the error that closed the channel, if it is closed.

        Raises:
            amqp.exceptions.ChannelError: the broker closed the channel.
        """
        if self.close_error is not None:
            self.raise_closed()

    def raise_closed(self) -> None:
        """Raise, anew, the error that closed the channel last.

        Raises:
            amqp.exceptions.ChannelError: always, once the broker has closed the channel.
        """
        error = self.last_close_error
        if error is not None:
            raise error_for_code(error.reply_code, error.reply_text, error.method_sig, ChannelError) from error

    def _make_usable(self) -> Any:
        """Return the connection; open the channel again first, if it may be.

        Raises:
            amqp.exceptions.ChannelError: the broker closed the channel for good.
            amqp.exceptions.RecoverableConnectionError: the channel or its connection is closed.
        """
        with self._closing.current():
            # Another thread may be at it: whether the channel may open again is known when it is done.
            pass
        if self._may_reopen:
            with self._opening.current():
                if self._may_reopen:
                    if self.connection is not None:
                        self.connection.raise_unreported(self)
                    self._reopen()
        self.check_open()
        connection = self.connection
        if connection is None:
            raise RecoverableConnectionError("connection already closed")
        return connection

    def _reopen(self) -> None:
        connection = self.connection
        if connection is None or connection.channels is None:
            raise RecoverableConnectionError("connection already closed")
        self.channel_id = connection._get_free_channel_id()
        connection.channels[self.channel_id] = self
        # Until all is as it was, the channel counts as closed: others wait for their turn here.
        self.send_at(self.closings, spec.Channel.Open, "s", ("",), wait=spec.Channel.OpenOk)
        if self._wants_confirms:
            self.send_at(self.closings, spec.Confirm.Select, "b", (False,), wait=spec.Confirm.SelectOk)
            self._begin_confirms()
        self.close_error = None
        self._may_reopen = False

    def send_method(
        self,
        sig: tuple[int, int],
        format: str | None = None,
        args: Any = None,
        content: Any = None,
        wait: Any = None,
        callback: Callable[..., Any] | None = None,
        returns_tuple: bool = False,
    ) -> Any:
        """Send a method and, with *wait*, return its reply's arguments; as the ``amqp`` package's method does."""
        # Looked up before the state, so that the channel cannot be closed in between without being noticed.
        if self.held_back:
            self.send_held_back()
        closings = self.closings
        if self.close_error is not None or self.connection is None:
            self._make_usable()
        return self.send_at(closings, sig, format, args, wait, callback, returns_tuple)

    def collect(self) -> None:
        """Forget everything that belongs to the open channel."""
        connection = self.connection if self.connection is not None else self._left_behind
        self._left_behind = None
        self.is_open = False
        # The number and the connection are kept: entities show the one, error handling asks for the other's client.
        if connection is not None and connection.channels is not None:
            if connection.channels.get(self.channel_id) is self:
                del connection.channels[self.channel_id]
                connection._used_channel_ids.remove(self.channel_id)
        else:
            self.connection = None
        for held in (self.callbacks, self.cancel_callbacks, self.events, self.no_ack_consumers, self.unacked):
            held.clear()
        self._overdue.clear()
        self._confirm_selected = False
        self.abandon_confirms(RecoverableConnectionError("the channel was closed before the broker confirmed"))

    def abandon_confirms(self, error: BaseException) -> None:
        """Let every unanswered publish fail by *error*."""
        confirms = self._confirms
        confirms.tell(confirms.abandon(error))

    def _on_close(self, reply_code: int, reply_text: str, class_id: int, method_id: int) -> None:
        error = error_for_code(reply_code, reply_text, (class_id, method_id), ChannelError)
        connection = self.connection
        # Asked before, as whoever waits is woken by what follows.
        told = self.waited_for_elsewhere()
        with self._closing.current():
            may_reopen = not (self.callbacks or self.unacked)
            # From here on nothing is written for this channel but our agreement: see Writer.write.
            self.close_error = self.last_close_error = error
            self.closings += 1
            confirms = self._confirms
            abandoned = confirms.abandon(error)
            try:
                agreed = frames.encode_method(self.channel_id, *spec.Channel.CloseOk, b"")
                self._writer.write([agreed], connection.close_timeout)
            finally:
                self.collect()
                self._may_reopen = may_reopen
        # Whoever is told may publish here again.
        confirms.tell(abandoned)
        if self.is_closing or connection.is_closing:
            # Both sides closed at once; ours is answered by this.
            closing = self._pending.pop(spec.Channel.CloseOk, None)
            if closing is not None:
                closing(spec.Channel.CloseOk)
            return
        if told:
            # The thread that waits on this channel raises it; the one that happens to read goes on.
            return
        connection.report(self, error)

    def close(
        self,
        reply_code: int = 0,
        reply_text: str = "",
        method_sig: tuple[int, int] = (0, 0),
        argsig: str = "BsBB",
    ) -> None:
        """Close the channel: in any state, any number of times, within the connection's ``close_timeout``."""
        connection, closings = self.connection, self.closings
        gone = self.close_error is not None or not self.is_open
        if connection is None or not connection.connected or gone or self.is_closing:
            self._forget()
            return
        timeout = connection.close_timeout
        self.is_closing = True
        # The broker gives to others what still comes, so nobody is to act on it here.
        self.callbacks.clear()
        try:
            arguments = frames.encode_arguments(argsig, (reply_code, reply_text, *method_sig))
            farewell = frames.encode_method(self.channel_id, *spec.Channel.Close, arguments)
            self.request(closings, farewell, spec.Channel.CloseOk, timeout)
        except TimeoutError:
            # The peer does not answer.  The number stays taken until it does: frames for it may still come.
            self.is_open = False
            self._left_behind = connection
            logger.warning("channel %s: no answer to channel.close within %s seconds", self.channel_id, timeout)
        except (OSError, amqp.ConnectionError) as error:
            # The connection is lost, and the channel with it.
            self.is_open = False
            logger.debug("closing channel %s: %r", self.channel_id, error)
        finally:
            self.is_closing = False
            self.connection = None

    def withdraw(self) -> None:
        """Give up opening the channel; its number is free again once the peer has answered, if it ever does."""
        connection = self.connection
        if connection is None or not connection.connected or not self._overdue:
            self.collect()
            return
        arguments = frames.encode_arguments("BsBB", (0, "", 0, 0))
        try:
            self._writer.write([frames.encode_method(self.channel_id, *spec.Channel.Close, arguments)], 0)
        except (OSError, amqp.ConnectionError) as error:
            logger.warning("channel %s: cannot be closed after it was not opened in time: %s", self.channel_id, error)
        self.connection, self._left_behind = None, connection

    def _forget(self) -> None:
        if not self.is_closing:
            self.is_open = False
            self.connection = None

    # -- declaring

    def prepare_queue_arguments(self, arguments: Any, **kwargs: Any) -> Any:
        """Return queue arguments with kombu's options in RabbitMQ's terms."""
        return to_rabbitmq_queue_arguments(arguments, **kwargs)

    def queue_declare(
        self,
        queue: str = "",
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = True,
        nowait: bool = False,
        arguments: dict[str, Any] | None = None,
        argsig: str = "BsbbbbbF",
    ) -> queue_declare_ok_t | None:
        """Declare a queue and return its name and the numbers of its messages and consumers; None with *nowait*.

        Raises:
            amqp.exceptions.ChannelError: the broker refused and closed the channel.
        """
        # Our own, since the amqp package's begins to expect the reply only after it has sent the request.
        reply = self.send_method(
            spec.Queue.Declare,
            argsig,
            (0, queue, passive, durable, exclusive, auto_delete, nowait, arguments),
            wait=None if nowait else spec.Queue.DeclareOk,
            returns_tuple=True,
        )
        return None if nowait else queue_declare_ok_t(*reply)

    # -- consuming

    def basic_consume(
        self,
        queue: str = "",
        consumer_tag: str = "",
        no_local: bool = False,
        no_ack: bool = False,
        exclusive: bool = False,
        nowait: bool = False,
        callback: Callable[..., Any] | None = None,
        arguments: dict[str, Any] | None = None,
        on_cancel: Callable[..., Any] | None = None,
        argsig: str = "BssbbbbF",
    ) -> str:
        """Start a consumer and return its tag; *callback* gets a :class:`~kombu.message.Message` for each delivery.

        Raises:
            ValueError: *nowait* without a consumer tag.
            amqp.exceptions.ChannelError: the broker refused and closed the channel.
        """
        if nowait and not consumer_tag:
            raise ValueError("Consumer tag must be specified when nowait is True")
        self._make_usable()
        # A delivery may follow the reply so closely that another thread reads it, so the callback is there before.
        if consumer_tag:
            self._register(consumer_tag, callback, on_cancel, no_ack)
        else:
            self._unnamed.append((callback, on_cancel, no_ack))
        try:
            reply = self.send_method(
                spec.Basic.Consume,
                argsig,
                (0, queue, consumer_tag, no_local, no_ack, exclusive, nowait, arguments),
                wait=None if nowait else spec.Basic.ConsumeOk,
                returns_tuple=True,
            )
        except BaseException:
            if consumer_tag:
                self._remove_tag(consumer_tag)
            else:
                self._unnamed.clear()
            raise
        return consumer_tag if nowait else reply[0]

    def _register(self, consumer_tag: str, callback: Any, on_cancel: Any, no_ack: bool) -> None:
        if no_ack:
            self.no_ack_consumers.add(consumer_tag)
        if on_cancel:
            self.cancel_callbacks[consumer_tag] = on_cancel
        self.callbacks[consumer_tag] = callback

    def _on_consume_ok(self, consumer_tag: str) -> None:
        if self._unnamed and consumer_tag not in self.callbacks:
            self._register(consumer_tag, *self._unnamed.pop(0))

    def basic_cancel(self, consumer_tag: str, nowait: bool = False, argsig: str = "sb") -> Any:
        """Stop a consumer; deliveries already on their way still reach it."""
        if self.connection is None:
            return None
        # Deliveries up to the reply are the consumer's, so it stays as it is until then.
        reply = self.send_method(
            spec.Basic.Cancel, argsig, (consumer_tag, nowait), wait=None if nowait else spec.Basic.CancelOk
        )
        self._remove_tag(consumer_tag)
        return reply

    def _on_basic_cancel(self, consumer_tag: str, nowait: bool = True) -> None:
        callback = self._remove_tag(consumer_tag)
        if not nowait:
            agreed = frames.encode_arguments("s", (consumer_tag,))
            self._writer.write([frames.encode_method(self.channel_id, *spec.Basic.CancelOk, agreed)])
        if callback is None:
            self.connection.report(self, ConsumerCancelled(consumer_tag, spec.Basic.Cancel))
        else:
            callback(consumer_tag)

    def on_unclaimed_delivery(self, consumer_tag: str, message: CoreMessage) -> None:
        """Give back a delivery whose consumer is not known; called by the receive loop."""
        connection = self.connection
        if self.is_closing or not self.is_open or connection is None or connection.is_closing:
            return
        info = message.delivery_info
        logger.warning(
            "Rejecting message with delivery tag %r: no consumer with tag %r (exchange=%r, routing_key=%r)",
            message.delivery_tag, consumer_tag, info["exchange"], info["routing_key"],
        )
        if consumer_tag not in self.no_ack_consumers:
            self.basic_reject(message.delivery_tag, requeue=True)

    def basic_get(self, queue: str = "", no_ack: bool = False, argsig: str = "Bsb") -> CoreMessage | None:
        """Return the next message of *queue*, or None when it is empty."""
        reply = self.send_method(
            spec.Basic.Get, argsig, (0, queue, no_ack), wait=[spec.Basic.GetOk, spec.Basic.GetEmpty], returns_tuple=True
        )
        message = reply[0] if reply else None
        if not isinstance(message, CoreMessage):
            return None
        if not no_ack:
            self.unacked.add(message.delivery_tag)
        return message

    def deliver_content(self, method_sig: tuple[int, int], arguments: Any, message: CoreMessage) -> None:
        """Dispatch a message that did not come for a consumer; called by the receive loop."""
        if method_sig == spec.Basic.Return:
            self.deliver_method(method_sig, [*arguments, message])
        else:
            self.deliver_method(method_sig, [message])

    def message_to_python(self, raw_message: Any) -> CoreMessage:
        """Return *raw_message* as this channel's :attr:`Message`; the receive loop makes them so, most of the time."""
        if isinstance(raw_message, self.Message):
            return raw_message
        return self.Message(raw_message, channel=self)

    # -- acknowledging

    basic_ack = settling.basic_ack

    def basic_reject(self, delivery_tag: int, requeue: bool, argsig: str = "Lb") -> None:
        """Reject a delivery: discard or dead-letter it, or put it back into its queue."""
        if self.held_back:
            self.send_held_back()
        closings = self.closings
        if self.close_error is not None or self.connection is None:
            self.refuse_tag(delivery_tag)
        self._writer.write([frames.encode_reject(self.channel_id, delivery_tag, requeue)], None, self, closings)
        self.deliveries.settle(delivery_tag)

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """Reject a delivery; with *multiple*, all up to it (RabbitMQ's extension)."""
        if self.held_back:
            self.send_held_back()
        closings = self.closings
        if self.close_error is not None or self.connection is None:
            self.refuse_tag(delivery_tag)
        frame = frames.encode_nack(self.channel_id, delivery_tag, multiple, requeue)
        self._writer.write([frame], None, self, closings)
        self.deliveries.settle(delivery_tag, multiple)

    def settled_together(self, delivery_tags: Iterable[int]) -> int | None:
        """Return the tag whose acknowledgement with *multiple* settles most of *delivery_tags*, and no other.

        None if that would settle fewer than two, each of which has its own acknowledgement as well.
        """
        tags = set(delivery_tags)
        # Tags come in order, so that no outstanding one below these can be added meanwhile.
        others = [tag for tag in list(self.unacked) if tag not in tags]
        first_other = min(others, default=None)
        together = tags if first_other is None else [tag for tag in tags if tag < first_other]
        return max(together) if len(together) > 1 else None

    def refuse_tag(self, delivery_tag: int) -> NoReturn:
        """Raise what keeps *delivery_tag* from being settled.

        Raises:
            amqp.exceptions.ChannelError: the broker closed the channel.
            amqp.exceptions.RecoverableConnectionError: the channel or its connection is closed.
        """
        # A tag belongs to the channel that it came on, so opening another is no help.
        self.check_open()
        raise RecoverableConnectionError(
            f"cannot settle delivery {delivery_tag}: the channel it came on is closed, and the broker has it again"
        )

    def basic_recover(self, requeue: bool = False) -> Any:
        """Have all unacknowledged deliveries delivered again."""
        result = super().basic_recover(requeue)
        self.unacked.clear()
        return result
