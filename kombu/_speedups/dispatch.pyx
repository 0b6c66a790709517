"""From a delivery to a consumer's callbacks, compiled; :mod:`kombu._pure.dispatch` is the reference.

A delivery that our channel made, for a consumer whose methods are its own, gets to the callback without a Python frame
between.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from kombu._speedups.message cimport Message, decoded, decoded_fresh, has_errors, is_fresh
from kombu._speedups.objects cimport COUNTS_VERSIONS, pool_version_of, version_of_attributes, version_of_class

__all__ = ("Dispatcher", "receive")

ABI = 1

cdef extern from "Python.h":
    PyObject *PyDict_GetItemWithError(dict mapping, object key) except? NULL


def receive(self, body, message):
    """Hand a decoded message to the callbacks.

    Raises :exc:`NotImplementedError` when there are none.
    """
    call_each(self.callbacks, body, message)


cdef int call_each(callbacks, body, message) except -1:
    if type(callbacks) is list and len(<list>callbacks):
        for callback in <list>callbacks:
            callback(body, message)
        return 0
    if not callbacks:
        raise NotImplementedError("Consumer does not have any callbacks")
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

    def __call__(self, message):
        """Decode *message* and hand it to the consumer."""
        return self.dispatch(message)

    cdef object dispatch(self, object message):
        cdef object consumer = self.consumer
        cdef object kind, accept, body = None
        cdef unsigned int version
        cdef dict namespace = None
        cdef bint known = self.knows()
        if not known:
            namespace = self.namespace()
            known = self.look(namespace)
        on_message = <object>self.on_message if known else self.lookup(namespace, "on_message")
        try:
            kind = type(message)
            if kind is not self.finished and kind is not Message:
                # Our AMQP channels deliver the finished thing, others what is theirs.
                to_python = getattr(consumer.channel, "message_to_python", None)
                if to_python:
                    message = to_python(message)
                    kind = type(message)
                    known = known and self.knows()
                    namespace = None if known else self.namespace()
            accept = <object>self.accept if known else self.lookup(namespace, "accept")
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
        if known and self.knows():
            call_each(<object>self.callbacks, body, message)
            return None
        namespace = self.namespace()
        if namespace is not None and type(consumer).receive is plain_receive and "receive" not in namespace:
            call_each(self.lookup(namespace, "callbacks"), body, message)
            return None
        return consumer.receive(body, message)

    cdef bint knows(self) noexcept:
        """Return whether the attributes that were seen last are the consumer's still."""
        return (
            self.attributes_version != 0
            and self.attributes_version == version_of_attributes(self.consumer)
            and self.class_version == pool_version_of(self.consumer)
        )

    cdef bint look(self, dict namespace) except -1:
        """Look for all attributes at once, to be spared that for the next delivery; return whether that can be.

        They have to stand in the consumer's ``__dict__``, which changes its version with them, as the class does.
        """
        cdef object consumer = self.consumer
        cdef uint64_t version = version_of_attributes(consumer)
        self.attributes_version = 0
        if not COUNTS_VERSIONS or namespace is None or type(consumer).receive is not plain_receive:
            return False
        if "receive" in namespace:
            return False
        self.on_message = PyDict_GetItemWithError(namespace, "on_message")
        self.accept = PyDict_GetItemWithError(namespace, "accept")
        self.callbacks = PyDict_GetItemWithError(namespace, "callbacks")
        if self.on_message == NULL or self.accept == NULL or self.callbacks == NULL:
            return False
        if self.class_version:
            self.attributes_version = version
        return self.attributes_version != 0

    cdef dict namespace(self):
        """Return the dict that the consumer has its attributes in; None where they may be elsewhere."""
        cdef object consumer = self.consumer
        cdef unsigned int class_version = pool_version_of(consumer)
        if not class_version or class_version != self.class_version:
            self.intercepts = intercepts(type(consumer))
            self.class_version = pool_version_of(consumer)
        return None if self.intercepts else consumer.__dict__

    cdef object lookup(self, dict namespace, str name):
        """Return an attribute of the consumer, which has them in *namespace* if that is not None."""
        if namespace is not None:
            found = namespace.get(name, MISSING)
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
