"""AMQP connection: the ``amqp`` package's handshake and synchronous methods on our receive and write paths."""

from __future__ import annotations

import logging
import os
import socket
import weakref
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, NoReturn

import amqp
from amqp import spec
from amqp.exceptions import (
    ChannelNotOpen,
    ConnectionError,
    IrrecoverableConnectionError,
    RecoverableConnectionError,
    ResourceError,
    error_for_code,
)
from amqp.platform import KNOWN_TCP_OPTS

from ..._core import drain, frames, output
from ...utils.limits import check_positive
from .channel import Channel
from .channel_ids import ChannelIds
from .sockets import Link, link_for
from .waiting import AwaitsReplies

__all__ = ("Connection",)

logger = logging.getLogger("amqp")

_ACK = spec.Basic.Ack

#: Seconds that :meth:`Connection.close` waits for the peer to agree, and a channel's close likewise.
CLOSE_TIMEOUT = 5.0

#: Events that are dispatched at the most before a publish that found them there goes on.
READ_AT_ONCE = 1000

#: Seconds that a confirmed publish waits for the broker's answer.
CONFIRM_TIMEOUT = 30.0

#: Socket options besides the amqp package's own.  Its TCP_USER_TIMEOUT of 1000 milliseconds ends the connection of
#: every publisher whose broker does not read for a second, as one under load or short of memory does not.
_SOCKET_SETTINGS = {socket.TCP_USER_TIMEOUT: 30_000} if "TCP_USER_TIMEOUT" in KNOWN_TCP_OPTS else {}

#: The connections of this process, so that a forked child can let go of them.
_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _lesser(offered: int, asked: int | None) -> int:
    """Return the lesser of two limits of which 0 or None means none."""
    return min(offered, asked) if offered and asked else offered or asked or 0


