"""Helpers on top of entities: declare once, drain in a loop, answer requests, keep a prefetch count."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid3, uuid4, uuid5

from ._lazy import amqp_errors
from ._locks import new_reentrant_lock
from .channels import is_connection, maybe_channel
from .entity import Exchange, Queue
from .log import get_logger
from .serialization import registry as serializers
from .utils.compat import get_gevent_concurrent_error
from .utils.uuid import uuid

if TYPE_CHECKING:
    from .abstract import MaybeChannelBound
    from .connection import Connection, ConnectionPool
    from .message import Message
    from .messaging import Consumer

__all__ = (
    "Broadcast", "maybe_declare", "uuid", "itermessages", "send_reply", "collect_replies", "insured", "drain_consumer",
    "eventloop",
)

#: basic.qos carries the prefetch count as an unsigned 16-bit number.
PREFETCH_COUNT_MAX = 0xFFFF

logger = get_logger(__name__)

_node_id: int | None = None


def get_node_id() -> int:
    """Return a random number that stands for this process and the children it forks."""
    global _node_id
    if _node_id is None:
        _node_id = uuid4().int
    return _node_id


def generate_oid(node_id: int, process_id: int, thread_id: int, instance: object) -> str:
    """Return the UUID that belongs to *instance* in this thread of this process, as a string."""
    identity = "-".join(f"{part:x}" for part in (node_id, process_id, thread_id, id(instance)))
    try:
        return str(uuid3(NAMESPACE_OID, identity))
    except ValueError:  # version 3 is made with MD5, which a FIPS build of OpenSSL refuses
        return str(uuid5(NAMESPACE_OID, identity))


def oid_from(instance: object, threads: bool = True) -> str:
    """Return an id of *instance* that no other process has, nor with *threads* any other thread of this one."""
    return generate_oid(get_node_id(), os.getpid(), threading.get_ident() if threads else 0, instance)


class Broadcast(Queue):
    """Describe a queue of one's own that gets a copy of every message sent to a fanout exchange.

    Arguments:
        name: Name of the exchange.
        queue: Name of the queue; ``bcast.`` and a unique id when not given.
        unique: Append a unique id to *queue* too.
        auto_delete: The queue goes with its consumer (default true).
        exchange: Use this exchange rather than a fanout exchange called *name*.
        alias: See :class:`~kombu.Queue`, which takes the remaining keywords; *name* when not given.
    """

    attrs = (*Queue.attrs, ("queue", None))

    def __init__(
        self, name: str | None = None, queue: str | None = None, unique: bool = False, auto_delete: bool = True,
        exchange: Exchange | None = None, alias: str | None = None, **kwargs: Any,
    ) -> None:
        if unique or not queue:
            queue = f"{queue or 'bcast'}.{uuid()}"
        if exchange is None:
            exchange = Exchange(name or "", type="fanout")
        super().__init__(  # type: ignore[call-arg]  # "queue" is an attribute of this class alone
            queue, exchange, queue=queue, alias=alias or name, auto_delete=auto_delete, **kwargs,
        )


# -- declaring ---------------------------------------------------------------------------------------------------------

def declaration_cached(entity: Any, channel: Any) -> bool:
    """Return whether *entity* has been declared already on the connection of *channel*."""
    declared = channel.connection.client.declared_entities
    return hash(entity) in declared or entity in declared


def maybe_declare(
    entity: MaybeChannelBound, channel: Any = None, retry: bool = False, **retry_policy: Any,
) -> bool:
    """Declare *entity* unless that was done before on the same connection; return whether it was done now.

    What has been declared is kept by the connection, which forgets it when it reconnects.  Entities that may vanish by
    themselves (auto-deleted or expiring ones) are declared each time.

    Arguments:
        entity: Exchange or queue.
        channel: Channel or connection to declare on; the one that *entity* is bound to when not given.
        retry: Reconnect and try again after connection errors, as :meth:`kombu.Connection.ensure` does.
        retry_policy: Keywords of :meth:`kombu.Connection.ensure`.

    Raises:
        amqp.ChannelError: *entity* is unbound and no channel is given.
        amqp.RecoverableConnectionError: The channel is closed.
    """
    if retry:
        return _imaybe_declare(entity, channel, **retry_policy)
    return _maybe_declare(entity, channel)


def _ensure_channel_is_bound(entity: Any, channel: Any) -> Any:
    """Return *entity* if it is bound, otherwise a copy that is bound to *channel*."""
    if entity.is_bound:
        return entity
    if not channel:
        raise amqp_errors.ChannelError(f"Cannot bind channel {channel} to entity {entity}")
    return entity.bind(channel)


def _live_channel(entity: Any, channel: Any) -> Any:
    """Return *channel* if it is open, otherwise the one that *entity* is bound to.

    After a reconnect it is the entity that has been given the new channel, while the caller still holds the old one.
    """
    channel = maybe_channel(channel)
    if channel is None and not entity.is_bound:
        raise amqp_errors.ChannelError(f"Cannot bind channel {channel} to entity {entity}")
    if (channel is None or channel.connection is None) and entity.is_bound:
        return entity.channel
    return channel


def _maybe_declare(entity: Any, channel: Any) -> bool:
    # Every publish comes through here, nearly always with an open channel and something declared long ago.
    if channel is None or is_connection(channel) or not channel.connection:
        channel = _live_channel(entity, channel)
    connection = channel.connection
    if not connection:
        raise amqp_errors.RecoverableConnectionError("channel disconnected")
    declared = None
    if entity.can_cache_declaration:
        declared = connection.client.declared_entities
        if hash(entity) in declared:
            return False
    # An unbound entity is declared as it is, so that a name chosen by the broker ends up where the caller sees it.
    entity.declare(channel=channel)
    if declared is not None:
        declared.add(hash(entity))
    return True


def _imaybe_declare(entity: Any, channel: Any, **retry_policy: Any) -> bool:
    channel = maybe_channel(channel)
    bound = _ensure_channel_is_bound(entity, channel)
    if not bound.channel.connection and getattr(channel, "connection", None):
        # Bound to a channel that has been closed since: the one at hand is the better one.
        bound.revive(channel)
    if not bound.channel.connection:
        raise amqp_errors.RecoverableConnectionError("channel disconnected")
    ensured = bound.channel.connection.client.ensure(bound, _maybe_declare, **retry_policy)
    done: bool = ensured(bound, channel)
    if bound is not entity:
        entity.name = bound.name
    return done


# -- draining ----------------------------------------------------------------------------------------------------------

def drain_consumer(
    consumer: Consumer, limit: int | None = 1, timeout: float | None = None,
    callbacks: Sequence[Callable[[Any, Message], Any]] | None = None,
) -> Iterator[tuple[Any, Message]]:
    """Consume, and yield ``(body, message)`` for each of at most *limit* messages.

    Waits at most *limit* times, each time up to *timeout* seconds; waiting in vain counts and raises nothing.
    *callbacks* are called with each message before it is yielded.
    """
    received: deque[tuple[Any, Any]] = deque()
    consumer.callbacks = [lambda body, message: received.append((body, message)), *(callbacks or ())]
    left = limit or None
    with consumer:
        client = consumer.channel.connection.client
        for _ in eventloop(client, limit=limit, timeout=timeout, ignore_timeouts=True):
            while received:
                yield received.popleft()
                if left is not None:
                    left -= 1
                    if not left:
                        return


def itermessages(
    conn: Connection, channel: Any, queue: Queue, limit: int | None = 1, timeout: float | None = None,
    callbacks: Sequence[Callable[[Any, Message], Any]] | None = None, **kwargs: Any,
) -> Iterator[tuple[Any, Message]]:
    """Make a consumer of *queue* and yield its messages as :func:`drain_consumer` does; *kwargs* are the consumer's."""
    consumer = conn.Consumer(queues=[queue], channel=channel, **kwargs)
    return drain_consumer(consumer, limit=limit, timeout=timeout, callbacks=callbacks)


