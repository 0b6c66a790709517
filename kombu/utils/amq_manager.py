"""The management interface of RabbitMQ."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ("get_manager",)


def get_manager(
    client: Any,
    hostname: str | None = None,
    port: int | str | None = None,
    userid: str | None = None,
    password: str | None = None,
) -> Any:
    """Return a ``pyrabbit.Client`` for the broker that the connection *client* is for.

    What is not given is taken from the transport option ``manager_<name>``, then from *client*; the port is 15672
    unless the option says otherwise. ImportError without the package pyrabbit.
    """
    pyrabbit = import_module("pyrabbit")
    options = client.transport_options
    if port is None:
        port = options.get("manager_port", 15672)

    chosen = {}
    for name, given, default in (
        ("hostname", hostname, "localhost"),
        ("userid", userid, "guest"),
        ("password", password, "guest"),
    ):
        if given is None:
            given = options.get(f"manager_{name}") or getattr(client, name, None) or default
        chosen[name] = given
    return pyrabbit.Client(f"{chosen['hostname']}:{port}", chosen["userid"], chosen["password"])