class Connection(AwaitsReplies, amqp.Connection):
    """A connection to a broker that speaks AMQP 0-9-1.

    Takes the arguments of :class:`amqp.Connection`, and:

    Arguments:
        ack_writes: ``"corked"`` (default), ``"immediate"`` or ``"coalesced"``; see :class:`kombu._pure.output.Writer`.
        window_writes: ``"corked"`` (default) or ``"immediate"``; as well.
        confirm_timeout: seconds that a publish with ``confirm_publish`` waits for the broker's answer; None for ever.
        confirm_window: how many publishes may be unanswered; with it, a publish with ``confirm_publish`` returns a
            promise at once, see :class:`.window.Confirmation`.
        operation_timeout: seconds that a synchronous method waits for its reply; None (default) for ever.
        close_timeout: seconds that closing waits for the peer's agreement.
        max_body_size: largest message body accepted, in bytes.

    Threads: any number may publish and acknowledge while one drains; a synchronous method may be called from any
    thread, on a channel of its own.  A forked child lets go of the connection without a word to the peer.
    """

    Channel = Channel

    # The broker's reason comes with the notice; amqp 5.4 leaves it out.
    _METHODS = {**amqp.Connection._METHODS, spec.Connection.Blocked: spec.method(spec.Connection.Blocked, "s")}

    #: The :class:`kombu.Connection` that this one belongs to.
    client: Any = None

    def __init__(
        self,
        *args: Any,
        ack_writes: str = "corked",
        window_writes: str = "corked",
        confirm_timeout: float | None = CONFIRM_TIMEOUT,
        confirm_window: int | None = None,
        operation_timeout: float | None = None,
        close_timeout: float = CLOSE_TIMEOUT,
        max_body_size: int = drain.MAX_BODY_SIZE,
        channel_max: int | None = None,
        frame_max: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.ack_writes = ack_writes
        self.window_writes = window_writes
        self.confirm_timeout = confirm_timeout
        if confirm_window is not None:
            check_positive("confirm_window", confirm_window, "give how many publishes may be unconfirmed")
            if not kwargs.get("confirm_publish"):
                raise ValueError(
                    f"confirm_window={confirm_window} needs confirm_publish=True: set both in transport_options"
                )
        self.confirm_window = confirm_window
        self.operation_timeout = operation_timeout
        self.close_timeout = close_timeout
        self.max_body_size = max_body_size
        self._asked_channel_max = channel_max
        self._asked_frame_max = frame_max
        self._receiver: Any = None
        self._writer: output.Writer | None = None
        self._link: Link | None = None
        self._failure: BaseException | None = None
        #: Whether the broker has asked publishers to wait, and why (RabbitMQ's ``connection.blocked``).
        self.blocked = False
        self.blocked_reason: str | None = None
        # What the broker reported of one channel while this thread waited for a reply on another.
        self._unreported: deque[tuple[Any, BaseException]] = deque()
        #: Called when whole frames are left in the receive buffer, where no poll can see them.
        self.on_leftover: Callable[[], Any] | None = None
        #: What dispatches events: ``drain(timeout, max_events)``.  Straight to the receive loop, once there is one,
        #: unless a subclass wants to see it.
        self.drain: Callable[..., int] = self.drain_events
        # The two seams that amqp.Connection.connect() would use stay unused: connect() is ours.
        super().__init__(*args, channel_max=channel_max, frame_max=frame_max, **kwargs)
        self._used_channel_ids = ChannelIds()

    # -- opening

    def connect(self, callback: Callable[[], Any] | None = None) -> Any:
        """Connect and shake hands, within ``connect_timeout`` seconds for each address and again for the handshake.

        Raises:
            socket.timeout: it took longer.
            OSError: no connection could be made, or the peer closed it.
            amqp.exceptions.ConnectionError: the peer refused.
        """
        if self.connected:
            return callback() if callback else None
        try:
            self.transport = self.Transport(
                self.host,
                self.connect_timeout,
                self.ssl,
                self.read_timeout,
                self.write_timeout,
                socket_settings={**_SOCKET_SETTINGS, **(self.socket_settings or {})},
            )
            self.transport.connect()
            self._open_link(self.transport.sock)
            deadline = None if self.connect_timeout is None else monotonic() + self.connect_timeout
            while not self._handshake_complete:
                self.drain_events(None if deadline is None else max(0.0, deadline - monotonic()))
        except BaseException:
            self.collect()
            raise
        self._receiver.heartbeat = self.heartbeat or 0
        return callback() if callback else None

    def _open_link(self, sock: Any) -> None:
        self._failure = None
        link = self._link = link_for(sock)
        writer = self._writer = output.Writer(link, self.ack_writes, self.write_timeout, self.window_writes)
        writer.on_failure = self._on_write_failure
        receiver = self._receiver = drain.Receiver(
            link, self.channels, self.on_inbound_method, writer, self.frame_max, self.max_body_size
        )
        receiver.read_timeout = self.read_timeout
        receiver.on_failure = self._on_read_failure
        receiver.send_heartbeat = writer.write_heartbeat
        receiver.frames_sent = writer.count
        self.frame_writer = writer
        if type(self).drain_events is Connection.drain_events:
            self.drain = receiver.drain_events
        _connections.add(self)

    def _on_tune(self, channel_max: int, frame_max: int, server_heartbeat: int, argsig: str = "BlB") -> None:
        # What the user asked for may lower the server's limits, never raise them: section 1.4.2.6 of the specification.
        super()._on_tune(
            _lesser(channel_max, self._asked_channel_max), _lesser(frame_max, self._asked_frame_max), server_heartbeat
        )
        self._receiver.frame_max = self.frame_max

    # -- what arrives

    def drain_events(self, timeout: float | None = None, max_events: int = 1) -> int:
        """Dispatch up to *max_events* events and return how many; wait for the first at most *timeout* seconds.

        Further events are those that can be had without waiting; see ``Receiver.drain_events``.

        Raises:
            socket.timeout: nothing arrived in time.
            amqp.exceptions.RecoverableConnectionError: the connection was lost or closed before.
            OSError: the connection is lost.
            amqp.exceptions.AMQPError: the broker closed the connection or a channel, or sent what it must not.
        """
        receiver = self._receiver
        if receiver is None:
            self._refuse()
        return receiver.drain_events(timeout, max_events)  # type: ignore[no-any-return]

    def call_at_rest(self, function: Callable[[], Any]) -> None:
        """Have *function* called once :meth:`drain_events` has nothing left to dispatch, or is about to wait."""
        receiver = self._receiver
        if receiver is None:
            self._refuse()
        receiver.call_at_rest(function)

    def blocking_read(self, timeout: float | None = None) -> bool:
        """Dispatch one event; for callers of the ``amqp`` package's method of this name."""
        self.drain_events(timeout)
        return True

    def wait_for(self, ready: Callable[[], bool], timeout: float | None = None) -> None:
        """Wait until *ready()* holds while events are dispatched; see ``Receiver.wait_for``."""
        receiver = self._receiver
        if receiver is None:
            self._refuse()
        try:
            receiver.wait_for(ready, timeout)
        finally:
            if self.on_leftover is not None and self.has_leftover:
                self.on_leftover()

    @property
    def has_leftover(self) -> bool:
        """Whether something waits to be dispatched that no poll of the socket shows."""
        receiver, link = self._receiver, self._link
        if receiver is None or link is None or receiver.failure is not None:
            return False
        return receiver.buffered or link.holds_bytes()

    def on_inbound_method(self, channel_id: int, method_sig: tuple[int, int], payload: Any, content: Any) -> None:
        """Dispatch everything but deliveries; called by the receive loop."""
        if self.channels is None:
            self._refuse()
        try:
            channel = self.channels[channel_id]
        except KeyError:
            stray = ChannelNotOpen(f"Received method {method_sig!r} for channel {channel_id}, which is not open")
            self._receiver.fail(stray)
            raise stray from None
        if content is None:
            if method_sig == _ACK and channel_id and len(payload) == 13:
                # As many as there are publishes, in confirm mode.
                if not channel.is_closing:
                    channel._on_basic_ack(int.from_bytes(payload[4:12], "big"), payload[12] & 1 == 1)
                return
            try:
                arguments = channel.decode_method(method_sig, payload)
            except IrrecoverableConnectionError as error:
                self._receiver.fail(error)
                raise
            channel.deliver_method(method_sig, arguments)
        else:
            channel.deliver_content(method_sig, payload, content)

    def deliver_content(self, method_sig: tuple[int, int], payload: Any, content: Any) -> NoReturn:
        """Refuse content on channel 0, which the receive loop does not let through."""
        raise ChannelNotOpen(f"Received content with method {method_sig!r} on channel 0")

    def report(self, channel: Any, error: BaseException) -> None:
        """Raise *error*, which is about *channel*, unless this thread waits for a reply on another channel.

        Then the reply goes first, and the error is raised when events are drained next, or the channel is used.
        """
        if not channel.waited_for_here() and any(
            other.waited_for_here() for other in list((self.channels or {}).values())
        ):
            self._unreported.append((channel, error))
            self._receiver.on_drain = self.raise_unreported
        else:
            raise error

    def raise_unreported(self, channel: Any = None) -> None:
        """Raise the first error, of *channel* or any, that nobody has been told of, if there is one."""
        for owner, error in list(self._unreported):
            if channel is None or owner is channel:
                try:
                    self._unreported.remove((owner, error))
                except ValueError:
                    continue  # another thread raises it
                if not self._unreported:
                    self._receiver.on_drain = None
                raise error

    def read_waiting(self) -> None:
        """Dispatch what has arrived, where no consumer's callback could run by that, and no other thread is at it."""
        receiver = self._receiver
        if receiver is None or self.receives:
            return
        try:
            receiver.drain_events(0, READ_AT_ONCE)
        except TimeoutError:
            return

    @property
    def receives(self) -> bool:
        """Whether a channel of this connection has consumers."""
        channels = self.channels
        return any(channel.callbacks for number, channel in list(channels.items()) if number) if channels else False

    def check_alive(self) -> None:
        """Notice, without waiting, that the peer has closed the connection or a channel.

        Looks at what has arrived, and dispatches it where no consumer's callback could run by that.

        Raises:
            OSError: the connection is lost.
            amqp.exceptions.AMQPError: the broker closed the connection or a channel.
        """
        receiver, link = self._receiver, self._link
        if receiver is None or link is None:
            self._refuse()
        if not self.receives:
            receiver.serve_waiting()
        elif link.peer_has_left():
            lost = OSError("Server unexpectedly closed connection")
            receiver.fail(lost)
            raise lost

    # -- liveness

    @property
    def connected(self) -> bool:
        """Whether the connection is open as far as is known."""
        return bool(self._transport and self._transport.connected)

    @property
    def bytes_recv(self) -> int:
        """Frames received so far; the name is the ``amqp`` package's."""
        return self._receiver.frames_received if self._receiver is not None else 0

    @property
    def bytes_sent(self) -> int:
        """Writes so far; the name is the ``amqp`` package's."""
        return self._writer.frames_sent if self._writer is not None else 0

    def send_heartbeat(self) -> None:
        """Send a heartbeat frame."""
        if self._writer is None:
            self._refuse()
        self._writer.write_heartbeat()

    def heartbeat_tick(self, rate: int = 2) -> None:
        """Send a heartbeat if one is due and raise if the peer has fallen silent.

        :meth:`drain_events` does this by itself; call it, about once a second, where nothing drains.

        Raises:
            amqp.exceptions.ConnectionForced: nothing arrived for two heartbeat intervals.
        """
        receiver = self._receiver
        if self.heartbeat and receiver is not None and receiver.failure is None:
            receiver.tick()

    def _on_blocked(self, reason: str = "") -> Any:
        self.blocked = True
        self.blocked_reason = reason
        if self.on_blocked:
            return self.on_blocked(reason or "connection blocked, see broker logs")
        return None

    def _on_unblocked(self) -> Any:
        self.blocked = False
        self.blocked_reason = None
        if self.on_unblocked:
            return self.on_unblocked()
        return None

    # -- losing the connection

    def _refuse(self) -> NoReturn:
        failure = self._failure
        text = "connection already closed" if failure is None else f"connection already closed: {failure}"
        raise RecoverableConnectionError(text) from failure

    def _on_read_failure(self, error: BaseException) -> None:
        self._failure = error
        self._hang_up()
        for number, channel in list((self.channels or {}).items()):
            # Whoever waits for an answer raises this by itself, but promises have nobody who waits.
            if number and channel.confirm_window is not None:
                channel.abandon_confirms(error)

    def _on_write_failure(self, error: BaseException) -> None:
        if not isinstance(error, OSError):
            # We cut a frame short, and nothing that the peer says can mend that; whoever reads has to know, too.
            self._receiver.fail(error)
            return
        # What the peer said before it went may still be unread, so the reading side decides when it is over.
        if self._failure is None:
            self._failure = error
        if self._transport is not None:
            self._transport.connected = False

    def _hang_up(self) -> None:
        """Close the socket, waking whoever waits on it."""
        writer, link = self._writer, self._link
        if writer is not None and writer.failure is None:
            writer.failure = self._failure or RecoverableConnectionError("connection already closed")
        transport = self._transport
        if link is None or transport is None:
            return
        link.closed = True
        # Who closes and who drains may both be here.
        with link.guard:
            sock = transport.sock
            if sock is not None and sock.fileno() < 0:
                # Somebody else has closed it, so that TLS has nothing to say goodbye with.
                transport.sock = None
            elif sock is not None:
                # TLS would wait for the peer to say goodbye, as long as a timeout allows that somebody has put there.
                sock.setblocking(False)
            transport.close()

    def collect(self) -> None:
        """Close the socket and drop every channel, without a word to the peer."""
        if self._failure is None:
            self._failure = RecoverableConnectionError("connection closed by the application")
        receiver = self._receiver
        if receiver is not None and receiver.failure is None:
            receiver.fail(self._failure)
        self._hang_up()
        for number, channel in list((self.channels or {}).items()):
            if number:
                channel.collect()
                channel.connection = None
        self._transport = self.connection = self.channels = None

    def _on_close(self, reply_code: int, reply_text: str, class_id: int, method_id: int) -> None:
        error = error_for_code(reply_code, reply_text, (class_id, method_id), ConnectionError)
        try:
            self._writer.write([frames.encode_method(0, *spec.Connection.CloseOk, b"")], self.close_timeout)
        except (OSError, amqp.ConnectionError):
            # The peer need not wait for our agreement; why it closed is what the caller has to hear.
            self._failure = error
        self._receiver.fail(error)
        self.collect()
        raise error

    def close(
        self,
        reply_code: int = 0,
        reply_text: str = "",
        method_sig: tuple[int, int] = (0, 0),
        argsig: str = "BsBB",
    ) -> None:
        """Close the connection: in any state, any number of times, within ``close_timeout`` seconds."""
        if self._transport is None:
            return
        if not self.connected:
            self.collect()
            return
        self.is_closing = True
        # The broker gives to others what still comes, so nobody is to act on it here.
        for number, channel in list(self.channels.items()):
            if number:
                channel.callbacks.clear()
        try:
            arguments = frames.encode_arguments(argsig, (reply_code, reply_text, *method_sig))
            farewell = frames.encode_method(0, *spec.Connection.Close, arguments)
            self.request(self.closings, farewell, spec.Connection.CloseOk, self.close_timeout)
        except (OSError, amqp.AMQPError) as error:
            # The peer does not answer, left or closed first: in any case there is nobody left to agree with.
            logger.debug("closing %r: %r", self, error)
        finally:
            self.is_closing = False
            self.collect()

    def wait(self, method: Any, callback: Any = None, timeout: float | None = None, returns_tuple: bool = False) -> Any:
        """Wait for *method* on channel 0; see :meth:`.waiting.AwaitsReplies.wait`."""
        return super().wait(method, callback, timeout, returns_tuple)

    def _on_close_ok(self) -> None:
        # close() lets go of the connection.  Whoever else drains it shall not hear of a peer that left.
        if self.is_closing:
            self._receiver.fail(RecoverableConnectionError("connection closed by the application"))

    # -- channels

    def _get_free_channel_id(self) -> int:
        channel_id = self._used_channel_ids.take(self.channel_max)
        if channel_id is None:
            raise ResourceError(
                f"No free channel ids, current={len(self._used_channel_ids)}, channel_max={self.channel_max}",
                spec.Channel.Open,
            )
        return channel_id

    def _claim_channel_id(self, channel_id: int) -> int:
        if not self._used_channel_ids.claim(channel_id):
            raise ConnectionError(f"Channel {channel_id!r} already open")
        return channel_id

    def channel(self, channel_id: int | None = None, callback: Callable[..., Any] | None = None) -> Any:
        """Return the channel of that number, opening it if it is not open; without a number, open a new one.

        Raises:
            amqp.exceptions.RecoverableConnectionError: the connection is closed.
            amqp.exceptions.ResourceError: all channel numbers are in use.
        """
        channels = self.channels
        if channels is None:
            self._refuse()
        if channel_id is not None and channel_id in channels:
            return channels[channel_id]
        channel = self.Channel(self, channel_id, on_open=callback)
        try:
            channel.open()
        except BaseException:
            channel.withdraw()
            raise
        return channel

    # -- fork

    def _abandon(self) -> None:
        """Let go of the parent process's connection; runs in the child, right after the fork."""
        self._failure = RecoverableConnectionError(
            f"the connection belongs to the parent process {os.getppid()}; this process has to make its own"
        )
        receiver, writer, link = self._receiver, self._writer, self._link
        if receiver is not None:
            receiver.reset_locks()
            receiver.failure = self._failure
        if writer is not None:
            writer.reset_lock()
            writer.failure = self._failure
            writer.unpushed = 0.0
        if link is not None:
            link.closed = True
            link.reset_guard()
        transport = self._transport
        if transport is not None:
            transport.connected = False
            if transport.sock is not None:
                # The child's descriptor alone: a shutdown, or TLS's farewell, would reach the parent's peer.
                transport.sock.close()
                transport.sock = None


def _abandon_all() -> None:
    for connection in list(_connections):
        connection._abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
