"""What code written for kombu 5.7 may call is there, under its names and with its signatures."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
from unittest.mock import patch

import pytest

import kombu
import which_build
from api_record import RECORD, differences

# Parts of 5.7 that have not been built yet.  A module that exists must not stand here.
NOT_YET = frozenset(
    {
        "kombu.transport.filesystem",
        "kombu.transport.mongodb",
        "kombu.transport.redis",
        "kombu.transport.sqlalchemy",
        "kombu.transport.sqlalchemy.models",
    }
)


@pytest.mark.parametrize("module", sorted(set(RECORD) - NOT_YET))
def test_module_has_the_names_and_signatures_of_5_7(module):
    assert differences(module) == []


@pytest.mark.parametrize("module", sorted(set(RECORD) - NOT_YET))
def test_methods_of_classes_can_be_replaced_and_put_back_as_tests_and_tracing_do(module):
    names = [name for name, entry in RECORD[module].items() if entry["kind"] == "class"]
    for cls in (getattr(importlib.import_module(module), name) for name in names):
        for member in [name for name, value in vars(cls).items() if callable(value) and name[:2] != "__"]:
            before = vars(cls)[member]
            with patch.object(cls, member) as replacement:
                assert getattr(cls, member) is replacement
            assert vars(cls)[member] is before


@pytest.mark.parametrize("module", sorted(NOT_YET))
def test_module_that_is_not_built_yet_is_absent(module):
    parent = module.rpartition(".")[0]
    assert importlib.util.find_spec(parent if parent in NOT_YET else module) is None


needs_metadata = pytest.mark.skipif(which_build.testing_the_tree(), reason="the tree has no metadata")


@needs_metadata
def test_version_is_one_and_parses_as_5_7_does():
    assert kombu.__version__ == importlib.metadata.version("kombu")
    assert kombu.VERSION is kombu.version_info
    assert tuple(kombu.version_info)[:3] == (5, 7, 0)
    assert kombu.version_info._fields == ("major", "minor", "micro", "releaselevel", "serial")
    assert re.fullmatch(r"5\.7\.0\+speedups\.\d+", kombu.__version__)


@needs_metadata
def test_no_requirement_is_pinned():
    requirements = importlib.metadata.requires("kombu") or []
    assert [requirement for requirement in requirements if re.search(r"==\s*\d", requirement.split(";")[0])] == []
