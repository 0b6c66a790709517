/* Read and wait by file descriptor.  Not used on Windows, where a link never offers its descriptor. */
#ifndef KOMBU_POSIX_SOCKET_H
#define KOMBU_POSIX_SOCKET_H

#include <errno.h>

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