def eventloop(
    conn: Connection, limit: int | None = None, timeout: float | None = None, ignore_timeouts: bool = False,
) -> Generator[Any, None, None]:
    """Call ``conn.drain_events`` for ever, or *limit* times, and yield what it returns.

    A generator, so nothing happens until it is iterated::

        for _ in eventloop(connection, timeout=1, ignore_timeouts=True):
            if stopping:
                break

    With *ignore_timeouts* a wait of *timeout* seconds in which nothing came yields nothing and counts towards *limit*;
    without it :exc:`TimeoutError` is raised.
    """
    for _ in range(limit) if limit else count():
        try:
            yield conn.drain_events(timeout=timeout)
        except TimeoutError:
            if timeout and not ignore_timeouts:
                raise


# -- request and reply -------------------------------------------------------------------------------------------------

def send_reply(
    exchange: Exchange | str, req: Message, msg: Any, producer: Any = None, retry: bool = False,
    retry_policy: Mapping[str, Any] | None = None, **props: Any,
) -> Any:
    """Publish *msg* as the answer to request *req*.

    It goes to the request's ``reply_to``, with its ``correlation_id``, serialized in the same way.

    Arguments:
        exchange: Where to publish (:class:`~kombu.Exchange` or name).
        req: The :class:`~kombu.Message` to answer, with a ``reply_to`` property.
        msg: The answer.
        producer: The :class:`~kombu.Producer` to publish with.
        retry, retry_policy: See :meth:`kombu.Producer.publish`, which takes *props* as well.
    """
    options = {
        "routing_key": req.properties["reply_to"],
        "correlation_id": req.properties.get("correlation_id"),
        "serializer": serializers.type_to_name[req.content_type],  # type: ignore[index]
        "content_encoding": req.content_encoding,
        **props,
    }
    return producer.publish(msg, exchange=exchange, retry=retry, retry_policy=retry_policy, **options)


def collect_replies(conn: Connection, channel: Any, queue: Queue, *args: Any, **kwargs: Any) -> Iterator[Any]:
    """Yield the bodies of messages from *queue*; the further arguments are those of :func:`itermessages`.

    Replies are not acknowledged unless ``no_ack=False`` is given; then each is, before it is yielded.
    """
    no_ack = kwargs.setdefault("no_ack", True)
    received = False
    try:
        for body, message in itermessages(conn, channel, queue, *args, **kwargs):
            if not no_ack:
                message.ack()
            received = True
            yield body
    finally:
        if received:
            channel.after_reply_message_received(queue.name)


