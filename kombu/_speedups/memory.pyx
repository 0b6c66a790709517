"""The broker inside the process, compiled; :mod:`kombu._pure.memory` is the reference."""

cimport cython
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from kombu._speedups.virtual cimport Delivery, augment_message, is_function, make_message

from collections import deque
from os import urandom
from queue import Empty

from kombu._speedups.virtual import MessageChannel, MessageConnection

__all__ = ("Layout", "MemoryChannel", "MemoryConnection", "MessageQueue")

ABI = 1

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    unsigned char *PyUnicode_1BYTE_DATA(object text)
    ctypedef struct PyTypeObject:
        const char *tp_name


cdef enum:
    PREFIX_SIZE = 7

cdef const char *PREFIX = "memory-"
cdef const char *HEX = "0123456789abcdef"


cdef inline void put_hex(unsigned char *to, uint64_t number, int digits) noexcept:
    while digits:
        digits -= 1
        to[digits] = <unsigned char>HEX[number & 15]
        number >>= 4


cdef class Tags:
    """Numbers that differ from each other and, as far as chance allows, from those of other processes."""

    cdef uint64_t seed
    cdef uint64_t other
    cdef uint64_t count

    def __init__(self):
        random = urandom(16)
        self.seed = int.from_bytes(random[:8], "big")
        self.other = int.from_bytes(random[8:], "big")

    cdef object next(self):
        """Return a delivery tag."""
        cdef uint64_t number
        cdef unsigned char *to
        with cython.critical_section(self):
            self.count += 1
            number = self.count
        # The mixing of a counter that SplitMix64 does, of which every step can be undone: no two come out alike.
        number = number * 0x9E3779B97F4A7C15ULL + self.seed
        number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9ULL
        number = (number ^ (number >> 27)) * 0x94D049BB133111EBULL
        number ^= number >> 31
        text = PyUnicode_New(PREFIX_SIZE + 24, 127)
        to = PyUnicode_1BYTE_DATA(text)
        memcpy(to, PREFIX, PREFIX_SIZE)
        put_hex(to + PREFIX_SIZE, number, 16)
        put_hex(to + PREFIX_SIZE + 16, (number ^ self.other) * 0xD6E8FEB86659FD93ULL >> 32, 8)
        return text


cdef Tags tags = Tags()


cdef class MessageQueue:
    """MessageQueue(max_priority=0)
--

    Messages in order of priority, and within a priority in the order of their arrival.

    There is no lock: a deque adds and takes whole, with the GIL and without it, and so nothing can be left locked
    in the child of a fork.  With a *max_priority*, messages up to that are kept apart; 0 makes a plain queue.
    """

    cdef readonly object max_priority
    #: One deque for each priority, the highest first.
    cdef readonly tuple levels

    def __init__(self, max_priority=0):
        self.max_priority = max_priority
        self.levels = tuple([deque() for _ in range(max_priority + 1)])

    @property
    def queue(self):
        """The waiting messages, next first: the deque itself where there are no priorities, otherwise a copy."""
        if not self.max_priority:
            return self.levels[0]
        return deque([message for level in self.levels for message in tuple(level)])

    def put(self, message, priority=0):
        """Add *message* behind those of its priority."""
        self.levels[self.max_priority - max(0, min(priority, self.max_priority))].append(message)

    def get(self, block=False):
        """Take the next message; never waits.

        Raises:
            queue.Empty: There is none.
        """
        for level in self.levels:
            try:
                return level.popleft()
            except IndexError:
                continue
        raise Empty()

    def take(self):
        """Take the next message, or return None if there is none."""
        return take_from(self)

    def qsize(self):
        """Return the number of messages."""
        return sum(map(len, self.levels))

    def empty(self):
        """Return whether there is no message."""
        for level in self.levels:
            if level:
                return False
        return True

    def clear(self):
        """Remove every message and return their number."""
        removed = 0
        for level in self.levels:
            try:
                while True:
                    level.popleft()
                    removed += 1
            except IndexError:
                continue
        return removed


# Whoever reads a traceback shall find the class where it is public; see kombu._speedups.message.
(<PyTypeObject *>MessageQueue).tp_name = "kombu.transport.memory.MessageQueue"


cdef object take_from(MessageQueue queue):
    for level in queue.levels:
        if level:
            try:
                return level.popleft()
            except IndexError:  # another thread was faster
                continue
    return None


