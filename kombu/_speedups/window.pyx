"""The publishes of a channel that await the broker's answer: their numbers, and the promise of each.

Twin of :mod:`kombu._pure.window`, which says more.  The promises stand in an array in the order of their tags, which
is put together again when it is full, so that it holds no more than twice as many as were outstanding at once.

Nothing may get in between, where a number is taken or a promise settled: that calls no Python, makes no object that
could set off a collection, and drops no promise before it is done.
"""

from cpython.list cimport PyList_Append
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t
from libc.string cimport memmove

__all__ = ("STATE", "Window")

ABI = 1

STATE = (
    "window", "delivery_tag", "exchange", "routing_key", "ready", "failed", "reason", "cancelled", "told", "returned",
    "_svpending", "_lvpending",
)

cdef extern from "promise_slots.h":
    void kombu_guard_reset(Guard *guard) noexcept
    void kombu_guard_take(Guard *guard) noexcept
    void kombu_guard_leave(Guard *guard) noexcept
    Py_ssize_t kombu_slot_offset(object descriptor) noexcept
    object kombu_slots_new(object type)
    void kombu_slot_fill(object instance, Py_ssize_t offset, object value) noexcept
    object kombu_slot_get(object instance, Py_ssize_t offset, object name)
    int kombu_slot_set(object instance, Py_ssize_t offset, object name, object value) except -1

cdef extern from "Python.h":
    PyObject *PyList_GET_ITEM(object list, Py_ssize_t index)
    void PyList_SET_ITEM(object list, Py_ssize_t index, PyObject *item)
    void Py_INCREF(object o)
    void Py_DECREF(object o)

cdef enum:
    # The places in STATE.
    WINDOW = 0
    DELIVERY_TAG = 1
    EXCHANGE = 2
    ROUTING_KEY = 3
    READY = 4
    FAILED = 5
    REASON = 6
    CANCELLED = 7
    TOLD = 8
    RETURNED = 9
    FIRST_LISTENER = 10
    MORE_LISTENERS = 11

    SMALLEST = 64

cdef tuple NAMES = STATE


