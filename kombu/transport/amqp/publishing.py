"""Publishing on a channel: plain, and with the broker's confirmation."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import amqp
from amqp import spec
from amqp.exceptions import ChannelError, RecoverableConnectionError, error_for_code

from ..._core import frames, planning, publish
from ..._locks import new_lock
from ...forks import ProcessLock
from ...message import Message
from .batch import PublishBatch
from .confirms import Confirms, refusal
from .waiting import AwaitsReplies
from .window import Confirmation, ConfirmWindow

__all__ = ("Publishes",)


class Publishes(AwaitsReplies):
    """The publishing half of :class:`~kombu.transport.amqp.channel.Channel`."""

    # Supplied by the channel and by amqp.Channel.
    close_error: Any
    deliveries: Any
    held_back: tuple[PublishBatch, ...]
    events: dict[str, set[Any]]
    _confirm_selected: bool
    _opening: ProcessLock
    _writer: Any
    _make_usable: Callable[[], Any]

    def __init__(self, connection: Any, *args: Any, **kwargs: Any) -> None:
        size = connection.confirm_window
        #: The publishes under way, where ``confirm_window`` is set.
        self.confirm_window: ConfirmWindow | None = None if size is None else ConfirmWindow(self, size)
        self._confirms: Any = Confirms() if size is None else self.confirm_window
        #: Whether each publish waits for its confirmation.
        self.confirms_each = bool(connection.confirm_publish) and size is None
        self._wants_confirms = False
        # Threads have batches of their own on one channel.
        self._holding = new_lock()
        if type(self)._on_basic_ack is Publishes._on_basic_ack:
            # Those answers that nobody has to be told of go straight there.
            self.deliveries.window = self.confirm_window
        super().__init__(connection, *args, **kwargs)
        if size is not None:
            self.basic_publish = self.basic_publish_window

    def prepare_message(
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
        _Message: Callable[..., Any] = amqp.Message,
    ) -> Any:
        """Return what :meth:`basic_publish` sends."""
        return _Message(
            body,
            priority=priority,
            content_type=content_type,
            content_encoding=content_encoding,
            application_headers=headers,
            **(properties or {}),
        )

    def _encode(
        self, msg: Any, exchange: str, routing_key: str, mandatory: bool, immediate: bool, frame_max: int
    ) -> list[Any]:
        properties = msg.properties
        body = msg.body
        if isinstance(body, str):
            encoding = properties.get("content_encoding")
            if encoding is None:
                encoding = "utf-8"
                properties = {**properties, "content_encoding": encoding}
            body = body.encode(encoding)
        return frames.encode_publish(
            self.channel_id,
            exchange or "",
            routing_key or "",
            mandatory,
            immediate,
            frames.encode_properties(properties),
            b"" if body is None else body,
            frame_max,
        )

    def _basic_publish(
        self,
        msg: Any,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
        argsig: str = "Bssbb",
    ) -> None:
        """Publish a message; it is with the kernel when this returns.

        Arguments:
            timeout: seconds that the write may take, and that a blocked connection is waited for.

        Raises:
            amqp.exceptions.RecoverableConnectionError: the connection is closed, the write took longer, or the broker
                has blocked the connection for longer.
            amqp.exceptions.ChannelError: the broker has closed the channel.
            OSError: the connection is lost.
        """
        if self.held_back:
            self.send_held_back()
        connection, closings = self._before_publish(timeout)
        buffers = self._encode(msg, exchange, routing_key, mandatory, immediate, connection.frame_max)
        self._write_publish(buffers, timeout, closings)

    basic_publish = _basic_publish

    @property
    def plans_publishes(self) -> bool:
        """Whether :meth:`publish_planned` does what :meth:`basic_publish` would: nobody has put in something else."""
        cls = type(self)
        if cls.prepare_message is not Publishes.prepare_message or cls._encode is not Publishes._encode:
            return False
        # The methods that the constructor puts in, or none.
        mine = self.__dict__.get("basic_publish")
        if "prepare_message" in self.__dict__ or cls.basic_publish is not Publishes._basic_publish:
            return False
        if self.confirm_window is not None:
            return getattr(mine, "__func__", None) is Publishes.basic_publish_window
        if self.confirms_each:
            return getattr(mine, "__func__", None) is Publishes.basic_publish_confirm
        return mine is None

    def plan_publish(
        self, priority: Any, content_type: Any, content_encoding: Any, properties: dict[str, Any], exchange: str,
        routing_key: str, mandatory: bool, immediate: bool,
    ) -> Any:
        """Return a publish but for its body, as a ``PublishPlan``.

        Raises:
            amqp.exceptions.RecoverableConnectionError: the channel is closed.
        """
        message = self.prepare_message(b"", priority, content_type, content_encoding, {}, properties)
        return publish.PublishPlan(
            self.channel_id, exchange, routing_key, bool(mandatory), bool(immediate),
            frames.encode_properties(message.properties), self._frame_max(),
        )

    def _frame_max(self) -> int:
        if self.connection is None:
            raise RecoverableConnectionError("connection already closed")
        return self.connection.frame_max  # type: ignore[no-any-return]

    def publish_planned(
        self, plan: Any, body: Any, timeout: float | None = None, confirm_timeout: float | None = None
    ) -> Any:
        """Do what :attr:`basic_publish` does, for a publish that was planned; text is encoded as UTF-8.

        Arguments:
            plan: what :meth:`plan_publish` returned.
        """
        if self.held_back:
            self.send_held_back()
        if self.confirm_window is not None:
            return self._publish_in_window(
                plan.exchange, plan.routing_key, plan.mandatory, timeout, confirm_timeout, None, None, plan, body
            )
        if self.confirms_each:
            return self._publish_and_wait(
                plan.exchange, plan.routing_key, plan.mandatory, timeout, confirm_timeout,
                lambda connection: self.current(plan).encode(body),
            )
        _, closings = self._before_publish(timeout)
        self._write_publish(self.current(plan).encode(body), timeout, closings)
        return None

    def current(self, plan: Any) -> Any:
        """Return *plan* for the channel as it is: when it opens again, it may have another number.

        Raises:
            amqp.exceptions.RecoverableConnectionError: the channel is closed.
        """
        return plan if plan.channel_id == self.channel_id else plan.on(self.channel_id, self._frame_max())

    def _before_publish(self, timeout: float | None = None) -> tuple[Any, int]:
        """Return the connection, and how many times the channel had been closed before it was seen to be open.

        While the broker has blocked the connection this waits, at most *timeout* seconds if that is given: the broker
        would not read the message, and whether the kernel takes it says nothing.

        Raises:
            amqp.exceptions.RecoverableConnectionError: the broker has not unblocked it in time.
        """
        closings = self.closings
        connection = self.connection
        if self.close_error is not None or connection is None:
            connection = self._make_usable()
        now = monotonic()
        if now - self.deliveries.last_look > planning.LOOK_AFTER:
            # A peer that left, or closed this channel: find out before more messages are lost.  Nobody else may be
            # reading, and a socket that is closed while bytes wait in it takes back what the peer has yet to read.
            with self.waits():
                connection.check_alive()
                connection.raise_unreported(self)
            closings = self.closings
            if self.close_error is not None or self.connection is None:
                connection = self._make_usable()
            self.deliveries.last_look = now
        if connection.blocked and timeout is not None:
            self._await_unblocked(connection, timeout)
        return connection, closings

    def _await_unblocked(self, connection: Any, timeout: float) -> None:
        try:
            self.wait_until(lambda: not connection.blocked, timeout)
        except TimeoutError:
            raise RecoverableConnectionError(
                f"basic_publish: timed out after {timeout:g} seconds; the broker has blocked the connection: "
                f"{connection.blocked_reason or 'it gives no reason'}"
            ) from None

    def _write_publish(
        self, buffers: list[Any], timeout: float | None, closings: int, windowed: bool = False
    ) -> None:
        try:
            self._writer.write(buffers, timeout, self, closings, windowed)
        except TimeoutError as error:
            if error.errno is not None:
                raise
            raise RecoverableConnectionError(f"basic_publish: timed out after {timeout} seconds") from error

    def basic_publish_confirm(
        self,
        msg: Any,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
        argsig: str = "Bssbb",
    ) -> None:
        """Publish a message and wait until the broker has taken responsibility for it.

        Arguments:
            timeout: seconds that the write may take; also the wait's where *confirm_timeout* is not given.
            confirm_timeout: seconds to wait for the broker's answer; by default the connection's.

        Raises:
            amqp.exceptions.MessageNacked: the broker refused it.
            socket.timeout: no answer came in time; the message may or may not have been taken.
            amqp.exceptions.ChannelError: the message was returned, or the broker closed the channel.
            amqp.exceptions.RecoverableConnectionError, OSError: the connection is closed or lost.
        """
        if self.confirm_window is not None:
            self.basic_publish_window(
                msg, exchange, routing_key, mandatory, immediate, timeout, confirm_timeout
            ).wait(timeout if confirm_timeout is None else confirm_timeout)
            return
        if self.held_back:
            self.send_held_back()
        self._publish_and_wait(
            exchange or "", routing_key or "", mandatory, timeout, confirm_timeout,
            lambda connection: self._encode(msg, exchange, routing_key, mandatory, immediate, connection.frame_max),
        )

    def _publish_and_wait(
        self, exchange: str, routing_key: str, mandatory: bool, timeout: float | None, confirm_timeout: float | None,
        encode: Callable[[Any], list[Any]],
    ) -> None:
        connection, _ = self._before_publish(timeout)
        wait = confirm_timeout if confirm_timeout is not None else timeout
        if wait is None:
            wait = connection.confirm_timeout
        with self.waits():
            with self._opening.current():
                closings = self._before_confirmed()
                confirms = self._confirms
                buffers = encode(connection)
                tag = confirms.expect((exchange, routing_key) if mandatory else None)
                try:
                    self._write_publish(buffers, timeout, closings)
                except BaseException:
                    confirms.retract(tag)
                    raise
            try:
                self.wait_until(lambda: confirms.settled(tag), wait)
            except TimeoutError:
                raise TimeoutError(f"the broker did not confirm publish {tag} within {wait:g} seconds") from None
            finally:
                outcome = confirms.outcome(tag)
        if outcome is not None:
            raise outcome

    def _before_confirmed(self) -> int:
        """See that the channel is open and in confirm mode, and return how many times it had been closed by then.

        The caller holds ``_opening``.
        """
        closings = self.closings
        if self.close_error is not None:
            self._make_usable()
        if not self._confirm_selected:
            self.confirm_select()
        return closings

    def basic_publish_window(
        self,
        msg: Any,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
        argsig: str = "Bssbb",
        confirm_callback: Callable[[Confirmation], Any] | None = None,
    ) -> Confirmation:
        """Publish a message and return the promise of the broker's answer.

        Waits only while ``confirm_window`` publishes are unanswered.

        Arguments:
            timeout: seconds that the write may take.
            confirm_timeout: seconds to wait for room in the window; by default *timeout*, or the connection's.
            confirm_callback: called with the promise once there is an answer, by the thread that reads it.

        Raises:
            socket.timeout: there was no room in time, and the message was not published.
            amqp.exceptions.ChannelError: the broker closed the channel.
            amqp.exceptions.RecoverableConnectionError, OSError: the connection is closed or lost.
        """
        if self.held_back:
            self.send_held_back()
        return self._publish_in_window(
            exchange or "", routing_key or "", mandatory, timeout, confirm_timeout, confirm_callback,
            lambda connection: self._encode(msg, exchange, routing_key, mandatory, immediate, connection.frame_max),
        )

    def _publish_in_window(
        self, exchange: str, routing_key: str, mandatory: bool, timeout: float | None, confirm_timeout: float | None,
        confirm_callback: Callable[[Confirmation], Any] | None, encode: Callable[[Any], list[Any]] | None,
        plan: Any = None, body: Any = None,
    ) -> Confirmation:
        """Do what :meth:`basic_publish_window` says with the frames that *encode* returns, or *plan* for *body*."""
        connection, _ = self._before_publish(timeout)
        window = self._confirms
        wait = confirm_timeout if confirm_timeout is not None else timeout
        if wait is None:
            wait = connection.confirm_timeout
        deadline = None
        window.check_process()
        size = window.size
        while True:
            if window.count >= size:
                deadline = self._await_room(wait, deadline)
            with self._opening.current():
                closings = self.closings
                if not self._confirm_selected or self.close_error is not None:
                    closings = self._before_confirmed()
                if window.count >= size:
                    # Another thread was faster.
                    continue
                buffers = self.current(plan).encode(body) if encode is None else encode(connection)
                window.held = True
                confirmation = window.expect(mandatory, exchange, routing_key, confirm_callback)
                try:
                    self._write_publish(buffers, timeout, closings, True)
                except BaseException:
                    window.retract((confirmation,))
                    raise
                finally:
                    window.held = False
                return confirmation  # type: ignore[no-any-return]

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        """Return what gathers up to *max_size* publishes; for :meth:`kombu.Producer.batch`."""
        return PublishBatch(self, max_size)

    def send_held_back(self) -> None:
        """Write what batches have gathered, before something else is written.

        Raises:
            kombu.exceptions.BatchPublishError: it could not be written; neither is what would have followed.
        """
        for batch in self.held_back:
            batch.make_way()

    def hold_back(self, batch: PublishBatch) -> None:
        """Have *batch* sent before anything else is written."""
        with self._holding:
            self.held_back = (*self.held_back, batch)

    def hold_back_no_more(self, batch: PublishBatch) -> None:
        """Take back :meth:`hold_back`, if that has been called."""
        with self._holding:
            if batch in self.held_back:
                self.held_back = tuple(each for each in self.held_back if each is not batch)

    def _await_room(self, wait: float | None, deadline: float | None, wanted: int = 1) -> float | None:
        """Wait until *wanted* publishes fit into the window; return the deadline, made of *wait* where it is None."""
        if wait is None:
            self._confirms.await_room(None, wanted)
            return None
        now = monotonic()
        if deadline is None:
            deadline = now + wait
        self._confirms.await_room(max(0.0, deadline - now), wanted)
        return deadline

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the broker has answered every publish of this channel.

        Without ``confirm_window`` there is nothing to wait for.

        Arguments:
            timeout: seconds; by default the connection's ``confirm_timeout``.

        Raises:
            socket.timeout: some have no answer yet; they stay outstanding.
            kombu.exceptions.ConfirmError: some failed, and nobody had been told of that.
        """
        if self.confirm_window is not None:
            self.confirm_window.flush(timeout)

    def confirm_select(self, nowait: bool = False) -> Any:
        """Put the channel into confirm mode: the broker answers each publish from here on."""
        if self.held_back:
            # Not with the lock held: whoever sends them may be waiting for it.
            self.send_held_back()
        with self._opening.current():
            if self._confirm_selected:
                return None
            self._make_usable()
            if self._confirm_selected:
                return None
            wait = None if nowait else spec.Confirm.SelectOk
            result = self.send_at(self.closings, spec.Confirm.Select, "b", (nowait,), wait=wait)
            # A callback that ran meanwhile may have been here before.
            if not self._confirm_selected:
                self._begin_confirms()
            return result

    def _begin_confirms(self) -> None:
        # Those who still wait for answers from the channel's previous life keep its numbers.
        if self.confirm_window is None:
            self._confirms = Confirms()
        self._confirms.restart()
        self._confirm_selected = self._wants_confirms = True

    def _on_basic_return(
        self, reply_code: int, reply_text: str, exchange: str, routing_key: str, message: Message
    ) -> None:
        error = error_for_code(reply_code, reply_text, spec.Basic.Return, ChannelError)
        handlers = list(self.events.get("basic_return") or ())
        # With confirms, the answer that follows settles the publish; it raises this.
        awaited = self._confirms.returned(exchange, routing_key, error, bool(handlers))
        for callback in handlers:
            callback(error, exchange, routing_key, message)
        if not handlers and not awaited:
            self.connection.report(self, error)

    def _on_basic_ack(self, delivery_tag: int, multiple: bool) -> None:
        self._confirms.settle(delivery_tag, multiple, None)
        for callback in list(self.events["basic_ack"]):
            callback(delivery_tag, multiple)

    def _on_basic_nack(self, delivery_tag: int, multiple: bool) -> None:
        self._confirms.settle(delivery_tag, multiple, refusal(delivery_tag))
        for callback in list(self.events["basic_nack"]):
            callback(delivery_tag, multiple)
