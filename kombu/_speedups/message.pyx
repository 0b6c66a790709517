"""The message that a consumer gets, compiled; :mod:`kombu._pure.message` is the reference.

The fields are C members, which no lock but the object's own protects: they are read and written within critical
sections, which cost nothing where there is a GIL.  Setters swap, so that the old value is let go after the section:
that may run anybody's code.
"""

from __future__ import annotations

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyTypeObject

from kombu._speedups.bodies cimport PropertyBlock, decompressed, deserialized, look_at, make_block, text_where_encoded
from kombu._speedups.decoding cimport read_block
from kombu._speedups.deliveries cimport Deliveries
from kombu._speedups.objects cimport allow_changes
from kombu._speedups.received cimport Received

from sys import exc_info

from kombu.exceptions import reraise

__all__ = ("Message",)

#: Which build this is; kombu._core wants the number that it knows.
ABI = 1

#: What a pickled message consists of besides its extra attributes and ``errors``; kombu 5.7 reads and writes the same.
cdef tuple STATE_FIELDS = (
    "_state",
    "channel",
    "delivery_tag",
    "content_type",
    "content_encoding",
    "delivery_info",
    "headers",
    "properties",
    "body",
    "_decoded_cache",
    "accept",
)

cdef str RECEIVED = "RECEIVED"
cdef tuple NO_ARGUMENTS = ()

cdef extern from *:
    """
    /* What cls.__new__(cls) does, without the look-ups. */
    static inline PyObject *kombu_new(PyTypeObject *type, PyObject *arguments) {
        return type->tp_new(type, arguments, NULL);
    }
    """
    object new_object "kombu_new" (PyTypeObject *cls, object arguments)


