/* Read, write and wait by file descriptor (not used on Windows, where a link never offers its descriptor), and the
 * clock. */
#ifndef KOMBU_POSIX_SOCKET_H
#define KOMBU_POSIX_SOCKET_H

#include <errno.h>

/* Whether nothing else runs until we call into Python or let go of the GIL. */
#ifdef Py_GIL_DISABLED
#define KOMBU_UNDISTURBED 0
#else
#define KOMBU_UNDISTURBED 1
#endif

#ifdef __linux__

#include <time.h>

/* Python's time.monotonic(), in seconds. */
static inline double kombu_monotonic(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#else

/* Which clock Python takes elsewhere is its own affair; on some systems its parts are not public. */
static inline double kombu_monotonic(void) {
    static PyObject *monotonic = NULL;
    PyObject *now;
    double seconds;
    if (monotonic == NULL) {
        PyObject *module = PyImport_ImportModule("time");
        if (module != NULL) {
            monotonic = PyObject_GetAttrString(module, "monotonic");
            Py_DECREF(module);
        }
    }
    now = monotonic == NULL ? NULL : PyObject_CallNoArgs(monotonic);
    seconds = now == NULL ? 0.0 : PyFloat_AsDouble(now);
    Py_XDECREF(now);
    PyErr_Clear();
    return seconds;
}

#endif

#ifdef _WIN32

static inline Py_ssize_t kombu_recv(int fd, void *buffer, Py_ssize_t size) {
    (void)fd; (void)buffer; (void)size;
    errno = ENOSYS;
    return -1;
}

static inline int kombu_poll_readable(int fd, int milliseconds) {
    (void)fd; (void)milliseconds;
    errno = ENOSYS;
    return -1;
}

static inline Py_ssize_t kombu_send(int fd, const void *buffer, Py_ssize_t size, int more) {
    (void)fd; (void)buffer; (void)size; (void)more;
    errno = ENOSYS;
    return -1;
}

#else

#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>

/* Read what is there; -1 and EAGAIN where nothing is. */
static inline Py_ssize_t kombu_recv(int fd, void *buffer, Py_ssize_t size) {
    Py_ssize_t count = (Py_ssize_t)recv(fd, buffer, (size_t)size, MSG_DONTWAIT);
    if (count < 0 && errno == EWOULDBLOCK)
        errno = EAGAIN;
    return count;
}

#ifndef MSG_MORE
#define MSG_MORE 0
#endif
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

/* Write what the socket takes; with more, the kernel may hold it back until more comes. */
static inline Py_ssize_t kombu_send(int fd, const void *buffer, Py_ssize_t size, int more) {
    return (Py_ssize_t)send(fd, buffer, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0));
}

/* Wait until a read has something to say: 1 if so, 0 when the time is up, -1 on error (EINTR included). */
static inline int kombu_poll_readable(int fd, int milliseconds) {
    struct pollfd wanted;
    wanted.fd = fd;
    wanted.events = POLLIN;
    wanted.revents = 0;
    return poll(&wanted, 1, milliseconds);
}

#endif
#endif
