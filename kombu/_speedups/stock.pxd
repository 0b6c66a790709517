"""What the other compiled modules may use of the resources of a pool."""

from libc.stdint cimport uint32_t, uint64_t

from kombu._speedups.slots cimport slots_at, slots_t

cdef double now() except? -1.0

cdef class Answer:
    cdef str _name

cdef class Cell:
    cdef object thing
    cdef object ref
    #: Identity of what *ref* refers to.
    cdef uint64_t target

cdef class Stock:
    cdef slots_t _slots
    #: All cells there are; the slots only point to them.
    cdef list _cells
    cdef readonly object _lock
    #: Called with the weak reference to a resource that is gone while it was out.
    cdef object _reclaimer
    cdef object __weakref__

    cdef uint32_t _spare(self) except? 0xffffffff
    cdef int _fill(self, uint32_t index, resource) except -1
    cdef object _empty(self, uint32_t index)
    cdef int _send_out(self, uint32_t index, resource) except -1
    cdef uint32_t _seize(self, resource) except? 0xffffffff
    cdef uint32_t _seize_gone(self, ref) except? 0xffffffff
    cdef uint32_t _held(self, resource)
    cdef list _take_up_all(self)

#: What is in a slot that has had a resource before.
cdef inline Cell cell_at(Stock stock, uint32_t index):
    return <Cell>slots_at(&stock._slots, index).cell
