"""What an emulated broker does with each message, compiled; :mod:`kombu._pure.virtual` is the reference.

Whatever a transport of a third party may replace is called by its name here, too, but without a frame where it is ours.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.string cimport memcpy

from kombu._speedups.dispatch cimport Dispatcher
from kombu._speedups.message cimport Message as CoreMessage
from kombu._speedups.objects cimport allow_changes, is_function

from binascii import a2b_base64, b2a_base64
from sys import exc_info

__all__ = ("Base64", "Delivery", "Message", "MessageChannel", "MessageConnection")

ABI = 1

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void *PyUnicode_DATA(object text)
    ctypedef int (*initproc)(PyObject *, PyObject *, PyObject *)
    ctypedef struct PyTypeObject:
        const char *tp_name
        initproc tp_init


class Base64:
    """Write bytes as ASCII text, for brokers whose messages are text."""

    __module__ = "kombu.transport.virtual.message"

    def encode(self, s):
        """Return *s* (text as UTF-8) in base64."""
        return to_base64(s)

    def decode(self, s):
        """Return the bytes that *s* is the base64 of.

        Raises:
            binascii.Error: It is no base64.
        """
        return from_base64(s)


cdef object to_base64(s):
    cdef bytes made = b2a_base64(s.encode() if isinstance(s, str) else s, newline=False)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(made)
    if not size:
        return ""
    # Which is ASCII, without looking at each octet again.
    text = PyUnicode_New(size, 127)
    memcpy(PyUnicode_DATA(text), PyBytes_AS_STRING(made), size)
    return text


cdef bint is_base64(dict codecs) except -1:
    """Return whether the codec that *codecs* have for base64 is ours."""
    return type(codecs.get("base64")) is Base64


cdef object from_base64(s):
    return a2b_base64(s.encode() if isinstance(s, str) else s)


cdef inline object item(mapping, str key):
    """Return an item of a mapping, which is a dict as a rule; None where it has none."""
    if type(mapping) is dict:
        return (<dict>mapping).get(key)
    return mapping.get(key)


@cython.embedsignature(False)
cdef class Message(CoreMessage):
    """Message(payload, channel=None, **kwargs)
--

    A message that came from an emulated broker.

    *payload* is the message as it stands in the queue: a dict of ``body``, ``properties``, ``headers``,
    ``content-type`` and ``content-encoding``, as :meth:`Channel.prepare_message` lays them out.  *channel* is the one
    that received it; its codecs decode the body.
    """

    def __init__(self, payload, channel=None, **kwargs):
        self._raw = payload
        get = payload.get
        properties = payload["properties"]
        body = get("body")
        CoreMessage.__init__(
            self,
            body=channel.decode_body(body, properties.get("body_encoding")) if body else body,
            delivery_tag=properties["delivery_tag"],
            delivery_info=properties.get("delivery_info"),
            properties=properties,
            headers=get("headers"),
            content_type=get("content-type"),
            content_encoding=get("content-encoding"),
            channel=channel,
            postencode="utf-8",
            **kwargs,
        )

    def __getstate__(self):
        extra, fields = CoreMessage.__getstate__(self)
        extra["_raw"] = self._raw
        if self._queue is not None:
            extra["_queue"] = self._queue
        return extra, fields

    def serializable(self):
        """Return the message in the layout of its payload, to be put into a queue again or saved.

        The body has been decompressed when the message was received, so the header that names the compression is
        left out.
        """
        properties = self.properties
        body, _ = self.channel.encode_body(self.body, properties.get("body_encoding"))
        headers = {name: value for name, value in self.headers.items() if name != "compression"}
        return {
            "headers": headers,
            "properties": properties,
            "body": body,
            "content-encoding": self.content_encoding,
            "content-type": self.content_type,
        }


# Pickles, and whoever reads a traceback, shall find the class where it is public; see kombu._speedups.message.
(<PyTypeObject *>Message).tp_name = "kombu.transport.virtual.message.Message"
allow_changes(Message)

cdef initproc plain_init = (<PyTypeObject *>Message).tp_init


cdef object make_message(object channel, object payload, dict codecs):
    """Return *payload* as a message of the channel's class, as ``channel.Message(payload, channel=channel)`` does.

    *codecs* are the channel's where it is known to have our class of messages and our ``decode_body``, otherwise None.
    """
    cdef Message self
    kind = Message if codecs is not None else channel.Message
    headers = item(payload, "headers")
    if (
        kind is not Message or (<PyTypeObject *>Message).tp_init != plain_init
        or (headers and item(headers, "compression"))
    ):
        return kind(payload, channel=channel)
    properties = payload["properties"]
    body = item(payload, "body")
    if body:
        encoding = item(properties, "body_encoding")
        if codecs is None:
            decode = channel.decode_body
            if is_function(decode, plain_decode):
                codecs = channel.codecs
        if codecs is not None and encoding == "base64" and is_base64(codecs):
            body = from_base64(body)
        else:
            body = channel.decode_body(body, encoding)
    self = Message.__new__(Message)
    if isinstance(body, str):
        try:
            body = body.encode("utf-8")
        except Exception:
            self.errors_ = [exc_info()]
    self._raw = payload
    self.body_ = body
    self.channel_ = channel
    self.delivery_tag = properties["delivery_tag"]
    self.delivery_info_ = item(properties, "delivery_info") or {}
    self.properties_ = properties or {}
    self.headers_ = headers or {}
    self.content_type_ = item(payload, "content-type")
    self.content_encoding_ = item(payload, "content-encoding")
    self._state = "RECEIVED"
    return self


cdef class Delivery:
    """Delivery(channel, queue, no_ack, callback)
