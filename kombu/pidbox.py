"""Mailboxes for processes: send a command to nodes by name, by pattern or to all, and collect their replies."""

from __future__ import annotations

import socket
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from time import monotonic, time
from typing import Any

from .clocks import LamportClock
from .common import maybe_declare, oid_from
from .entity import Exchange, Queue
from .exceptions import InconsistencyError
from .log import get_logger
from .matcher import match
from .messaging import Consumer, Producer
from .utils.functional import maybe_evaluate, reprcall
from .utils.objects import cached_property
from .utils.uuid import uuid

__all__ = ("Node", "Mailbox")

#: Seconds after which the broker deletes a reply queue that nobody uses.
REPLY_QUEUE_EXPIRES = 10

W_PIDBOX_IN_USE = """\
A node named {node.hostname} is already using this process mailbox!

It may still be running, or it was not shut down properly.  If several nodes run on one host,
each of them needs a node name of its own.
"""

logger = get_logger(__name__)
debug, error = logger.debug, logger.error


class Node:
    """The receiving end: runs a handler for each command that is meant for it.

    Arguments:
        hostname: Name of the node.
        state: Passed to each handler as its first argument.
        channel: Channel to listen and reply on.
        handlers: Functions by the name of the command.
        mailbox: The :class:`Mailbox` that the node belongs to.
    """

    hostname: str | None = None
    mailbox: Any = None
    handlers: Any = None
    state: Any = None
    channel: Any = None

    def __init__(
        self, hostname: str, state: Any = None, channel: Any = None,
        handlers: dict[str, Callable[..., Any]] | None = None, mailbox: Any = None,
    ) -> None:
        self.hostname = hostname
        self.state = state
        self.channel = channel
        self.handlers = {} if handlers is None else handlers
        self.mailbox = mailbox
        self.adjust_clock = mailbox.clock.adjust

    def _warn_if_shared(self, name: str, messages: int, consumers: int) -> None:
        """The node's queue has been declared: nobody else should be consuming from it."""
        if consumers:
            warnings.warn(W_PIDBOX_IN_USE.format(node=self), stacklevel=2)

    def Consumer(self, channel: Any = None, no_ack: bool = True, accept: Any = None, **options: Any) -> Any:
        """Return a consumer of the node's queue; *options* are those of :class:`kombu.Consumer`.

        Warns when another node of the same name consumes from it, and raises
        :exc:`~kombu.exceptions.InconsistencyError` when that one has the queue to itself (405, resource locked).
        """
        mailbox = self.mailbox
        queue = mailbox.get_queue(self.hostname)
        queue.on_declared = self._warn_if_shared
        connection = mailbox.connection
        channel_errors = connection.channel_errors if connection else ()
        try:
            return Consumer(
                channel or self.channel, [queue], no_ack=no_ack,
                accept=mailbox.accept if accept is None else accept, **options,
            )
        except channel_errors as exc:
            if getattr(exc, "code", 0) != 405:
                raise
            raise InconsistencyError(W_PIDBOX_IN_USE.format(node=self)) from exc

    def handler(self, fun: Callable[..., Any]) -> Callable[..., Any]:
        """Register *fun* as the handler of the command of its name; usable as a decorator."""
        self.handlers[fun.__name__] = fun
        return fun

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """A command could not be decoded: log that."""
        error("Cannot decode message: %r", exc, exc_info=True)

    def listen(self, channel: Any = None, callback: Callable[[Any, Any], Any] | None = None) -> Any:
        """Start consuming commands and return the consumer; *callback* takes the place of :meth:`handle_message`."""
        consumer = self.Consumer(
            channel=channel, callbacks=[callback or self.handle_message], on_decode_error=self.on_decode_error,
        )
        consumer.consume()
        return consumer

    def dispatch(
        self, method: str, arguments: dict[str, Any] | None = None, reply_to: dict[str, str] | None = None,
        ticket: str | None = None, **kwargs: Any,
    ) -> Any:
        """Run the handler of *method*, send its result to *reply_to* if asked to, and return it.

        An exception other than :exc:`SystemExit` is logged, and ``{"error": repr(exc)}`` is the result.
        """
        arguments = arguments or {}
        debug(
            "pidbox received method %s [reply_to:%s ticket:%s]",
            reprcall(method, (), kwargs=arguments), reply_to, ticket,
        )
        handle = self.handle_call if reply_to else self.handle_cast
        try:
            reply = handle(method, arguments)
        except Exception as exc:
            error("pidbox command error: %r", exc, exc_info=True)
            reply = {"error": repr(exc)}
        if reply_to:
            self.reply(
                {self.hostname: reply}, exchange=reply_to["exchange"], routing_key=reply_to["routing_key"],
                ticket=ticket,
            )
        return reply

    def handle(self, method: str, arguments: dict[str, Any] | None = None) -> Any:
        """Call the handler of *method* with the node's state and *arguments* as keywords."""
        return self.handlers[method](self.state, **(arguments or {}))

    def handle_call(self, method: str, arguments: dict[str, Any]) -> Any:
        """Run a command whose sender waits for the result."""
        return self.handle(method, arguments)

    def handle_cast(self, method: str, arguments: dict[str, Any]) -> Any:
        """Run a command whose sender does not wait."""
        return self.handle(method, arguments)

    def handle_message(self, body: dict[str, Any], message: Any = None) -> Any:
        """Run the command in *body* if it is meant for this node: by its name, by a pattern, or for all."""
        if message:
            self.adjust_clock(message.headers.get("clock") or 0)
        if self._is_addressed(body):
            return self.dispatch(**body)
        return None

    def _is_addressed(self, body: dict[str, Any]) -> bool:
        destination, pattern, matcher = body.get("destination"), body.get("pattern"), body.get("matcher")
        if destination:
            return self.hostname in destination
        if pattern and matcher:
            return bool(match(self.hostname or "", pattern, matcher))
        return True

    dispatch_from_message = handle_message

    def reply(self, data: Any, exchange: str, routing_key: str, ticket: str | None, **kwargs: Any) -> None:
        """Send *data* to who asked."""
        self.mailbox._publish_reply(
            data, exchange, routing_key, ticket, channel=self.channel, serializer=self.mailbox.serializer,
        )


