"""A scripted AMQP 0-9-1 server on loopback, for what a broker cannot be made to do on demand.

It answers every ordinary method by itself, so that a client can connect, declare and consume without a script, and
a test says only what is to be different::

    with Peer(frame_max=4096) as peer:
        connection = kombu.Connection(peer.url)
        ...                                             # connect, declare, consume
        session = peer.session()
        session.send_delivery(b"hello", cut=3, pause=0.01)   # three octets at a time
        connection.drain_events(timeout=1)
        ack = session.expect("basic.ack")
        assert ack.delivery_tag == 1

All ``send_*`` methods, :meth:`Session.heartbeat`, :meth:`Session.close` and :meth:`Session.reset` only *queue* what
they do; a thread of the session's carries it out in order.  So a test's own thread may queue a large body and then
be the client that reads it.  :meth:`Session.flush` waits until everything queued is with the kernel.

What breaks the protocol on the client's side (a wrong frame end, a frame above ``frame_max``, frames of two methods
mixed on a channel) is remembered and raised by :meth:`Peer.close`, which the ``with`` block calls: the test fails.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from answers import DEFAULT_HANDLERS, Handler
from certificates import Certificates
from session import PATIENCE, Session
from wire import Frame, Method, ProtocolViolation

__all__ = ["CAPABILITIES", "DEFAULT_HANDLERS", "Frame", "Method", "Peer", "ProtocolViolation", "Session"]

#: What a current RabbitMQ says it can do.
CAPABILITIES = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "consumer_priorities": True,
    "authentication_failure_close": True,
    "per_consumer_qos": True,
    "direct_reply_to": True,
}


class Peer:
    """A listening socket, and a :class:`Session` for each client that connects.

    Args:
        frame_max: largest frame in octets that ``connection.tune`` offers; 0 for no limit.
        heartbeat: heartbeat in seconds that ``connection.tune`` offers.
        channel_max: number of channels that ``connection.tune`` offers.
        capabilities: ``server_properties["capabilities"]``.
        server_properties: more server properties, or others than ``product`` and ``version``.
        mechanisms: what ``connection.start`` offers to log in with.
        tls: certificates to speak TLS with.

    Attributes:
        port: where it listens on 127.0.0.1.
        sessions: all clients so far, in the order in which they came.
        connections: how many sockets were accepted.
    """

    def __init__(
        self,
        *,
        frame_max: int = 131072,
        heartbeat: int = 0,
        channel_max: int = 2047,
        capabilities: dict[str, bool] | None = None,
        server_properties: dict[str, Any] | None = None,
        mechanisms: str = "PLAIN AMQPLAIN",
        tls: Certificates | None = None,
    ) -> None:
        self.frame_max = frame_max
        self.heartbeat = heartbeat
        self.channel_max = channel_max
        self.mechanisms = mechanisms
        self.server_properties: dict[str, Any] = {
            "product": "scripted peer",
            "version": "0.9.1",
            "capabilities": CAPABILITIES if capabilities is None else capabilities,
        } | (server_properties or {})
        self.tls = tls
        self.sessions: list[Session] = []
        self.connections = 0
        self.changed = threading.Condition()
        self.tls_context = tls.server_context() if tls is not None else None
        self.handlers: dict[str, Handler | None] = dict(DEFAULT_HANDLERS)
        self._faults: list[BaseException] = []
        self._listener: socket.socket | None = None
        self.port = 0
        self.listen()

    # -- addresses

    @property
    def host(self) -> str:
        """``127.0.0.1:port``, as ``amqp.Connection`` takes it."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL for ``kombu.Connection``; over TLS to be used with :attr:`options`."""
        return f"{'amqp' if self.tls is None else 'amqps'}://guest:guest@{self.host}//"

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments that ``kombu.Connection(peer.url, ...)`` needs."""
        return {} if self.tls is None else {"ssl": self.tls.client_options()}

    # -- life

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, kind: object, *_rest: object) -> None:
        # A test that has failed already is not helped by what its failure did to the protocol.
        self.close(check=kind is None)

    def listen(self) -> None:
        """Listen (again, on the same port); harmless while it does."""
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._accepter = threading.Thread(target=self._accept, args=(listener,), name="peer-accept", daemon=True)
        self._accepter.start()

    def refuse(self) -> None:
        """Stop listening: the next connect is refused; sessions that exist go on."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # Closing it would not wake the thread that waits in accept(); one more client does.
            socket.create_connection(("127.0.0.1", self.port)).close()
            self._accepter.join(PATIENCE)
            listener.close()

    def close(self, *, check: bool = True) -> None:
        """End everything; with *check* raise the first fault that a session met.

        Raises:
            ProtocolViolation: a client broke the protocol.
        """
        self.refuse()
        for session in self.sessions:
            session.end()
        if check and self._faults:
            raise self._faults[0]

    # -- script

    def on(self, name: str, handler: Handler | None) -> None:
        """Replace the answer to a method for all sessions.

        Args:
            name: a method such as ``"queue.declare"``, or ``"protocol-header"`` for a client's first eight octets.
            handler: called as ``handler(session, method)`` in the session's reading thread; ``None`` to stay silent.
                ``DEFAULT_HANDLERS[name]`` is the answer it replaces.
        """
        self.handlers[name] = handler

    def session(self, number: int = -1, timeout: float = PATIENCE) -> Session:
        """Return a session whose client has opened its connection: the latest, or the *number*-th from 0.

        Raises:
            TimeoutError: no client opened one in time.
        """
        least = 1 if number < 0 else number + 1
        self.wait(lambda: len(self._opened()) >= least, timeout, "a client to open a connection")
        return self._opened()[number]

    def wait(self, condition: Callable[[], object], timeout: float = PATIENCE, what: str = "a condition") -> None:
        """Wait until *condition*, checked whenever something arrives, is true.

        Raises:
            TimeoutError: after *timeout* seconds.
        """
        with self.changed:
            if not self.changed.wait_for(condition, timeout):
                raise TimeoutError(f"the peer waited {timeout} s for {what}")

    def _opened(self) -> list[Session]:
        return [session for session in self.sessions if session.opened]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connected, _address = listener.accept()
            if self._listener is not listener:
                connected.close()
                return
            session = Session(self, connected)
            with self.changed:
                self.connections += 1
                self.sessions.append(session)
                self.changed.notify_all()
            session.start()

    def fault(self, exc: BaseException) -> None:
        """Remember what a session met, for :meth:`close` to raise."""
        with self.changed:
            self._faults.append(exc)
            self.changed.notify_all()
