"""One client of the scripted peer: what it sent, and what to send it."""

from __future__ import annotations

import itertools
import queue
import select
import socket
import ssl
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import wire
from answers import take_note
from wire import Frame, Method, ProtocolViolation

if TYPE_CHECKING:
    from peer import Peer

#: Seconds that a wait takes at most unless the test says otherwise: a bound against hanging, not an expectation.
PATIENCE = 30.0


class Session:
    """One client's connection, seen from the server.

    Attributes:
        peer: the :class:`Peer`.
        opened: whether ``connection.open`` was answered.
        ended: whether the client has closed its side or is gone.
        client_properties, virtual_host, mechanism, response: what the client said in the handshake.
        frame_max, heartbeat_interval, channel_max: what its ``connection.tune-ok`` chose.
        consumers: consumer tag to channel number, as consumed and not cancelled.
        confirming: channel number to the last publish's delivery tag, for channels in confirm mode.
        frames, bytes: numbers of frames and octets received.
        heartbeats: monotonic times at which heartbeat frames arrived.
        last_frame: monotonic time of the last frame of any type.
    """

    def __init__(self, peer: Peer, connected: socket.socket) -> None:
        self.peer = peer
        self.opened = False
        self.ended = False
        self.client_properties: dict[str, Any] = {}
        self.mechanism = self.virtual_host = ""
        self.response = b""
        self.frame_max, self.heartbeat_interval, self.channel_max = peer.frame_max, 0, 0
        self.consumers: dict[str, int] = {}
        self.confirming: dict[int, int] = {}
        self._methods: list[Method] = []
        self.frames = self.bytes = 0
        self.heartbeats: list[float] = []
        self.last_frame = 0.0
        self.delivery_tags: Counter[int] = Counter()
        self.names = itertools.count(1)
        self._socket = connected
        self._socket_lock = threading.Lock()  # two threads must not be in one TLS socket at once
        self._buffer = bytearray()
        self._by_name: defaultdict[str, list[Method]] = defaultdict(list)
        self._claimed: Counter[str] = Counter()
        self._assemblies: dict[int, wire.Assembly] = {}
        self._reading = threading.Event()
        self._reading.set()
        self._ready = threading.Event()
        self._stopping = False
        self._actions: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._pending = 0
        self._reader = threading.Thread(target=self._read, name="peer-read", daemon=True)
        self._writer = threading.Thread(target=self._write, name="peer-write", daemon=True)

    # -- what arrived

    def expect(self, name: str, timeout: float = PATIENCE, **args: Any) -> Method:
        """Return the next method of this name that no earlier call returned, waiting for it.

        Methods of other names stay where they are, so calls for different names do not depend on their order.

        Args:
            args: values that its arguments have to have.

        Raises:
            TimeoutError: none came in time; the text says what did.
            AssertionError: it came with other arguments.
        """
        try:
            self.wait(lambda: len(self._by_name[name]) > self._claimed[name], timeout, name)
        except TimeoutError as exc:
            arrived = ", ".join(method.name for method in self.methods[-20:])
            raise TimeoutError(f"{exc}; the last methods were: {arrived or 'none'}") from None
        method = self._by_name[name][self._claimed[name]]
        self._claimed[name] += 1
        for argument, value in args.items():
            assert method.args[argument] == value, f"{name} has {argument}={method.args[argument]!r}, not {value!r}"
        return method

    def arrived(self, name: str) -> list[Method]:
        """Return all methods of this name so far, in order."""
        with self.peer.changed:
            return list(self._by_name[name])

    @property
    def methods(self) -> list[Method]:
        """Every method received, contents included, in order."""
        with self.peer.changed:
            return list(self._methods)

    def wait(self, condition: Callable[[], object], timeout: float = PATIENCE, what: str = "a condition") -> None:
        """Wait until *condition*, checked whenever something arrives, is true (see :meth:`Peer.wait`)."""
        self.peer.wait(condition, timeout, what)

    def wait_for(self, name: str, count: int, timeout: float = PATIENCE) -> list[Method]:
        """Wait until *count* methods of this name have arrived, and return all of them."""
        self.wait(lambda: len(self._by_name[name]) >= count, timeout, f"{count} of {name}")
        return self.arrived(name)

    def wait_ended(self, timeout: float = PATIENCE) -> None:
        """Wait until the client has closed its side or is gone."""
        self.wait(lambda: self.ended, timeout, "the client to go")

    def pause_reading(self) -> None:
        """Leave what the client sends in the kernel from now on, until its buffers are full and its writes block."""
        self._reading.clear()

    def resume_reading(self) -> None:
        """Read again after :meth:`pause_reading`."""
        self._reading.set()

    # -- what to send

    def send_raw(self, data: bytes, *, cut: int | Iterable[int] | None = None, pause: float = 0.0) -> None:
        """Queue octets as they are.

        Args:
            cut: size of the pieces in octets, or the sizes of the first ones (the rest follows as one); each piece
                is a ``send`` of its own.
            pause: seconds between two pieces.
        """
        for position, piece in enumerate(_pieces(bytes(data), cut)):
            if position and pause:
                self.pause(pause)
            self._queue(partial(self._send, piece))

    def send_frame(self, type_: int, channel: int, payload: bytes, **how: Any) -> None:
        """Queue one frame; *how* as in :meth:`send_raw`."""
        self.send_raw(wire.frame(type_, channel, payload), **how)

    def send_method(self, name: str, channel: int = 0, **args: Any) -> None:
        """Queue a method without content; arguments that are not given are empty, zero or false."""
        self.send_raw(wire.method(name, channel, **args))

    def send_content(
        self,
        name: str,
        body: bytes = b"",
        *,
        channel: int = 1,
        properties: dict[str, Any] | None = None,
        cut: int | Iterable[int] | None = None,
        pause: float = 0.0,
        **args: Any,
    ) -> None:
        """Queue a method with its content: ``basic.deliver``, ``basic.get-ok`` or ``basic.return``."""
        frames = [wire.method(name, channel, **args)]
        frames += wire.content(channel, properties or {}, body, self.frame_max or 131072)
        self.send_raw(b"".join(frames), cut=cut, pause=pause)

    def send_delivery(
        self,
        body: bytes = b"",
        *,
        channel: int | None = None,
        consumer_tag: str | None = None,
        delivery_tag: int | None = None,
        cut: int | Iterable[int] | None = None,
        pause: float = 0.0,
        **more: Any,
    ) -> int:
        """Queue a ``basic.deliver`` and return its delivery tag.

        Args:
            channel, consumer_tag: where to; by default the consumer that came first and is there still.
            delivery_tag: the next one of the channel by default.
            cut, pause: as in :meth:`send_raw`.
            more: ``redelivered``, ``exchange``, ``routing_key``, and ``properties`` (a dictionary).
        """
        tag, data = self.delivery(
            body, channel=channel, consumer_tag=consumer_tag, delivery_tag=delivery_tag, **more
        )
        self.send_raw(data, cut=cut, pause=pause)
        return tag

    def delivery(
        self,
        body: bytes = b"",
        *,
        channel: int | None = None,
        consumer_tag: str | None = None,
        delivery_tag: int | None = None,
        properties: dict[str, Any] | None = None,
        **args: Any,
    ) -> tuple[int, bytes]:
        """Return delivery tag and octets of what :meth:`send_delivery` would send, to be spoilt, cut or joined."""
        if consumer_tag is None:
            consumer_tag = next((t for t, c in self.consumers.items() if channel in (None, c)), "")
        if channel is None:
            channel = self.consumers.get(consumer_tag, 1)
        if delivery_tag is None:
            self.delivery_tags[channel] += 1
            delivery_tag = self.delivery_tags[channel]
        head = wire.method(
            "basic.deliver", channel, consumer_tag=consumer_tag, delivery_tag=delivery_tag, **args
        )
        content = wire.content(channel, properties or {}, body, self.frame_max or 131072)
        return delivery_tag, head + b"".join(content)

    def ack(self, delivery_tag: int, *, multiple: bool = False, channel: int = 1) -> None:
        """Queue a publisher's confirm."""
        self.send_method("basic.ack", channel, delivery_tag=delivery_tag, multiple=multiple)

    def nack(self, delivery_tag: int, *, multiple: bool = False, channel: int = 1) -> None:
        """Queue a publisher's negative confirm."""
        self.send_method("basic.nack", channel, delivery_tag=delivery_tag, multiple=multiple)

    def heartbeat(self) -> None:
        """Queue a heartbeat frame."""
        self.send_raw(wire.HEARTBEAT_FRAME)

    def pause(self, seconds: float) -> None:
        """Queue a silence before whatever is queued next."""
        self._queue(partial(time.sleep, seconds))

    def close(self) -> None:
        """Queue an orderly end of the TCP connection (FIN), without any AMQP method."""
        self._queue(self._shut_down)

    def reset(self) -> None:
        """Queue an abrupt end of the TCP connection (RST)."""
        self._queue(self._reset)

    def flush(self, timeout: float = PATIENCE) -> None:
        """Wait until all that is queued has been handed to the kernel.

        Raises:
            TimeoutError: it has not, most likely since the client does not read.
        """
        self.wait(lambda: self._pending == 0 or self._stopping, timeout, f"{self._pending} queued writes")

    # -- the peer's side

    def start(self) -> None:
        """Begin to talk to the client."""
        self._reader.start()
        self._writer.start()

    def end(self) -> None:
        """Close the connection, whatever is queued, and wait for both threads."""
        self._stopping = True
        self._actions.put(None)
        self._wake_reader()
        for thread in (self._reader, self._writer):
            thread.join(PATIENCE)
        self._socket.close()

    # -- the writing thread

    def _queue(self, action: Callable[[], None]) -> None:
        with self.peer.changed:
            self._pending += 1
        self._actions.put(action)

    def _write(self) -> None:
        self._ready.wait()
        while (action := self._actions.get()) is not None:
            try:
                if not self._stopping:
                    action()
            except OSError:
                pass  # the client is gone; the reading thread sees it too and says so
            finally:
                with self.peer.changed:
                    self._pending -= 1
                    self.peer.changed.notify_all()

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._stopping:
            try:
                with self._socket_lock:
                    view = view[self._socket.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                select.select([], [self._socket], [], 0.1)

    def _shut_down(self) -> None:
        # Not SSLSocket's own method, which would make the reading thread take cipher text for frames.
        socket.socket.shutdown(self._socket, socket.SHUT_WR)

    def _reset(self) -> None:
        self._stopping = True
        # The kernel sends the RST when the last user of the socket is out of it.
        self._wake_reader()
        if threading.current_thread() is not self._reader:
            self._reader.join(PATIENCE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _wake_reader(self) -> None:
        self._reading.set()
        self._ready.set()
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_RD)
        except OSError:
            pass  # it is closed, or the client is gone

    # -- the reading thread

    def _read(self) -> None:
        try:
            if self.peer.tls_context is not None:
                self._socket.settimeout(PATIENCE)
                self._socket = self.peer.tls_context.wrap_socket(self._socket, server_side=True)
            self._socket.setblocking(False)
            self._ready.set()
            self._read_frames()
        except (OSError, EOFError):
            pass  # the client, or the test, ended the connection
        except BaseException as exc:
            self.peer.fault(exc)
            self._reset()
        finally:
            self._ready.set()
            with self.peer.changed:
                self.ended = True
                self.peer.changed.notify_all()

    def _read_frames(self) -> None:
        header = self._receive(len(wire.PROTOCOL_HEADER))
        if header != wire.PROTOCOL_HEADER:
            raise ProtocolViolation(f"a client began with {header!r}")
        self._handle(Method("protocol-header", 0, {}, time.monotonic()))
        while True:
            type_, channel, size = struct.unpack(">BHI", self._receive(7))
            if type_ not in (wire.METHOD, wire.HEADER, wire.BODY, wire.HEARTBEAT):
                raise ProtocolViolation(f"a frame of type {type_} on channel {channel}")
            if self.opened and self.frame_max and size + wire.OVERHEAD > self.frame_max:
                raise ProtocolViolation(f"a frame of {size + wire.OVERHEAD} octets where {self.frame_max} is the limit")
            payload = self._receive(size + 1)
            if payload[-1] != wire.FRAME_END:
                raise ProtocolViolation(f"a frame of type {type_} ends with 0x{payload[-1]:02x}")
            self._take(Frame(type_, channel, payload[:-1], time.monotonic()))

    def _receive(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._reading.wait()
            if self._stopping:
                raise EOFError
            try:
                with self._socket_lock:
                    part = self._socket.recv(262144)
            except (BlockingIOError, ssl.SSLWantReadError):
                select.select([self._socket], [], [], 0.1)
                continue
            if not part:
                raise EOFError
            self._buffer += part
            self.bytes += len(part)
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _take(self, frame: Frame) -> None:
        with self.peer.changed:
            self.frames += 1
            self.last_frame = frame.time
            if frame.type == wire.HEARTBEAT:
                self.heartbeats.append(frame.time)
            self.peer.changed.notify_all()
        if frame.type == wire.HEARTBEAT:
            return
        assembly = self._assemblies.get(frame.channel)
        if assembly is not None:
            if assembly.add(frame):
                del self._assemblies[frame.channel]
                self._handle(assembly.method)
        elif frame.type != wire.METHOD:
            raise ProtocolViolation(f"a frame of type {frame.type} on channel {frame.channel} without its method")
        else:
            method = wire.parse_method(frame)
            if method.name in wire.WITH_CONTENT:
                self._assemblies[frame.channel] = wire.Assembly(method)
            else:
                self._handle(method)

    def _handle(self, method: Method) -> None:
        handler = self.peer.handlers.get(method.name)
        # At once: who has the answer finds the method, and who has found the method comes after its answer.
        with self.peer.changed:
            take_note(self, method)
            if handler is not None:
                handler(self, method)
            self._methods.append(method)
            self._by_name[method.name].append(method)
            self.peer.changed.notify_all()


def _pieces(data: bytes, cut: int | Iterable[int] | None) -> Iterable[bytes]:
    if cut is None:
        return [data]
    if isinstance(cut, int):
        return [data[i : i + cut] for i in range(0, len(data), cut)]
    found, start = [], 0
    for size in cut:
        found.append(data[start : start + size])
        start += size
    return [piece for piece in [*found, data[start:]] if piece]
