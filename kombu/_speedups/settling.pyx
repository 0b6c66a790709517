"""Acknowledging deliveries, compiled; :mod:`kombu._pure.settling` is the reference."""

from libc.stdint cimport uint64_t

from kombu._speedups.deliveries cimport Deliveries
from kombu._speedups.inbound cimport Inbound
from kombu._speedups.output cimport Writer
from kombu._speedups.received cimport recognize_ack

__all__ = ("basic_ack",)

ABI = 1


def basic_ack(self, delivery_tag, multiple=False, argsig="Lb"):
    """Acknowledge a delivery; with *multiple*, all up to it, and all at once for tag 0.

    The method of that name of a channel, which has ``deliveries``, ``refuse_tag()``, ``raise_closed()`` and
    ``send_held_back()``.

    Raises:
        amqp.exceptions.ChannelError: the broker has closed the channel, so the tag means nothing any more.
        amqp.exceptions.RecoverableConnectionError, OSError: the connection is closed or lost.

    Source: AMQP 0-9-1, section 1.8.3.13 (basic.ack).
    """
    settle(self, self.deliveries, delivery_tag, multiple)


cdef int settle(object channel, Deliveries deliveries, object delivery_tag, bint multiple) except -1:
    cdef Inbound receiver = deliveries.receiver
    cdef Writer writer = deliveries.writer
    cdef uint64_t number
    if deliveries.holds_back:
        channel.send_held_back()
    if deliveries.is_closed or deliveries.connection is None:
        channel.refuse_tag(delivery_tag)
    number = delivery_tag
    if not writer.acknowledge(deliveries, number, multiple, receiver.more_waits):
        # Closed while another thread was writing.
        channel.raise_closed()
    if multiple:
        deliveries.settle(delivery_tag, True)
    else:
        deliveries.settle_one(number)
    return 0


recognize_ack(basic_ack, settle)
