"""Messages that are delivered and not yet settled, compiled; :mod:`kombu._pure.unsettled` is the reference."""

cimport cython

from kombu._speedups.known cimport Known, Noted, is_steady
from kombu._speedups.objects cimport is_function

from kombu._speedups.known import Noted as _Noted

__all__ = ("Delivered", "Unsettled")

ABI = 1


class Delivered(dict):
    """Messages by delivery tag, oldest first; see :class:`kombu._pure.unsettled.Delivered`."""

    __slots__ = ("restored",)

    def __init__(self):
        self.restored = False


class Unsettled(_Noted):
    """Keep messages that are delivered and not yet acknowledged; see :class:`kombu._pure.unsettled.Unsettled`."""

    #: Most messages that may be unacknowledged at once; 0 means any number.
    prefetch_count = 0

    #: Delivery tag -> message, oldest first. Changed by the consuming thread alone.
    _delivered = None

    #: Tags that are settled but still in ``_delivered``. Any thread may acknowledge: it adds to this set, in one
    #: step and without a lock, and the consuming thread sweeps the tags away before it adds a message.
    _dirty = None

    def can_consume(self):
        """Return whether the limit allows another message."""
        limit = self.prefetch_count
        return not limit or len(self._delivered) - len(self._dirty) < limit

    def append(self, message, delivery_tag):
        """Add a message that has been delivered."""
        if self._dirty:
            self._flush()
        self._quick_append(delivery_tag, message)

    def _flush(self):
        """Forget the messages that have been settled."""
        settled, delivered = self._dirty, self._delivered
        while settled:
            try:
                tag = settled.pop()
            except KeyError:  # another thread has flushed
                return
            delivered.pop(tag, None)

    def ack(self, delivery_tag):
        """Settle a message as processed."""
        self._quick_ack(delivery_tag)


cdef object plain_can_consume = Unsettled.can_consume
cdef object plain_append = Unsettled.append
cdef object plain_flush = Unsettled._flush
cdef object plain_settle = Unsettled.ack


#: What of a QoS is known besides its methods.
cdef tuple UNSETTLED_STATE = ("prefetch_count", "_delivered", "_dirty", "_quick_append", "_quick_ack")


@cython.final
@cython.auto_pickle(False)
cdef class KnownUnsettled(Known):
    """What is known of a QoS that keeps messages as ours does; nothing of any other."""

    cdef bint look(self, Noted qos) except -1:
        limit = getattr(qos, "prefetch_count", None)
        delivered, dirty = getattr(qos, "_delivered", None), getattr(qos, "_dirty", None)
        if not (
            type(limit) is int and 0 <= limit <= 0x7FFFFFFF and type(delivered) is Delivered and type(dirty) is set
            and is_steady(qos, self.version, UNSETTLED_STATE)
            and getattr(qos, "_quick_append", None) == delivered.__setitem__
            and getattr(qos, "_quick_ack", None) == dirty.add
            and is_function(qos.can_consume, plain_can_consume) and is_function(qos.append, plain_append)
            and is_function(qos._flush, plain_flush) and is_function(qos.ack, plain_settle)
        ):
            return False
        self.limit = limit
        self.delivered = <dict>delivered
        self.dirty = dirty
        return True


cdef bint has_room(KnownUnsettled known) except -1:
    """Do what ``can_consume()`` says."""
    return not known.limit or len(known.delivered) - len(known.dirty) < known.limit


cdef int add_delivered(KnownUnsettled known, object message, object delivery_tag) except -1:
    """Do what ``append()`` says."""
    cdef set settled = known.dirty
    cdef dict delivered = known.delivered
    while settled:
        try:
            tag = settled.pop()
        except KeyError:  # another thread has flushed
            break
        delivered.pop(tag, None)
    delivered[delivery_tag] = message
    return 0
