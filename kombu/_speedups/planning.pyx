"""Publishes of one producer that have all but the body in common: planned once, and found again by what they share.

Twin of :mod:`kombu._pure.planning`, which says more.  A small publish on a channel that neither waits for each confirm
nor gathers is written from here, by one call of the kernel.
"""

cimport cython

from types import MethodType

from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_SIZE

from kombu._speedups.deliveries cimport Deliveries
from kombu._speedups.jsonencoding cimport Encoder
from kombu._speedups.objects cimport PyObject_GenericSetAttr, pool_delattr, pool_version_of
from kombu._speedups.output cimport Writer
from kombu._speedups.pool cimport Lent
from kombu._speedups.publish cimport COPIED_BODY, PublishPlan, Span, look
from kombu._speedups.window cimport Window

from kombu.exceptions import EncodeError, SerializerNotInstalled

__all__ = ("LOOK_AFTER", "MOST_PLANS", "UNPLANNED", "Planned", "Plans", "quicken")

ABI = 1

MOST_PLANS = 256
LOOK_AFTER = 0.02
UNPLANNED = object()

cdef extern from "posix_socket.h":
    double kombu_monotonic() noexcept

    # Whether nothing else runs until we call into Python or let go of the GIL.
    bint UNDISTURBED "KOMBU_UNDISTURBED"

cdef enum:
    #: What the frames around a body that is copied may take.
    AROUND = 2048

cdef extern from "quick_function.h":
    ctypedef object (*Entry "vectorcallfunc")(object, PyObject *const *, size_t, PyObject *)
    Entry kombu_quicken(object function, Entry entry) except NULL
    bint kombu_is_as_made(object function, PyObject *code, PyObject *defaults)

cdef extern from "Python.h":
    Py_ssize_t PyVectorcall_NARGS(size_t nargsf)
    PyObject *PyTuple_GET_ITEM(PyObject *tuple, Py_ssize_t index)

cdef extern from *:
    """
    /* Whether instances are asked for attributes, and given them, as those of `like` are. */
    #define planning_usual(thing, like) (Py_TYPE(thing)->tp_getattro == PyObject_GenericGetAttr \\
        && Py_TYPE(thing)->tp_setattro == ((PyTypeObject *)(like))->tp_setattro)
    """
    bint planning_usual(object thing, object like)

cdef double look_after = LOOK_AFTER
cdef object unplanned = UNPLANNED
cdef object method_type = MethodType

#: What plans go by, of a producer: attributes, and methods.
cdef tuple NOTED = ("_batch_local", "_channel", "batched", "compression", "exchange", "routing_key", "serializer")
cdef tuple METHODS = ("_prepare", "_publish")

#: The version of the class that was looked at last, and whether the attributes of its instances change only by being
#: set and deleted.
cdef unsigned int known_version = 0
cdef bint known_steady = False


cdef bint is_steady(producer) except -1:
    """Return whether the attributes of *producer* that plans go by change only by being set or deleted, or its class."""
    global known_version, known_steady
    cdef unsigned int version = pool_version_of(producer)
    cdef bint steady
    if version == known_version:
        return known_steady
    # Without a version nobody would see it change.
    steady = version != 0 and planning_usual(producer, Planned)
    for name in (*NOTED, *METHODS):
        for cls in type(producer).__mro__:
            if name in cls.__dict__:
                kind = type(cls.__dict__[name])
                # Of a property nobody knows what it returns the next time.
                steady = steady and not hasattr(kind, "__set__") and (name in METHODS or not hasattr(kind, "__get__"))
                break
    known_version, known_steady = version, steady
    return steady


cdef class Plans


@cython.auto_pickle(False)
cdef class Planned(Lent):
    """A producer that has plans; see :class:`kombu._pure.planning.Planned`."""

    cdef Plans plans
    #: Whether no attribute has been set or deleted since the plans noted what they say.
    cdef bint settled

    @property
    def _plans(self):
        """What further publishes on the present channel have in common, as :class:`Plans`."""
        with cython.critical_section(self):
            return self.plans

    @_plans.setter
    def _plans(self, Plans value):
        with cython.critical_section(self):
            self.plans, value = value, self.plans

    def __setattr__(self, name, value):
        # Afterwards: who looks at the attributes meanwhile sees the old value, and must not rely on it.
        PyObject_GenericSetAttr(self, name, value)
        self.settled = False

    def __delattr__(self, name):
        pool_delattr(self, name)
        self.settled = False


@cython.final
cdef class Recent:
    """A key, and its plan; never changed, so that whoever holds it needs no lock."""

    cdef object routing_key, exchange, delivery_mode, mandatory, immediate, priority, content_type, content_encoding
    cdef object plan


