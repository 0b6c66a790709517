"""Messaging library for Python, with its hot paths compiled."""

from __future__ import annotations

import os
from collections import namedtuple
from importlib import import_module

from kombu._lazy import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, NamedTuple

    from kombu.common import eventloop, uuid
    from kombu.connection import BrokerConnection, Connection
    from kombu.entity import Exchange, Queue, binding
    from kombu.message import Message
    from kombu.messaging import Consumer, Producer
    from kombu.pools import connections, producers
    from kombu.serialization import disable_insecure_serializers, enable_insecure_serializers
    from kombu.utils.url import parse_url

    #: Which core is live: ``"c"`` or ``"python"``.
    __impl__: str

#: The release of kombu that this is compatible with, and the version of what replaces it.
__version__ = "5.7.0+speedups.1"
__docformat__ = "restructuredtext en"

__all__ = (
    "BrokerConnection",
    "Connection",
    "Consumer",
    "Exchange",
    "Message",
    "Producer",
    "Queue",
    "binding",
    "connections",
    "disable_insecure_serializers",
    "enable_insecure_serializers",
    "eventloop",
    "parse_url",
    "producers",
    "uuid",
)

#: The public names of this package, and the modules that they are loaded from when they are first used.
object_origins = {
    "Connection": "kombu.connection",
    "BrokerConnection": "kombu.connection",
    "Exchange": "kombu.entity",
    "Queue": "kombu.entity",
    "binding": "kombu.entity",
    "Message": "kombu.message",
    "Consumer": "kombu.messaging",
    "Producer": "kombu.messaging",
    "connections": "kombu.pools",
    "producers": "kombu.pools",
    "parse_url": "kombu.utils.url",
    "eventloop": "kombu.common",
    "uuid": "kombu.common",
    "enable_insecure_serializers": "kombu.serialization",
    "disable_insecure_serializers": "kombu.serialization",
}


if TYPE_CHECKING:

    class version_info_t(NamedTuple):
        """A version, in parts that can be compared."""

        major: int
        minor: int
        micro: int
        releaselevel: str
        serial: str
else:
    version_info_t = namedtuple("version_info_t", "major minor micro releaselevel serial")
    version_info_t.__doc__ = "A version, in parts that can be compared."


def _parse_version(version: str) -> version_info_t:
    release, plus, local = version.partition("+")
    major, minor, micro = map(int, release.split("."))
    return version_info_t(major, minor, micro, plus + local, "")


VERSION = version_info = _parse_version(__version__)


def __getattr__(name: str) -> Any:
    if name == "__impl__":
        return import_module("kombu._core").impl
    try:
        origin = object_origins[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = globals()[name] = getattr(import_module(origin), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__impl__"})


if os.environ.get("KOMBU_LOG_DEBUG"):
    os.environ.update(KOMBU_LOG_CHANNEL="1", KOMBU_LOG_CONNECTION="1")
    import_module("kombu.utils.debug").setup_logging()
