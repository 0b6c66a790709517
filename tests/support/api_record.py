"""Compare modules with the recorded public names and signatures of kombu 5.7.0.

The record, ``tests/compat/kombu-5.7.0.json``, maps module to name to what stands there: its kind and, for what can be
called, its parameters as ``[name, kind, default]``.  Extra names and extra parameters are no difference; a missing
name, a missing parameter, another order of positional ones or another simple default is.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORD: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "compat" / "kombu-5.7.0.json").read_text(encoding="utf-8")
)
POSITIONAL = ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD")
SIMPLE = (int, float, str, bool, type(None), tuple)


def differences(module_name: str) -> list[str]:
    """Return one line for each way in which the module is not what the record says."""
    try:
        module = importlib.import_module(module_name)
    except ImportError as exc:
        return [f"{module_name} cannot be imported: {exc}"]
    return [line for name, entry in RECORD[module_name].items() for line in _compare(module, module_name, name, entry)]


def _compare(module: Any, module_name: str, name: str, entry: dict[str, Any]) -> Iterator[str]:
    path = f"{module_name}.{name}"
    try:
        found = getattr(module, name)
    except AttributeError:
        yield f"{path}: the {entry['kind']} is missing"
        return
    if entry["kind"] == "function":
        yield from _signature(path, found, entry["signature"])
    elif entry["kind"] == "class":
        if not inspect.isclass(found):
            yield f"{path}: is no class but {type(found).__name__}"
            return
        for member, recorded in entry["members"].items():
            yield from _member(path, found, member, recorded)


def _member(path: str, cls: type, name: str, recorded: dict[str, Any]) -> Iterator[str]:
    kind = recorded["kind"]
    if not hasattr(cls, name):
        # What instances alone have may be announced by a slot or an annotation.
        if kind not in ("attribute", "property") or not any(name in _announced(base) for base in cls.__mro__):
            yield f"{path}.{name}: the {kind} is missing"
    elif kind in ("method", "classmethod", "staticmethod") and name != "__exit__":
        static = inspect.getattr_static(cls, name)
        function = getattr(static, "__func__", static)
        if callable(function):
            yield from _signature(f"{path}.{name}", function, recorded["signature"])


def _announced(cls: type) -> set[str]:
    slots = cls.__dict__.get("__slots__", ())
    return {*((slots,) if isinstance(slots, str) else slots), *inspect.get_annotations(cls)}


def _signature(path: str, function: Any, recorded: list[list[str]] | None) -> Iterator[str]:
    if recorded is None:
        return
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        yield f"{path}: its signature cannot be read"
        return
    kinds = {parameter.kind.name for parameter in parameters.values()}
    if {"VAR_POSITIONAL", "VAR_KEYWORD"} <= kinds:
        return
    positional = [parameter.name for parameter in parameters.values() if parameter.kind.name in POSITIONAL]
    place = 0
    for name, kind, default in recorded:
        if kind in POSITIONAL:
            problem = _parameter(parameters, positional, place, name, default, kinds)
            place += 1
        elif kind == "KEYWORD_ONLY":
            problem = None if name in parameters or "VAR_KEYWORD" in kinds else f"takes no keyword {name!r}"
        else:
            problem = None if kind in kinds else f"takes no {'*' if kind == 'VAR_POSITIONAL' else '**'}{name}"
        if problem:
            yield f"{path}: {problem}"


def _parameter(
    parameters: Any, positional: list[str], place: int, name: str, default: str | None, kinds: set[str]
) -> str | None:
    if name in ("self", "cls"):
        return None
    if name not in parameters:
        return None if "VAR_KEYWORD" in kinds and default is not None else f"has no parameter {name!r}"
    if place < len(positional) and positional[place] != name:
        return f"has {positional[place]!r} at place {place}, where {name!r} is recorded"
    actual = parameters[name].default
    if default in (None, "<object>"):
        return None
    if actual is inspect.Parameter.empty:
        return f"demands {name!r}, recorded with the default {default}"
    if isinstance(actual, SIMPLE) and repr(actual) != default:
        return f"gives {name!r} the default {actual!r}, recorded is {default}"
    return None
