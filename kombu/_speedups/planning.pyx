"""Publishes of one producer that have all but the body in common: planned once, and found again by what they share.

Twin of :mod:`kombu._pure.planning`, which says more.  A small publish on a channel that neither waits for each confirm
nor gathers is written from here, by one call of the kernel.
"""

cimport cython

from kombu._speedups.deliveries cimport Deliveries
from kombu._speedups.output cimport Writer
from kombu._speedups.publish cimport COPIED_BODY, PublishPlan, Span, look
from kombu._speedups.window cimport Window

__all__ = ("LOOK_AFTER", "MOST_PLANS", "UNPLANNED", "Plans")

ABI = 1

MOST_PLANS = 256
LOOK_AFTER = 0.02
UNPLANNED = object()

cdef extern from "posix_socket.h":
    double kombu_monotonic() noexcept

cdef extern from "posix_socket.h":
    # Whether nothing else runs until we call into Python or let go of the GIL.
    bint UNDISTURBED "KOMBU_UNDISTURBED"

cdef enum:
    #: What the frames around a body that is copied may take.
    AROUND = 2048

cdef double look_after = LOOK_AFTER
cdef object unplanned = UNPLANNED


@cython.final
cdef class Recent:
    """A key, and its plan; never changed, so that whoever holds it needs no lock."""

    cdef object routing_key, exchange, delivery_mode, mandatory, immediate, priority, content_type, content_encoding
    cdef object plan


