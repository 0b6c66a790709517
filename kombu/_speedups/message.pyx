"""The message that a consumer gets, compiled; :mod:`kombu._pure.message` is the reference.

The fields are C members, which no lock but the object's own protects: they are read and written within critical
sections, which cost nothing where there is a GIL.  Setters swap, so that the old value is let go after the section:
that may run anybody's code.
"""

from __future__ import annotations

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport uint16_t, uint64_t

from kombu._speedups.deliveries cimport Deliveries
from kombu._speedups.decoding cimport (
    decode_text,
    read_block,
    read_common_text,
    read_flags,
    read_header,
)
from kombu._speedups.jsontext cimport Decoder
from kombu._speedups.objects cimport allow_changes, has_plain_attributes, pool_version_of, version_of_attributes
from kombu._speedups.wire cimport Cursor

from sys import exc_info

from kombu.exceptions import DecodeError, MessageStateError, SerializerNotInstalled, reraise

__all__ = ("Message", "configure")

#: Which build this is; kombu._core wants the number that it knows.
ABI = 1

#: The states of a message that has been settled.
cdef frozenset SETTLED = frozenset(("ACK", "REJECTED", "REQUEUED"))
cdef str RECEIVED = "RECEIVED"
cdef str ACKNOWLEDGED = "ACK"

#: Content encodings that say that the body is bytes; looking for a codec of that name would be slow and vain.
cdef frozenset NOT_A_CODEC = frozenset(("binary", "ascii-8bit", ""))

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

cdef tuple NO_ARGUMENTS = ()

cdef extern from *:
    """
    /* What cls.__new__(cls) does, without the look-ups. */
    static inline PyObject *kombu_new(PyTypeObject *type, PyObject *arguments) {
        return type->tp_new(type, arguments, NULL);
    }
    """
    object new_object "kombu_new" (PyTypeObject *cls, object arguments)


cdef extern from "Python.h":
    bint PyMethod_Check(object)
    PyObject *PyMethod_GET_FUNCTION(object)
    PyObject *PyMethod_GET_SELF(object)

# Set by the module that stands above this one, while it is imported.
cdef object plain_ack = None
cdef Acknowledge acknowledge = NULL


cdef void recognize_ack(object basic_ack, Acknowledge function) noexcept:
    global plain_ack, acknowledge
    plain_ack, acknowledge = basic_ack, function


def _not_configured(*args, **kwargs):
    raise RuntimeError("the message core has no serializers yet: import kombu.message first")


# Set once, while kombu.message is imported.
cdef object loads_body = _not_configured
cdef object decompress_body = _not_configured
cdef dict body_decoders = None
cdef object disabled_types = None
cdef object trusted_types = None


def configure(loads, decompress, decoders=None, disabled=frozenset(), trusted=frozenset()):
    """Set the functions that messages are deserialized and decompressed with; see :mod:`kombu._pure.message`.

    With *decoders*, what they are given is decoded without a call of *loads*, which decides as we do here.
    """
    global loads_body, decompress_body, body_decoders, disabled_types, trusted_types
    loads_body, decompress_body = loads, decompress
    body_decoders, disabled_types, trusted_types = decoders, disabled, trusted


@cython.freelist(64)
cdef class PropertyBlock:
    """Properties as they came over the wire."""


