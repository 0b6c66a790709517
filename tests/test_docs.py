"""What the documentation shows is true, and it leaves no module out."""

from __future__ import annotations

from pathlib import Path
from pkgutil import walk_packages

import pytest

import documentation
import kombu

pytestmark = pytest.mark.skipif(not documentation.pages(), reason="the tests stand without the documentation here")


def name_of(page: Path) -> str:
    return page.relative_to(documentation.FOLDER).as_posix()


WITH_EXAMPLES = [page for page in documentation.pages() if ">>>" in page.read_text("utf-8")]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=name_of)
def test_examples_on_the_page_give_what_they_show(page: Path) -> None:
    done = documentation.run(page)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("page", documentation.pages(), ids=name_of)
def test_no_code_stands_on_the_page_that_nothing_runs(page: Path) -> None:
    # Python is shown after ">>>", or included from programs that have tests.
    assert "code-block:: py" not in page.read_text("utf-8")


def test_every_public_module_is_described() -> None:
    found = {info.name for info in walk_packages(kombu.__path__, "kombu.")}
    public = {name for name in found if not any(part.startswith("_") for part in name.split("."))}
    # Packages that only gather what their modules have.
    gathered = {"kombu.transport.amqp", "kombu.transport.virtual"}
    assert public - gathered - documentation.modules() == set()
    assert documentation.modules() - found == set()
