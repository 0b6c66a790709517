"""The broker inside the process, compiled; :mod:`kombu._pure.memory` is the reference."""

cimport cython
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from kombu._speedups.known cimport Known, Noted, is_steady, known_of
from kombu._speedups.objects cimport is_function
from kombu._speedups.unsettled cimport KnownUnsettled, add_delivered, has_room
from kombu._speedups.virtual cimport Delivery, Message, is_base64, lay_route, make_message, to_base64

from collections import deque
from os import urandom
from queue import Empty

from kombu._speedups.known import Noted as _Noted
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


@cython.final
@cython.auto_pickle(False)
cdef class Layout:
    """A message but for its body, and where it is published to; see :class:`kombu._pure.memory.Layout`."""

    cdef readonly object channel_id
    cdef readonly dict message
    cdef readonly object exchange
    cdef readonly object routing_key
    cdef readonly object mandatory
    cdef readonly object immediate
    # What stands in the queue, but for the body, the delivery tag and what each message needs a dict of its own for.
    cdef dict routed
    cdef dict properties
    cdef dict delivery_info

    def __init__(self, channel_id, dict message not None, exchange, routing_key, mandatory, immediate):
        self.channel_id = channel_id
        self.message = message
        self.exchange = exchange
        self.routing_key = routing_key
        self.mandatory = mandatory
        self.immediate = immediate
        self.delivery_info = {"exchange": exchange, "routing_key": routing_key}
        self.properties = {**message["properties"], "body_encoding": "base64", "delivery_tag": None}
        self.routed = {**message, "routed": True}

    cdef dict encoded(self, body):
        """Return the message as it stands in the queue, in base64."""
        cdef dict message = self.routed.copy()
        cdef dict properties = self.properties.copy()
        properties["delivery_info"] = self.delivery_info.copy()
        properties["delivery_tag"] = tags.next()
        message["body"] = to_base64(body)
        message["headers"] = {}
        message["properties"] = properties
        return message


#: What of a channel is known besides its methods.
cdef tuple CHANNEL_STATE = (
    "Message", "_active_queues", "_arrivals", "_consumers", "_qos", "body_encoding", "closed", "codecs", "queues",
)


@cython.final
@cython.auto_pickle(False)
cdef class KnownChannel(Known):
    """What is known of a channel."""

    #: Whether messages get into a queue, or out of it, by methods that are ours.
    cdef bint puts
    cdef bint gets
    #: Whether a message is looked for by a method that is ours.
    cdef bint polls
    #: Whether what is to be noted in a message is so by methods that are ours, and its body put down in base64 (or what
    #: the codecs have by that name).
    cdef bint in_base64
    #: Whether messages are made for a consumer by methods that are ours.
    cdef bint makes
    cdef bint closed
    cdef dict queues
    cdef dict codecs
    cdef object arrivals
    cdef object consumers
    cdef object active_queues
    #: None before it has been used.
    cdef object qos

    cdef bint look(self, Noted channel) except -1:
        codecs, queues = getattr(channel, "codecs", None), getattr(channel, "queues", None)
        if not (
            type(codecs) is dict and type(queues) is dict and type(channel).qos is plain_qos
            and is_steady(channel, self.version, CHANNEL_STATE)
        ):
            return False
        self.codecs, self.queues = codecs, queues
        self.closed, self.qos = getattr(channel, "closed", True), getattr(channel, "_qos", None)
        self.arrivals = getattr(channel, "_arrivals", None)
        self.consumers = getattr(channel, "_consumers", None)
        self.active_queues = getattr(channel, "_active_queues", None)
        self.in_base64 = (
            getattr(channel, "body_encoding", None) == "base64" and is_function(channel.encode_body, plain_encode)
            and is_function(channel._inplace_augment_message, plain_augment)
            and is_function(channel._next_delivery_tag, plain_tag)
        )
        self.puts = is_function(channel.basic_publish, plain_publish) and is_function(channel._put, plain_put)
        self.gets = is_function(channel._get, plain_get)
        self.polls = self.gets and is_function(channel.drain_events, plain_drain)
        self.makes = (
            channel.Message is Message and is_function(channel.decode_body, plain_decode)
            and is_function(channel._take_delivery, plain_take)
        )
        return True


cdef int put(object channel, dict queues, object arrivals, object queue, object message) except -1:
    target = queues.get(queue)
    if target is None:
        target = channel._queue_for(queue)
    if type(target) is MessageQueue and not (<MessageQueue>target).max_priority:
        (<MessageQueue>target).levels[0].append(message)
    else:
        target.put(message, channel._get_message_priority(message) if target.max_priority else 0)
    if arrivals._waiting:
        arrivals.notify(queue)
    return 0


