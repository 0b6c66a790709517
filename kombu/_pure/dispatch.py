"""From a delivery to a consumer's callbacks."""

from __future__ import annotations

from typing import Any

from .message import Message

__all__ = ("Dispatcher", "receive")


def receive(self: Any, body: Any, message: Any) -> None:
    """Hand a decoded message to the callbacks.

    Raises :exc:`NotImplementedError` when there are none.
    """
    callbacks = self.callbacks
    if not callbacks:
        raise NotImplementedError("Consumer does not have any callbacks")
    for callback in callbacks:
        callback(body, message)


class Dispatcher:
    """Be what a channel calls for each delivery to *consumer*: decode the message and hand it over.

    Arguments:
        consumer: gives ``on_message``, ``on_decode_error``, ``accept``, ``channel`` and ``receive(body, message)``, all
            looked up anew for each delivery.
        finished: the class of which the channel makes messages that its ``message_to_python`` has nothing to add to.
    """

    __slots__ = ("consumer", "finished")

    def __init__(self, consumer: Any, finished: type | None = None) -> None:
        self.consumer = consumer
        self.finished = finished

    def __call__(self, message: Any) -> Any:
        """Decode *message* and hand it to the consumer.

        What cannot be decoded goes to ``on_decode_error``; without that the error is raised.
        """
        consumer = self.consumer
        on_message = consumer.on_message
        try:
            kind = type(message)
            if kind is not self.finished and kind is not Message:
                # Our AMQP channels deliver the finished thing, others what is theirs.
                to_python = getattr(consumer.channel, "message_to_python", None)
                if to_python:
                    message = to_python(message)
            accept = consumer.accept
            if accept is not None:
                message.accept = accept
            if message.errors:
                message._reraise_error()
            body = None if on_message else message.decode()
        except Exception as error:
            on_decode_error = consumer.on_decode_error
            if not on_decode_error:
                raise
            on_decode_error(message, error)
            return None
        if on_message:
            return on_message(message)
        return consumer.receive(body, message)
