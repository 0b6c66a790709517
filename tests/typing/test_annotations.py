"""That every public function of the library says what it takes and what it returns."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import kombu

PACKAGE = Path(kombu.__file__).resolve().parent

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function, bool]]:
    """Yield dotted name, function, and whether it is a method, of all that are public in *body*."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, Function) and (not node.name.startswith("_") or node.name.endswith("__")):
            yield f"{prefix}{node.name}", node, bool(prefix)
        elif isinstance(node, ast.If | ast.Try):
            yield from public_functions([*node.body, *node.orelse], prefix)


def unannotated(function: Function, is_method: bool) -> list[str]:
    """Return the names of the parameters without an annotation, and ``return`` if it has none."""
    spec = function.args
    positional = [*spec.posonlyargs, *spec.args]
    static = any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in function.decorator_list)
    if is_method and not static:
        positional = positional[1:]
    parameters = [*positional, *spec.kwonlyargs, *filter(None, [spec.vararg, spec.kwarg])]
    missing = [each.arg for each in parameters if each.annotation is None]
    return missing if function.returns is not None else [*missing, "return"]


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_public_functions_are_annotated(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = {
        name: unannotated(function, is_method)
        for name, function, is_method in public_functions(tree.body)
        if unannotated(function, is_method)
    }
    assert missing == {}


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