# The docstring begins with what inspect.signature() reads, since a compiled class has no other place for it.
@cython.auto_pickle(False)
@cython.embedsignature(False)
cdef class Message(Received):
    """Message(body=None, delivery_tag=None, content_type=None, content_encoding=None, delivery_info=None, \
properties=None, headers=None, postencode=None, accept=None, channel=None, **kwargs)
--

    A received message: body, properties, where it came from, and whether it has been settled.

    *properties* are those of class basic, *headers* their ``application_headers``; *delivery_info* says by which
    consumer, exchange and routing key the message came.  A ``compression`` header has *body* decompressed, a
    *postencode* has a str *body* encoded; where that fails, ``errors`` holds the :func:`sys.exc_info` of it.
    *accept* is the set of content types that :meth:`decode` may deserialize (None: whatever is enabled).
    Other keyword arguments are ignored.
    """

    def __init__(
        self,
        body=None,
        delivery_tag=None,
        content_type=None,
        content_encoding=None,
        delivery_info=None,
        properties=None,
        headers=None,
        postencode=None,
        accept=None,
        channel=None,
        **kwargs,
    ):
        # A subclass may have noted errors before it calls this; they are kept, and the body is left as it is.
        with cython.critical_section(self):
            errors = self.errors_
        if errors is None:
            errors = []
        headers = headers or {}
        compression = headers.get("compression")
        if compression and not errors:
            body = decompressed(body, compression, errors)
        if postencode and not errors and isinstance(body, str):
            try:
                body = body.encode(postencode)
            except Exception:
                errors.append(exc_info())
        with cython.critical_section(self):
            self.block = None
            self.raw_body = None
            self.errors_ = errors
            self.channel_ = channel
            self.deliveries = None
            self.delivery_tag = delivery_tag
            self.content_type_ = content_type
            self.content_encoding_ = content_encoding
            self.delivery_info_ = delivery_info or {}
            self.headers_ = headers
            self.properties_ = properties or {}
            self.payload_ = None
            self.is_decoded = False
            self._state = "RECEIVED"
            self.accept = accept
            self.compression_ = compression
            self.body_ = body

    @classmethod
    def from_delivery(
        cls,
        channel,
        consumer_tag,
        delivery_tag,
        redelivered,
        exchange,
        routing_key,
        raw_properties,
        body,
        message_count=None,
    ):
        """Make a message of what basic.deliver, or with a *consumer_tag* of None basic.get-ok, brought.

        *raw_properties* are the property flags and list of the content header, which
        :func:`~kombu._core.frames.check_properties` must have accepted; they and *body* are decoded on first use.
        ``__init__`` is not called.
        """
        return make_delivery(
            cls,
            channel,
            None,
            consumer_tag,
            delivery_tag,
            redelivered,
            exchange,
            routing_key,
            make_block(raw_properties),
            body,
            message_count,
        )

    # -- what came over the wire ---------------------------------------------------------------------------------

    @property
    def body(self):
        """The body: decompressed, and a str where its content encoding is a codec that it can be decoded with."""
        settle_body(self)
        with cython.critical_section(self):
            return self.body_

    @body.setter
    def body(self, value):
        settle_body(self)
        with cython.critical_section(self):
            self.body_, value = value, self.body_

    @property
    def errors(self):
        """The :func:`sys.exc_info` of what went wrong while the body was decompressed or encoded."""
        peek(self)
        with cython.critical_section(self):
            compression = self.compression_
        if compression:
            settle_body(self)
        with cython.critical_section(self):
            if self.errors_ is None:
                self.errors_ = []
            return self.errors_

    @errors.setter
    def errors(self, value):
        with cython.critical_section(self):
            self.errors_, value = value, self.errors_

    @property
    def content_type(self):
        """The MIME type of the body, by which it is deserialized."""
        peek(self)
        with cython.critical_section(self):
            return self.content_type_

    @content_type.setter
    def content_type(self, value):
        peek(self)
        with cython.critical_section(self):
            self.content_type_, value = value, self.content_type_

    @property
    def content_encoding(self):
        """The name of the codec that the body is text by, or ``"binary"``."""
        peek(self)
        with cython.critical_section(self):
            return self.content_encoding_

    @content_encoding.setter
    def content_encoding(self, value):
        # What has been received is text by the encoding it came with.
        settle_body(self)
        with cython.critical_section(self):
            self.content_encoding_, value = value, self.content_encoding_

    @property
    def headers(self):
        """The application's headers."""
        settle_properties(self)
        with cython.critical_section(self):
            return self.headers_

    @headers.setter
    def headers(self, value):
        settle_properties(self)
        with cython.critical_section(self):
            self.headers_, value = value, self.headers_

    @property
    def properties(self):
        """The properties of class basic that are present, by name."""
        settle_properties(self)
        with cython.critical_section(self):
            return self.properties_

    @properties.setter
    def properties(self, value):
        settle_properties(self)
        with cython.critical_section(self):
            self.properties_, value = value, self.properties_

    # -- deserializing -------------------------------------------------------------------------------------------

    def decode(self):
        """Return the body deserialized, which is done once.

        Raises :exc:`~kombu.exceptions.DecodeError`, or :exc:`~kombu.exceptions.ContentDisallowed` for a content
        type that is not accepted.
        """
        with cython.critical_section(self):
            if self.is_decoded:
                return self.payload_
        payload = self._decode()
        with cython.critical_section(self):
            self.payload_ = payload
            self.is_decoded = True
        return payload

    def _decode(self):
        """Deserialize the body anew."""
        with cython.critical_section(self):
            accept = self.accept
        return deserialized(self.body, self.content_type, self.content_encoding, accept)

    @property
    def payload(self):
        """The deserialized body."""
        with cython.critical_section(self):
            if self.is_decoded:
                return self.payload_
        return self.decode()

    @property
    def _decoded_cache(self):
        """The deserialized body, None before there is one."""
        with cython.critical_section(self):
            return self.payload_

    @_decoded_cache.setter
    def _decoded_cache(self, value):
        with cython.critical_section(self):
            self.is_decoded = value is not None
            self.payload_, value = value, self.payload_

    def _reraise_error(self, callback=None):
        """Raise the first of the errors, or give the message and it to *callback*."""
        try:
            reraise(*self.errors[0])
        except Exception as error:
            if callback is None:
                raise
            callback(self, error)

    # -- the object ----------------------------------------------------------------------------------------------

    def __reduce_ex__(self, protocol):
        # The older protocols cannot hold the fields.
        return super().__reduce_ex__(max(protocol, 2))

    def __getstate__(self):
        return {"errors": self.errors, **vars(self)}, {name: getattr(self, name) for name in STATE_FIELDS}

    def __setstate__(self, state):
        extra, fields = state
        Message.__init__(self)
        for name, value in fields.items():
            setattr(self, name, value)
        for name, value in extra.items():
            setattr(self, name, value)

    def __repr__(self):
        with cython.critical_section(self):
            state, delivery_tag = self._state, self.delivery_tag
        body = self.body
        details = {
            "state": state,
            "content_type": self.content_type,
            "delivery_tag": delivery_tag,
            "body_length": None if body is None else len(body),
            "properties": present(self.properties, ("correlation_id", "type")),
            "delivery_info": present(self.delivery_info, ("exchange", "routing_key")),
        }
        return f"<{type(self).__name__} object at {id(self):#x} with details {present(details, tuple(details))!r}>"


