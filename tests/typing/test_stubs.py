"""The stubs beside the compiled modules say what is in these."""

from __future__ import annotations

from pathlib import Path

import pytest

import kombu
import mypy_of_tests

#: What Cython adds to a class for pickling.
ADDED = r"kombu\._speedups\..*\.__(reduce|setstate)_cython__"


@pytest.mark.c_extensions
def test_stubs_agree_with_the_compiled_modules(tmp_path: Path) -> None:
    stubs = (Path(kombu.__file__).parent / "_speedups").glob("*.pyi")
    modules = sorted(f"kombu._speedups.{path.stem}" for path in stubs)
    assert "kombu._speedups.message" in modules
    allowed = tmp_path / "allowed"
    allowed.write_text(f"{ADDED}\n")
    options = ["--concise", "--ignore-disjoint-bases", "--ignore-unused-allowlist", f"--allowlist={allowed}"]
    done = mypy_of_tests.run("mypy.stubtest", *options, *modules, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
