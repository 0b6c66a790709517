"""Interrupt an event loop's poll from another thread."""

from __future__ import annotations

import os
import socket

__all__ = ("Waker",)


class Waker:
    """A pair of connected sockets: what is sent into one makes the other, which the loop polls, readable.

    Sockets, because ``select`` on Windows knows nothing else.
    """

    def __init__(self) -> None:
        self.reader, self.writer = socket.socketpair()
        for end in (self.reader, self.writer):
            end.setblocking(False)
        #: The process that made it; a forked child shares the sockets and needs a pair of its own.
        self.pid = os.getpid()

    def fileno(self) -> int:
        """Return the descriptor to poll; -1 when closed."""
        return self.reader.fileno()

    def wake(self) -> None:
        """Make the descriptor readable."""
        try:
            self.writer.send(b"\0")
        except OSError:
            # Full, and so readable already; or closed meanwhile by the loop, which then needs no waking.
            return

    def wait(self, timeout: float) -> bool:
        """Wait until the descriptor is readable, at most *timeout* seconds, and return whether it is."""
        self.reader.settimeout(timeout)
        try:
            return bool(self.reader.recv(1, socket.MSG_PEEK))
        except (BlockingIOError, TimeoutError):
            return False
        finally:
            self.reader.setblocking(False)

    def drain(self) -> None:
        """Make it unreadable again."""
        try:
            self.reader.recv(4096)
        except OSError:
            # Nothing there, or closed.
            return

    def close(self) -> None:
        """Close both sockets."""
        self.writer.close()
        self.reader.close()