cdef tuple next_message(object channel, KnownChannel known):
    """Do what ``_next_message()`` says; *known* may be None."""
    cdef tuple queues
    cdef Py_ssize_t count, index, start, turn
    cdef KnownUnsettled qos
    if known is None or not known.gets:
        return search(channel)
    if not known.consumers:
        return None
    qos = known_of(known.qos, KnownUnsettled)
    if not (has_room(qos) if qos is not None else channel.qos.can_consume()):
        return None
    queues = tuple(known.active_queues)
    count = len(queues)
    start = channel._position
    for index in range(start, start + count):
        turn = index % count
        queue = queues[turn]
        found = known.queues.get(queue)
        if type(found) is not MessageQueue:
            return search(channel)
        message = take_from(<MessageQueue>found)
        if message is not None:
            if turn + 1 != start:
                channel._position = turn + 1
            return message, queue
    return None


cdef tuple search(object channel):
    """Do what ``_next_message()`` says, for channels that have methods of their own."""
    cdef tuple queues
    cdef Py_ssize_t count, index, turn
    if not (channel._consumers and channel.qos.can_consume()):
        return None
    get = channel._get
    queues = tuple(channel._active_queues)
    count = len(queues)
    for index in range(channel._position, channel._position + count):
        turn = index % count
        try:
            message = get(queues[turn])
        except Empty:
            continue
        channel._position = turn + 1
        return message, queues[turn]
    return None


cdef object take_delivery(object channel, KnownChannel known, object payload, object queue, bint no_ack):
    """Do what ``_take_delivery()`` says; *known* may be None."""
    cdef bint makes = known is not None and known.makes
    cdef KnownUnsettled qos
    message = make_message(channel, payload, known.codecs if makes else None)
    if type(message) is Message:
        (<Message>message)._queue = queue
    else:
        message._queue = queue
    if not no_ack:
        qos = known_of(known.qos, KnownUnsettled) if makes else None
        if qos is not None and type(message) is Message:
            add_delivered(qos, message, (<Message>message).delivery_tag)
        else:
            channel.qos.append(message, message.delivery_tag)
    return message


class MemoryChannel(_Noted, MessageChannel):
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
        cdef KnownChannel known = known_of(self, KnownChannel)
        cdef dict message
        if (
            known is not None and known.puts and known.in_base64 and not known.closed and not plan.exchange
            and is_base64(known.codecs)
        ):
            # Which takes none of the keywords.
            put(self, known.queues, known.arrivals, plan.routing_key, plan.encoded(body))
            return None
        message = plan.message.copy()
        message["body"] = body
        message["headers"] = {}
        message["properties"] = {**message["properties"], "delivery_info": {}}
        return self.basic_publish(
            message, exchange=plan.exchange, routing_key=plan.routing_key, mandatory=plan.mandatory,
            immediate=plan.immediate, timeout=timeout, confirm_timeout=confirm_timeout,
        )

    def basic_publish(self, message, exchange, routing_key, **kwargs):
        """Publish a message made by :meth:`prepare_message`, which is changed by it.

        An empty *exchange* is the default exchange: *routing_key* names the queue.

        Raises:
            amqp.RecoverableConnectionError: The channel is closed.
        """
        cdef KnownChannel known = known_of(self, KnownChannel)
        if known is None or not known.in_base64 or known.closed or not is_base64(known.codecs):
            return publish(self, message, exchange, routing_key, **kwargs)
        lay_route(message, to_base64(message["body"]), "base64", tags.next(), exchange, routing_key)
        if exchange:
            return self.typeof(exchange).deliver(message, exchange, routing_key, **kwargs)
        return self._put(routing_key, message, **kwargs)

    def _next_delivery_tag(self):
        return tags.next()

    def _put(self, queue, message, **kwargs):
        if "routed" in message:
            message = self._another(message)
        message["routed"] = True
        put(self, self.queues, self._arrivals, queue, message)

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
        found = next_message(self, known_of(self, KnownChannel))
        if found is None:
            raise Empty()
        message, queue = found
        if callback:
            return callback(message, queue)
        return self.connection._deliver(message, queue)

    def _next_message(self):
        """Take a message of the queue whose turn it is, and return it with the queue's name; None if there is none."""
        return next_message(self, known_of(self, KnownChannel))

    def _take_delivery(self, raw_message, queue, no_ack):
        return take_delivery(self, known_of(self, KnownChannel), raw_message, queue, no_ack)

    def basic_ack(self, delivery_tag, multiple=False):
        """Acknowledge a message.

        Raises:
            amqp.RecoverableConnectionError: The channel is closed; the message has left it.
        """
        cdef KnownChannel known = known_of(self, KnownChannel)
        cdef KnownUnsettled unsettled
        if known is not None and not known.closed:
            unsettled = known_of(known.qos, KnownUnsettled)
            if unsettled is not None:
                unsettled.dirty.add(delivery_tag)
                if unsettled.limit:
                    self.connection.wake()
                return
        if self.closed:
            self._check_open("acknowledge delivery tag {!r}", delivery_tag)
        qos = self.qos
        qos.ack(delivery_tag)
        if qos.prefetch_count:
            # A consumer may be waiting for room.
            self.connection.wake()