--

    What a transport calls with each message of a queue: makes it a :class:`Message` for the consumer.
    """

    def __init__(self, channel, queue, no_ack, callback):
        self.channel = channel
        self.queue = queue
        self.no_ack = no_ack
        self.callback = callback

    def __call__(self, raw_message):
        """Deliver what came out of the queue."""
        return self.callback(self.channel._take_delivery(raw_message, self.queue, self.no_ack))

    cdef int hand_over(self, object message) except -1:
        """Call the consumer."""
        if type(self.callback) is Dispatcher:
            (<Dispatcher>self.callback).dispatch(message)
        else:
            self.callback(message)
        return 0


cdef int augment_message(object channel, object message, object exchange, object routing_key) except -1:
    """Do what ``_inplace_augment_message`` says."""
    body, encoding = message["body"], channel.body_encoding
    encode = channel.encode_body
    if encoding == "base64" and is_function(encode, plain_encode) and type(channel.codecs.get(encoding)) is Base64:
        body = to_base64(body)
    else:
        body, encoding = encode(body, encoding)
    return lay_route(message, body, encoding, channel._next_delivery_tag(), exchange, routing_key)


cdef int lay_route(
    object message, object body, object encoding, object delivery_tag, object exchange, object routing_key
) except -1:
    """Note the encoded body of *message*, and where it goes."""
    message["body"] = body
    properties = message["properties"]
    properties["body_encoding"] = encoding
    properties["delivery_tag"] = delivery_tag
    info = properties["delivery_info"]
    info["exchange"] = exchange
    info["routing_key"] = routing_key
    return 0


class MessageChannel:
    """The part of a channel that publishes and receives messages; see :class:`kombu._pure.virtual.MessageChannel`."""

    #: Class of the messages.
    Message = Message

    #: Class that keeps the unacknowledged ones.
    QoS = None

    #: Name -> codec of message bodies.
    codecs = {"base64": Base64()}

    #: Name of the codec to write bodies with; ``transport_options["body_encoding"]`` overrides it.
    body_encoding = "base64"

    #: Priority of a message that has none, and the bounds of priorities.
    default_priority = 0
    min_priority = 0
    max_priority = 9

    _qos = None

    # -- the layout ----------------------------------------------------------------------------------------------

    def prepare_message(
        self, body, priority=None, content_type=None, content_encoding=None, headers=None, properties=None
    ):
        """Lay out a message as :meth:`basic_publish` takes it; the caller's dicts are not changed by that."""
        cdef dict copied = dict(properties) if properties else {}
        info = copied.get("delivery_info")
        copied["delivery_info"] = dict(info) if info else {}
        if "priority" not in copied:
            copied["priority"] = priority or self.default_priority
        return {
            "body": body,
            "headers": dict(headers) if headers else {},
            "properties": copied,
            "content-type": content_type,
            "content-encoding": content_encoding,
        }

    def encode_body(self, body, encoding=None):
        """Return *body* written by the codec *encoding*, and the name of the codec."""
        if encoding and encoding.lower() != "utf-8":
            codec = self._body_codec(encoding)
            body = to_base64(body) if type(codec) is Base64 else codec.encode(body)
        return body, encoding

    def decode_body(self, body, encoding=None):
        """Return the body that the codec *encoding* has written."""
        if encoding and encoding.lower() != "utf-8":
            codec = self._body_codec(encoding)
            return from_base64(body) if type(codec) is Base64 else codec.decode(body)
        return body

    def _body_codec(self, name):
        try:
            return self.codecs[name]
        except KeyError:
            known = ", ".join(sorted(self.codecs))
            raise ValueError(f"no codec for message bodies is called {name!r}; there are: utf-8, {known}") from None

    def _get_message_priority(self, message, reverse=False):
        """Return the priority of *message*, brought into bounds; higher is sooner, with *reverse* lower is."""
        highest = self.max_priority
        try:
            wanted = int(message["properties"]["priority"])
        except (KeyError, TypeError, ValueError):
            priority = self.default_priority
        else:
            priority = max(self.min_priority, min(wanted, highest))
        return highest - priority if reverse else priority

    # -- publishing ----------------------------------------------------------------------------------------------

    def basic_publish(self, message, exchange, routing_key, **kwargs):
        """Publish a message made by :meth:`prepare_message`, which is changed by it.

        An empty *exchange* is the default exchange: *routing_key* names the queue.

        Raises:
            amqp.RecoverableConnectionError: The channel is closed.
        """
        if self.closed:
            self._check_open("publish a message")
        self._inplace_augment_message(message, exchange, routing_key)
        if not exchange:
            return self._put(routing_key, message, **kwargs)
        return self.typeof(exchange).deliver(message, exchange, routing_key, **kwargs)

    def _inplace_augment_message(self, message, exchange, routing_key):
        """Encode the body of *message* and note where it goes."""
        augment_message(self, message, exchange, routing_key)

    def _next_delivery_tag(self):
        raise NotImplementedError("a channel has to make delivery tags")

    # -- receiving -----------------------------------------------------------------------------------------------

    @property
    def qos(self):
        """The :class:`QoS` of the channel, made when first used."""
        qos = self._qos
        if qos is None:
            qos = self._qos = self.QoS(self)
        return qos

    def _take_delivery(self, raw_message, queue, no_ack):
        """Make a message of what came out of *queue*."""
        message = make_message(self, raw_message, None)
        if not no_ack:
            self.qos.append(message, message.delivery_tag)
        return message

    def message_to_python(self, raw_message):
        """Return *raw_message* as a :class:`Message`."""
        if isinstance(raw_message, self.Message):
            return raw_message
        return self.Message(payload=raw_message, channel=self)

    def basic_ack(self, delivery_tag, multiple=False):
        """Acknowledge a message.

        Raises:
            amqp.RecoverableConnectionError: The channel is closed; the message has left it.
        """
        if self.closed:
            self._check_open("acknowledge delivery tag {!r}", delivery_tag)
        self.qos.ack(delivery_tag)


cdef object plain_encode = MessageChannel.encode_body
cdef object plain_decode = MessageChannel.decode_body


class MessageConnection:
    """The part of a connection that hands messages to their consumers."""

    #: Name of a queue -> what to call with its messages.
    _callbacks = None

    def _deliver(self, message, queue):
        """Hand a message that came out of *queue* to the consumer of it."""
        callback = self._callbacks.get(queue) if queue else None
        if callback is None:
            self._refuse(message, queue)
        else:
            callback(message)