# -- errors ------------------------------------------------------------------------------------------------------------

def _ensure_errback(exc: BaseException, interval: float) -> None:
    logger.error("Connection error: %r. Retry in %ss\n", exc, interval, exc_info=True)


def _errors_to_ignore(conn: Any) -> tuple[type[BaseException], ...]:
    ignored = tuple(conn.connection_errors) + tuple(conn.channel_errors)
    # gevent tells in this way that another greenlet waits on the same socket.
    concurrent_use = get_gevent_concurrent_error()
    return ignored if concurrent_use is None else (*ignored, concurrent_use)


@contextmanager
def _ignore_errors(conn: Any) -> Iterator[None]:
    try:
        yield
    except BaseException as exc:
        # Asked for only now: programs are tested with connections whose errors are no classes.
        if not isinstance(exc, _errors_to_ignore(conn)):
            raise


def ignore_errors(
    conn: Any, fun: Callable[..., Any] | None = None, *args: Any, **kwargs: Any,
) -> AbstractContextManager[None] | Any:
    """Call *fun* and ignore connection and channel errors; without *fun*, return a context manager that does.

    Meant for cleaning up, at shutdown or once the connection is lost; elsewhere these errors need an answer.

    Arguments:
        conn: A connection, or anything else that has ``connection_errors`` and ``channel_errors``.
        fun: Called with the remaining arguments; its result is returned (:const:`None` after an ignored error).
    """
    if not fun:
        return _ignore_errors(conn)
    with _ignore_errors(conn):
        return fun(*args, **kwargs)


def revive_connection(
    connection: Connection, channel: Any, on_revive: Callable[[Any], Any] | None = None,
) -> None:
    """Tell *on_revive* about the new channel."""
    if on_revive:
        on_revive(channel)


def insured(
    pool: ConnectionPool, fun: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any],
    errback: Callable[[Any, float], Any] | None = None, on_revive: Callable[[Any], Any] | None = None,
    **opts: Any,
) -> Any:
    """Call *fun* with a connection of *pool*, and again after connection and channel errors.

    *fun* gets ``channel`` and ``connection`` as keywords besides *args* and *kwargs*; its result is returned.
    *errback* is called with each error and the seconds until the next try (it is logged by default), *on_revive* with
    each new channel; *opts* are keywords of :meth:`kombu.Connection.ensure`.
    """
    errback = errback or _ensure_errback
    with pool.acquire(block=True) as conn:
        conn.ensure_connection(errback=errback)
        revive = partial(revive_connection, conn, on_revive=on_revive)
        retrying = conn.autoretry(fun, conn.default_channel, errback=errback, on_revive=revive, **opts)
        retval, _ = retrying(*args, **{**kwargs, "connection": conn})
        return retval


# -- quality of service ------------------------------------------------------------------------------------------------

class QoS:
    """Keep a prefetch count that any thread may change and one thread sends to the broker.

    Arguments:
        callback: Sends the count; called with the keyword ``prefetch_count`` (``consumer.qos`` for instance).
        initial_value: First count; 0 means no limit, and then increments and decrements have no effect.
        max_prefetch: The most that :meth:`increment_eventually` goes up to; no bound when not given.

    The thread that owns the connection does this now and then::

        if qos.prev != qos.value:
            qos.update()
    """

    #: The count that was last sent.
    prev: int | None = None

    def __init__(
        self, callback: Callable[..., Any], initial_value: int | None, max_prefetch: int | None = None,
    ) -> None:
        self.callback = callback
        self.value = initial_value or 0
        self.max_prefetch = max_prefetch
        self._mutex = new_reentrant_lock()

    def increment_eventually(self, n: int = 1) -> int:
        """Raise the count by *n* (a negative number counts as 0) and return it; :meth:`update` sends it."""
        with self._mutex:
            if self.value:
                raised = self.value + max(n, 0)
                self.value = raised if self.max_prefetch is None else min(raised, self.max_prefetch)
            return self.value

    def decrement_eventually(self, n: int = 1) -> int:
        """Lower the count by *n*, to 1 at the least, and return it; :meth:`update` sends it."""
        with self._mutex:
            if self.value:
                self.value = max(self.value - n, 1)
            return self.value

    def set(self, pcount: int) -> int:
        """Send *pcount* unless it is what was last sent; more than 65535 is sent as 0, no limit."""
        if pcount != self.prev:
            wire = pcount
            if pcount > PREFETCH_COUNT_MAX:
                logger.warning("QoS: Disabled: prefetch_count exceeds %r", PREFETCH_COUNT_MAX)
                wire = 0
            logger.debug("basic.qos: prefetch_count->%s", wire)
            self.callback(prefetch_count=wire)
            self.prev = pcount
        return pcount

    def update(self) -> int:
        """Send the current count."""
        with self._mutex:
            return self.set(self.value)
