"""Acknowledging deliveries."""

from __future__ import annotations

from typing import Any

__all__ = ("basic_ack",)


def basic_ack(self: Any, delivery_tag: int, multiple: bool = False, argsig: str = "Lb") -> None:
    """Acknowledge a delivery; with *multiple*, all up to it, and all at once for tag 0.

    The method of that name of a channel, which has ``deliveries``, ``refuse_tag()``, ``raise_closed()`` and
    ``send_held_back()``.

    Raises:
        amqp.exceptions.ChannelError: the broker has closed the channel, so the tag means nothing any more.
        amqp.exceptions.RecoverableConnectionError, OSError: the connection is closed or lost.

    Source: AMQP 0-9-1, section 1.8.3.13 (basic.ack).
    """
    deliveries = self.deliveries
    if deliveries.held_back:
        self.send_held_back()
    if deliveries.close_error is not None or deliveries.connection is None:
        self.refuse_tag(delivery_tag)
    if not deliveries.writer.write_ack(deliveries, delivery_tag, multiple, deliveries.receiver.more_waits):
        # Closed while another thread was writing.
        self.raise_closed()
    deliveries.settle(delivery_tag, multiple)
