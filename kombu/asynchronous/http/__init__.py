"""HTTP requests on an event loop."""

from __future__ import annotations

from typing import Any

from kombu.asynchronous.hub import Hub, get_event_loop

from .base import BaseClient, Headers, Request, Response
from .curl import CurlClient

__all__ = ("BaseClient", "Client", "Headers", "Request", "Response", "get_client")


def Client(hub: Hub | None = None, **kwargs: Any) -> BaseClient:
    """Make a client on *hub*, the current event loop unless given.

    Raises:
        ImportError: pycurl is not installed.
    """
    return CurlClient(hub, **kwargs)


def get_client(hub: Hub | None = None, **kwargs: Any) -> BaseClient:
    """Return the client of *hub* (the current event loop unless given), made if it has none."""
    hub = hub or get_event_loop()
    client = getattr(hub, "_current_http_client", None)
    if client is None:
        client = hub._current_http_client = Client(hub, **kwargs)
    return client
