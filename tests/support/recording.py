"""A channel and a connection that write down what they are asked, and fail and deliver as told."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from kombu.channels import ConnectionMarker
from kombu.exceptions import OperationalError

__all__ = ("Call", "RecordingChannel", "RecordingConnection", "Raw")


class ConnectionLost(OSError):
    """What the recording connection has for connection errors."""


class ChannelClosed(LookupError):
    """What the recording connection has for channel errors."""


class Call:
    """One call of a channel's method."""

    def __init__(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.name, self.args, self.kwargs = name, args, kwargs

    def __repr__(self) -> str:
        return f"{self.name}{self.args}{self.kwargs}"


class Raw:
    """What stands for a transport's own connection."""

    def __init__(self, client: RecordingConnection) -> None:
        self.client = client


class RecordingChannel:
    """Answer every method of a channel and keep the calls.

    ``failures[name]`` is a list of exceptions that the next calls of that method raise; None lets one call pass.
    """

    channel_id = 1
    no_ack_consumers: Any = frozenset()

    def __init__(self, client: RecordingConnection | None = None) -> None:
        self.connection: Any = Raw(client or RecordingConnection())
        self.calls: list[Call] = []
        self.failures: dict[str, list[BaseException | None]] = {}
        self.events: dict[str, set[Any]] = {"basic_return": set()}
        self.callbacks: dict[str, Any] = {}
        self.on_cancel: dict[str, Any] = {}
        self.waiting: deque[Any] = deque()

    def _called(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.calls.append(Call(name, args, kwargs))
        failures = self.failures.get(name)
        if failures:
            failure = failures.pop(0)
            if failure is not None:
                raise failure

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("basic_", "exchange_", "queue_", "after_", "flow")):
            return lambda *args, **kwargs: self._called(name, *args, **kwargs)
        raise AttributeError(name)

    def queue_declare(self, **kwargs: Any) -> tuple[str, int, int]:
        self._called("queue_declare", **kwargs)
        return kwargs["queue"] or "amq.gen-1", 2, 0

    def queue_purge(self, **kwargs: Any) -> int:
        self._called("queue_purge", **kwargs)
        return 2

    def prepare_queue_arguments(self, arguments: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return dict(arguments)

    def prepare_message(self, *args: Any, **kwargs: Any) -> Any:
        self._called("prepare_message", *args, **kwargs)
        return args

    def basic_consume(self, **kwargs: Any) -> None:
        self._called("basic_consume", **kwargs)
        self.callbacks[kwargs["consumer_tag"]] = kwargs["callback"]
        self.on_cancel[kwargs["consumer_tag"]] = kwargs["on_cancel"]

    def basic_cancel(self, consumer_tag: str) -> None:
        self._called("basic_cancel", consumer_tag)
        self.callbacks.pop(consumer_tag, None)

    def basic_get(self, **kwargs: Any) -> Any:
        self._called("basic_get", **kwargs)
        return self.waiting.popleft() if self.waiting else None

    def close(self) -> None:
        self._called("close")
        self.connection = None

    # -- what tests look at

    def names(self, *only: str) -> list[str]:
        """Return the names of the calls, or of those among *only*."""
        return [call.name for call in self.calls if not only or call.name in only]

    def of(self, name: str) -> list[Call]:
        """Return the calls of one method."""
        return [call for call in self.calls if call.name == name]

    def published(self) -> list[Any]:
        """Return the arguments of prepare_message for each published message."""
        return [call.args[0] for call in self.of("basic_publish")]

    def deliver(self, message: Any, tag: str | None = None) -> Any:
        """Hand *message* to the consumer with this tag, or to the only one."""
        if tag is None:
            (tag,) = self.callbacks
        return self.callbacks[tag](message)


class RecordingConnection(ConnectionMarker):
    """Make channels, and drain what it was given: messages to deliver and exceptions to raise, one at a time.

    ``ensure`` repeats an operation after connection errors, on a new channel, and counts.
    """

    connection_errors = recoverable_connection_errors = (ConnectionLost,)
    channel_errors = recoverable_channel_errors = (ChannelClosed,)

    def __init__(self) -> None:
        self.declared_entities: set[int] = set()
        self.transport_options: dict[str, Any] = {}
        self.channels: list[RecordingChannel] = []
        self.events: deque[Any] = deque()
        self.timeouts: list[Any] = []
        self.counts: Counter[str] = Counter()
        self.policies: list[dict[str, Any]] = []
        self.released = 0

    def channel(self) -> RecordingChannel:
        channel = RecordingChannel(self)
        self.channels.append(channel)
        return channel

    @property
    def default_channel(self) -> RecordingChannel:
        if not self.channels or self.channels[-1].connection is None:
            self.channel()
        return self.channels[-1]

    def reconnect(self) -> RecordingChannel:
        """Lose the connection and make a new one."""
        self.declared_entities.clear()
        for channel in self.channels:
            channel.connection = None
        return self.channel()

    def ensure(self, obj: Any, fun: Any, max_retries: int | None = None, **policy: Any) -> Any:
        self.policies.append({"max_retries": max_retries, **policy})

        def ensured(*args: Any, **kwargs: Any) -> Any:
            retries = 0
            self.counts["operations"] += 1
            while True:
                self.counts["attempts"] += 1
                try:
                    return fun(*args, **kwargs)
                except self.connection_errors as exc:
                    if max_retries is not None and retries >= max_retries:
                        raise OperationalError(str(exc)) from exc
                    retries += 1
                    obj.revive(self.reconnect())

        return ensured

    def drain_events(self, timeout: float | None = None) -> Any:
        self.timeouts.append(timeout)
        if not self.events:
            raise TimeoutError("timed out")
        event = self.events.popleft()
        if isinstance(event, BaseException):
            raise event
        return event() if callable(event) else event

    def release(self) -> None:
        self.released += 1