cdef object encode(encoder, body):
    """Return *body* encoded, as ``SerializerRegistry.dumps`` does that."""
    try:
        if type(encoder) is Encoder:
            return (<Encoder>encoder).encode(body)
        return encoder(body)
    except SerializerNotInstalled:
        raise
    except Exception as exc:
        raise EncodeError(exc) from exc


cdef class Plans:
    """The plans of one producer on one channel; see :class:`kombu._pure.planning.Plans`."""

    cdef readonly object channel
    cdef readonly object exchange
    cdef readonly dict methods
    cdef readonly object dumps
    cdef dict settings
    #: What bytes are that no serializer is asked for: content type and encoding.
    cdef tuple as_bytes
    cdef readonly dict known
    cdef readonly tuple windows
    cdef object declared
    cdef object ident
    #: The channel's, where it writes frames.
    cdef Deliveries deliveries
    #: Whether a publish is no more than to write them.
    cdef bint plain
    #: The window of unconfirmed publishes that they get into, where nothing can get between its number and its place
    #: on the wire; otherwise None.
    cdef Window window
    #: What was published last, since the next is most often like it.
    cdef Recent recent
    #: What the producer's attributes say, for its class as it was; see ``Planned.settled``.
    cdef unsigned int version
    cdef object routing_key
    cdef object serializer
    #: Its batches of each thread, if it was ever in one.
    cdef object batches

    def __init__(
        self, channel, exchange, bint declares, dict methods not None, dumps, dict settings not None,
    ):
        self.channel = channel
        self.exchange = exchange
        self.methods = methods
        self.dumps = dumps
        self.settings = settings
        self.as_bytes = dumps(b"", None)[:2]
        self.known = {}
        window = getattr(channel, "confirm_window", None)
        self.windows = () if window is None else (window,)
        if declares:
            self.declared = channel.connection.client.declared_entities
            self.ident = hash(exchange)
        self.deliveries = getattr(channel, "deliveries", None)
        if self.deliveries is not None:
            self.plain = window is None and not channel.confirms_each
            if UNDISTURBED:
                self.window = window

    def fits(self, producer):
        """Return whether *producer* still has the channel and the exchange that this is for."""
        return producer._channel is self.channel and producer.exchange is self.exchange

    def publish(
        self, producer, body, routing_key, delivery_mode, mandatory, immediate, priority, content_type,
        content_encoding, serializer, exchange, timeout, confirm_timeout,
    ):
        """Publish for *producer*, whose ``publish`` describes the arguments, and return what the channel returns.

        Returns ``UNPLANNED``, nothing done, where the publish has to take the long way.
        """
        return self.serve(
            producer, body, routing_key, delivery_mode, mandatory, immediate, priority, content_type,
            content_encoding, serializer, exchange, timeout, confirm_timeout,
        )

    cdef object serve(
        self, producer, body, routing_key, delivery_mode, mandatory, immediate, priority, content_type,
        content_encoding, serializer, exchange, timeout, confirm_timeout,
    ):
        """Do what :meth:`publish` says."""
        if not self.knows(producer):
            if (
                producer._channel is not self.channel
                or producer.exchange is not self.exchange
                or producer.compression
                or not self.is_untouched(producer)
            ):
                return unplanned
            if UNDISTURBED and isinstance(producer, Planned):
                self.take_note(<Planned>producer)
        if (exchange is not None and type(exchange) is not str) or (
            self.declared is not None and self.ident not in self.declared
        ):
            return unplanned
        if not content_type:
            if not serializer:
                serializer = self.serializer if self.knows(producer) else producer.serializer
            if not serializer:
                if type(body) is bytes:
                    content_type, content_encoding = self.as_bytes
                elif not isinstance(body, (bytes, str)):
                    content_type = self.settings["_default_content_type"]
                    content_encoding = self.settings["_default_content_encoding"]
                    body = encode(self.settings["_default_encode"], body)
                else:
                    content_type, content_encoding, body = self.dumps(body, serializer)
            else:
                codec = None if serializer == "raw" else self.settings["_encoders"].get(serializer)
                if codec is None:
                    content_type, content_encoding, body = self.dumps(body, serializer)
                else:
                    content_type, content_encoding, encoder = codec
                    body = encode(encoder, body)
        elif isinstance(body, str):
            content_encoding = content_encoding or "utf-8"
            body = body.encode(content_encoding)
        elif not content_encoding:
            content_encoding = "binary"
        if routing_key is None:
            # Asked again: the encoder may have run anything.
            routing_key = self.routing_key if self.knows(producer) else producer.routing_key
        plan = self.find(
            producer, routing_key, exchange, delivery_mode or self.exchange.delivery_mode, mandatory, immediate,
            priority, content_type, content_encoding,
        )
        if body is None:
            body = b""
        elif isinstance(body, str) and content_encoding != "utf-8":
            body = body.encode(content_encoding or "utf-8")
        if self.knows(producer):
            batch = self.batches.current if self.batches is not None else None
        else:
            batch = producer._batch_local.current if producer.batched else None
        if batch is not None:
            return batch.publish_planned(self.channel, plan, body, timeout, confirm_timeout)
        if timeout is None:
            if self.plain:
                if self.write(<PublishPlan>plan, body, None, None):
                    return None
            elif self.window is not None and self.window.live and self.window.count < self.window.size:
                confirmation = self.window.make((<PublishPlan>plan).exchange, (<PublishPlan>plan).routing_key, None)
                if self.write(<PublishPlan>plan, body, self.window, confirmation):
                    return confirmation
        return self.channel.publish_planned(plan, body, timeout, confirm_timeout)

    cdef bint knows(self, producer) noexcept:
        """Return whether what has been noted of *producer* is what its attributes say now."""
        return (
            isinstance(producer, Planned) and (<Planned>producer).settled
            and self.version == pool_version_of(producer) and (<Planned>producer).plans is self
        )

    cdef int take_note(self, Planned producer) except -1:
        """Note what the attributes of *producer* say, which has passed the checks of :meth:`publish`."""
        if not is_steady(producer):
            return 0
        self.version = pool_version_of(producer)
        # First: whoever sets an attribute from here on takes it back.
        producer.settled = True
        try:
            self.serializer = producer.serializer
            self.routing_key = producer.routing_key
            self.batches = producer._batch_local if producer.batched else None
            fits = (
                producer._channel is self.channel and producer.exchange is self.exchange
                and not producer.compression and self.is_untouched(producer)
            )
        except BaseException:
            producer.settled = False
            raise
        if not fits:
            producer.settled = False
        return 0

    cdef bint is_untouched(self, producer) except -1:
        """Return whether nobody has put in another of the methods, not even one that passes for the same."""
        for name, function in self.methods.items():
            method = getattr(producer, name)
            if type(method) is not method_type or method.__func__ is not function:
                return False
        return True

    cdef object find(
        self, producer, routing_key, exchange, delivery_mode, mandatory, immediate, priority, content_type,
        content_encoding,
    ):
        """Return the plan; make it if it is not known, or was made for another number of the channel."""
        cdef Recent recent
        with cython.critical_section(self):
            recent = self.recent
        if (
            recent is not None and recent.routing_key is routing_key and recent.exchange is exchange
            and recent.delivery_mode is delivery_mode and recent.mandatory is mandatory
            and recent.immediate is immediate and recent.priority is priority
            and recent.content_type is content_type and recent.content_encoding is content_encoding
            and self.is_current(recent.plan)
        ):
            return recent.plan
        key = (
            routing_key, exchange, delivery_mode, mandatory, immediate, priority, content_type, content_encoding,
        )
        plan = self.known.get(key)
        if plan is None or not self.is_current(plan):
            plan = producer._plan(key)
            if len(self.known) >= MOST_PLANS:
                self.known.clear()
            self.known[key] = plan
        recent = Recent.__new__(Recent)
        recent.routing_key = routing_key
        recent.exchange = exchange
        recent.delivery_mode = delivery_mode
        recent.mandatory = mandatory
        recent.immediate = immediate
        recent.priority = priority
        recent.content_type = content_type
        recent.content_encoding = content_encoding
        recent.plan = plan
        with cython.critical_section(self):
            # The one that goes is released after this, since that may run code of anyone's.
            self.recent, recent = recent, self.recent
        return plan

    cdef bint is_current(self, plan) except -1:
        if self.deliveries is not None:
            return (<PublishPlan>plan).channel_id == self.deliveries.number
        return plan.channel_id == self.channel.channel_id

    cdef bint write(self, PublishPlan plan, body, Window window, confirmation) except -1:
        """Hand the publish to the kernel; return False, nothing written, where there is more to it.

        With a *window*, *confirmation* gets the publish's number.
        """
        cdef unsigned char frames[COPIED_BODY + AROUND]
        cdef Deliveries deliveries = self.deliveries
        cdef Py_ssize_t whole
        cdef double now = kombu_monotonic()
        cdef bint written = False
        cdef Span span
        if (
            plan.channel_id != deliveries.number or deliveries.holds_back or deliveries.connection is None
            or now - deliveries.last_look > look_after
        ):
            return False
        kept = look(body, &span)
        whole = plan.whole_size(span.size)
        if span.size > COPIED_BODY or whole > COPIED_BODY + AROUND:
            return False
        plan.put(frames, &span)
        if window is None:
            return (<Writer>deliveries.writer).write_publish(deliveries, frames, whole, 0)
        # Looked at now, since what came before may have let others run; what follows does not.
        if window.held or not window.live or window.count >= window.size:
            return False
        window.append(confirmation, plan.mandatory)
        try:
            written = (<Writer>deliveries.writer).write_publish(deliveries, frames, whole, now)
        finally:
            if not written:
                window.take_back(confirmation)
        return written


