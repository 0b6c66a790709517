/* Python functions whose calls come to C first.
 *
 * Such a function stays what it is to everybody who looks at it: inspect, mocks, tracing tools, pickle.  Only how it is
 * called changes, by the slot that CPython has for that (PyFunction_SetVectorcall() since 3.12).  The interpreter of 3.11
 * does not look at the slot where the type is exactly that of functions, so there it becomes one of a subtype, which
 * adds nothing.
 */
#ifndef KOMBU_QUICK_FUNCTION_H
#define KOMBU_QUICK_FUNCTION_H

#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030C0000
#define KOMBU_FUNCTION_SUBTYPE
#include <structmember.h>

/* Pickled and copied by their name, as functions are. */
static PyObject *kombu_quick_reduce(PyObject *function, PyObject *unused) {
    (void)unused;
    return PyObject_GetAttrString(function, "__qualname__");
}

static PyMethodDef kombu_quick_methods[] = {
    {"__reduce__", kombu_quick_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* A type has a __doc__ of its own, which would hide the function's. */
static PyMemberDef kombu_quick_members[] = {
    {"__doc__", T_OBJECT, offsetof(PyFunctionObject, func_doc), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject kombu_quick_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "function",
    .tp_basicsize = sizeof(PyFunctionObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_methods = kombu_quick_methods,
    .tp_members = kombu_quick_members,
};
#endif

/* Have calls of a function come to `entry`; return what they went to before, to which it may hand them on. */
static vectorcallfunc kombu_quicken(PyObject *function, vectorcallfunc entry) {
    vectorcallfunc usual;
    if (!PyFunction_Check(function)) {
        PyErr_Format(PyExc_TypeError, "expected a function, not %R", function);
        return NULL;
    }
    usual = ((PyFunctionObject *)function)->vectorcall;
#ifdef KOMBU_FUNCTION_SUBTYPE
    kombu_quick_type.tp_base = &PyFunction_Type;
    if (PyType_Ready(&kombu_quick_type) < 0)
        return NULL;
    Py_SET_TYPE(function, &kombu_quick_type);
#endif
#if PY_VERSION_HEX >= 0x030C0000
    PyFunction_SetVectorcall((PyFunctionObject *)function, entry);
#else
    ((PyFunctionObject *)function)->vectorcall = entry;
#endif
    return usual;
}

/* Whether a function still has the code, and the defaults, that it was made with: what is put in counts. */
#define kombu_is_as_made(function, code, defaults) \
    (((PyFunctionObject *)(function))->func_code == (code) && ((PyFunctionObject *)(function))->func_defaults == (defaults))

#endif
