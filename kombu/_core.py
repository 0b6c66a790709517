"""Choose the implementation of the core, here and nowhere else.

``KOMBU_IMPL=c`` takes the compiled one and ``KOMBU_IMPL=python`` the pure one; where that is impossible, importing
this module raises :exc:`ImportError` with the cause.  Where the variable is unset or empty, the compiled one is taken
if it can be imported, otherwise the pure one, and :data:`fallback_reason` says why.  All modules come from one package.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

from ._lazy import TYPE_CHECKING

__all__ = (
    "ABI",
    "Message",
    "bodies",
    "deliveries",
    "dispatch",
    "drain",
    "draining",
    "fallback_reason",
    "frames",
    "impl",
    "jsondecoding",
    "jsonencoding",
    "memory",
    "message",
    "output",
    "places",
    "planning",
    "pool",
    "publish",
    "settling",
    "shared",
    "unsettled",
    "virtual",
    "window",
)

#: The number that every compiled module has to carry; it changes with what the modules expect of one another.
ABI = 1

#: The modules of a package, in such an order that each imports only earlier ones.
_MODULES = (
    "decoding", "encoding", "jsondecoding", "jsonencoding", "frames", "window", "deliveries", "bodies", "received",
    "message", "dispatch", "buffer", "inbound", "output", "reading", "drain", "draining", "settling", "publish",
    "stock", "waiters", "places", "pool", "planning", "shared", "known", "unsettled", "virtual", "memory",
)

#: Those that only the compiled package has.
_COMPILED_ONLY = frozenset(("known",))


def _load_pure() -> dict[str, ModuleType]:
    return {name: import_module(f"kombu._pure.{name}") for name in _MODULES if name not in _COMPILED_ONLY}


def _load_compiled() -> dict[str, ModuleType]:
    modules = {}
    for name in _MODULES:
        # A stale module is found here, before another one looks into its C structures.
        module = modules[name] = import_module(f"kombu._speedups.{name}")
        found = getattr(module, "ABI", None)
        if found != ABI:
            raise ImportError(
                f"{module.__name__} was compiled for another version of kombu"
                f" (its ABI is {found}, {ABI} is needed): rebuild or reinstall kombu"
            )
    return modules


def _choose(wanted: str) -> tuple[str, str | None, dict[str, ModuleType]]:
    """Return the name of the implementation, why it is not the compiled one if nobody chose, and its modules."""
    if wanted == "python":
        return "python", None, _load_pure()
    if wanted == "c":
        try:
            return "c", None, _load_compiled()
        except ImportError as error:
            raise ImportError(f"KOMBU_IMPL=c, but the compiled core cannot be imported: {error}") from error
    if wanted:
        raise ImportError(f"KOMBU_IMPL={wanted!r} is unknown: set it to 'c' or 'python', or leave it unset")
    try:
        return "c", None, _load_compiled()
    except ImportError as error:
        return "python", str(error), _load_pure()


impl, fallback_reason, _modules = _choose(os.environ.get("KOMBU_IMPL", ""))

if TYPE_CHECKING:
    from kombu._pure import (
        bodies,
        deliveries,
        dispatch,
        drain,
        draining,
        frames,
        jsondecoding,
        jsonencoding,
        memory,
        message,
        output,
        places,
        planning,
        pool,
        publish,
        settling,
        shared,
        unsettled,
        virtual,
        window,
    )
else:
    # Each under its own name.
    globals().update(_modules)

Message = message.Message
