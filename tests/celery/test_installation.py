"""Celery and this kombu in one environment."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from brokers import is_required


@pytest.fixture(autouse=True)
def celery() -> str:
    """Give Celery's version."""
    try:
        return importlib.metadata.version("celery")
    except importlib.metadata.PackageNotFoundError:
        if is_required():
            pytest.fail("KOMBU_REQUIRE_BROKERS is set, and Celery is not installed", pytrace=False)
        pytest.skip("Celery is not installed, so its scenarios are left out: pip install '.[test,test-celery]'")


def test_celery_is_a_release_that_wants_kombu_5_7(celery):
    assert celery.startswith("5.7.")
    assert "kombu>=5.7.0" in importlib.metadata.requires("celery")


def test_pip_finds_nothing_that_is_missing_or_does_not_fit():
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, timeout=120)
    about_us = [line for line in done.stdout.splitlines() if "kombu" in line.lower() or "celery" in line.lower()]
    assert about_us == []
