"""A scripted peer over TCP and TLS, and its clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clients import Clients
from peer import Peer


@pytest.fixture
def connect() -> Iterator[Clients]:
    """Connect to a peer by calling this with it, as often as is needed."""
    clients = Clients()
    yield clients
    clients.close()


@pytest.fixture(params=["tcp", "tls"])
def any_peer(request, tls_certificates) -> Iterator[Peer]:
    """Give a peer over TCP and one over TLS in turn; a module may say their ``FRAME_MAX``."""
    options = {"frame_max": request.module.FRAME_MAX} if hasattr(request.module, "FRAME_MAX") else {}
    with Peer(tls=tls_certificates if request.param == "tls" else None, **options) as running:
        yield running
