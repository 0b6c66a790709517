"""Settings of Sphinx: ``sphinx-build -W docs docs/_build/html``."""

from __future__ import annotations

import ast
import inspect
import os
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name, walk_packages
from types import ModuleType
from typing import Any

from sphinx.ext.napoleon import GoogleDocstring

ROOT = Path(__file__).resolve().parents[1]

# The pure core is what the reference shows: it needs no build, and Python can read its signatures.
os.environ["KOMBU_IMPL"] = "python"
sys.path.insert(0, str(ROOT))

import kombu  # noqa: E402

project = "kombu"
author = "the kombu speedups developers"
copyright = f"{author}; BSD-3-Clause"  # noqa: A001 (the name is Sphinx's)
version = release = kombu.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "py:obj"
nitpicky = False

html_theme = "furo"
html_title = f"kombu {release}"
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

pygments_style = "friendly"
python_maximum_signature_line_length = 100

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Keywords", "params_style")]


def skip_elsewhere(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what is described where it is defined: imported names, and attributes that are classes."""
    if isinstance(obj, ModuleType):
        return True
    if what == "module":
        origin = getattr(obj, "__module__", None)
        return True if isinstance(origin, str) and origin != app.env.current_document.autodoc_module else None
    return True if isinstance(obj, type) and "." not in obj.__qualname__ else None


def read_like_method(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Read the docstring of a property as a method's is read.

    Of an attribute, what stands before the first colon would be taken for its type; an empty comment has none.
    """
    if what in ("property", "attribute", "data"):
        lines[:] = ["..", "", *GoogleDocstring(list(lines), app.config, app, "method", name, obj, options).lines()]


def resolve_alias(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Lead references by another name, such as ``kombu.Connection.channel``, to where the object is described."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("kombu."):
        return None
    try:
        found = resolve_name(target)
    except (ImportError, AttributeError):
        return None
    found = getattr(found, "fget", None) or getattr(found, "func", None) or found
    origin, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if not name or f"{origin}.{name}" == target:
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", f"{origin}.{name}", node, contnode)


def import_for_annotations() -> None:
    """Give each module the names that it imports for type checkers only, so that annotations lead somewhere."""
    modules = [import_module(info.name) for info in walk_packages(kombu.__path__, "kombu.") if wanted(info.name)]
    for module in modules:
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                imports = [each for each in node.body if isinstance(each, ast.ImportFrom)]
                exec(compile(ast.Module(imports, []), str(module.__file__), "exec"), vars(module))


def wanted(name: str) -> bool:
    """Return whether the module can be imported here: the compiled core need not have been built."""
    return not name.startswith("kombu._speedups") and not name.endswith("__main__")


def setup(app: Any) -> dict[str, Any]:
    import_for_annotations()
    app.connect("autodoc-skip-member", skip_elsewhere)
    app.connect("autodoc-process-docstring", read_like_method, priority=400)
    app.connect("missing-reference", resolve_alias)
    return {"parallel_read_safe": True}