#: The parameters of ``Producer.publish``, which quicken() compares.
cdef tuple PARAMETERS = (
    "self", "body", "routing_key", "delivery_mode", "mandatory", "immediate", "priority", "content_type",
    "content_encoding", "serializer", "headers", "compression", "exchange", "retry", "retry_policy", "declare",
    "expiration", "timeout", "confirm_timeout", "confirm_callback",
)

cdef enum:
    # Their places.
    SELF = 0
    BODY = 1
    ROUTING_KEY = 2
    DELIVERY_MODE = 3
    MANDATORY = 4
    IMMEDIATE = 5
    PRIORITY = 6
    CONTENT_TYPE = 7
    CONTENT_ENCODING = 8
    SERIALIZER = 9
    HEADERS = 10
    COMPRESSION = 11
    EXCHANGE = 12
    RETRY = 13
    RETRY_POLICY = 14
    DECLARE = 15
    EXPIRATION = 16
    TIMEOUT = 17
    CONFIRM_TIMEOUT = 18
    CONFIRM_CALLBACK = 19
    PARAMETER_COUNT = 20

    #: Those from here on have defaults.
    FIRST_DEFAULT = ROUTING_KEY

#: How the function is called where nothing is planned, its code, its parameters' names and defaults.
cdef Entry usual = NULL
cdef object usual_code = None
cdef tuple usual_names = None
cdef tuple usual_defaults = None