class Mailbox:
    """The sending end, and what both ends agree on: exchanges, queues, serializer.

    Arguments:
        namespace: Name of the application; exchanges and queues are named after it.
        type: Type of the commands' exchange: ``"direct"``, or ``"fanout"`` to reach all nodes.
        connection: Connection to use; calling the mailbox with one gives a copy that has it.
        clock: Logical clock to send along.
        accept: Content types (or names of serializers) that may be decoded.
        serializer: Name of the serializer for commands and replies.
        producer_pool: Pool of producers to publish with, or a function or promise that gives one.
        queue_ttl, queue_expires: Seconds that a command may wait, and that a node's queue may stay unused.
        queue_durable, queue_exclusive: What the queues are declared as; not both at once.
        reply_queue_ttl, reply_queue_expires: The same two times for the queues of replies.
    """

    node_cls: Any = Node
    exchange_fmt = "%s.pidbox"
    reply_exchange_fmt = "reply.%s.pidbox"

    namespace: str | None = None
    connection: Any = None
    type: str = "direct"

    #: Where commands are published to.
    exchange: Any = None

    #: Where replies are published to.
    reply_exchange: Any = None

    accept: Any = ["json"]
    serializer: str | None = None

    def __init__(
        self, namespace: str, type: str = "direct", connection: Any = None, clock: Any = None, accept: Any = None,
        serializer: str | None = None, producer_pool: Any = None,
        queue_ttl: float | None = None, queue_expires: float | None = None,
        queue_durable: bool = False, queue_exclusive: bool = True,
        reply_queue_ttl: float | None = None, reply_queue_expires: float | None = 10.0,
    ) -> None:
        if queue_exclusive and queue_durable:
            raise ValueError(
                "queue_exclusive and queue_durable cannot both be True "
                "(exclusive queues are automatically deleted and cannot be durable).",
            )
        self.namespace = namespace
        self.type = type
        self.connection = connection
        self.clock = LamportClock() if clock is None else clock
        self.exchange = self._get_exchange(namespace, type)
        self.reply_exchange = self._get_reply_exchange(namespace)
        #: Replies by ticket that arrived while others were waited for.
        self.unclaimed: defaultdict[str, deque[Any]] = defaultdict(deque)
        if accept is not None:
            self.accept = accept
        if serializer is not None:
            self.serializer = serializer
        self.queue_durable, self.queue_exclusive = queue_durable, queue_exclusive
        self.queue_ttl, self.queue_expires = queue_ttl, queue_expires
        self.reply_queue_ttl, self.reply_queue_expires = reply_queue_ttl, reply_queue_expires
        self._producer_pool = producer_pool

    def __call__(self, connection: Any) -> Mailbox:
        bound = copy(self)
        bound.connection = connection
        return bound

    def Node(
        self, hostname: str | None = None, state: Any = None, channel: Any = None,
        handlers: dict[str, Callable[..., Any]] | None = None,
    ) -> Any:
        """Return a node of this mailbox; its name is that of the host if not given."""
        return self.node_cls(hostname or socket.gethostname(), state, channel, handlers, mailbox=self)

    def call(
        self, destination: Sequence[str], command: str, kwargs: dict[str, Any] | None = None,
        timeout: float | None = None, callback: Callable[[Any], Any] | None = None, channel: Any = None,
    ) -> Any:
        """Send *command* to the nodes named, and return their replies."""
        return self._broadcast(
            command, kwargs or {}, destination, reply=True, timeout=timeout, callback=callback, channel=channel,
        )

    def cast(self, destination: Sequence[str], command: str, kwargs: dict[str, Any] | None = None) -> Any:
        """Send *command* to the nodes named."""
        return self._broadcast(command, kwargs or {}, destination, reply=False)

    def abcast(self, command: str, kwargs: dict[str, Any] | None = None) -> Any:
        """Send *command* to all nodes."""
        return self._broadcast(command, kwargs or {}, reply=False)

    def multi_call(
        self, command: str, kwargs: dict[str, Any] | None = None, timeout: float | None = 1, limit: int | None = None,
        callback: Callable[[Any], Any] | None = None, channel: Any = None,
    ) -> Any:
        """Send *command* to all nodes and return the replies: *limit* of them, or those until *timeout* seconds pass
        without one.
        """
        return self._broadcast(
            command, kwargs or {}, reply=True, timeout=timeout, limit=limit, callback=callback, channel=channel,
        )

    def _queue(self, name: str, exchange: Any, routing_key: str, expires: float | None, ttl: float | None) -> Queue:
        return Queue(
            name, exchange, routing_key,
            durable=self.queue_durable, exclusive=self.queue_exclusive, auto_delete=not self.queue_durable,
            expires=expires, message_ttl=ttl,
        )

    def get_reply_queue(self) -> Queue:
        """Return the queue for replies to this mailbox in this thread of this process."""
        oid = self.oid
        return self._queue(
            f"{oid}.{self.reply_exchange.name}", self.reply_exchange, oid,
            self.reply_queue_expires, self.reply_queue_ttl,
        )

    @property
    def reply_queue(self) -> Queue:
        """What :meth:`get_reply_queue` returns.

        It is not kept, since commands ask for replies to the queue of the thread that sends them.
        """
        return self.get_reply_queue()

    def get_queue(self, hostname: str) -> Queue:
        """Return the queue for commands to the node *hostname*."""
        return self._queue(
            f"{hostname}.{self.namespace}.pidbox", self.exchange, "", self.queue_expires, self.queue_ttl,
        )

    @contextmanager
    def producer_or_acquire(self, producer: Any = None, channel: Any = None) -> Iterator[Any]:
        """Give *producer*, or else one of the pool, or else a new one on *channel*."""
        if producer:
            yield producer
        elif self.producer_pool:
            with self.producer_pool.acquire() as acquired:
                yield acquired
        else:
            yield Producer(channel, auto_declare=False)

    def _publish_reply(
        self, reply: Any, exchange: str, routing_key: str, ticket: str | None, channel: Any = None,
        producer: Any = None, **opts: Any,
    ) -> None:
        target = Exchange(exchange, "direct", delivery_mode="transient", durable=False)
        with self.producer_or_acquire(producer, channel or self.connection.default_channel) as publisher:
            try:
                publisher.publish(
                    reply, exchange=target, routing_key=routing_key, declare=[target], retry=True,
                    headers={"ticket": ticket, "clock": self.clock.forward()}, **opts,
                )
            except InconsistencyError as exc:
                debug("nobody waits for the reply to %s any more: %r", ticket, exc)

    def _publish(
        self, type: str, arguments: dict[str, Any], destination: Sequence[str] | None = None,
        reply_ticket: str | None = None, channel: Any = None, timeout: float | None = None,
        serializer: str | None = None, producer: Any = None, pattern: str | None = None, matcher: str | None = None,
    ) -> None:
        message: dict[str, Any] = {
            "method": type, "arguments": arguments, "destination": destination, "pattern": pattern, "matcher": matcher,
        }
        channel = channel or self.connection.default_channel
        if reply_ticket:
            reply_queue = self.reply_queue
            maybe_declare(reply_queue(channel))
            message["ticket"] = reply_ticket
            message["reply_to"] = {"exchange": self.reply_exchange.name, "routing_key": reply_queue.routing_key}
        with self.producer_or_acquire(producer, channel) as publisher:
            publisher.publish(
                message, exchange=self.exchange.name, declare=[self.exchange], retry=True,
                headers={"clock": self.clock.forward(), "expires": time() + timeout if timeout else 0},
                serializer=serializer or self.serializer,
            )

    def _broadcast(
        self, command: str, arguments: dict[str, Any] | None = None, destination: Sequence[str] | None = None,
        reply: bool = False, timeout: float | None = 1, limit: int | None = None,
        callback: Callable[[Any], Any] | None = None, channel: Any = None, serializer: str | None = None,
        pattern: str | None = None, matcher: str | None = None,
    ) -> Any:
        if destination is not None and not isinstance(destination, (list, tuple)):
            raise ValueError(f"destination must be a list/tuple not {destination.__class__}")
        for value in (pattern, matcher):
            if value is not None and not isinstance(value, str):
                raise ValueError(
                    f"pattern and matcher must be strings not {pattern.__class__}, {matcher.__class__}",
                )
        channel = channel or self.connection.default_channel
        ticket = uuid() if reply else None
        self._publish(
            command, arguments or {}, destination=destination, reply_ticket=ticket, channel=channel, timeout=timeout,
            serializer=serializer or self.serializer, pattern=pattern, matcher=matcher,
        )
        if ticket is None:
            return None
        if limit is None and destination:
            limit = len(destination)
        return self._collect(ticket, limit=limit, timeout=timeout, callback=callback, channel=channel)

    def _collect(
        self, ticket: str, limit: int | None = None, timeout: float | None = 1,
        callback: Callable[[Any], Any] | None = None, channel: Any = None, accept: Any = None,
    ) -> Any:
        """Gather the replies to *ticket*: *limit* of them, or those until *timeout* seconds pass without one."""
        if ticket in self.unclaimed:
            return self.unclaimed.pop(ticket)
        channel = channel or self.connection.default_channel
        queue = self.reply_queue
        consumer = Consumer(channel, [queue], accept=self.accept if accept is None else accept, no_ack=True)
        responses: list[Any] = []

        def on_message(body: Any, message: Any) -> None:
            headers = message.headers
            self.clock.adjust(headers.get("clock") or 0)
            expires = headers.get("expires")
            if expires and time() > expires:
                return
            replied_to = headers.get("ticket", ticket)
            if replied_to != ticket:
                self.unclaimed[replied_to].append(body)
                return
            if callback:
                callback(body)
            responses.append(body)

        consumer.register_callback(on_message)
        try:
            with consumer:
                self._drain_replies(responses, limit, timeout)
            return responses
        finally:
            channel.after_reply_message_received(queue.name)

    def _drain_replies(self, responses: list[Any], limit: int | None, timeout: float | None) -> None:
        """Drain until there are *limit* responses, or *timeout* seconds after the last one.

        Other traffic on the connection neither counts as a reply nor makes the wait longer.
        """
        had, remaining = -1, timeout
        deadline = 0.0
        while not limit or len(responses) < limit:
            if timeout is not None:
                if len(responses) != had:
                    had, deadline = len(responses), monotonic() + timeout
                remaining = deadline - monotonic()
                if remaining <= 0:
                    return
            try:
                self.connection.drain_events(timeout=remaining)
            except TimeoutError:
                return

    def _get_exchange(self, namespace: str, type: str) -> Exchange:
        return Exchange(self.exchange_fmt % namespace, type, durable=False, delivery_mode="transient")

    def _get_reply_exchange(self, namespace: str) -> Exchange:
        return Exchange(self.reply_exchange_fmt % namespace, "direct", durable=False, delivery_mode="transient")

    @property
    def oid(self) -> str:
        """The id under which this mailbox gets replies in this thread of this process."""
        return oid_from(self)

    @cached_property
    def producer_pool(self) -> Any:
        """The pool to publish with, if there is one."""
        return maybe_evaluate(self._producer_pool)
