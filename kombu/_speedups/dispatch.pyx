"""From a delivery to a consumer's callbacks, compiled; :mod:`kombu._pure.dispatch` is the reference.

A delivery that our channel made, for a consumer whose methods are its own, gets to the callback without a Python frame
between.
"""

from kombu._speedups.objects cimport version_of_class
from kombu._speedups.message cimport Message, decoded, decoded_fresh, has_errors, is_fresh

__all__ = ("Dispatcher", "receive")

ABI = 1


def receive(self, body, message):
    """Hand a decoded message to the callbacks.

    Raises :exc:`NotImplementedError` when there are none.
    """
    call_each(self.callbacks, body, message)


cdef int call_each(callbacks, body, message) except -1:
    if not callbacks:
        raise NotImplementedError("Consumer does not have any callbacks")
    if type(callbacks) is list:
        for callback in <list>callbacks:
            callback(body, message)
    else:
        for callback in callbacks:
            callback(body, message)
    return 0


cdef object MISSING = object()
cdef object plain_receive = receive


cdef class Dispatcher:
    """Dispatcher(consumer, finished=None)
--

    Be what a channel calls for each delivery to *consumer*; see :class:`kombu._pure.dispatch.Dispatcher`.
    """

    def __init__(self, consumer, finished=None):
        self.consumer = consumer
        self.finished = finished
        self.namespace = None if intercepts(type(consumer)) else consumer.__dict__

    def __call__(self, message):
        """Decode *message* and hand it to the consumer."""
        return self.dispatch(message)

    cdef object dispatch(self, object message):
        cdef object consumer = self.consumer
        cdef object kind, accept, body = None
        cdef unsigned int version
        on_message = self.lookup("on_message")
        try:
            kind = type(message)
            if kind is not self.finished and kind is not Message:
                # Our AMQP channels deliver the finished thing, others what is theirs.
                to_python = getattr(consumer.channel, "message_to_python", None)
                if to_python:
                    message = to_python(message)
                    kind = type(message)
            accept = self.lookup("accept")
            if self.plain is not kind or self.plain_version != version_of_class(kind) or not self.plain_version:
                # Read before the look, and noted after it: the class may change meanwhile.
                version = version_of_class(kind)
                self.plain = kind if isinstance(message, Message) and overrides_nothing(kind) else None
                self.plain_version = version
            if self.plain is kind and kind is not None:
                if accept is not None:
                    (<Message>message).accept = accept
                if is_fresh(<Message>message):
                    if not on_message:
                        body = decoded_fresh(<Message>message)
                else:
                    if has_errors(<Message>message):
                        message._reraise_error()
                    if not on_message:
                        body = decoded(<Message>message)
            else:
                if accept is not None:
                    message.accept = accept
                if message.errors:
                    message._reraise_error()
                if not on_message:
                    body = message.decode()
        except Exception as error:
            on_decode_error = consumer.on_decode_error
            if not on_decode_error:
                raise
            on_decode_error(message, error)
            return None
        if on_message:
            return on_message(message)
        if self.namespace is not None and type(consumer).receive is plain_receive and "receive" not in self.namespace:
            call_each(self.lookup("callbacks"), body, message)
            return None
        return consumer.receive(body, message)

    cdef object lookup(self, str name):
        """Return an attribute of the consumer."""
        if self.namespace is not None:
            found = self.namespace.get(name, MISSING)
            if found is not MISSING:
                return found
        return getattr(self.consumer, name)


cdef bint intercepts(kind) except -1:
    """Return whether what stands in an instance's ``__dict__`` need not be what its attribute gives."""
    if kind.__getattribute__ is not object.__getattribute__ or kind.__dictoffset__ == 0:
        return True
    for name in ("on_message", "accept", "callbacks", "receive"):
        for base in kind.__mro__:
            found = base.__dict__.get(name, MISSING)
            if found is not MISSING:
                if hasattr(type(found), "__set__") or hasattr(type(found), "__delete__"):
                    return True
                break
    return False


#: What a class has to have, so that nobody can tell who decodes.
cdef dict DECODING = {
    name: getattr(Message, name)
    for name in ("decode", "_decode", "errors", "body", "content_type", "content_encoding", "payload")
}


cdef bint overrides_nothing(kind) except -1:
    """Return whether the class decodes as the core's did when it was made."""
    for name, plain in DECODING.items():
        if getattr(kind, name) is not plain:
            return False
    return True