# Pickles, and whoever reads a traceback, shall find the class where it is public.  Only the name is given: the type is
# static, so that setting __module__ is not possible.
(<PyTypeObject *>Message).tp_name = "kombu.message.Message"
allow_changes(Message)


cdef extern from *:
    """
    #define KOMBU_PUT(place, value) Py_INCREF((PyObject *)(value)); (place) = (void *)(value)

    /* What cls.__new__(cls) and assignments do, for a class that has it from here: each field is set once, and there is
       no __dict__ until something is put into it. */
    #define kombu_fill(self, origin, channel, known, consumer, tag, again, from, key, left, properties, data, state) do { \\
        KOMBU_PUT((origin)->channel_, channel); \\
        KOMBU_PUT((origin)->deliveries, known); \\
        KOMBU_PUT((origin)->consumer_tag_, consumer); \\
        KOMBU_PUT((origin)->delivery_tag, tag); \\
        KOMBU_PUT((origin)->redelivered_, again); \\
        KOMBU_PUT((origin)->exchange_, from); \\
        KOMBU_PUT((origin)->routing_key_, key); \\
        KOMBU_PUT((origin)->message_count_, left); \\
        KOMBU_PUT((origin)->_state, state); \\
        KOMBU_PUT((origin)->delivery_info_, Py_None); \\
        KOMBU_PUT((self)->block, properties); \\
        KOMBU_PUT((self)->raw_body, data); \\
        KOMBU_PUT((self)->accept, Py_None); \\
        KOMBU_PUT((self)->content_type_, Py_None); \\
        KOMBU_PUT((self)->content_encoding_, Py_None); \\
        KOMBU_PUT((self)->compression_, Py_None); \\
        KOMBU_PUT((self)->properties_, Py_None); \\
        KOMBU_PUT((self)->headers_, Py_None); \\
        KOMBU_PUT((self)->body_, Py_None); \\
        KOMBU_PUT((self)->errors_, Py_None); \\
        KOMBU_PUT((self)->payload_, Py_None); \\
    } while (0)

    static inline PyObject *kombu_allocate(PyTypeObject *type) {
        return type->tp_alloc(type, 0);
    }
    """
    object allocate "kombu_allocate" (PyTypeObject *cls)
    void fill "kombu_fill" (
        Message self, Received origin, object channel, Deliveries deliveries, object consumer_tag, object delivery_tag,
        object redelivered, object exchange, object routing_key, object message_count, PropertyBlock block, bytes body,
        str state,
    )


cdef Message make_delivery(
    type cls,
    object channel,
    Deliveries deliveries,
    object consumer_tag,
    object delivery_tag,
    object redelivered,
    object exchange,
    object routing_key,
    PropertyBlock block,
    bytes body,
    object message_count,
):
    """Make a message of class *cls* without calling its ``__init__``; see :meth:`Message.from_delivery`."""
    cdef Message self
    if (<PyTypeObject *>cls).tp_new == (<PyTypeObject *>Message).tp_new:
        self = <Message>allocate(<PyTypeObject *>cls)
        fill(
            self, self, channel, deliveries, consumer_tag, delivery_tag, redelivered, exchange, routing_key,
            message_count, block, body, RECEIVED,
        )
        return self
    self = new_object(<PyTypeObject *>cls, NO_ARGUMENTS)
    self.channel_ = channel
    self.deliveries = deliveries
    self.consumer_tag_ = consumer_tag
    self.delivery_tag = delivery_tag
    self.redelivered_ = redelivered
    self.exchange_ = exchange
    self.routing_key_ = routing_key
    self.message_count_ = message_count
    self.block = block
    self.raw_body = body
    self._state = RECEIVED
    return self


