"""Every module can be the first one that a process imports, with warnings as errors."""

from __future__ import annotations

import sys

import pytest

import interpreter
import which_build

FOLDER = which_build.locate()


def modules():
    found = []
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix not in (".py", ".pyx") or path.name == "__main__.py":
            continue
        parts = path.relative_to(FOLDER).with_suffix("").parts
        found.append(".".join(("kombu", *(parts[:-1] if parts[-1] == "__init__" else parts))))
    return [
        pytest.param(name, marks=pytest.mark.c_extensions) if name.startswith("kombu._speedups.") else name
        for name in found
    ]


@pytest.mark.parametrize("module", modules())
def test_imports_alone(module):
    done = interpreter.run(f"import {module}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.c_extensions
@pytest.mark.skipif(getattr(sys, "_is_gil_enabled", lambda: True)(), reason="needs a free-threaded Python")
def test_the_gil_stays_off_after_importing_everything():
    names = [getattr(entry, "values", (entry,))[0] for entry in modules()]
    done = interpreter.run(f"import sys, {', '.join(names)}; assert not sys._is_gil_enabled()")
    assert (done.returncode, done.stderr) == (0, "")


# What takes long to import, and who only imports this library, to configure it or for another transport, may not need.
NOT_FOR_A_CONNECTION = (
    "amqp", "calendar", "dataclasses", "datetime", "decimal", "difflib", "inspect", "json", "logging", "pickle",
    "random", "socket", "ssl", "tempfile", "traceback", "urllib.parse", "uuid", "vine",
)  # fmt: skip


@pytest.mark.parametrize("impl", [pytest.param("c", marks=pytest.mark.c_extensions), "python"])
def test_what_takes_long_is_imported_when_it_is_needed_and_not_with_the_class_connection(impl):
    # The pure core is annotated where it is read.
    unwanted = (*NOT_FOR_A_CONNECTION, "re", "typing") if impl == "c" else NOT_FOR_A_CONNECTION
    code = (
        "import sys\n"
        "before = {*sys.modules}\n"
        "import kombu\n"
        "kombu.Connection\n"
        f"print(sorted(({{*sys.modules}} - before) & {{*{unwanted!r}}}))\n"
    )
    done = interpreter.run(code, KOMBU_IMPL=impl)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize("module", ["kombu.common", "kombu.entity", "kombu.messaging", "kombu.pools", "kombu.simple"])
def test_amqp_is_imported_with_the_transport_that_speaks_it(module):
    done = interpreter.run(f"import sys, {module}; print('amqp' in sys.modules)")
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_the_helpers_are_there_with_their_package_as_are_its_modules():
    code = (
        "import kombu.utils as utils\n"
        "listed = {*dir(utils)}\n"
        "modules = 'cache collections compat div encoding functional imports objects'.split()\n"
        "print(sorted({*utils.__all__, *modules} - listed), [m for m in modules if getattr(utils, m).__name__ != "
        "f'kombu.utils.{m}'])\n"
        "from kombu.utils import *\n"
        "import kombu.utils.uuid\n"
        "print(uuid is utils.uuid, callable(uuid), all(getattr(utils, n) is globals()[n] for n in utils.__all__))\n"
    )
    done = interpreter.run(code)
    assert (done.stdout.splitlines(), done.stderr) == (["[] []", "True True True"], "")
