"""The socket of a connection, read and written without waiting for it by its timeout.

A :class:`Link` keeps its socket non-blocking and waits by poll or select, so a deadline never has to be put on the
socket.  Its user may put one there, though, and then that is the limit of waits that have no other.  TLS sockets and
the sockets of gevent and eventlet are used through their methods; only a plain one may be used by its file descriptor.
"""

from __future__ import annotations

import select
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from ..._locks import new_reentrant_lock

__all__ = ("Link", "TLSLink", "WriteTimedOut", "link_for")

#: Buffers handed to one system call; far below every platform's IOV_MAX.
BUFFERS_A_CALL = 64

#: Seconds that one wait takes at most: poll counts milliseconds in 32 bits, and who waits longer looks again.
LONGEST_WAIT = 1_000_000.0

# As plain integers: the socket module's flags take a microsecond to combine.
_MORE = int(getattr(socket, "MSG_MORE", 0))
_NOSIGNAL = int(getattr(socket, "MSG_NOSIGNAL", 0))


class WriteTimedOut(socket.timeout):
    """A write did not get through in time.

    Attributes:
        sent: the number of bytes that did.
        patience: seconds that it waited for the socket to take more, at last.
    """

    def __init__(self, sent: int, patience: float = 0.0) -> None:
        super().__init__("timed out")
        self.sent = sent
        self.patience = patience


def _lost(error: OSError) -> OSError:
    """Return *error* in a class that cannot be taken for a time limit of the caller's."""
    # The kernel giving up on a peer (ETIMEDOUT) is a TimeoutError too, as socket.timeout is.
    return OSError(f"connection lost: {error}") if isinstance(error, TimeoutError) else error


