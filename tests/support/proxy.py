"""A TCP proxy between a client and a real broker: what the broker says arrives in pieces, late, or not at all.

It knows nothing of AMQP or TLS, so both pass through it unharmed.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from patience import until

#: Bytes moved at once where nothing else is asked for.
AT_ONCE = 65536


class Proxy:
    """Listen on 127.0.0.1 and forward each connection to *port* there.

    Attributes:
        port: where it listens.
        silent: whether connections that come from now on hear nothing of the server (see :meth:`Pair.hold`).
        pairs: the connections so far, in the order in which they came.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.silent = False
        self.pairs: list[Pair] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name="proxy-accept").start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def url(self, url: str) -> str:
        """Return the broker's *url* with this proxy's port."""
        parts = urlsplit(url)
        user, _, _host = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{self.port}"))

    def pair(self, number: int = -1) -> Pair:
        """Return a connection through this proxy, waiting for it to come: the latest, or the *number*-th from 0."""
        least = 1 if number < 0 else number + 1
        until(lambda: len(self.pairs) >= least, what="a connection through the proxy")
        return self.pairs[number]

    def close(self) -> None:
        """Close everything."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # Closing it would not wake the thread that waits in accept(); one more client does.
            socket.create_connection(("127.0.0.1", self.port)).close()
            listener.close()
        for pair in self.pairs:
            pair.close()

    def _accept(self) -> None:
        listener = self._listener
        while True:
            try:
                client, _address = listener.accept()
            except OSError:
                return
            if self._listener is None:
                client.close()
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = Pair(client, server, held=self.silent)
            # Before anything goes through: who is connected finds its pair here.
            self.pairs.append(pair)
            pair.start()


class Pair:
    """One proxied connection.

    Attributes:
        sent: bytes that the client has sent.
        received: bytes that have been forwarded to the client.
        sent_at: monotonic times at which bytes of the client's came.
        client_gone: whether the client has closed its side.
        cut: called for each piece on its way to the client: the most bytes that it may have.
    """

    def __init__(self, client: socket.socket, server: socket.socket, held: bool = False) -> None:
        self.client = client
        self.server = server
        self.sent = self.received = 0
        self.sent_at: list[float] = []
        self.client_gone = self.closed = False
        self.cut: Callable[[], int] = lambda: AT_ONCE
        self._reading = threading.Event()
        self._reading.set()
        self._allowed: float = 0 if held else float("inf")
        # Counts what was said of it; a piece that is under way meanwhile is no part of what is allowed then.
        self._said = 0
        self._changed = threading.Condition()

    def start(self) -> None:
        """Begin to forward."""
        for target in (self._upstream, self._downstream):
            threading.Thread(target=target, daemon=True, name="proxy-pair").start()

    def hold(self) -> None:
        """Keep back what the server sends from now on."""
        with self._changed:
            self._allowed = 0
            self._said += 1

    def let(self, count: float) -> None:
        """Forward *count* more bytes of what is held back, and wait until they are with the client's kernel."""
        with self._changed:
            self._allowed += count
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: not self._allowed or self.closed, 15):
                raise TimeoutError(f"the server did not send {count} bytes; {self._allowed} are missing")

    def flow(self) -> None:
        """Forward everything again."""
        with self._changed:
            self._allowed = float("inf")
            self._said += 1
            self._changed.notify_all()

    def stall(self) -> None:
        """Read nothing more of what the client sends, until :meth:`read_on`; its writes will block."""
        self._reading.clear()

    def read_on(self) -> None:
        """Read again after :meth:`stall`."""
        self._reading.set()

    def reset(self) -> None:
        """End the client's side abruptly (RST) and the server's too."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self._reading.set()
        # The kernel sends the RST when the last user of the socket is out of it, and no FIN may come before.
        self.client.shutdown(socket.SHUT_RD)
        self.client.close()
        until(lambda: self.client_gone, what="the end of a connection")
        _shut_down(self.server)

    def close(self) -> None:
        """End both sides."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self._reading.set()
        for each in (self.client, self.server):
            _shut_down(each)

    def _upstream(self) -> None:
        while _await_bytes(self.client) and self._reading.wait() and (data := _read(self.client, AT_ONCE)):
            self.sent_at.append(time.monotonic())
            self.sent += len(data)
            if not _write(self.server, data):
                break
        self.client_gone = True
        _end_of_stream(self.server)

    def _downstream(self) -> None:
        while True:
            # What is not read here stays with the kernels, as it would on a slow line.
            if not _await_bytes(self.server):
                break
            with self._changed:
                self._changed.wait_for(lambda: self._allowed or self.closed)
                if self.closed:
                    return
                size, said = min(self.cut(), self._allowed), self._said
            data = _read(self.server, int(size))
            if not data or not _write(self.client, data):
                break
            with self._changed:
                self.received += len(data)
                if said == self._said:
                    self._allowed -= len(data)
                self._changed.notify_all()
        _end_of_stream(self.client)


def _await_bytes(sock: socket.socket) -> bool:
    while True:
        try:
            # Closing a socket does not wake whoever waits for it, so look up now and then.
            if select.select([sock], [], [], 0.5)[0]:
                return True
        except (OSError, ValueError):
            return False  # closed


def _read(sock: socket.socket, size: int) -> bytes:
    try:
        return sock.recv(size)
    except OSError:
        return b""


def _write(sock: socket.socket, data: bytes) -> bool:
    try:
        sock.sendall(data)
    except OSError:
        return False
    return True


def _end_of_stream(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it has ended already


def _shut_down(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended already
    sock.close()
