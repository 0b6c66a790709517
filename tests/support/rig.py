"""A receiver on one end of a socket pair, for tests of the receive loop; and threads that cannot hang a test."""

from __future__ import annotations

import select
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import wire
from patience import PATIENCE, Background
from streams import Channel

#: How a link may be used: on Windows its descriptor never is.
LINKS = ("object",) if sys.platform == "win32" else ("fd", "object")


class Link:
    """One end of a socket pair, as the receive loop takes it.

    Attributes:
        waits: the threads that are in :meth:`wait_readable` now; known on the object link only.
        reads: calls of :meth:`recv_into`; likewise.
    """

    def __init__(self, sock: socket.socket, plain: bool) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.plain_fd = sock.fileno() if plain else -1
        self.time_limit: float | None = None
        self.closed = False
        self.reads = 0
        self.waits: list[int] = []

    def recv_into(self, view: memoryview) -> int:
        self.reads += 1
        return self.sock.recv_into(view)

    def wait_readable(self, timeout: float | None) -> bool:
        if self.closed:
            raise OSError("the connection's socket has been closed")
        self.waits.append(threading.get_ident())
        try:
            return bool(select.select([self.sock], [], [], None if timeout is None else min(timeout, 1e6))[0])
        finally:
            self.waits.remove(threading.get_ident())


class Task(Background):
    """A function at work in a thread of its own, from the start."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__(function, *args)
        self.start()

    @property
    def ident(self) -> int:
        """The thread's number."""
        assert self._thread.ident is not None
        return self._thread.ident


class Rig:
    """A receiver on one end of a socket pair, and the other end.

    Attributes:
        got: bodies of the deliveries to consumer ``"c"`` on channel 1, with the thread that ran the callback.
        methods: what came through ``on_method``: channel and method.
        replies: numbers of the channels that a method came for.
    """

    def __init__(self, core: Any, plain: bool, output: Any = None) -> None:
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(True)
        self.link = Link(ours, plain)
        self.channels = {number: Channel(core, number) for number in range(1, 10)}
        self.methods: list[tuple[int, tuple[int, int]]] = []
        self.replies: set[int] = set()
        self.got: list[tuple[Any, int]] = []
        self.channels[1].callbacks["c"] = self.take
        self.on_reply: Callable[[int], Any] = lambda channel_id: None
        self.receiver = core.drain.Receiver(self.link, self.channels, self.on_method, output)

    def take(self, message: Any) -> None:
        self.got.append((message.body, threading.get_ident()))

    def on_method(self, channel_id: int, method: tuple[int, int], payload: Any, content: Any) -> None:
        self.on_reply(channel_id)
        self.methods.append((channel_id, method))
        self.replies.add(channel_id)

    def send(self, data: bytes) -> None:
        self.peer.sendall(data)

    def reply(self, channel_id: int) -> None:
        self.send(wire.method("queue.purge-ok", channel_id))

    def wait_for_reply(self, channel_id: int, timeout: float | None = PATIENCE) -> None:
        channel = self.channels[channel_id]
        channel.waiting_threads += (threading.get_ident(),)
        try:
            self.receiver.wait_for(lambda: channel_id in self.replies, timeout)
        finally:
            channel.waiting_threads = ()

    @property
    def bodies(self) -> list[Any]:
        return [body for body, _ in self.got]

    def close(self) -> None:
        self.peer.close()
        self.link.closed = True
        self.link.sock.close()