# The docstring begins with what inspect.signature() reads, since a compiled class has no other place for it.
@cython.auto_pickle(False)
@cython.embedsignature(False)
cdef class Message:
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

    MessageStateError = MessageStateError

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

    # -- settling ------------------------------------------------------------------------------------------------

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
    #define kombu_fill(self, channel, known, consumer, tag, again, from, key, left, properties, data, state) do { \\
        KOMBU_PUT((self)->channel_, channel); \\
        KOMBU_PUT((self)->deliveries, known); \\
        KOMBU_PUT((self)->consumer_tag_, consumer); \\
        KOMBU_PUT((self)->delivery_tag, tag); \\
        KOMBU_PUT((self)->redelivered_, again); \\
        KOMBU_PUT((self)->exchange_, from); \\
        KOMBU_PUT((self)->routing_key_, key); \\
        KOMBU_PUT((self)->message_count_, left); \\
        KOMBU_PUT((self)->block, properties); \\
        KOMBU_PUT((self)->raw_body, data); \\
        KOMBU_PUT((self)->_state, state); \\
        KOMBU_PUT((self)->accept, Py_None); \\
        KOMBU_PUT((self)->content_type_, Py_None); \\
        KOMBU_PUT((self)->content_encoding_, Py_None); \\
        KOMBU_PUT((self)->compression_, Py_None); \\
        KOMBU_PUT((self)->properties_, Py_None); \\
        KOMBU_PUT((self)->headers_, Py_None); \\
        KOMBU_PUT((self)->body_, Py_None); \\
        KOMBU_PUT((self)->errors_, Py_None); \\
        KOMBU_PUT((self)->delivery_info_, Py_None); \\
        KOMBU_PUT((self)->payload_, Py_None); \\
    } while (0)

    static inline PyObject *kombu_allocate(PyTypeObject *type) {
        return type->tp_alloc(type, 0);
    }
    """
    object allocate "kombu_allocate" (PyTypeObject *cls)
    void fill "kombu_fill" (
        Message self, object channel, Deliveries deliveries, object consumer_tag, object delivery_tag, object redelivered,
        object exchange, object routing_key, object message_count, PropertyBlock block, bytes body, str state,
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
            self, channel, deliveries, consumer_tag, delivery_tag, redelivered, exchange, routing_key, message_count, block,
            body, RECEIVED,
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


cdef object deserialized(body, content_type, content_encoding, accept):
    """Return *body* deserialized: by its decoder where that is all there is to it, otherwise by ``loads``."""
    cdef object kind = "application/data" if content_type is None else content_type
    if body_decoders is None or type(kind) is not str or not len(<str>kind):
        return loads_body(body, content_type, content_encoding, accept=accept)
    if accept is None:
        if kind in disabled_types:
            return loads_body(body, content_type, content_encoding, accept=accept)
    elif kind not in accept and kind not in trusted_types:
        return loads_body(body, content_type, content_encoding, accept=accept)
    if is_empty(body):
        return body
    decode = body_decoders.get(kind)
    if decode is None:
        if type(body) is str or content_encoding == "binary":
            return body
        return loads_body(body, content_type, content_encoding, accept=accept)
    try:
        if type(decode) is Decoder:
            return (<Decoder>decode).decode(body)
        return decode(body)
    except SerializerNotInstalled:
        raise
    except Exception as error:
        raise DecodeError(error) from error


cdef inline bint is_empty(body) except -1:
    if type(body) is bytes:
        return not len(<bytes>body)
    if type(body) is str:
        return not len(<str>body)
    return not body


cdef PropertyBlock make_block(bytes raw):
    cdef PropertyBlock block = PropertyBlock.__new__(PropertyBlock)
    block.raw = raw
    return block


cdef int look_at(PropertyBlock block) except -1:
    """Decode what decides about the body, unless that has been done: content type and encoding, compression."""
    cdef Cursor cursor
    cdef uint16_t flags
    cdef bint done
    with cython.critical_section(block):
        done = block.is_peeked
    if done:
        return 0
    content_type = content_encoding = compression = None
    cursor.data = <const unsigned char *>PyBytes_AS_STRING(block.raw)
    cursor.offset = 0
    cursor.limit = PyBytes_GET_SIZE(block.raw)
    flags = read_flags(&cursor)
    if flags & 0x8000:
        content_type = read_common_text(&cursor)
    if flags & 0x4000:
        content_encoding = read_common_text(&cursor)
    if flags & 0x2000:
        compression = read_header(&cursor, "compression", 11)
    with cython.critical_section(block):
        # What another thread has found first is what others may hold without a lock by now.
        if not block.is_peeked:
            block.content_type = content_type
            block.content_encoding = content_encoding
            block.compression = compression
            block.has_codec = content_encoding is not None and content_encoding not in NOT_A_CODEC
            block.is_binary = content_encoding == "binary"
            block.is_peeked = True
    return 0


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


cdef object decompressed(body, compression, list errors):
    """Return *body* decompressed, or as it is after a failure, which goes to *errors*."""
    try:
        return decompress_body(body, compression)
    except Exception:
        errors.append(exc_info())
        return body


cdef object text_where_encoded(bytes raw, content_encoding):
    """Return *raw* decoded by *content_encoding* where that is possible, otherwise as it is; empty it is a str."""
    if not raw:
        return ""
    if content_encoding is None or content_encoding in NOT_A_CODEC:
        return raw
    if content_encoding == "utf-8":
        text = decode_text(<const unsigned char *>PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw), NULL)
        return raw if text is None else text
    try:
        return raw.decode(content_encoding)
    except Exception:
        # Not text, or not by a codec we have: whoever deserializes the bytes will say so.
        return raw


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
    if (
        not PyMethod_Check(basic_ack)
        or PyMethod_GET_FUNCTION(basic_ack) != <PyObject *>plain_ack
        or PyMethod_GET_SELF(basic_ack) != <PyObject *>channel
    ):
        return False
    if has_plain_attributes(channel) and type(channel).basic_ack is plain_ack:
        # Until its class or one of its attributes changes, it will be found again.
        deliveries.attributes_version = version_of_attributes(channel)
        deliveries.class_version = pool_version_of(channel)
    return True


cdef object channel_of(Message self):
    with cython.critical_section(self):
        channel = self.channel_
    if channel is None:
        raise self.MessageStateError("This message does not have a receiving channel")
    return channel


cdef object consumer_tag_of(Message self):
    with cython.critical_section(self):
        info = self.delivery_info_
        if info is None:
            return self.consumer_tag_
    return info.get("consumer_tag")


cdef object tag_of(Message self):
    with cython.critical_section(self):
        return self.delivery_tag


cdef object unsettled_tag_of(Message self):
    """Return the delivery tag of a message that may still be settled."""
    with cython.critical_section(self):
        state = self._state
        delivery_tag = self.delivery_tag
    if state is not RECEIVED and state in SETTLED:
        raise self.MessageStateError(f"Message already acknowledged with state: {state}")
    return delivery_tag


cdef int set_state(Message self, str state) except -1:
    with cython.critical_section(self):
        self._state = state
    return 0


cdef int refuse(Message self, requeue, str state) except -1:
    channel = channel_of(self)
    channel.basic_reject(unsettled_tag_of(self), requeue=requeue)
    return set_state(self, state)


cdef dict present(mapping, tuple names):
    return {name: mapping[name] for name in names if mapping.get(name) is not None}
