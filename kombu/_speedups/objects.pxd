"""What Cython does not know of objects: versions of classes and dicts, and references that all threads count."""

from libc.stdint cimport uint64_t

cdef extern from *:
    """
    /* Changes whenever a class or one of its bases does; 0 while nobody has looked anything up since. */
    #define pool_version_of(thing) (Py_TYPE(thing)->tp_version_tag)
    #define version_of_class(cls) (((PyTypeObject *)(cls))->tp_version_tag)
    /* Let attributes of a static type be set: who replaces a method of a class that is public, in a test or to trace its
       calls, does not ask what the class is made of. */
    #define allow_changes(cls) ((PyTypeObject *)(cls))->tp_flags &= ~Py_TPFLAGS_IMMUTABLETYPE
    #define kombu_has_plain_attributes(thing) (Py_TYPE(thing)->tp_getattro == PyObject_GenericGetAttr)
    #define kombu_is_function(method, function) (PyMethod_Check(method) && PyMethod_GET_FUNCTION(method) == (function))
    #define pool_lends(thing, lender) PyObject_TypeCheck((PyObject *)(thing), (PyTypeObject *)(lender))
    #ifdef Py_GIL_DISABLED
    /* Make immortal what is so anyway: functions that every thread calls are counted by all of them, in one word. */
    #define pool_keep(thing) Py_SET_REFCNT(thing, PY_SSIZE_T_MAX)
    #else
    #define pool_keep(thing) ((void)(thing))
    #endif
    #if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    /* What all threads use is not counted by each of them then; the garbage collector finds out when nobody does. */
    #define pool_share(thing) PyUnstable_Object_EnableDeferredRefcount(thing)
    #else
    #define pool_share(thing) ((void)(thing))
    #endif
    #define pool_delattr(thing, name) PyObject_GenericSetAttr(thing, name, NULL)

    #if PY_VERSION_HEX < 0x030D0000 && !defined(PYPY_VERSION)
    #define KOMBU_COUNTS_VERSIONS 1
    #else
    #define KOMBU_COUNTS_VERSIONS 0
    #endif

    /* Changes whenever something in the dict does, and no two dicts have the same; 0 where the interpreter does not
       count, and for None. */
    static inline uint64_t kombu_version_of_dict(PyObject *mapping) {
    #if KOMBU_COUNTS_VERSIONS
        uint64_t version = 0;
        if (mapping != NULL && mapping != Py_None) {
            _Py_COMP_DIAG_PUSH
            _Py_COMP_DIAG_IGNORE_DEPR_DECLS
            version = ((PyDictObject *)mapping)->ma_version_tag;
            _Py_COMP_DIAG_POP
        }
        return version;
    #else
        (void)mapping;
        return 0;
    #endif
    }

    /* The same of the dict in which an object has its attributes; 0 also where it has none. */
    static inline uint64_t kombu_version_of_attributes(PyObject *thing) {
    #if KOMBU_COUNTS_VERSIONS
        PyObject **place = _PyObject_GetDictPtr(thing);
        return place == NULL ? 0 : kombu_version_of_dict(*place);
    #else
        (void)thing;
        return 0;
    #endif
    }
    """
    unsigned int pool_version_of(object thing)
    unsigned int version_of_class(object cls)
    void allow_changes(object cls)
    # Whether attributes are where they always are: no __getattribute__ or __getattr__.
    bint has_plain_attributes "kombu_has_plain_attributes" (object thing)
    # Whether a bound method is that of *function*.
    bint is_function "kombu_is_function" (object method, object function)
    bint pool_lends(void *thing, void *lender)
    void pool_keep(object thing)
    void pool_share(object thing)
    int pool_delattr(object thing, object name) except -1
    bint COUNTS_VERSIONS "KOMBU_COUNTS_VERSIONS"
    uint64_t version_of_dict "kombu_version_of_dict" (dict mapping)
    uint64_t version_of_attributes "kombu_version_of_attributes" (object thing)
    int PyObject_GenericSetAttr(object thing, object name, object value) except -1
