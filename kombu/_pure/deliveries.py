"""What the receive path and the acknowledgements know of one channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .window import Window

__all__ = ("Deliveries",)


class Deliveries:
    """One channel's part in receiving and settling messages; the channel's attributes of these names are kept here.

    Arguments:
        channel_id: the channel's number, or None.
        delivered_as: the class that makes a message of each content by its ``from_delivery``.
        writer: the connection's :class:`~kombu._pure.output.Writer`.
        receiver: the connection's :class:`~kombu._pure.drain.Receiver`.

    Attributes:
        connection: the connection, while the channel is not closed.
        close_error: what closed the channel, while it is closed by the broker.
        callbacks: consumer tag to what is called for each delivery.
        held_back: batches of publishes that go before anything else that is written; the channel's ``send_held_back()``
            writes them.
        no_ack_consumers: tags of the consumers whose deliveries count as acknowledged.
        unacked: tags of the deliveries that await an acknowledgement.
        window: the publishes that await the broker's answer; None where each answer is the channel's affair.
        last_look: when a publish last looked at what the peer has to say, on the clock of ``time.monotonic``.
    """

    __slots__ = (
        "callbacks",
        "channel_id",
        "connection",
        "close_error",
        "delivered_as",
        "held_back",
        "last_look",
        "no_ack_consumers",
        "receiver",
        "unacked",
        "window",
        "writer",
    )

    def __init__(
        self, channel_id: int | None, delivered_as: type[Any], writer: Any = None, receiver: Any = None
    ) -> None:
        self.channel_id = channel_id
        self.delivered_as = delivered_as
        self.writer = writer
        self.receiver = receiver
        self.connection: Any = None
        self.close_error: BaseException | None = None
        self.callbacks: dict[str, Callable[[Any], Any]] = {}
        self.held_back: tuple[Any, ...] = ()
        self.no_ack_consumers: set[str] = set()
        self.unacked: set[int] = set()
        self.window: Window | None = None
        self.last_look = 0.0

    def settle(self, delivery_tag: int, multiple: bool = False) -> None:
        """Note that a delivery is settled; with *multiple*, all up to it, and all at once for tag 0."""
        unacked = self.unacked
        if not multiple:
            unacked.discard(delivery_tag)
        elif delivery_tag:
            unacked.difference_update([tag for tag in list(unacked) if tag <= delivery_tag])
        else:
            unacked.clear()