cdef int put(object channel, object queue, object message) except -1:
    if "routed" in message:
        message = channel._another(message)
    message["routed"] = True
    target = channel.queues.get(queue)
    if target is None:
        target = channel._queue_for(queue)
    if type(target) is MessageQueue and not (<MessageQueue>target).max_priority:
        (<MessageQueue>target).levels[0].append(message)
    else:
        target.put(message, channel._get_message_priority(message) if target.max_priority else 0)
    arrivals = channel._arrivals
    if arrivals._waiting:
        arrivals.notify(queue)
    return 0


cdef int prepare(object channel, object message, object exchange, object routing_key) except -1:
    if channel.closed:
        channel._check_open("publish a message")
    augment = channel._inplace_augment_message
    if is_function(augment, plain_augment):
        augment_message(channel, message, exchange, routing_key)
    else:
        augment(message, exchange, routing_key)
    return 0


cdef object publish(object channel, object message, object exchange, object routing_key):
    """Put a message into the queue that *routing_key* names."""
    prepare(channel, message, exchange, routing_key)
    put(channel, routing_key, message)


cdef tuple next_message(object channel):
    cdef tuple queues
    cdef Py_ssize_t count, index, start, turn
    cdef bint is_plain
    if not (channel._consumers and channel.qos.can_consume()):
        return None
    get = channel._get
    is_plain = is_function(get, plain_get)
    queues = tuple(channel._active_queues)
    count = len(queues)
    start = channel._position
    for index in range(start, start + count):
        turn = index % count
        queue = queues[turn]
        found = channel.queues.get(queue) if is_plain else None
        if type(found) is MessageQueue:
            message = take_from(<MessageQueue>found)
            if message is None:
                continue
        else:
            try:
                message = get(queue)
            except Empty:
                continue
        if turn + 1 != start:
            channel._position = turn + 1
        return message, queue
    return None


@cython.final
cdef class Layout:
    """A message but for its body, and where it is published to; see :class:`kombu._pure.memory.Layout`."""

    cdef readonly object channel_id
    cdef readonly dict message
    cdef readonly object exchange
    cdef readonly object routing_key
    cdef readonly object mandatory
    cdef readonly object immediate

    def __init__(self, channel_id, dict message not None, exchange, routing_key, mandatory, immediate):
        self.channel_id = channel_id
        self.message = message
        self.exchange = exchange
        self.routing_key = routing_key
        self.mandatory = mandatory
        self.immediate = immediate


