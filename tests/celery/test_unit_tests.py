"""A part of Celery's own unit tests, where its source distribution can be had; ``compare_unit_tests.py`` runs all."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import compare_unit_tests
import pytest

#: Those that touch kombu most and need nothing else.
PIECES = ("app/test_amqp.py", "utils/test_utils.py", "worker/test_bootsteps.py", "worker/test_loops.py")


def test_celery_s_own_unit_tests_pass(tmp_path):
    try:
        tests = compare_unit_tests.fetch_tests(sys.executable, importlib.metadata.version("celery"), tmp_path)
    except compare_unit_tests.Failed as exc:
        pytest.skip(f"no source distribution of Celery: {str(exc)[-300:]}")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-o", "addopts="),
            *(f"t/unit/{piece}" for piece in PIECES),
        ],
        cwd=tests,
        env={**os.environ, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-6000:]


def test_results_that_differ_are_told():
    passed, failed = compare_unit_tests.Result("passed"), compare_unit_tests.Result("failure", "why")
    absent = compare_unit_tests.Result("absent")
    before, now = {"same": passed, "lost": passed, "worse": passed}, {"same": passed, "worse": failed}
    assert list(compare_unit_tests.differences(before, now)) == [("lost", passed, absent), ("worse", passed, failed)]


def test_what_is_expected_to_differ_is_a_module_a_class_or_a_test():
    expectation = compare_unit_tests.expectation
    assert "azure" in expectation("t.unit.backends.test_azureblockblob.test_AzureBlockBlobBackend.test_get[]")
    assert "azure" in expectation(".t.unit.backends.test_azureblockblob")
    assert expectation("t.unit.backends.test_azureblockblobs.test_get") is None
    assert "redis" in expectation("t.unit.backends.test_redis.test_RedisBackend.test_exception_safe_to_retry")
    assert expectation("t.unit.backends.test_redis.test_RedisBackend.test_get") is None


def test_results_are_read_from_what_pytest_reports(tmp_path):
    tests = tmp_path / "celery" / "t" / "unit"
    tests.mkdir(parents=True)
    (tests / "test_it.py").write_text("def test_good(): pass\n\ndef test_bad(): assert 1 == 2\n")
    python = Path(sys.executable)
    found = compare_unit_tests.results(python, tmp_path / "celery", ["t/unit"], tmp_path / "report.xml", timeout=None)
    assert {name.rpartition(".")[2]: result.outcome for name, result in found.items()} == {
        "test_good": "passed",
        "test_bad": "failure",
    }
