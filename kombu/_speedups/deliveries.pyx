"""What the receive path and the acknowledgements know of one channel; :mod:`kombu._pure.deliveries` says more."""

cimport cython

__all__ = ("Deliveries",)

ABI = 1


cdef class Deliveries:
    """Deliveries(channel_id, delivered_as, writer=None, receiver=None)
--

    One channel's part in receiving and settling messages; see :class:`kombu._pure.deliveries.Deliveries`.
    """

    def __init__(self, channel_id, delivered_as, writer=None, receiver=None):
        self.channel_id = channel_id
        self.delivered_as = delivered_as
        self.writer = writer
        self.receiver = receiver
        self.callbacks = {}
        self.held_back = ()
        self.no_ack_consumers = set()
        self.unacked = set()

    @property
    def channel_id(self):
        """The channel's number, or None."""
        cdef int number = self.number
        return None if number < 0 else number

    @channel_id.setter
    def channel_id(self, value):
        self.number = -1 if value is None else value

    @property
    def close_error(self):
        """What closed the channel, while it is closed by the broker."""
        with cython.critical_section(self):
            return self.close_error_

    @close_error.setter
    def close_error(self, value):
        with cython.critical_section(self):
            self.close_error_, value = value, self.close_error_
            self.is_closed = self.close_error_ is not None

    @property
    def held_back(self):
        """Batches of publishes that go before anything else that is written."""
        with cython.critical_section(self):
            return self.held_back_

    @held_back.setter
    def held_back(self, tuple value not None):
        with cython.critical_section(self):
            self.held_back_, value = value, self.held_back_
            self.holds_back = len(self.held_back_) > 0

    def settle(self, delivery_tag, bint multiple=False):
        """Note that a delivery is settled; with *multiple*, all up to it, and all at once for tag 0."""
        cdef set unacked = self.unacked
        if not multiple:
            unacked.discard(delivery_tag)
        elif delivery_tag:
            unacked.difference_update([tag for tag in list(unacked) if tag <= delivery_tag])
        else:
            unacked.clear()
