"""What all tests share: which kombu is tested, and the fixture that runs a test on both cores."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "support"))

import certificates  # noqa: E402
import which_build  # noqa: E402
from certificates import Certificates  # noqa: E402
from core import Core  # noqa: E402
from peer import Peer  # noqa: E402

# Not there for every Python that this is tried on: free-threaded ones are the latest to get them.
try:
    import hypothesis
except ImportError:
    hypothesis = None

which_build.arrange_path()

if hypothesis is not None:
    # How long an example takes says more about the machine than about the code.
    hypothesis.settings.register_profile(
        "kombu", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("kombu")

FOLDER = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-c-extensions",
        action="store_true",
        help="leave out the tests of the compiled core, for a build that has none",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "c_extensions: holds for the compiled core alone")
    try:
        config.stash[FOLDER] = which_build.locate()
    except which_build.WrongBuild as exc:
        raise pytest.UsageError(str(exc)) from None


def pytest_report_header(config: pytest.Config) -> list[str]:
    folder = config.stash[FOLDER]
    what = "the source tree (KOMBU_TEST_TREE)" if which_build.testing_the_tree() else "installed build"
    try:
        core = importlib.import_module("kombu._core")
    except ImportError as exc:
        live = f"no core: {exc}"
    else:
        asked = os.environ.get("KOMBU_IMPL")
        reason = f"KOMBU_IMPL={asked}" if asked else core.fallback_reason or "it can be imported"
        live = f"core {core.impl!r}, because {reason}"
    return [f"kombu: {what} in {folder}", f"kombu: {live}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--no-c-extensions"):
        return
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        (dropped if _wants_compiled_core(item) else kept).append(item)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept


def _wants_compiled_core(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    if callspec is not None and callspec.params.get("core") == "c":
        return True
    return item.get_closest_marker("c_extensions") is not None


@pytest.fixture(scope="session", params=["c", "python"])
def core(request: pytest.FixtureRequest) -> Core:
    """Give the compiled and the pure core in turn; a compiled core that does not import is an error."""
    chosen = Core(request.param)
    try:
        importlib.import_module(f"{chosen.package}.frames")
    except ImportError as exc:
        pytest.fail(
            f"the {chosen.impl!r} core does not import ({exc}); where no extension is meant to be there, "
            "run with --no-c-extensions",
            pytrace=False,
        )
    return chosen


@pytest.fixture(scope="session")
def tls_certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Give an authority and a server certificate of this session's own."""
    return certificates.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Give a scripted AMQP server with default answers; a client that breaks the protocol fails the test."""
    with Peer() as running:
        yield running
