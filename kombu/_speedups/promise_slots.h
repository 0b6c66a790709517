/* Promises made and changed by where their slots are, and what keeps threads from doing that at once. */
#ifndef KOMBU_PROMISE_SLOTS_H
#define KOMBU_PROMISE_SLOTS_H

#include <string.h>
#if PY_VERSION_HEX < 0x030C0000
#include <structmember.h>
#endif

/* With a GIL, what calls no Python is not interrupted.  Without, a critical section would not do: it is left while
 * another one is waited for. */
#ifdef Py_GIL_DISABLED
typedef PyMutex kombu_guard;
#define kombu_guard_reset(guard) memset((guard), 0, sizeof(kombu_guard))
#define kombu_guard_take(guard) PyMutex_Lock(guard)
#define kombu_guard_leave(guard) PyMutex_Unlock(guard)
#else
typedef char kombu_guard;
#define kombu_guard_reset(guard) (*(guard) = 0)
#define kombu_guard_take(guard) ((void)(guard))
#define kombu_guard_leave(guard) ((void)(guard))
#endif

/* Return where instances have what *descriptor*, of a class's __slots__, stands for; -1 if it is no such thing. */
static inline Py_ssize_t kombu_slot_offset(PyObject *descriptor) {
    if (Py_TYPE(descriptor) != &PyMemberDescr_Type)
        return -1;
    return ((PyMemberDescrObject *)descriptor)->d_member->offset;
}

/* Return an instance whose slots are empty; neither __new__ nor __init__ is called. */
static inline PyObject *kombu_slots_new(PyObject *type) {
    return ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
}

/* Fill a slot of an instance that nobody else has seen. */
static inline void kombu_slot_fill(PyObject *instance, Py_ssize_t offset, PyObject *value) {
    Py_INCREF(value);
    *(PyObject **)((char *)instance + offset) = value;
}

static inline PyObject *kombu_slot_get(PyObject *instance, Py_ssize_t offset, PyObject *name) {
#ifdef Py_GIL_DISABLED
    (void)offset;
    return PyObject_GetAttr(instance, name);
#else
    PyObject *value = *(PyObject **)((char *)instance + offset);
    (void)name;
    if (value == NULL)
        value = Py_None;
    Py_INCREF(value);
    return value;
#endif
}

static inline int kombu_slot_set(PyObject *instance, Py_ssize_t offset, PyObject *name, PyObject *value) {
#ifdef Py_GIL_DISABLED
    (void)offset;
    return PyObject_SetAttr(instance, name, value);
#else
    PyObject **slot = (PyObject **)((char *)instance + offset);
    PyObject *old = *slot;
    (void)name;
    Py_INCREF(value);
    *slot = value;
    Py_XDECREF(old);
    return 0;
#endif
}

#endif
