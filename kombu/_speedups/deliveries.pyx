"""What the receive path and the acknowledgements know of one channel; :mod:`kombu._pure.deliveries` says more."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from kombu._speedups.objects cimport COUNTS_VERSIONS, version_of_dict

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
        self.unacked_ = set()

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

    @property
    def unacked(self):
        """Tags of the deliveries that await an acknowledgement, as a set that may be changed."""
        with cython.critical_section(self):
            if self.has_single:
                self.has_single = False
                self.unacked_.add(self.single)
            return self.unacked_

    @unacked.setter
    def unacked(self, set value not None):
        with cython.critical_section(self):
            self.has_single = False
            self.unacked_, value = value, self.unacked_

    cdef object callback_of(self, consumer_tag):
        """Return what is called for the deliveries to a consumer, None if there is none."""
        if COUNTS_VERSIONS and consumer_tag is self.last_tag:
            if self.callbacks_version and self.callbacks_version == version_of_dict(self.callbacks):
                return <object>self.last_callback
        callback = self.callbacks.get(consumer_tag)
        if COUNTS_VERSIONS and callback is not None and type(consumer_tag) is str:
            self.last_tag = consumer_tag
            self.last_callback = <PyObject *>callback
            self.callbacks_version = version_of_dict(self.callbacks)
        return callback

    cdef int expect(self, uint64_t delivery_tag) except -1:
        """Note that a delivery awaits an acknowledgement."""
        with cython.critical_section(self):
            if self.has_single:
                self.has_single = False
                self.unacked_.add(self.single)
            if len(self.unacked_):
                self.unacked_.add(delivery_tag)
            else:
                self.single = delivery_tag
                self.has_single = True
        return 0

    cdef int settle_one(self, uint64_t delivery_tag) except -1:
        """Note that one delivery is settled."""
        with cython.critical_section(self):
            if self.has_single and self.single == delivery_tag:
                self.has_single = False
            else:
                self.unacked_.discard(delivery_tag)
        return 0

    def settle(self, delivery_tag, bint multiple=False):
        """Note that a delivery is settled; with *multiple*, all up to it, and all at once for tag 0."""
        cdef set unacked = self.unacked
        if not multiple:
            unacked.discard(delivery_tag)
        elif delivery_tag:
            unacked.difference_update([tag for tag in list(unacked) if tag <= delivery_tag])
        else:
            unacked.clear()
