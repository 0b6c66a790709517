"""Every program in ``examples/`` runs as it is printed in the documentation, on ``memory://``."""

from __future__ import annotations

import pytest

import examples

pytestmark = pytest.mark.skipif(not examples.FOLDER.is_dir(), reason="the tests stand without the examples here")


def test_all_of_them_are_known() -> None:
    assert {path.stem for path in examples.FOLDER.glob("*.py")} == set(examples.PRINTED)


@pytest.mark.parametrize("program", sorted(examples.PRINTED))
def test_runs_without_a_broker(program: str) -> None:
    done = examples.run(program)
    assert (done.returncode, done.stderr) == (0, "")
    assert examples.PRINTED[program] in done.stdout.splitlines()
