"""Find objects by their dotted names, and import modules when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from kombu._lazy import TYPE_CHECKING, LazyModule

if TYPE_CHECKING:
    from typing import Any

__all__ = ("LazyModule", "symbol_by_name")


def symbol_by_name(
    name: Any,
    aliases: Mapping[str, Any] | None = None,
    imp: Callable[..., Any] | None = None,
    package: str | None = None,
    sep: str = ".",
    default: Any = None,
    **kwargs: Any,
) -> Any:
    """Return the object that *name* stands for.

    *name* is ``"package.module.attribute"`` or ``"package.module:attribute"``, or a key of *aliases* whose value is
    such a name. What is not a str is returned as it is. A name without a separator is a module; with *package* a name
    that begins with a dot is relative to it. *imp* replaces :func:`importlib.import_module`, and *kwargs* go to it.

    Raises ImportError or AttributeError when there is no such module or attribute, unless *default* is given;
    ValueError when the import itself fails with one.
    """
    if not isinstance(name, str):
        return name
    name = (aliases or {}).get(name) or name
    module_name, _, attribute = name.rpartition(":" if ":" in name else sep)
    if not module_name:
        module_name, attribute = package or attribute, ""
    try:
        try:
            module = (imp or importlib.import_module)(module_name, package=package, **kwargs)
        except ValueError as exc:
            raise ValueError(f"Couldn't import {name!r}: {exc}").with_traceback(exc.__traceback__) from exc
        return getattr(module, attribute) if attribute else module
    except (ImportError, AttributeError):
        if default is None:
            raise
        return default
