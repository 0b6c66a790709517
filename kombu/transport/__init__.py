"""Transports by name.

A transport is named by an alias (``amqp``), by the path of its class (``package.module:Class``), or by the name of an
entry point in the group ``kombu.transports`` of any installed distribution.
"""

from __future__ import annotations

from kombu._lazy import TYPE_CHECKING, LazyModule
from kombu.utils.imports import symbol_by_name
from kombu.utils.text import fmatch_best

if TYPE_CHECKING:
    from importlib import metadata
    from typing import Any
else:
    metadata = LazyModule("importlib.metadata")

__all__ = ("ENTRY_POINTS", "TRANSPORT_ALIASES", "get_transport_cls", "resolve_transport", "supports_librabbitmq")

#: The group of entry points where other distributions announce transports.
ENTRY_POINTS = "kombu.transports"

#: Names for the paths of transport classes.  ``librabbitmq`` is the same as ``amqp``, whatever is installed.
TRANSPORT_ALIASES: dict[str, Any] = {
    "amqp": "kombu.transport.pyamqp:Transport",
    "amqps": "kombu.transport.pyamqp:SSLTransport",
    "pyamqp": "kombu.transport.pyamqp:Transport",
    "librabbitmq": "kombu.transport.pyamqp:Transport",
    "memory": "kombu.transport.memory:Transport",
    **{
        name: f"kombu.transport.{module}"
        for name, module in {
            "confluentkafka": "confluentkafka:Transport",
            "kafka": "confluentkafka:Transport",
            "redis": "redis:Transport",
            "rediss": "redis:Transport",
            "sentinel": "redis:SentinelTransport",
            "SQS": "SQS:Transport",
            "sqs": "SQS:Transport",
            "mongodb": "mongodb:Transport",
            "zookeeper": "zookeeper:Transport",
            "sqlalchemy": "sqlalchemy:Transport",
            "sqla": "sqlalchemy:Transport",
            "SLMQ": "SLMQ:Transport",
            "slmq": "SLMQ:Transport",
            "filesystem": "filesystem:Transport",
            "qpid": "qpid:Transport",
            "consul": "consul:Transport",
            "etcd": "etcd:Transport",
            "azurestoragequeues": "azurestoragequeues:Transport",
            "azureservicebus": "azureservicebus:Transport",
            "pyro": "pyro:Transport",
            "gcpubsub": "gcpubsub:Transport",
            "pgmq": "pgmq:Transport",
        }.items()
    },
}

_transport_cache: dict[str, Any] = {}


def supports_librabbitmq() -> bool | None:
    """Return None: the ``librabbitmq`` package is not used, even if it is installed."""
    return None


def resolve_transport(transport: Any = None) -> Any:
    """Return the transport class that *transport* names; anything but a string is returned as it is.

    Raises:
        KeyError: if no transport has that name.
        ImportError: if the module of the transport, or a package it needs, cannot be imported.
    """
    if not isinstance(transport, str):
        return transport
    path = TRANSPORT_ALIASES.get(transport)
    if callable(path):
        path = path()
    if path is None:
        if "." in transport or ":" in transport:
            return symbol_by_name(transport)
        return _from_entry_point(transport)
    try:
        return symbol_by_name(path)
    except ModuleNotFoundError as exc:
        if isinstance(path, str) and exc.name == path.partition(":")[0]:
            raise ImportError(f"transport {transport!r} is not part of this version: there is no {exc.name}") from exc
        raise


def _from_entry_point(name: str) -> Any:
    for entry_point in metadata.entry_points(group=ENTRY_POINTS, name=name):
        return entry_point.load()
    alternative = fmatch_best(name, TRANSPORT_ALIASES)
    if alternative:
        raise KeyError(f"No such transport: {name}.  Did you mean {alternative}?")
    raise KeyError(f"No such transport: {name}")


def get_transport_cls(transport: Any = None) -> Any:
    """Return the transport class that *transport* names, as :func:`resolve_transport` does, and remember it."""
    if not isinstance(transport, str):
        return transport
    try:
        return _transport_cache[transport]
    except KeyError:
        pass
    found = _transport_cache[transport] = resolve_transport(transport)
    return found
