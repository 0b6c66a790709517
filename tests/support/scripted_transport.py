"""A transport without a broker: connecting, opening channels and draining succeed or fail as a script says."""

from __future__ import annotations

import os
import pickle
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from amqp.exceptions import ChannelError, ConnectionError, RecoverableChannelError, RecoverableConnectionError

from kombu import Connection
from kombu.transport.base import Implements, StdChannel

__all__ = ("Broker", "Clock", "ForkUnaware", "NoCollect", "Scripted", "Trusted", "Undecided", "connection_to", "forked")


class Broker:
    """What the transport connects to, and what is seen there.

    ``down`` holds the names of hosts that refuse connections. ``failures[name]`` is a list of exceptions for the next
    calls of that name (``connect``, ``channel``, ``drain``, ``heartbeat``); None lets one pass. ``hooks[name]`` is
    called in the next call of that name.
    """

    def __init__(self, *down: str) -> None:
        self.down = set(down)
        self.failures: dict[str, list[BaseException | None]] = {}
        self.fatal: dict[str, BaseException] = {}
        self.hooks: dict[str, Callable[[], Any]] = {}
        self.log: list[tuple[Any, ...]] = []
        self.connections: list[RawConnection] = []
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        return "<Broker>"

    def note(self, *entry: Any) -> None:
        with self.lock:
            self.log.append(entry)
            failures = self.failures.get(entry[0])
            failure = failures.pop(0) if failures else None
            if entry[0] in self.fatal:
                failure = self.fatal.pop(entry[0])
                self.cut()
            hook = self.hooks.pop(entry[0], None)
        if hook is not None:
            hook()
        if failure is not None:
            raise failure

    def seen(self, *names: str) -> list[Any]:
        """Return what was noted under *names*: the second word of each entry."""
        return [entry[1] if len(entry) > 1 else entry[0] for entry in self.log if entry[0] in names]

    @property
    def open(self) -> list[RawConnection]:
        """The connections that are open."""
        return [connection for connection in self.connections if connection.alive]

    def cut(self) -> None:
        """Lose all connections."""
        for connection in self.connections:
            connection.alive = False

    def cut_with(self, name: str, failure: BaseException) -> None:
        """Lose all connections in the next call of *name*, which raises *failure*."""
        self.fatal[name] = failure


class Channel(StdChannel):
    """A channel that can be open, or closed by either side."""

    def __init__(self, connection: RawConnection) -> None:
        self.connection: Any = connection
        self.is_open = True
        self.channel_id = len(connection.channels) + 1

    def close(self) -> None:
        broker = self.connection.broker if self.connection else None
        self.is_open, self.connection = False, None
        if broker:
            broker.note("close channel", self.channel_id)

    def cut(self) -> None:
        """Be closed by the broker."""
        self.is_open = False


class RawConnection:
    """What the transport makes a connection of."""

    def __init__(self, client: Connection, broker: Broker) -> None:
        self.client, self.broker = client, broker
        self.host = client.hostname
        self.alive = True
        self.pid = os.getpid()
        self.channels: list[Channel] = []
        self.waiting: deque[Any] = deque()


class Undecided:
    """The transport, which does not say which of its errors are recoverable, and can only close in an orderly way.

    The broker is found in ``transport_options["broker"]``.
    """

    client: Any = None
    can_parse_url = False
    default_port = 4000
    driver_type = driver_name = "scripted"
    connection_errors: Any = (ConnectionError, OSError)
    channel_errors: Any = (ChannelError,)
    implements = Implements(asynchronous=False, heartbeats=True, exchange_type=frozenset(["direct", "topic"]))
    manager = "the manager"

    def __init__(self, client: Connection, **kwargs: Any) -> None:
        self.client = client

    @property
    def broker(self) -> Broker:
        return self.client.transport_options["broker"]

    @property
    def default_connection_params(self) -> dict[str, Any]:
        return {"hostname": "localhost", "port": self.default_port, "userid": "guest", "password": "guest"}

    def establish_connection(self) -> RawConnection:
        client, broker = self.client, self.broker
        broker.note("connect", client.hostname)
        if client.hostname in broker.down:
            raise ConnectionRefusedError(111, f"{client.hostname} is down")
        connection = RawConnection(client, broker)
        broker.connections.append(connection)
        return connection

    def verify_connection(self, connection: RawConnection) -> bool:
        return connection.alive

    def create_channel(self, connection: RawConnection) -> Channel:
        connection.broker.note("channel", connection.host)
        channel = Channel(connection)
        connection.channels.append(channel)
        return channel

    def drain_events(self, connection: RawConnection, **kwargs: Any) -> Any:
        connection.broker.note("drain", kwargs)
        if not connection.alive:
            # As some transports do: what was lost is made again without a word.
            connection.alive = True
            connection.broker.note("silent reconnect")
        if not connection.waiting:
            raise TimeoutError("timed out")
        return connection.waiting.popleft()

    def heartbeat_check(self, connection: RawConnection, rate: int = 2) -> None:
        connection.broker.note("heartbeat", rate)

    def get_heartbeat_interval(self, connection: RawConnection) -> float:
        return 7.5

    def register_with_event_loop(self, connection: RawConnection, loop: Any) -> None:
        loop.append(connection)

    def qos_semantics_matches_spec(self, connection: RawConnection) -> bool:
        return connection.alive

    def get_manager(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    def close_connection(self, connection: RawConnection) -> None:
        connection.broker.note("close", connection.pid == os.getpid())
        connection.alive = False


class NoCollect(Undecided):
    """A transport that says which of its errors are recoverable."""

    recoverable_connection_errors: Any = (RecoverableConnectionError, OSError)
    recoverable_channel_errors: Any = (RecoverableChannelError,)


class Scripted(NoCollect):
    """A transport that can let go of a connection without closing it."""

    def _collect(self, connection: RawConnection | None) -> None:
        if connection is not None:
            connection.broker.note("collect", connection.pid == os.getpid())
            connection.alive = False
            for channel in connection.channels:
                channel.is_open, channel.connection = False, None


class Trusted(Scripted):
    """A transport that refuses to drain what is lost."""

    refuses_lost_connections = True


class ForkUnaware(NoCollect):
    """A transport that knows nothing of forks."""

    def __del__(self) -> None:
        # Emulated brokers give back messages here.
        if self.client is not None:
            self.broker.note("finalized", os.getpid())


def connection_to(broker: Broker, hostname: Any = "one", *, transport: Any = Scripted, **kwargs: Any) -> Connection:
    """Return a connection to *broker*; a name of several hosts has ``;`` in it."""
    options = {"broker": broker, **kwargs.pop("transport_options", {})}
    return Connection(hostname, transport=transport, transport_options=options, **kwargs)


class Clock:
    """Time that passes only while somebody sleeps, in place of the module's own functions."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    @property
    def slept(self) -> float:
        return sum(self.naps)


def forked(function: Callable[[], Any]) -> Any:
    """Call *function* in a forked child, and return what it returned there."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        try:
            answer = pickle.dumps((True, function()))
        except BaseException as exc:
            answer = pickle.dumps((False, repr(exc)))
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        fine, answer = pickle.loads(pipe.read())
    os.waitpid(pid, 0)
    assert fine, answer
    return answer
