"""Find out which kombu is about to be tested, and refuse one that is not what the tree says.

By default that is an installed build whose sources equal the tree's.  With ``KOMBU_TEST_TREE=1`` it is the tree
itself, with whatever ``python setup.py build_ext --inplace`` has left there.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "kombu"
SUFFIXES = frozenset({".py", ".pyi", ".pyx", ".pxd", ".h"})
REMEDY = "run: pip install '.[test]'"


class WrongBuild(Exception):
    """What would be tested is not what stands in the tree; the text says why and what to do."""


def testing_the_tree() -> bool:
    """Return whether ``KOMBU_TEST_TREE`` asks for the source tree itself."""
    return os.environ.get("KOMBU_TEST_TREE", "") not in ("", "0")


def arrange_path() -> None:
    """Put the tree first on ``sys.path``, or take it off there, as ``KOMBU_TEST_TREE`` says.

    ``python -m pytest`` puts the current folder on the path, where the tree would shadow the installed package.  The
    processes that tests start are told the same.
    """
    sys.path[:] = [entry for entry in sys.path if not _is_root(entry)]
    inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and not _is_root(entry)]
    if testing_the_tree():
        sys.path.insert(0, str(ROOT))
        inherited.insert(0, str(ROOT))
    else:
        os.environ["PYTHONSAFEPATH"] = "1"  # from Python 3.11 on: no current folder on the path
    os.environ["PYTHONPATH"] = os.pathsep.join(inherited)


def locate() -> Path:
    """Return the folder of the kombu under test, without importing it.

    Raises:
        WrongBuild: there is none, it is not the one asked for, or it differs from the tree.
    """
    found = _found()
    if not TREE.is_dir():
        return found  # the tests were copied away from the tree, as cibuildwheel does
    inside = found == TREE or TREE in found.parents
    if testing_the_tree():
        if not inside:
            raise WrongBuild(f"KOMBU_TEST_TREE is set, but kombu was imported from {found} before the tests began")
        _check_inplace_build()
    elif inside:
        raise WrongBuild(
            f"kombu is not installed, the source tree {TREE} shadows it, or the install is editable: {REMEDY} "
            "(KOMBU_TEST_TREE=1 tests the tree itself)"
        )
    else:
        _check_equal(found)
    return found


def _found() -> Path:
    module = sys.modules.get("kombu")
    if module is not None and getattr(module, "__file__", None):
        return Path(str(module.__file__)).resolve().parent
    if testing_the_tree():
        return TREE
    spec = importlib.util.find_spec("kombu")
    if spec is None or spec.origin is None:
        raise WrongBuild(f"no kombu is installed here ({sys.prefix}): {REMEDY}")
    return Path(spec.origin).resolve().parent


def _check_equal(installed: Path) -> None:
    ours, theirs = _sources(TREE), _sources(installed)
    differing = sorted(name for name in ours | theirs if not _same(TREE / name, installed / name))
    if differing:
        shown = ", ".join(differing[:3]) + (f" and {len(differing) - 3} more" if len(differing) > 3 else "")
        # Files that only the install has come from an old build/ folder, which setuptools packs along.
        leftover = " (remove the folder build/ first)" if theirs - ours else ""
        raise WrongBuild(f"the kombu installed in {installed} differs from the tree in {shown}: {REMEDY}{leftover}")


def _check_inplace_build() -> None:
    # Those of this interpreter; builds for others may lie beside them.
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    compiled = [path for path in (TREE / "_speedups").iterdir() if path.name.endswith(suffix)]
    if not compiled or os.environ.get("KOMBU_IMPL") == "python":
        return
    oldest = min(compiled, key=lambda path: path.stat().st_mtime)
    for source in sorted((TREE / "_speedups").iterdir()):
        if source.suffix in (".pyx", ".pxd", ".h") and source.stat().st_mtime > oldest.stat().st_mtime:
            raise WrongBuild(
                f"{oldest.name} is older than {source.name}: run: python setup.py build_ext --inplace --force "
                "(or set KOMBU_IMPL=python)"
            )


def _sources(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in SUFFIXES}


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def _is_root(entry: str) -> bool:
    try:
        return Path(entry or os.curdir).resolve() == ROOT
    except OSError:
        return False
