"""Something received on a channel, compiled; :mod:`kombu._pure.received` is the reference.

Fields are read and written as those of a message are: see :mod:`kombu._speedups.message`.
"""

from __future__ import annotations

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from kombu._speedups.deliveries cimport Deliveries
from kombu._speedups.objects cimport (
    COUNTS_VERSIONS, has_plain_attributes, is_function, pool_version_of, version_of_attributes,
)

from kombu.exceptions import MessageStateError

__all__ = ("Received",)

ABI = 1

#: The states of a message that has been settled.
cdef frozenset SETTLED = frozenset(("ACK", "REJECTED", "REQUEUED"))
cdef str RECEIVED = "RECEIVED"
cdef str ACKNOWLEDGED = "ACK"


cdef extern from "Python.h":
    PyObject *PyMethod_GET_SELF(object)

# Set by the module that stands above this one, while it is imported.
cdef object plain_ack = None
cdef Acknowledge acknowledge = NULL


cdef void recognize_ack(object basic_ack, Acknowledge function) noexcept:
    global plain_ack, acknowledge
    plain_ack, acknowledge = basic_ack, function


@cython.auto_pickle(False)
cdef class Received:
    """Received()
--

    Where something came from, and whether it has been settled; see :class:`kombu._pure.received.Received`.
    """

    MessageStateError = MessageStateError

    @property
    def channel(self):
        """The channel that the message came on, and is settled on."""
        with cython.critical_section(self):
            return self.channel_

    @channel.setter
    def channel(self, value):
        with cython.critical_section(self):
            self.deliveries = None
            self.channel_, value = value, self.channel_

    @property
    def delivery_info(self):
        """Where the message came from: exchange, routing key, delivery tag, consumer tag, and so on."""
        cdef dict info
        with cython.critical_section(self):
            if self.delivery_info_ is None:
                info = {}
                if self.consumer_tag_ is not None:
                    info["consumer_tag"] = self.consumer_tag_
                info["delivery_tag"] = self.delivery_tag
                info["redelivered"] = self.redelivered_
                info["exchange"] = self.exchange_
                info["routing_key"] = self.routing_key_
                if self.consumer_tag_ is None:
                    info["message_count"] = self.message_count_
                self.delivery_info_ = info
            return self.delivery_info_

    @delivery_info.setter
    def delivery_info(self, value):
        with cython.critical_section(self):
            self.delivery_info_, value = value, self.delivery_info_

    def ack(self, multiple=False):
        """Acknowledge this message, with *multiple* also all earlier ones of the channel.

        Nothing is sent for a consumer that needs no acknowledgements.  Raises
        :exc:`~kombu.exceptions.MessageStateError` if the message is settled or has no channel; after any error of
        the channel it is still unsettled.
        """
        cdef Deliveries deliveries
        channel = channel_of(self)
        with cython.critical_section(self):
            deliveries = self.deliveries
        if deliveries is None:
            no_ack_consumers = channel.no_ack_consumers
            if no_ack_consumers and consumer_tag_of(self) in no_ack_consumers:
                return
        elif len(deliveries.no_ack_consumers) and consumer_tag_of(self) in deliveries.no_ack_consumers:
            return
        delivery_tag = unsettled_tag_of(self)
        if deliveries is not None and acknowledges_plainly(channel, deliveries):
            acknowledge(channel, deliveries, delivery_tag, multiple)
        else:
            channel.basic_ack(delivery_tag, multiple=multiple)
        set_state(self, ACKNOWLEDGED)

    def ack_log_error(self, logger, errors, multiple=False):
        """Acknowledge this message; log *errors* instead of raising them, a broken pipe as well as raising it."""
        try:
            self.ack(multiple=multiple)
        except BrokenPipeError as error:
            logger.critical("Couldn't ack %r, reason:%r", tag_of(self), error, exc_info=True)
            raise
        except errors as error:
            logger.critical("Couldn't ack %r, reason:%r", tag_of(self), error, exc_info=True)

    def reject(self, requeue=False):
        """Refuse this message: the broker drops or dead-letters it, or with *requeue* puts it back.

        Raises :exc:`~kombu.exceptions.MessageStateError` if the message is settled or has no channel.
        """
        refuse(self, requeue, "REJECTED")

    def reject_log_error(self, logger, errors, requeue=False):
        """Refuse this message; log *errors* instead of raising them."""
        try:
            self.reject(requeue=requeue)
        except errors as error:
            logger.critical("Couldn't reject %r, reason: %r", tag_of(self), error, exc_info=True)

    def requeue(self):
        """Refuse this message and have the broker put it back; it may come to the same consumer again.

        Raises :exc:`~kombu.exceptions.MessageStateError` if the message is settled or has no channel.
        """
        refuse(self, True, "REQUEUED")

    @property
    def acknowledged(self):
        """Whether the message is settled: acknowledged, rejected or requeued."""
        with cython.critical_section(self):
            state = self._state
        return state in SETTLED



cdef bint acknowledges_plainly(object channel, Deliveries deliveries) except -1:
    """Return whether the channel's basic_ack is the core's own, which need not be called to do what it does."""
    cdef unsigned int class_version = pool_version_of(channel)
    cdef uint64_t attributes_version = version_of_attributes(channel)
    if (
        class_version
        and attributes_version
        and deliveries.class_version == class_version
        and deliveries.attributes_version == attributes_version
    ):
        return True
    basic_ack = channel.basic_ack
    if not is_function(basic_ack, plain_ack) or PyMethod_GET_SELF(basic_ack) != <PyObject *>channel:
        return False
    if COUNTS_VERSIONS and has_plain_attributes(channel) and type(channel).basic_ack is plain_ack:
        # Until its class or one of its attributes changes, it will be found again.
        deliveries.attributes_version = version_of_attributes(channel)
        deliveries.class_version = pool_version_of(channel)
    return True


cdef object channel_of(Received self):
    with cython.critical_section(self):
        channel = self.channel_
    if channel is None:
        raise self.MessageStateError("This message does not have a receiving channel")
    return channel


cdef object consumer_tag_of(Received self):
    with cython.critical_section(self):
        info = self.delivery_info_
        if info is None:
            return self.consumer_tag_
    return info.get("consumer_tag")


cdef object tag_of(Received self):
    with cython.critical_section(self):
        return self.delivery_tag


cdef object unsettled_tag_of(Received self):
    """Return the delivery tag of a message that may still be settled."""
    with cython.critical_section(self):
        state = self._state
        delivery_tag = self.delivery_tag
    if state is not RECEIVED and state in SETTLED:
        raise self.MessageStateError(f"Message already acknowledged with state: {state}")
    return delivery_tag


cdef int set_state(Received self, str state) except -1:
    with cython.critical_section(self):
        self._state = state
    return 0


cdef int refuse(Received self, requeue, str state) except -1:
    channel = channel_of(self)
    channel.basic_reject(unsettled_tag_of(self), requeue=requeue)
    return set_state(self, state)
