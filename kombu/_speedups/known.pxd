"""What is known of objects, for the modules that find it out."""

from libc.stdint cimport uint64_t


cdef class Known


cdef class Noted:
    cdef uint64_t changes
    cdef object known

    cdef int note(self, object name) except -1
    cdef uint64_t count_changes(self) noexcept
    cdef int keep(self, Known known, uint64_t changes) except -1


cdef class Known:
    #: That of the class, which has another once it or one of its bases has changed.
    cdef unsigned int version
    #: Whether anything is known: nothing is where it can change unseen.
    cdef bint holds

    cdef bint look(self, Noted noted) except -1


cdef object known_of(object thing, type kind)
cdef bint is_steady(Noted noted, unsigned int version, tuple names) except -1
