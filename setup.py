"""Build the compiled core; everything else about the package is in pyproject.toml.

``KOMBU_NO_EXTENSIONS=1`` builds a pure wheel.  ``KOMBU_REQUIRE_EXTENSIONS=1`` (or ``CIBUILDWHEEL=1``) makes a
failed compile fatal; without either a failed compile leaves a working install on the pure core.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build

CORE = Path("kombu/_speedups")
DIRECTIVES = {
    "language_level": "3",
    "binding": True,
    "embedsignature": True,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "freethreading_compatible": True,
}


class CleanBuild(build):
    """Start from nothing: setuptools packs what an earlier build has left behind, removed modules included."""

    def run(self) -> None:
        for folder in (self.build_lib, self.build_temp):
            shutil.rmtree(folder, ignore_errors=True)
        super().run()


def enabled(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")


def extensions() -> list[Extension]:
    if enabled("KOMBU_NO_EXTENSIONS"):
        return []
    modules = []
    for source in sorted(CORE.glob("*.pyx")):
        module = Extension(
            f"kombu._speedups.{source.stem}",
            [source.as_posix()],
            depends=[header.as_posix() for header in sorted([*CORE.glob("*.pxd"), *CORE.glob("*.h")])],
            # Debug information would be most of the wheel.
            extra_compile_args=[] if os.name == "nt" else ["-g0"],
            include_dirs=[CORE.as_posix()],
            optional=not (enabled("KOMBU_REQUIRE_EXTENSIONS") or enabled("CIBUILDWHEEL")),
        )
        # Read by Cython's build_ext, which setuptools uses: generated C stays out of the tree.
        module.cython_directives = DIRECTIVES
        module.cython_c_in_temp = True
        modules.append(module)
    return modules


setup(ext_modules=extensions(), cmdclass={"build": CleanBuild})
