"""What is imported when it is first needed: modules, names that a module forwards, and loggers.

Who only imports this library, or has no AMQP to speak, does not wait for what takes long to import.  This module
imports nothing of the package, so that every other module, both cores included, may use it.
"""

from __future__ import annotations

import importlib
import sys

#: What type checkers take for true.  :mod:`typing` takes as long to import as half of this package: what is imported
#: with :class:`kombu.Connection` needs it for its annotations alone, which nobody evaluates, and leaves it to them.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

__all__ = ("TYPE_CHECKING", "LazyLogger", "LazyModule", "amqp_errors", "forwarding")


class LazyModule:
    """Stand for a module that is imported when it is first asked for something.

    For what few programs need and takes long to import.

    Arguments:
        name: the module's full name.
    """

    def __init__(self, name: str) -> None:
        self.__name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(importlib.import_module(self.__name), attribute)
        # Looked up here from now on.
        setattr(self, attribute, value)
        return value

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.__name}>"


#: The exception classes of the ``amqp`` package, which takes longer to import than all of this one.
amqp_errors: Any = LazyModule("amqp.exceptions")

_log: Any = LazyModule("kombu.log")


class LazyLogger:
    """Stand for the logger that :func:`kombu.log.get_logger` returns, which is made when it is first used.

    Arguments:
        name: the logger's name.
    """

    def __init__(self, name: str) -> None:
        self.__name = name

    def __getattr__(self, attribute: str) -> Any:
        # Not kept: a logger's methods may be replaced, by tests above all.
        return getattr(_log.get_logger(self.__name), attribute)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.__name}>"


def forwarding(
    module: str, origins: Mapping[str, str], submodules: tuple[str, ...] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for *module*, which has names of others as if it had imported them.

    Arguments:
        origins: the names, and the modules that they are imported from when they are first asked for.
        submodules: those of the package *module* that are there without having been imported.
    """
    namespace = sys.modules[module].__dict__

    def find(name: str) -> Any:
        if name in submodules:
            return importlib.import_module(f"{module}.{name}")
        origin = origins.get(name)
        if origin is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = namespace[name] = getattr(importlib.import_module(origin), name)
        return value

    def names() -> list[str]:
        return sorted({*namespace, *origins, *submodules})

    return find, names