cdef object publish = MessageChannel.basic_publish
cdef object plain_get = MemoryChannel._get
cdef object plain_put = MemoryChannel._put
cdef object plain_publish = MemoryChannel.basic_publish
cdef object plain_prepare = MemoryChannel.prepare_message
cdef object plain_augment = MemoryChannel._inplace_augment_message
cdef object plain_encode = MemoryChannel.encode_body
cdef object plain_decode = MemoryChannel.decode_body
cdef object plain_drain = MemoryChannel.drain_events
cdef object plain_tag = MemoryChannel._next_delivery_tag
cdef object plain_take = MemoryChannel._take_delivery
cdef object plain_qos = MemoryChannel.qos
cdef object plain_deliver = MessageConnection._deliver


#: What of a connection is known besides its methods.
cdef tuple CONNECTION_STATE = ("_at_rest", "_callbacks", "_connection_closed", "_own_cycle", "cycle")


@cython.final
@cython.auto_pickle(False)
cdef class KnownConnection(Known):
    """What is known of a connection."""

    #: Whether the cycle of its channels is the one that polls them as we do here.
    cdef bint cycles
    #: Whether what was found is delivered by a method that is ours.
    cdef bint delivers
    cdef bint closed
    cdef object cycle
    cdef object at_rest
    cdef object callbacks

    cdef bint look(self, Noted connection) except -1:
        if not is_steady(connection, self.version, CONNECTION_STATE):
            return False
        self.cycle = getattr(connection, "cycle", None)
        self.cycles = self.cycle is not None and self.cycle is connection._own_cycle
        self.at_rest, self.closed = connection._at_rest, connection._connection_closed
        self.callbacks = connection._callbacks
        self.delivers = is_function(connection._deliver, plain_deliver)
        return True


cdef bint deliver_next(object connection, KnownConnection known) except -1:
    """Do what ``_deliver_next()`` says; *known* may be None."""
    cdef tuple channels
    cdef Delivery delivery
    cdef KnownChannel channel_known
    cdef Py_ssize_t count, index, start, turn
    if known is None or not known.cycles:
        return False
    cycle = known.cycle
    channels = tuple(cycle.resources)
    count = len(channels)
    start = cycle.pos
    for index in range(start, start + count):
        turn = index % count
        channel = channels[turn]
        channel_known = known_of(channel, KnownChannel)
        if channel_known is None or not channel_known.polls:
            # It has its turn, which the cycle gives it.
            return False
        found = next_message(channel, channel_known)
        if found is not None:
            if turn + 1 != start:
                cycle.pos = turn + 1
            message, queue = found
            callback = known.callbacks.get(queue) if known.delivers else None
            if type(callback) is not Delivery:
                connection._deliver(message, queue)
                return True
            delivery = <Delivery>callback
            if delivery.channel is channel and channel_known.makes:
                taken = take_delivery(channel, channel_known, message, delivery.queue, delivery.no_ack)
            else:
                taken = delivery.channel._take_delivery(message, delivery.queue, delivery.no_ack)
            delivery.hand_over(taken)
            return True
    return False


class MemoryConnection(_Noted):
    """How the connection to the broker in memory delivers what waits."""

    #: The cycle that polls the channels in turn as we do here; None if that is replaced.
    _own_cycle = None

    def _drain_now(self, timeout, max_events):
        """Do what ``drain_events`` does, which is called only if there is more to it than to deliver a message."""
        cdef KnownConnection known
        if max_events == 1:
            known = known_of(self, KnownConnection)
            if known is not None and not known.closed and not known.at_rest and deliver_next(self, known):
                if known.at_rest and not self._more_waits():
                    self._rest()
                return 1
        return self.drain_events(self, timeout, max_events)

    def _deliver_next(self):
        """Deliver a message if one waits for a channel that has it delivered as channels here do."""
        return deliver_next(self, known_of(self, KnownConnection))
