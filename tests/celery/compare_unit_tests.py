"""Run Celery's own unit tests on this kombu and on kombu 5.7.0, and list every test whose result differs.

``python tests/celery/compare_unit_tests.py [PIECE ...]``, where a piece is a path below Celery's ``t/unit``
(``worker``, ``app/test_amqp.py``); all of it by default, which takes some twenty minutes.

Celery's source distribution and both virtual environments go to ``build/celery-unit-tests`` (``--folder``) and are used
again the next time; this kombu is installed anew.  The environments have the same interpreter and the same release of
every package but kombu.  What differs is run again, with the rest of its file: where both sides then agree, the test
does not do the same each time, and is listed as unsteady.  The exit code is 0 if no result differs but those, and what
is expected to.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tarfile
import time
import venv
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UPSTREAM = "kombu==5.7.0"

#: Seconds that a piece may take.
LIMIT = 7200

#: What Celery's tests import, beside Celery: modules that lack something are errors on both sides.
PACKAGES = (
    *("azure-identity", "azure-storage-blob", "boto3", "cassandra-driver", "couchbase", "cryptography", "dnspython"),
    *("elasticsearch", "ephem", "eventlet", "fakeredis[lua]", "freezegun", "gevent", "google-cloud-firestore"),
    *("google-cloud-storage", "grpcio", "moto", "msgpack", "packaging", "pyArango", "pycouchdb", "pydantic"),
    *("pydocumentdb", "pymemcache", "pymongo", "pytest", "pytest-celery", "pytest-click", "pytest-order"),
    *("pytest-rerunfailures", "pytest-timeout", "python-consul2", "pyyaml", "redis", "sphinx", "sqlalchemy", "tblib"),
    *("tzdata",),
)

#: How often the files of tests that differ are run again.
REPEATS = 2

#: Modules, classes and tests that cannot have the same result, and why.
EXPECTED = {
    "t.unit.backends.test_redis.test_RedisBackend.test_exception_safe_to_retry": (
        "the backend takes the classes of errors from kombu.transport.redis, which is not part of this version"
    ),
    "t.unit.backends.test_azureblockblob": (
        "the backend imports kombu.transport.azurestoragequeues, which is not part of this version"
    ),
}


class Failed(Exception):
    """A command did not do what was needed; the text says which and what it printed."""


@dataclass(frozen=True)
class Result:
    """What became of a test: ``passed``, ``failure``, ``error`` or ``skipped``, and the first line of why."""

    outcome: str
    why: str = ""
    file: str = ""


def run(*command: str | Path, **environment: str) -> str:
    """Run *command* to its end and return what it printed.

    Raises:
        Failed: its exit code is not 0.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd="/",
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))} exited with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def fetch_tests(python: Path | str, version: str, folder: Path) -> Path:
    """Return the folder that has Celery's ``t``, from its source distribution, which is fetched unless it is there.

    Raises:
        Failed: it cannot be fetched.
    """
    laid = folder / f"celery-{version}"
    if not (laid / "t").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        run(
            *(python, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"),
            *("--no-binary", "celery", "--dest", folder, f"celery=={version}"),
        )
        with tarfile.open(next(folder.glob(f"celery-{version}.tar.gz"))) as archive:
            members = [member for member in archive if member.name.split("/")[1:2] in (["t"], ["pyproject.toml"])]
            # Without Celery itself: the one that is installed is tested.
            archive.extractall(folder, members, filter="data")
    return laid


def environment(folder: Path) -> Path:
    """Return the interpreter of a virtual environment, made unless it is there."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    return python


def prepare(folder: Path, version: str) -> dict[str, Path]:
    """Return the interpreters of both environments."""
    pip = ("-m", "pip", "--quiet", "--disable-pip-version-check")
    ours, upstream = environment(folder / "ours"), environment(folder / "upstream")
    # pip builds and installs a folder even where an equal version is installed already.
    run(ours, *pip, "install", ROOT, f"celery=={version}", *PACKAGES)
    frozen = run(ours, *pip, "freeze")
    same = folder / "requirements.txt"
    same.write_text("".join(line for line in frozen.splitlines(keepends=True) if not line.startswith("kombu")))
    run(upstream, *pip, "install", UPSTREAM, "-r", same)
    for python in (ours, upstream):
        run(python, "-m", "pip", "check")
    return {"upstream": upstream, "ours": ours}


def results(
    python: Path, tests: Path, paths: Iterable[str], report: Path, timeout: float | None = 300, impl: str | None = None
) -> dict[str, Result]:
    """Run a part of Celery's tests and return what became of each.

    Arguments:
        paths: What to run, relative to *tests*.
        report: The file to write; what pytest prints goes beside it.
        timeout: Seconds for each test; None where pytest cannot do that.
        impl: The core to run this kombu with.

    Raises:
        Failed: they did not come to an end.
    """
    report.unlink(missing_ok=True)
    home = report.parent / "home"
    home.mkdir(exist_ok=True)
    # Neither this tree nor what is set for its own tests may reach Celery's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KOMBU_", "PYTHONPATH"))}
    # Where the user is root, tests that start workers would fail on either side.
    environment |= {"HOME": str(home), "C_FORCE_ROOT": "1"} | ({} if impl is None else {"KOMBU_IMPL": impl})
    with report.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(str(python), "-m", "pytest", "--quiet", "-p", "no:cacheprovider"),
                *("--continue-on-collection-errors", f"--junitxml={report}", "-o", "junit_family=xunit1"),
                *(() if timeout is None else ("--timeout", str(timeout))),
                *paths,
            ],
            cwd=tests,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        # Some of the tests leave processes behind, which pytest then waits for when it has written its report.
        deadline = time.monotonic() + LIMIT
        while process.poll() is None and not report.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if not report.exists():
        raise Failed(f"the tests of {' '.join(paths)} did not come to an end, see {log.name}")
    found: dict[str, Result] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        result = Result("passed", file=case.get("file") or "")
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                result = Result(child.tag, (child.get("message") or "").strip().split("\n")[0], result.file)
        # A test may be there more than once, as a setup and a teardown, or with its subtests.
        if name not in found or found[name].outcome == "passed":
            found[name] = result
    return found


def differences(one: dict[str, Result], other: dict[str, Result]) -> Iterator[tuple[str, Result, Result]]:
    """Yield the tests whose outcomes differ, with both."""
    absent = Result("absent")
    for name in sorted(one.keys() | other.keys()):
        first, second = one.get(name, absent), other.get(name, absent)
        if first.outcome != second.outcome:
            yield name, first, second


def expectation(name: str) -> str | None:
    """Return why the result of a test is expected to differ, or None."""
    wanted = [why for part, why in EXPECTED.items() if f"{name.lstrip('.')}.".startswith(f"{part}.")]
    return wanted[0] if wanted else None


def versions(python: Path, impl: str | None) -> str:
    """Return which kombu an environment has, and which core of it is live.

    Raises:
        Failed: it cannot be imported.
    """
    code = "import kombu; print(kombu.__version__, getattr(kombu, '__impl__', ''), kombu.__file__)"
    return run(python, "-I", "-c", code, **({} if impl is None else {"KOMBU_IMPL": impl})).strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pieces", nargs="*", default=[""], metavar="PIECE", help="paths below t/unit (default: all)")
    parser.add_argument("--celery", default="5.7.0", help="release of Celery (default: %(default)s)")
    parser.add_argument("--impl", choices=["c", "python"], default="c", help="our core (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "celery-unit-tests", help="where to work")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if hasattr(os, "nice"):
        os.nice(10)
    print("preparing the environments ...", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    pythons = prepare(folder, options.celery)
    tests = fetch_tests(pythons["ours"], options.celery, folder)
    impls = {"upstream": None, "ours": options.impl}
    for side, python in pythons.items():
        print(f"{side:9}{versions(python, impls[side])}", flush=True)

    def both(paths: list[str], name: str) -> tuple[dict[str, Result], dict[str, Result]]:
        """Return what became of the tests on kombu 5.7.0 and on this one."""
        theirs, mine = (
            results(python, tests, paths, folder / f"{side}-{name}.xml", impl=impls[side])
            for side, python in pythons.items()
        )
        return theirs, mine

    started = time.monotonic()
    upstream, ours = both([f"t/unit/{piece}".rstrip("/") for piece in options.pieces], "all")
    for side, found in (("upstream", upstream), ("ours", ours)):
        counts = Counter(result.outcome for result in found.values())
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        print(f"{side:9}{len(found)} tests: {told}")
    different = {name: (theirs, mine) for name, theirs, mine in differences(upstream, ours)}
    open_ = {name for name in different if expectation(name) is None}
    files = sorted({each.file for name in open_ for each in different[name] if each.file})
    for number in range(REPEATS if open_ and files else 0):
        again = dict.fromkeys(name for name, _, _ in differences(*both(files, f"again-{number + 1}")))
        # One agreement is enough to know that the library does not decide.
        open_ &= again.keys()
    for name, (theirs, mine) in different.items():
        print(f"\n{name}\n    kombu 5.7.0: {theirs.outcome}  {theirs.why}\n    this kombu:  {mine.outcome}  {mine.why}")
        if name not in open_:
            why = expectation(name)
            print("    unsteady: alike when run again" if why is None else f"    expected: {why}")
    print(f"\n{len(different)} results differ, {len(open_)} of them unexpectedly ({time.monotonic() - started:.0f} s)")
    return 1 if open_ else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as exc:
        sys.exit(f"compare_unit_tests: {exc}")