cdef class Window:
    """Number publishes, and find the promise that an answer is for; see :class:`kombu._pure.window.Window`."""

    def __cinit__(self, *args, **kwargs):
        kombu_guard_reset(&self.guard)

    def __init__(self, promises, Py_ssize_t size):
        cdef Py_ssize_t offset
        cdef int place
        for place in range(STATE_SIZE):
            offset = kombu_slot_offset(getattr(promises, NAMES[place], None))
            if offset < 0:
                raise TypeError(f"{promises.__name__} cannot be a window's promise: it has no slot {NAMES[place]!r}")
            self.slots[place] = offset
        self.promises = promises
        self.size = size
        self.clear()

    def __dealloc__(self):
        PyMem_Free(self.tags)

    def clear(self):
        """Forget everything, and count from 1; in a forked child, for instance."""
        cdef list entries = []
        cdef dict mandatory = {}
        kombu_guard_reset(&self.guard)
        self.held = self.live = False
        self.last = 0
        self.count = self.head = self.end = self.capacity = 0
        # What was there goes when all is in order: more may happen then.
        self.entries, entries = entries, self.entries
        self.mandatory, mandatory = mandatory, self.mandatory

    def restart(self):
        """Count from 1 again: the channel has been put into confirm mode anew."""
        kombu_guard_take(&self.guard)
        self.last = 0
        self.live = True
        kombu_guard_leave(&self.guard)

    # -- the array

    cdef object state(self, object confirmation, int which):
        return kombu_slot_get(confirmation, self.slots[which], NAMES[which])

    cdef int change(self, object confirmation, int which, object value) except -1:
        return kombu_slot_set(confirmation, self.slots[which], NAMES[which], value)

    cdef int make_room(self) except -1:
        """See that one more fits behind the end."""
        cdef Py_ssize_t index, to = 0, capacity
        cdef PyObject *found
        cdef void *larger
        if self.end < self.capacity:
            return 0
        if self.capacity and self.count <= self.capacity // 2:
            # Most have been settled: put the others together, at the front.
            for index in range(self.head, self.end):
                found = PyList_GET_ITEM(self.entries, index)
                if <object>found is None:
                    continue
                if index != to:
                    PyList_SET_ITEM(self.entries, index, PyList_GET_ITEM(self.entries, to))
                    PyList_SET_ITEM(self.entries, to, found)
                    self.tags[to] = self.tags[index]
                to += 1
            self.head = 0
            self.end = to
            return 0
        capacity = max(2 * self.capacity, <Py_ssize_t>SMALLEST)
        larger = PyMem_Realloc(self.tags, capacity * sizeof(uint64_t))
        if larger == NULL:
            raise MemoryError(f"no memory for {capacity} unconfirmed publishes")
        self.tags = <uint64_t *>larger
        while len(self.entries) < capacity:
            PyList_Append(self.entries, None)
        self.capacity = capacity
        return 0

    cdef Py_ssize_t find(self, uint64_t tag) noexcept:
        """Return where the promise of *tag* stands; -1 if it is not outstanding."""
        cdef Py_ssize_t low = self.head, high = self.end - 1, middle
        if low > high or tag < self.tags[low] or tag > self.tags[high]:
            return -1
        # One after the other, until the array has been put together.
        middle = high
        if tag - self.tags[low] < <uint64_t>(high - low):
            middle = low + <Py_ssize_t>(tag - self.tags[low])
        while self.tags[middle] != tag:
            if self.tags[middle] < tag:
                low = middle + 1
            else:
                high = middle - 1
            if low > high:
                return -1
            middle = low + (high - low) // 2
        return -1 if <object>PyList_GET_ITEM(self.entries, middle) is None else middle

    cdef Py_ssize_t end_of(self, uint64_t tag) noexcept:
        """Return where those up to *tag* end; all do for 0."""
        cdef Py_ssize_t index = self.head
        if not tag:
            return self.end
        while index < self.end and self.tags[index] <= tag:
            index += 1
        return index

    cdef int drop(self, Py_ssize_t index) noexcept:
        """Empty a place; the caller holds a reference to what was there."""
        cdef PyObject *found = PyList_GET_ITEM(self.entries, index)
        Py_INCREF(None)
        PyList_SET_ITEM(self.entries, index, <PyObject *>None)
        Py_DECREF(<object>found)
        self.count -= 1
        if not self.count:
            self.head = self.end = 0
        elif index == self.head:
            while <object>PyList_GET_ITEM(self.entries, self.head) is None:
                self.head += 1
        return 0

    # -- publishing

    cdef object make(self, object exchange, object routing_key, object callback):
        """Return a promise that has no number yet."""
        cdef object made = kombu_slots_new(self.promises)
        kombu_slot_fill(made, self.slots[WINDOW], self)
        kombu_slot_fill(made, self.slots[DELIVERY_TAG], 0)
        kombu_slot_fill(made, self.slots[EXCHANGE], exchange)
        kombu_slot_fill(made, self.slots[ROUTING_KEY], routing_key)
        kombu_slot_fill(made, self.slots[READY], False)
        kombu_slot_fill(made, self.slots[FAILED], False)
        kombu_slot_fill(made, self.slots[REASON], None)
        kombu_slot_fill(made, self.slots[CANCELLED], False)
        kombu_slot_fill(made, self.slots[TOLD], False)
        kombu_slot_fill(made, self.slots[RETURNED], None)
        kombu_slot_fill(made, self.slots[FIRST_LISTENER], callback)
        kombu_slot_fill(made, self.slots[MORE_LISTENERS], None)
        return made

    cdef int append(self, object confirmation, bint mandatory) except -1:
        """Number a promise; the caller holds the guard."""
        cdef uint64_t number = self.last + 1
        cdef object tag = number
        self.make_room()
        self.change(confirmation, DELIVERY_TAG, tag)
        if mandatory:
            self.mandatory[tag] = confirmation
        Py_INCREF(confirmation)
        Py_DECREF(None)
        PyList_SET_ITEM(self.entries, self.end, <PyObject *>confirmation)
        self.tags[self.end] = number
        self.end += 1
        self.count += 1
        self.last = number
        return 0

    def expect(self, bint mandatory, exchange, routing_key, callback=None):
        """Return the promise for the next publish; the caller holds what keeps others from writing in between."""
        cdef object confirmation = self.make(exchange, routing_key, callback)
        kombu_guard_take(&self.guard)
        try:
            self.append(confirmation, mandatory)
        finally:
            kombu_guard_leave(&self.guard)
        return confirmation

    def number(self, publishes):
        """Number promises made before, each with whether the message is mandatory; as :meth:`expect` otherwise."""
        cdef list all_ = list(publishes)
        for confirmation, mandatory in all_:
            kombu_guard_take(&self.guard)
            try:
                self.append(confirmation, mandatory)
            finally:
                kombu_guard_leave(&self.guard)

    def retract(self, confirmations):
        """Take back publishes that were not written, the last one first, before any other is numbered."""
        cdef list all_ = list(confirmations)
        for confirmation in all_:
            self.take_back(confirmation)

    cdef bint take_back(self, object confirmation) except -1:
        cdef object tag = self.state(confirmation, DELIVERY_TAG)
        cdef uint64_t number = tag
        cdef Py_ssize_t index
        kombu_guard_take(&self.guard)
        try:
            index = self.find(number)
            # One that has been settled, by the end of the channel, belongs to numbers that mean nothing any more.
            if index < 0 or PyList_GET_ITEM(self.entries, index) != <PyObject *>confirmation:
                return False
            if self.mandatory:
                self.mandatory.pop(tag, None)
            self.drop(index)
            if self.end and index == self.end - 1:
                self.end = index
            if number == self.last:
                self.last -= 1
        finally:
            kombu_guard_leave(&self.guard)
        return True

    # -- answers

    def listen(self, confirmation, listener):
        """Have *listener* told of the answer; return False if there is one already."""
        cdef list first = [listener]
        cdef object more
        kombu_guard_take(&self.guard)
        try:
            if self.state(confirmation, READY) or self.state(confirmation, FAILED):
                return False
            if self.state(confirmation, FIRST_LISTENER) is None:
                self.change(confirmation, FIRST_LISTENER, listener)
                return True
            more = self.state(confirmation, MORE_LISTENERS)
            if more is None:
                self.change(confirmation, MORE_LISTENERS, first)
            else:
                PyList_Append(more, listener)
            return True
        finally:
            kombu_guard_leave(&self.guard)

    def returned(self, exchange, routing_key, error, bint handled=False):
        """Note that the broker returned a publish, before its answer; return False if none awaits one.

        Returns come in the order of the publishes, so it is the first mandatory one with that exchange and routing
        key.  It fails in any case; with *handled*, somebody has been told.
        """
        kombu_guard_take(&self.guard)
        try:
            for confirmation in self.mandatory.values():
                if (
                    self.state(confirmation, RETURNED) is None
                    and self.state(confirmation, ROUTING_KEY) == routing_key
                    and self.state(confirmation, EXCHANGE) == exchange
                ):
                    self.change(confirmation, RETURNED, error)
                    self.change(confirmation, TOLD, handled)
                    return True
        finally:
            kombu_guard_leave(&self.guard)
        return False

    def confirm(self, uint64_t tag, bint multiple):
        """Note that the broker has confirmed *tag*, if nobody has to be told of that; otherwise return False.

        With *multiple*, all up to it, and all at once for tag 0.  Where it returns False it has done nothing, and the
        caller goes to :meth:`take`.
        """
        return self.confirm_quietly(tag, multiple)

    cdef bint confirm_quietly(self, uint64_t tag, bint multiple) except -1:
        # What is settled goes when all is in order: more may happen then.
        cdef list done = []
        cdef int settled
        kombu_guard_take(&self.guard)
        try:
            settled = self.settle_quietly(tag, multiple, done)
        finally:
            kombu_guard_leave(&self.guard)
        return settled

    cdef int settle_quietly(self, uint64_t tag, bint multiple, list done) except -1:
        cdef Py_ssize_t index, first, end
        if self.mandatory:
            return False
        if multiple:
            first, end = self.head, self.end_of(tag)
        else:
            first = self.find(tag)
            if first < 0:
                return True
            end = first + 1
        for index in range(first, end):
            confirmation = <object>PyList_GET_ITEM(self.entries, index)
            if confirmation is not None and self.state(confirmation, FIRST_LISTENER) is not None:
                return False
        for index in range(first, end):
            confirmation = <object>PyList_GET_ITEM(self.entries, index)
            if confirmation is not None:
                PyList_Append(done, confirmation)
                self.drop(index)
                self.change(confirmation, READY, True)
        return True

    def take(self, uint64_t tag, bint multiple, reason):
        """Settle what *tag* and *multiple* mean, as :meth:`confirm` does; return those that somebody is told of.

        Arguments:
            reason: makes the exception by which the publish of a tag fails; None if they are confirmed.
        """
        cdef list taken = [], noteworthy = []
        cdef Py_ssize_t index, first, end
        cdef object number, error
        cdef bint heard
        kombu_guard_take(&self.guard)
        try:
            if multiple:
                first, end = self.head, self.end_of(tag)
            else:
                first = self.find(tag)
                end = first + 1
            if first >= 0:
                for index in range(first, end):
                    confirmation = <object>PyList_GET_ITEM(self.entries, index)
                    if confirmation is None:
                        continue
                    PyList_Append(taken, confirmation)
                    self.drop(index)
                    if self.mandatory:
                        self.mandatory.pop(self.state(confirmation, DELIVERY_TAG), None)
        finally:
            kombu_guard_leave(&self.guard)
        for confirmation in taken:
            if reason is None:
                error = self.state(confirmation, RETURNED)
            else:
                error = reason(self.state(confirmation, DELIVERY_TAG))
            kombu_guard_take(&self.guard)
            try:
                if error is not None:
                    self.change(confirmation, REASON, error)
                    self.change(confirmation, FAILED, True)
                    heard = True
                else:
                    self.change(confirmation, READY, True)
                    heard = self.state(confirmation, FIRST_LISTENER) is not None
            finally:
                kombu_guard_leave(&self.guard)
            if heard:
                noteworthy.append(confirmation)
        return noteworthy

    def fail(self, confirmation, error):
        """Let a publish that was not written fail by *error*; return False if it has been settled before."""
        kombu_guard_take(&self.guard)
        try:
            if self.state(confirmation, READY) or self.state(confirmation, FAILED):
                return False
            self.change(confirmation, REASON, error)
            self.change(confirmation, FAILED, True)
            return True
        finally:
            kombu_guard_leave(&self.guard)