class Link:
    """A connected TCP socket.

    Arguments:
        sock: the socket; made non-blocking here.

    Attributes:
        plain_fd: the file descriptor, or -1 where the socket object's methods have to be called.
        can_gather: whether a send may be marked as having more to follow (Linux's ``MSG_MORE``).
    """

    def __init__(self, sock: Any) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.patched = type(sock).__module__ not in ("socket", "ssl")
        self._fd = sock.fileno()
        self.closed = False
        native = type(sock) is socket.socket and not self.patched
        self.plain_fd = self._fd if native and sys.platform != "win32" else -1
        self.can_gather = bool(_MORE) and self.plain_fd >= 0
        #: Held while the socket is closed, and by whoever must not be disturbed by that.
        self.guard: Any
        self.reset_guard()

    def reset_guard(self) -> None:
        """Make the guard whole again in a forked child, where another thread may have held it."""
        # The handler of a signal may close what its thread is closing, or is using.
        self.guard = new_reentrant_lock()

    def recv_into(self, view: Any) -> int:
        """Read what is there into *view*.

        Returns:
            the number of bytes; 0 at the end of the stream.

        Raises:
            BlockingIOError: nothing is there.
            OSError: the connection is lost.
        """
        try:
            return self._at_once(self.sock.recv_into, view)
        except TimeoutError as error:
            raise _lost(error) from error

    def _at_once(self, operation: Callable[..., Any], *args: Any) -> Any:
        """Call a method of the socket so that it does not wait, whatever timeout the user has put there."""
        timeout = self.sock.gettimeout()
        if timeout == 0:
            return operation(*args)
        self.sock.setblocking(False)
        try:
            return operation(*args)
        finally:
            self.sock.settimeout(timeout)

    @property
    def time_limit(self) -> float | None:
        """Seconds that the user has put on the socket as its timeout; None if that was not done."""
        return self.sock.gettimeout() or None

    def send_some(self, buffers: Sequence[Any], more: bool = False) -> int:
        """Write as much of *buffers* as the socket takes and return the number of bytes.

        Raises:
            BlockingIOError: it takes none.
            OSError: the connection is lost.
        """
        flags = _NOSIGNAL | _MORE if more and self.can_gather else _NOSIGNAL
        try:
            if len(buffers) == 1:
                return self._at_once(self.sock.send, buffers[0], flags)
            if hasattr(self.sock, "sendmsg"):
                return self._at_once(self.sock.sendmsg, buffers[:BUFFERS_A_CALL], [], flags)
            return self._at_once(self.sock.send, b"".join(buffers[:BUFFERS_A_CALL]), flags)
        except TimeoutError as error:
            raise _lost(error) from error

    def write_all(self, buffers: list[Any], deadline: float | None, more: bool = False) -> None:
        """Write all of *buffers*; without a deadline, the socket's timeout limits how long it may take nothing.

        Raises:
            WriteTimedOut: the deadline passed.
            OSError: the connection is lost.
        """
        total = 0
        while True:
            try:
                sent = self.send_some(buffers, more)
            except BlockingIOError:
                now = monotonic()
                if deadline is not None and now >= deadline:
                    raise WriteTimedOut(total) from None
                limit = self.time_limit if deadline is None else deadline - now
                if not self.wait_writable(limit) and limit is not None and monotonic() - now >= limit:
                    raise WriteTimedOut(total, limit) from None
                continue
            total += sent
            index = 0
            for buffer in buffers:
                if sent < len(buffer):
                    break
                sent -= len(buffer)
                index += 1
            if index == len(buffers):
                return
            buffers = buffers[index:]
            if sent:
                buffers[0] = memoryview(buffers[0])[sent:]

    def push(self) -> None:
        """Make the kernel send what was written with more announced."""
        # Setting the option again, on as it is, pushes what is pending: tcp(7).
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def wait_readable(self, timeout: float | None) -> bool:
        """Wait until a read has something to say, at most *timeout* seconds; None waits for ever."""
        return self._wait(True, timeout)

    def wait_writable(self, timeout: float | None) -> bool:
        """Wait until a write may make progress, at most *timeout* seconds; None waits for ever."""
        return self._wait(False, timeout)

    def _wait(self, readable: bool, timeout: float | None) -> bool:
        if self.closed:
            raise OSError("the connection's socket has been closed")
        fd = self._fd
        if timeout is not None and timeout > LONGEST_WAIT:
            timeout = LONGEST_WAIT
        # Looked up at each call: gevent and eventlet put their own functions there.
        if self.patched or not hasattr(select, "poll"):
            wanted = [fd]
            try:
                ready = select.select(wanted if readable else [], [] if readable else wanted, wanted, timeout)
            except ValueError as error:
                raise OSError(f"cannot wait for file descriptor {fd}: {error}") from error
            return any(ready)
        poller = select.poll()
        poller.register(fd, select.POLLIN if readable else select.POLLOUT)
        if timeout is None:
            return bool(poller.poll(None))
        # poll counts milliseconds: round up, or the last fraction of one would be spent spinning.
        return bool(poller.poll(-(-timeout * 1000 // 1) if timeout > 0 else 0))

    def holds_bytes(self) -> bool:
        """Return whether bytes wait that no poll of the file descriptor shows."""
        return False

    def peer_has_left(self) -> bool:
        """Return whether the next thing to read is the end of the stream or an error; reads nothing."""
        try:
            return not self._at_once(self.sock.recv, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True


class TLSLink(Link):
    """A TLS socket.

    OpenSSL does not allow one thread to read a session while another writes it, so both take turns; neither ever
    waits for the network meanwhile.

    It notes errors for the thread, not for the session, and takes any that it finds there for one of the session that
    the thread is using.  Python leaves some there when a connection is lost, whose ever it was.
    """

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self.plain_fd = -1
        self.can_gather = False
        self._read_wants_write = False
        self._write_wants_read = False

    def _at_once(self, operation: Callable[..., Any], *args: Any) -> Any:
        try:
            return super()._at_once(operation, *args)
        except ssl.SSLError:
            raise
        except OSError as error:
            lost = error
        # That may be another connection's.  If it is this one's, it is as lost the second time.
        _forget_tls_errors()
        try:
            count = super()._at_once(operation, *args)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            count = 0
        if not count:
            _forget_tls_errors()
            raise lost
        return count

    def recv_into(self, view: Any) -> int:
        with self.guard:
            try:
                self._read_wants_write = False
                return self._at_once(self.sock.recv_into, view)
            except ssl.SSLWantReadError:
                raise BlockingIOError("no TLS record is complete") from None
            except ssl.SSLWantWriteError:
                self._read_wants_write = True
                raise BlockingIOError("TLS has to write before it can read") from None
            except ssl.SSLZeroReturnError:
                return 0
            except ssl.SSLEOFError:
                return 0

    def send_some(self, buffers: Sequence[Any], more: bool = False) -> int:
        # One record a call: joining small buffers costs less than a record for each.
        data = buffers[0] if len(buffers) == 1 or len(buffers[0]) >= 4096 else b"".join(buffers[:2])
        with self.guard:
            try:
                self._write_wants_read = False
                return self._at_once(self.sock.send, data)
            except ssl.SSLWantWriteError:
                raise BlockingIOError("the socket takes no TLS record") from None
            except ssl.SSLWantReadError:
                self._write_wants_read = True
                raise BlockingIOError("TLS has to read before it can write") from None

    def write_all(self, buffers: list[Any], deadline: float | None, more: bool = False) -> None:
        # Once OpenSSL has been given a record, it insists on getting that through before any other.  So a write that
        # may be given up begins only where there is room, and one that began and did not end has cut a frame short.
        if deadline is not None and not self.wait_writable(max(0.0, deadline - monotonic())):
            raise WriteTimedOut(0)
        try:
            super().write_all(buffers, deadline, more)
        except WriteTimedOut as error:
            raise WriteTimedOut(max(1, error.sent), error.patience) from None

    def push(self) -> None:
        """Do nothing: nothing is ever held back."""

    def wait_readable(self, timeout: float | None) -> bool:
        if self.closed:
            raise OSError("the connection's socket has been closed")
        return self.holds_bytes() or self._wait(not self._read_wants_write, timeout)

    def wait_writable(self, timeout: float | None) -> bool:
        return self._wait(self._write_wants_read, timeout)

    def holds_bytes(self) -> bool:
        with self.guard:
            return self.sock.pending() > 0

    def peer_has_left(self) -> bool:
        # A TLS stream cannot be peeked into; a broken one shows when it is read or written.
        return False


def _forget_tls_errors() -> None:
    """Have OpenSSL forget what errors it has noted for this thread, as it does where a handshake begins."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO()).do_handshake()
    except ssl.SSLWantReadError:
        pass  # nobody is going to answer


def link_for(sock: Any) -> Link:
    """Return the link for *sock*."""
    return TLSLink(sock) if hasattr(sock, "pending") else Link(sock)
