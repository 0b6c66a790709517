"""What is known of an object, until one of its attributes is set or its class changes.

To ask an object for each of the attributes that decide what becomes of a message takes longer than to do it.  The pure
core asks, so this module has no twin there.
"""

cimport cython
from libc.stdint cimport uint64_t

from kombu._speedups.objects cimport PyObject_GenericSetAttr, pool_delattr, pool_version_of

__all__ = ("Noted",)

ABI = 1

cdef object MISSING = object()

#: The attributes that what is known of a channel, of its QoS and of a connection consists of.
cdef frozenset WATCHED = frozenset((
    "Message", "_active_queues", "_arrivals", "_at_rest", "_callbacks", "_connection_closed", "_consumers", "_deliver",
    "_delivered", "_dirty", "_flush", "_get", "_inplace_augment_message", "_next_delivery_tag", "_own_cycle", "_put",
    "_qos", "_quick_ack", "_quick_append", "_take_delivery", "ack", "append", "basic_ack", "basic_publish",
    "body_encoding", "can_consume", "closed", "codecs", "cycle", "decode_body", "drain_events", "encode_body",
    "prefetch_count", "queues",
))


@cython.auto_pickle(False)
cdef class Known:
    """What is known of an object whose class is of *version*; never changed, so that no lock is needed to read it."""

    cdef bint look(self, Noted noted) except -1:
        """Find out about an object; return whether it stays so until an attribute is set or the class changes."""
        return False


@cython.auto_pickle(False)
cdef class Noted:
    """Noted()
--

    What notes that an attribute has been set or deleted, so that what is known of them holds until then.

    What is set past ``setattr()``, in the ``__dict__`` of the object, is not noted.
    """

    def __setattr__(self, name, value):
        PyObject_GenericSetAttr(self, name, value)
        self.note(name)

    def __delattr__(self, name):
        pool_delattr(self, name)
        self.note(name)

    def __getstate__(self):
        # What is known of an object is not so of its copy.
        return vars(self)

    cdef int note(self, object name) except -1:
        with cython.critical_section(self):
            # For who is looking at it now; most attributes are set before anybody does.
            self.changes += 1
            known = self.known
        if known is not None and name in WATCHED:
            with cython.critical_section(self):
                # Let go after this, since that may run code of anyone's.
                self.known, known = None, self.known
        return 0

    cdef uint64_t count_changes(self) noexcept:
        with cython.critical_section(self):
            return self.changes

    cdef int keep(self, Known known, uint64_t changes) except -1:
        """Keep what was found out since there were so many *changes*, if there are no more by now."""
        cdef object kept = known
        with cython.critical_section(self):
            if self.changes == changes and known.version == pool_version_of(self):
                self.known, kept = kept, self.known
        return 0


cdef object known_of(object thing, type kind):
    """Return what is known of an object, a *kind* of :class:`Known`; None where that can change unseen."""
    cdef object known
    if not isinstance(thing, Noted):
        return None
    with cython.critical_section(thing):
        known = (<Noted>thing).known
    if type(known) is not kind or (<Known>known).version != pool_version_of(thing):
        known = look_at(<Noted>thing, kind)
    return known if (<Known>known).holds else None


cdef Known look_at(Noted noted, type kind):
    cdef Known known = kind.__new__(kind)
    cdef uint64_t changes = noted.count_changes()
    # A class has no version before something has been looked up in it.
    getattr(noted, "__class__", None)
    known.version = pool_version_of(noted)
    if known.version:
        known.holds = known.look(noted)
        noted.keep(known, changes)
    return known


cdef object plain_setattr = Noted.__setattr__
cdef object plain_delattr = Noted.__delattr__


cdef enum:
    #: So many classes are remembered by whether they are steady.
    MOST_CLASSES = 64

#: The version of a class -> whether it is steady.
cdef dict steadiness = {}


cdef bint is_steady(Noted noted, unsigned int version, tuple names) except -1:
    """Return whether these attributes stay what they are until they are set: no class of *version* computes one."""
    found = steadiness.get(version)
    if found is None:
        found = looks_steady(type(noted), names)
        if len(steadiness) >= MOST_CLASSES:
            steadiness.clear()
        steadiness[version] = found
    return found


cdef bint looks_steady(object kind, tuple names) except -1:
    if (
        kind.__getattribute__ is not object.__getattribute__ or hasattr(kind, "__getattr__")
        or kind.__setattr__ is not plain_setattr or kind.__delattr__ is not plain_delattr
    ):
        return False
    for name in names:
        for base in kind.__mro__:
            found = base.__dict__.get(name, MISSING)
            if found is not MISSING:
                if hasattr(type(found), "__get__"):
                    return False
                break
    return True
