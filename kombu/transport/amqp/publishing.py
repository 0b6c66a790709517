"""Publishing on a channel: plain, and with the broker's confirmation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any

import amqp
from amqp import spec
from amqp.exceptions import ChannelError, MessageNacked, RecoverableConnectionError, error_for_code

from ..._core import frames
from ...message import Message
from .confirms import Confirms
from .waiting import AwaitsReplies

__all__ = ("Publishes",)

#: Seconds without a publish after which the next one first looks whether the peer is still there.
LOOK_AFTER = 0.02


class Publishes(AwaitsReplies):
    """The publishing half of :class:`~kombu.transport.amqp.channel.Channel`."""

    # Supplied by the channel and by amqp.Channel.
    close_error: Any
    events: dict[str, set[Any]]
    _confirm_selected: bool
    _opening: AbstractContextManager[Any]
    _writer: Any
    _make_usable: Callable[[], Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._confirms = Confirms()
        self._wants_confirms = False
        self._last_look = 0.0
        super().__init__(*args, **kwargs)

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
            timeout: seconds that the write may take.

        Raises:
            amqp.exceptions.RecoverableConnectionError: the connection is closed, or the write took longer.
            amqp.exceptions.ChannelError: the broker has closed the channel.
            OSError: the connection is lost.
        """
        connection, closings = self._before_publish()
        buffers = self._encode(msg, exchange, routing_key, mandatory, immediate, connection.frame_max)
        self._write_publish(buffers, timeout, closings)

    basic_publish = _basic_publish

    def _before_publish(self) -> tuple[Any, int]:
        """Return the connection, and how many times the channel had been closed before it was seen to be open."""
        closings = self.closings
        connection = self.connection
        if self.close_error is not None or connection is None:
            connection = self._make_usable()
        now = monotonic()
        if now - self._last_look > LOOK_AFTER:
            # A peer that left, or closed this channel, while nothing was sent: find out before a message is lost.
            with self.waits():
                connection.check_alive()
                connection.raise_unreported(self)
            closings = self.closings
            if self.close_error is not None or self.connection is None:
                connection = self._make_usable()
        self._last_look = now
        return connection, closings

    def _write_publish(self, buffers: list[Any], timeout: float | None, closings: int) -> None:
        try:
            self._writer.write(buffers, timeout, self, closings)
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
        connection, _ = self._before_publish()
        wait = confirm_timeout if confirm_timeout is not None else timeout
        if wait is None:
            wait = connection.confirm_timeout
        with self.waits():
            with self._opening:
                closings = self.closings
                if self.close_error is not None:
                    self._make_usable()
                if not self._confirm_selected:
                    self.confirm_select()
                confirms = self._confirms
                buffers = self._encode(msg, exchange, routing_key, mandatory, immediate, connection.frame_max)
                tag = confirms.expect((exchange or "", routing_key or "") if mandatory else None)
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

    def confirm_select(self, nowait: bool = False) -> Any:
        """Put the channel into confirm mode: the broker answers each publish from here on."""
        with self._opening:
            if self._confirm_selected:
                return None
            result = super().confirm_select(nowait)
            # A callback that ran meanwhile may have been here before.
            if not self._confirm_selected:
                self._begin_confirms()
            return result

    def _begin_confirms(self) -> None:
        # Those who still wait for answers from the channel's previous life keep its numbers.
        self._confirms = Confirms()
        self._confirm_selected = self._wants_confirms = True

    def _on_basic_return(
        self, reply_code: int, reply_text: str, exchange: str, routing_key: str, message: Message
    ) -> None:
        error = error_for_code(reply_code, reply_text, spec.Basic.Return, ChannelError)
        handlers = list(self.events.get("basic_return") or ())
        for callback in handlers:
            callback(error, exchange, routing_key, message)
        # With confirms, the answer that follows settles the publish; it raises this.
        if not handlers and not self._confirms.returned(exchange, routing_key, error):
            self.connection.report(self, error)

    def _on_basic_ack(self, delivery_tag: int, multiple: bool) -> None:
        self._confirms.settle(delivery_tag, multiple, None)
        for callback in list(self.events["basic_ack"]):
            callback(delivery_tag, multiple)

    def _on_basic_nack(self, delivery_tag: int, multiple: bool) -> None:
        self._confirms.settle(
            delivery_tag, multiple, MessageNacked(f"the broker refused the message with publish tag {delivery_tag}")
        )
        for callback in list(self.events["basic_nack"]):
            callback(delivery_tag, multiple)