cdef bint is_fresh(Message self) except -1:
    """Return whether nobody has looked at the message since it came, and its body is not compressed."""
    cdef PropertyBlock block
    with cython.critical_section(self):
        block = self.block
        if block is None or self.raw_body is None or self.is_peeked or self.errors_ is not None:
            return False
    if not block.is_peeked:
        look_at(block)
    return not block.compression


cdef object decoded_fresh(Message self):
    """Return what :func:`decoded` does, for a message that is fresh."""
    cdef PropertyBlock block
    cdef bytes raw
    with cython.critical_section(self):
        block = self.block
        raw = self.raw_body
        accept = self.accept
    if block is None or raw is None:
        return decoded(self)
    if len(raw) and not block.has_codec:
        body = raw
    else:
        body = text_where_encoded(raw, block.content_encoding)
    with cython.critical_section(self):
        if self.raw_body is not None:
            self.content_type_ = block.content_type
            self.content_encoding_ = block.content_encoding
            self.is_peeked = True
            self.body_ = body
            self.raw_body = None
    payload = deserialized(body, block.content_type, block.content_encoding, accept)
    with cython.critical_section(self):
        self.payload_ = payload
        self.is_decoded = True
    return payload


cdef object decoded(Message self):
    """Return the body deserialized: what :meth:`Message.decode` does, for a class that overrides nothing of it."""
    with cython.critical_section(self):
        if self.is_decoded:
            return self.payload_
    settle_body(self)
    with cython.critical_section(self):
        body = self.body_
        content_type = self.content_type_
        content_encoding = self.content_encoding_
        accept = self.accept
    payload = deserialized(body, content_type, content_encoding, accept)
    with cython.critical_section(self):
        self.payload_ = payload
        self.is_decoded = True
    return payload


cdef bint has_errors(Message self) except -1:
    """Return whether ``errors`` has any, without making the list."""
    peek(self)
    with cython.critical_section(self):
        compression = self.compression_
    if compression:
        settle_body(self)
    with cython.critical_section(self):
        errors = self.errors_
    return bool(errors)


cdef int peek(Message self) except -1:
    """Note what decides about the body, unless that has been done."""
    cdef PropertyBlock block
    with cython.critical_section(self):
        block = None if self.is_peeked else self.block
    if block is None:
        return 0
    look_at(block)
    with cython.critical_section(self):
        if not self.is_peeked:
            self.content_type_ = block.content_type
            self.content_encoding_ = block.content_encoding
            self.compression_ = block.compression
            self.is_peeked = True
    return 0


cdef int settle_properties(Message self) except -1:
    """Decode the properties, if that is still to be done."""
    cdef PropertyBlock block
    with cython.critical_section(self):
        block = self.block
    if block is None:
        return 0
    # The dicts are the caller's to change, the body depends on what was received: that is noted before.
    peek(self)
    properties = read_block(<const unsigned char *>PyBytes_AS_STRING(block.raw), 0, PyBytes_GET_SIZE(block.raw))
    headers = properties.get("application_headers") or {}
    with cython.critical_section(self):
        if self.block is not None:
            self.headers_ = headers
            self.properties_ = properties
            self.block = None
    return 0


cdef int settle_body(Message self) except -1:
    """Turn the body into what the user gets, if that is still to be done."""
    cdef bytes raw
    cdef list errors = None
    with cython.critical_section(self):
        raw = self.raw_body
    if raw is None:
        return 0
    peek(self)
    with cython.critical_section(self):
        compression = self.compression_
        content_encoding = self.content_encoding_
    body = None
    if compression:
        errors = []
        body = decompressed(raw, compression, errors)
    if not compression or errors:
        body = text_where_encoded(raw, content_encoding)
    with cython.critical_section(self):
        if self.raw_body is not None:
            self.body_ = body
            if self.errors_ is None:
                self.errors_ = errors
            self.raw_body = None
    return 0


cdef dict present(mapping, tuple names):
    return {name: mapping[name] for name in names if mapping.get(name) is not None}
