"""Something received on a channel: where it came from, and whether it has been settled, which is done once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.exceptions import MessageStateError

if TYPE_CHECKING:
    import logging

__all__ = ("Received",)

#: The states of a message that has been settled.
_SETTLED = frozenset(("ACK", "REJECTED", "REQUEUED"))


class Received:
    """Where something came from, and whether it has been settled: the part of a message that has no content.

    Messages are made by :class:`~kombu._pure.message.Message`, which sets the fields.
    """

    __slots__ = ("_delivery_info", "_route", "_state", "channel", "delivery_tag")

    _delivery_info: dict[str, Any] | None
    #: What delivery_info will be made of: consumer tag, redelivered, exchange, routing key, message count.
    _route: tuple[str | None, bool, str, str, int | None] | None
    _state: str
    channel: Any
    delivery_tag: Any

    MessageStateError = MessageStateError

    @property
    def delivery_info(self) -> dict[str, Any]:
        """Where the message came from: exchange, routing key, delivery tag, consumer tag, and so on."""
        info = self._delivery_info
        if info is None:
            assert self._route is not None
            consumer_tag, redelivered, exchange, routing_key, message_count = self._route
            info = {} if consumer_tag is None else {"consumer_tag": consumer_tag}
            info["delivery_tag"] = self.delivery_tag
            info["redelivered"] = redelivered
            info["exchange"] = exchange
            info["routing_key"] = routing_key
            if consumer_tag is None:
                info["message_count"] = message_count
            self._delivery_info = info
        return info

    @delivery_info.setter
    def delivery_info(self, value: dict[str, Any]) -> None:
        self._delivery_info = value

    def ack(self, multiple: bool = False) -> None:
        """Acknowledge this message, with *multiple* also all earlier ones of the channel.

        Nothing is sent for a consumer that needs no acknowledgements.  Raises
        :exc:`~kombu.exceptions.MessageStateError` if the message is settled or has no channel; after any error of
        the channel it is still unsettled.
        """
        if self.channel is None:
            raise self._without_channel()
        no_ack_consumers = self.channel.no_ack_consumers
        if no_ack_consumers and self._consumer_tag() in no_ack_consumers:
            return
        if self._state in _SETTLED:
            raise self._settled_before()
        self.channel.basic_ack(self.delivery_tag, multiple=multiple)
        self._state = "ACK"

    def ack_log_error(self, logger: logging.Logger, errors: Any, multiple: bool = False) -> None:
        """Acknowledge this message; log *errors* instead of raising them, a broken pipe as well as raising it."""
        try:
            self.ack(multiple=multiple)
        except BrokenPipeError as error:
            logger.critical("Couldn't ack %r, reason:%r", self.delivery_tag, error, exc_info=True)
            raise
        except errors as error:
            logger.critical("Couldn't ack %r, reason:%r", self.delivery_tag, error, exc_info=True)

    def reject(self, requeue: bool = False) -> None:
        """Refuse this message: the broker drops or dead-letters it, or with *requeue* puts it back.

        Raises :exc:`~kombu.exceptions.MessageStateError` if the message is settled or has no channel.
        """
        self._refuse(requeue, "REJECTED")

    def reject_log_error(self, logger: logging.Logger, errors: Any, requeue: bool = False) -> None:
        """Refuse this message; log *errors* instead of raising them."""
        try:
            self.reject(requeue=requeue)
        except errors as error:
            logger.critical("Couldn't reject %r, reason: %r", self.delivery_tag, error, exc_info=True)

    def requeue(self) -> None:
        """Refuse this message and have the broker put it back; it may come to the same consumer again.

        Raises :exc:`~kombu.exceptions.MessageStateError` if the message is settled or has no channel.
        """
        self._refuse(True, "REQUEUED")

    @property
    def acknowledged(self) -> bool:
        """Whether the message is settled: acknowledged, rejected or requeued."""
        return self._state in _SETTLED

    def _refuse(self, requeue: bool, state: str) -> None:
        if self.channel is None:
            raise self._without_channel()
        if self._state in _SETTLED:
            raise self._settled_before()
        self.channel.basic_reject(self.delivery_tag, requeue=requeue)
        self._state = state

    def _consumer_tag(self) -> str | None:
        if self._delivery_info is None:
            return self._route and self._route[0]
        return self._delivery_info.get("consumer_tag")

    def _without_channel(self) -> Exception:
        return self.MessageStateError("This message does not have a receiving channel")

    def _settled_before(self) -> Exception:
        return self.MessageStateError(f"Message already acknowledged with state: {self._state}")
