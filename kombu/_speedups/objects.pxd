"""What Cython does not know of objects: versions of classes, which may change, and references that all threads count."""

cdef extern from *:
    """
    /* Changes whenever a class or one of its bases does; 0 while nobody has looked anything up since. */
    #define pool_version_of(thing) (Py_TYPE(thing)->tp_version_tag)
    #define version_of_class(cls) (((PyTypeObject *)(cls))->tp_version_tag)
    /* Let attributes of a static type be set: who replaces a method of a class that is public, in a test or to trace its
       calls, does not ask what the class is made of. */
    #define allow_changes(cls) ((PyTypeObject *)(cls))->tp_flags &= ~Py_TPFLAGS_IMMUTABLETYPE
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
    """
    unsigned int pool_version_of(object thing)
    unsigned int version_of_class(object cls)
    void allow_changes(object cls)
    bint pool_lends(void *thing, void *lender)
    void pool_keep(object thing)
    void pool_share(object thing)
    int pool_delattr(object thing, object name) except -1
    int PyObject_GenericSetAttr(object thing, object name, object value) except -1