cdef class Plans:
    """The plans of one producer on one channel; see :class:`kombu._pure.planning.Plans`."""

    cdef readonly object channel
    cdef readonly object exchange
    cdef readonly object publish_once
    cdef readonly object dumps
    #: What bytes are that no serializer is asked for: content type and encoding.
    cdef tuple as_bytes
    cdef readonly dict known
    cdef readonly tuple windows
    cdef object declared
    cdef object ident
    #: The channel's, where it writes frames.
    cdef Deliveries deliveries
    #: Whether a publish is no more than to write them.
    cdef bint plain
    #: The window of unconfirmed publishes that they get into, where nothing can get between its number and its place
    #: on the wire; otherwise None.
    cdef Window window
    #: What was published last, since the next is most often like it.
    cdef Recent recent

    def __init__(self, channel, exchange, bint declares, publish_once, dumps):
        self.channel = channel
        self.exchange = exchange
        self.publish_once = publish_once
        self.dumps = dumps
        self.as_bytes = dumps(b"", None)[:2]
        self.known = {}
        window = getattr(channel, "confirm_window", None)
        self.windows = () if window is None else (window,)
        if declares:
            self.declared = channel.connection.client.declared_entities
            self.ident = hash(exchange)
        self.deliveries = getattr(channel, "deliveries", None)
        if self.deliveries is not None:
            self.plain = window is None and not channel.confirms_each
            if UNDISTURBED:
                self.window = window

    def fits(self, producer):
        """Return whether *producer* still has the channel and the exchange that this is for."""
        return producer._channel is self.channel and producer.exchange is self.exchange

    def publish(
        self, producer, body, routing_key, delivery_mode, mandatory, immediate, priority, content_type,
        content_encoding, serializer, exchange, timeout, confirm_timeout,
    ):
        """Publish for *producer*, whose ``publish`` describes the arguments, and return what the channel returns.

        Returns ``UNPLANNED``, nothing done, where the publish has to take the long way.
        """
        if (
            producer._channel is not self.channel
            or producer.exchange is not self.exchange
            or producer.compression
            or (exchange is not None and type(exchange) is not str)
            or (self.declared is not None and self.ident not in self.declared)
            or getattr(producer._publish, "__func__", None) is not self.publish_once
        ):
            return unplanned
        if not content_type:
            if not serializer:
                serializer = producer.serializer
            if type(body) is bytes and not serializer:
                content_type, content_encoding = self.as_bytes
            else:
                content_type, content_encoding, body = self.dumps(body, serializer)
        elif isinstance(body, str):
            content_encoding = content_encoding or "utf-8"
            body = body.encode(content_encoding)
        elif not content_encoding:
            content_encoding = "binary"
        if routing_key is None:
            routing_key = producer.routing_key
        plan = self.find(
            producer, routing_key, exchange, delivery_mode or self.exchange.delivery_mode, mandatory, immediate,
            priority, content_type, content_encoding,
        )
        if body is None:
            body = b""
        elif isinstance(body, str) and content_encoding != "utf-8":
            body = body.encode(content_encoding or "utf-8")
        batch = producer._batch_local.current if producer.batched else None
        if batch is not None:
            return batch.publish_planned(self.channel, plan, body, timeout, confirm_timeout)
        if timeout is None:
            if self.plain:
                if self.write(<PublishPlan>plan, body, None, None):
                    return None
            elif self.window is not None and self.window.live and self.window.count < self.window.size:
                confirmation = self.window.make((<PublishPlan>plan).exchange, (<PublishPlan>plan).routing_key, None)
                if self.write(<PublishPlan>plan, body, self.window, confirmation):
                    return confirmation
        return self.channel.publish_planned(plan, body, timeout, confirm_timeout)

    cdef object find(
        self, producer, routing_key, exchange, delivery_mode, mandatory, immediate, priority, content_type,
        content_encoding,
    ):
        """Return the plan; make it if it is not known, or was made for another number of the channel."""
        cdef Recent recent
        with cython.critical_section(self):
            recent = self.recent
        if (
            recent is not None and recent.routing_key is routing_key and recent.exchange is exchange
            and recent.delivery_mode is delivery_mode and recent.mandatory is mandatory
            and recent.immediate is immediate and recent.priority is priority
            and recent.content_type is content_type and recent.content_encoding is content_encoding
            and self.is_current(recent.plan)
        ):
            return recent.plan
        key = (
            routing_key, exchange, delivery_mode, mandatory, immediate, priority, content_type, content_encoding,
        )
        plan = self.known.get(key)
        if plan is None or not self.is_current(plan):
            plan = producer._plan(key)
            if len(self.known) >= MOST_PLANS:
                self.known.clear()
            self.known[key] = plan
        recent = Recent.__new__(Recent)
        recent.routing_key = routing_key
        recent.exchange = exchange
        recent.delivery_mode = delivery_mode
        recent.mandatory = mandatory
        recent.immediate = immediate
        recent.priority = priority
        recent.content_type = content_type
        recent.content_encoding = content_encoding
        recent.plan = plan
        with cython.critical_section(self):
            # The one that goes is released after this, since that may run code of anyone's.
            self.recent, recent = recent, self.recent
        return plan

    cdef bint is_current(self, plan) except -1:
        if self.deliveries is not None:
            return (<PublishPlan>plan).channel_id == self.deliveries.number
        return plan.channel_id == self.channel.channel_id

    cdef bint write(self, PublishPlan plan, body, Window window, confirmation) except -1:
        """Hand the publish to the kernel; return False, nothing written, where there is more to it.

        With a *window*, *confirmation* gets the publish's number.
        """
        cdef unsigned char frames[COPIED_BODY + AROUND]
        cdef Deliveries deliveries = self.deliveries
        cdef Py_ssize_t whole
        cdef double now = kombu_monotonic()
        cdef bint written = False
        cdef Span span
        if (
            plan.channel_id != deliveries.number or deliveries.holds_back or deliveries.connection is None
            or now - deliveries.last_look > look_after
        ):
            return False
        kept = look(body, &span)
        whole = plan.whole_size(span.size)
        if span.size > COPIED_BODY or whole > COPIED_BODY + AROUND:
            return False
        plan.put(frames, &span)
        if window is None:
            return (<Writer>deliveries.writer).write_publish(deliveries, frames, whole, 0)
        # Looked at now, since what came before may have let others run; what follows does not.
        if window.held or not window.live or window.count >= window.size:
            return False
        window.append(confirmation, plan.mandatory)
        try:
            written = (<Writer>deliveries.writer).write_publish(deliveries, frames, whole, now)
        finally:
            if not written:
                window.take_back(confirmation)
        return written
