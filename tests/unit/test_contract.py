"""The two packages of the core offer the same: names, signatures, constants, exceptions' origins."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kombu._pure
import kombu._speedups
from kombu import _core

pytestmark = pytest.mark.c_extensions

MODULES = sorted(module.name for module in pkgutil.iter_modules(kombu._pure.__path__))


def pair(name: str) -> tuple[ModuleType, ModuleType]:
    return importlib.import_module(f"kombu._pure.{name}"), importlib.import_module(f"kombu._speedups.{name}")


def shape(function: Any) -> list[tuple[str, Any, str]]:
    """Return names, kinds and defaults of the parameters; annotations may differ, and each core has its own markers."""
    parameters = inspect.signature(function).parameters.values()
    return [(parameter.name, parameter.kind, repr(parameter.default)) for parameter in parameters]


def has_signature(cls: type) -> bool:
    """Return whether the constructor's signature can be seen; that of most compiled classes stands in the stub only."""
    try:
        inspect.signature(cls)
    except ValueError:
        return False
    return True


def stub_of(name: str) -> dict[str, ast.stmt]:
    """Return what the stub of a compiled module declares, by name."""
    tree = ast.parse((Path(kombu._speedups.__file__).parent / f"{name}.pyi").read_text(encoding="utf-8"))
    declared: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            declared[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            declared[node.target.id] = node
        elif isinstance(node, ast.Assign):
            declared.update((target.id, node) for target in node.targets if isinstance(target, ast.Name))
    return declared


def stub_parameters(node: ast.FunctionDef) -> list[str]:
    arguments = node.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    if arguments.vararg:
        names.append(arguments.vararg.arg)
    names += [argument.arg for argument in arguments.kwonlyargs]
    if arguments.kwarg:
        names.append(arguments.kwarg.arg)
    return names


def methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {part.name: part for part in node.body if isinstance(part, ast.FunctionDef) and not part.decorator_list}


def public_members(cls: type) -> dict[str, Any]:
    """Return what a class offers beyond object: public attributes, wherever in its bases they stand."""
    return {name: getattr(cls, name) for name in dir(cls) if not name.startswith("_")}


def test_the_selector_knows_every_module():
    assert set(MODULES) == set(_core._MODULES) - _core._COMPILED_ONLY >= {"frames", "message", "drain", "pool"}


def test_what_only_the_compiled_package_has_is_there_and_not_in_the_pure_one():
    for name in _core._COMPILED_ONLY:
        importlib.import_module(f"kombu._speedups.{name}")
        assert name not in MODULES


def test_each_module_has_a_compiled_twin_with_a_stub():
    folder = Path(kombu._speedups.__file__).parent
    stubs = {path.stem for path in folder.glob("*.pyi")}
    assert stubs == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_both_export_the_same_names(name):
    pure, compiled = pair(name)
    assert sorted(pure.__all__) == sorted(compiled.__all__)
    assert len(set(pure.__all__)) == len(pure.__all__)
    for exported in pure.__all__:
        assert hasattr(pure, exported)
        assert hasattr(compiled, exported)


@pytest.mark.parametrize("name", _core._MODULES)
def test_the_compiled_module_carries_the_number_that_the_selector_wants(name):
    assert importlib.import_module(f"kombu._speedups.{name}").ABI == _core.ABI


@pytest.mark.parametrize("name", MODULES)
def test_both_have_the_same_signatures(name):
    pure, compiled = pair(name)
    for exported in pure.__all__:
        ours, theirs = getattr(pure, exported), getattr(compiled, exported)
        assert inspect.isclass(ours) == inspect.isclass(theirs), exported
        assert callable(ours) == callable(theirs), exported
        if inspect.isclass(ours) and not has_signature(theirs):
            declared = stub_parameters(methods(stub_of(name)[exported])["__init__"])
            assert declared == ["self", *inspect.signature(ours).parameters], exported
        elif callable(ours):
            assert shape(ours) == shape(theirs), exported


@pytest.mark.parametrize("name", MODULES)
def test_both_have_the_same_constants(name):
    pure, compiled = pair(name)
    for exported in pure.__all__:
        value = getattr(pure, exported)
        if isinstance(value, (int, str, bytes, tuple)):
            assert getattr(compiled, exported) == value, exported
            assert type(getattr(compiled, exported)) is type(value), exported


@pytest.mark.parametrize("name", MODULES)
def test_classes_of_both_have_the_same_members(name):
    pure, compiled = pair(name)
    for exported in pure.__all__:
        cls = getattr(pure, exported)
        if not inspect.isclass(cls):
            continue
        ours, theirs = public_members(cls), public_members(getattr(compiled, exported))
        # What a pure class sets in __init__ only may be an attribute of the compiled type.
        assert set(ours) <= set(theirs), exported
        for member, value in ours.items():
            # What both have from the same built-in type need not be compared, and may have no signature.
            if inspect.isroutine(value) and value is not theirs[member]:
                assert shape(value) == shape(theirs[member]), f"{exported}.{member}"
        for member in set(theirs) - set(ours):
            assert not inspect.isroutine(theirs[member]), f"{exported}.{member} is in the compiled class only"


@pytest.mark.parametrize("name", MODULES)
def test_both_are_documented_alike(name):
    pure, compiled = pair(name)
    assert pure.__doc__ and compiled.__doc__
    for exported in pure.__all__:
        value = getattr(pure, exported)
        if inspect.isroutine(value) or inspect.isclass(value):
            assert value.__doc__, exported
            assert getattr(compiled, exported).__doc__, exported


@pytest.mark.parametrize("name", MODULES)
def test_the_stub_says_what_the_module_has(name):
    _, compiled = pair(name)
    declared = stub_of(name)
    assert set(compiled.__all__) | {"ABI"} <= set(declared)
    assert sorted(ast.literal_eval(declared["__all__"].value)) == sorted(compiled.__all__)
    for exported in compiled.__all__:
        node, value = declared[exported], getattr(compiled, exported)
        if isinstance(node, ast.FunctionDef):
            assert stub_parameters(node) == list(inspect.signature(value).parameters), exported
        elif isinstance(node, ast.ClassDef):
            for method, declaration in methods(node).items():
                if not method.startswith("__"):
                    actual = list(inspect.signature(getattr(value, method)).parameters)
                    assert stub_parameters(declaration) == actual, f"{exported}.{method}"