class MemoryChannel(MessageChannel):
    """What the channel of the broker in memory does; see :class:`kombu._pure.memory.MemoryChannel`."""

    #: Index of the consumed queue whose turn it is.
    _position = 0

    # -- messages in ---------------------------------------------------------------------------------------------

    @property
    def plans_publishes(self):
        """Whether messages may be laid out beforehand: nobody has put in another ``prepare_message``."""
        return type(self).prepare_message is plain_prepare and "prepare_message" not in self.__dict__

    def plan_publish(
        self, priority, content_type, content_encoding, properties, exchange, routing_key, mandatory, immediate
    ):
        """Lay out a message but for its body."""
        message = self.prepare_message(None, priority, content_type, content_encoding, None, properties)
        return Layout(self.channel_id, message, exchange, routing_key, mandatory, immediate)

    def publish_planned(self, Layout plan not None, body, timeout=None, confirm_timeout=None):
        """Publish *body* as it was planned; see :meth:`basic_publish`."""
        cdef dict message = plan.message.copy()
        cdef dict properties = (<dict>message["properties"]).copy()
        message["body"] = body
        message["headers"] = {}
        message["properties"] = properties
        properties["delivery_info"] = {}
        own = self.basic_publish
        if is_function(own, plain_publish) and not plan.exchange and is_function(self._put, plain_put):
            # Which takes none of the keywords.
            return publish(self, message, plan.exchange, plan.routing_key)
        return own(
            message, exchange=plan.exchange, routing_key=plan.routing_key, mandatory=plan.mandatory,
            immediate=plan.immediate, timeout=timeout, confirm_timeout=confirm_timeout,
        )

    def basic_publish(self, message, exchange, routing_key, **kwargs):
        """Publish a message made by :meth:`prepare_message`, which is changed by it.

        An empty *exchange* is the default exchange: *routing_key* names the queue.

        Raises:
            amqp.RecoverableConnectionError: The channel is closed.
        """
        if exchange:
            prepare(self, message, exchange, routing_key)
            return self.typeof(exchange).deliver(message, exchange, routing_key, **kwargs)
        own_put = self._put
        if is_function(own_put, plain_put):
            return publish(self, message, exchange, routing_key)
        prepare(self, message, exchange, routing_key)
        return own_put(routing_key, message, **kwargs)

    def _next_delivery_tag(self):
        return tags.next()

    def _put(self, queue, message, **kwargs):
        put(self, queue, message)

    def _another(self, message):
        """Copy a message that is in one queue already, for another.

        Each queue's message is acknowledged for itself, and its consumer may change the headers.
        """
        properties = {**message["properties"], "delivery_tag": self._next_delivery_tag()}
        properties["delivery_info"] = dict(properties["delivery_info"])
        return {**message, "headers": dict(message["headers"]), "properties": properties}

    # -- messages out --------------------------------------------------------------------------------------------

    def _get(self, queue, timeout=None):
        found = self.queues.get(queue)
        if found is None:
            raise Empty()
        return found.get(block=False)

    def drain_events(self, timeout=None, callback=None):
        """Deliver one message.

        Raises:
            queue.Empty: There is none, or the prefetch limit is reached.
        """
        found = next_message(self)
        if found is None:
            raise Empty()
        message, queue = found
        if callback:
            return callback(message, queue)
        return self.connection._deliver(message, queue)

    def _next_message(self):
        """Take a message of the queue whose turn it is, and return it with the queue's name; None if there is none."""
        return next_message(self)

    def _take_delivery(self, raw_message, queue, no_ack):
        message = make_message(self, raw_message)
        message._queue = queue
        if not no_ack:
            self.qos.append(message, message.delivery_tag)
        return message

    def basic_ack(self, delivery_tag, multiple=False):
        """Acknowledge a message.

        Raises:
            amqp.RecoverableConnectionError: The channel is closed; the message has left it.
        """
        if self.closed:
            self._check_open("acknowledge delivery tag {!r}", delivery_tag)
        qos = self.qos
        qos.ack(delivery_tag)
        if qos.prefetch_count:
            # A consumer may be waiting for room.
            self.connection.wake()


cdef object plain_get = MemoryChannel._get
cdef object plain_put = MemoryChannel._put
cdef object plain_publish = MemoryChannel.basic_publish
cdef object plain_prepare = MemoryChannel.prepare_message
cdef object plain_augment = MemoryChannel._inplace_augment_message
cdef object plain_drain = MemoryChannel.drain_events
cdef object plain_deliver = MessageConnection._deliver


cdef bint deliver_next(object transport) except -1:
    cdef tuple channels
    cdef Delivery delivery
    cdef Py_ssize_t count, index, start, turn
    cycle = transport.cycle
    if cycle is not transport._own_cycle:
        return False
    channels = tuple(cycle.resources)
    count = len(channels)
    start = cycle.pos
    for index in range(start, start + count):
        turn = index % count
        channel = channels[turn]
        if not (is_function(channel.drain_events, plain_drain) and is_function(channel._get, plain_get)):
            # It has its turn, which the cycle gives it.
            return False
        found = next_message(channel)
        if found is not None:
            if turn + 1 != start:
                cycle.pos = turn + 1
            message, queue = found
            deliver = transport._deliver
            callback = transport._callbacks.get(queue) if is_function(deliver, plain_deliver) else None
            if type(callback) is Delivery:
                delivery = <Delivery>callback
                delivery.callback(delivery.channel._take_delivery(message, delivery.queue, delivery.no_ack))
            else:
                deliver(message, queue)
            return True
    return False


class MemoryConnection:
    """How the connection to the broker in memory delivers what waits."""

    #: The cycle that polls the channels in turn as we do here; None if that is replaced.
    _own_cycle = None

    def _drain_now(self, timeout, max_events):
        """Do what ``drain_events`` does, which is called only if there is more to it than to deliver a message."""
        if max_events == 1 and not self._at_rest and not self._connection_closed and deliver_next(self):
            if self._at_rest and not self._more_waits():
                self._rest()
            return 1
        return self.drain_events(self, timeout, max_events)

    def _deliver_next(self):
        """Deliver a message if one waits for a channel that has it delivered as channels here do."""
        return deliver_next(self)
