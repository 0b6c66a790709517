"""Ports for servers that the tests start."""

from __future__ import annotations

import random
import socket

# Below the range that any system takes the ports of outgoing connections from.  A port out of that range could be
# taken by a client while its server is down for a restart; a client that reconnects to it may even reach itself.
RANGE = range(20_000, 32_000)
_random = random.SystemRandom()


def free_ports(count: int) -> list[int]:
    """Return *count* different loopback TCP ports that nothing listens on now."""
    found: set[int] = set()
    while len(found) < count:
        port = _random.choice(RANGE)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(port)
    return list(found)