def quicken(function):
    """Return *function*, ``Producer.publish``; see :func:`kombu._pure.planning.quicken`."""
    global usual, usual_code, usual_names, usual_defaults
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    if names != PARAMETERS or len(function.__defaults__) != PARAMETER_COUNT - FIRST_DEFAULT:
        raise TypeError(f"publish() has other parameters than the compiled core knows: {', '.join(names)}")
    usual_code, usual_names, usual_defaults = code, names, function.__defaults__
    usual = kombu_quicken(function, enter)
    return function


cdef object enter(object function, PyObject *const *args, size_t nargsf, PyObject *kwnames):
    """Publish where the producer has plans and the arguments are those of most publishes; or call the function."""
    cdef PyObject *given[PARAMETER_COUNT]
    cdef Planned producer
    cdef Plans plans
    if kombu_is_as_made(function, <PyObject *>usual_code, <PyObject *>usual_defaults) and sort_out(
        given, args, PyVectorcall_NARGS(nargsf), kwnames
    ):
        producer = <Planned>given[SELF]
        with cython.critical_section(producer):
            plans = producer.plans
        if plans is not None:
            result = plans.serve(
                producer, <object>given[BODY], <object>given[ROUTING_KEY], <object>given[DELIVERY_MODE],
                <object>given[MANDATORY], <object>given[IMMEDIATE], <object>given[PRIORITY],
                <object>given[CONTENT_TYPE], <object>given[CONTENT_ENCODING], <object>given[SERIALIZER],
                <object>given[EXCHANGE], <object>given[TIMEOUT], <object>given[CONFIRM_TIMEOUT],
            )
            if result is not unplanned:
                return result
    return usual(function, args, nargsf, kwnames)


cdef bint sort_out(PyObject **given, PyObject *const *args, Py_ssize_t count, PyObject *kwnames) noexcept:
    """Put the arguments where their parameters are; return False for a call that takes the long way, or is wrong."""
    cdef Py_ssize_t place, index
    if count < 1 or count > PARAMETER_COUNT or not isinstance(<object>args[SELF], Planned):
        return False
    given[BODY] = NULL
    for place in range(count):
        given[place] = args[place]
    for place in range(max(count, <Py_ssize_t>FIRST_DEFAULT), PARAMETER_COUNT):
        given[place] = PyTuple_GET_ITEM(<PyObject *>usual_defaults, place - FIRST_DEFAULT)
    if kwnames != NULL:
        for index in range(PyTuple_GET_SIZE(<object>kwnames)):
            for place in range(count, PARAMETER_COUNT):
                # The compiler has made one object of all names that are the same.
                if PyTuple_GET_ITEM(kwnames, index) == PyTuple_GET_ITEM(<PyObject *>usual_names, place):
                    given[place] = args[count + index]
                    break
            else:
                return False
    return (
        given[BODY] != NULL
        and is_default(given, HEADERS) and is_default(given, COMPRESSION) and is_default(given, RETRY)
        and is_default(given, DECLARE) and is_default(given, EXPIRATION) and is_default(given, CONFIRM_CALLBACK)
    )


cdef inline bint is_default(PyObject **given, Py_ssize_t place) noexcept:
    return given[place] == PyTuple_GET_ITEM(<PyObject *>usual_defaults, place - FIRST_DEFAULT)
