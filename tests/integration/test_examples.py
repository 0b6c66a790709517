"""Every program in ``examples/`` runs on a real broker, given its URL."""

from __future__ import annotations

import pytest

import examples

pytestmark = pytest.mark.skipif(not examples.FOLDER.is_dir(), reason="the tests stand without the examples here")


@pytest.mark.parametrize("program", sorted(examples.PRINTED))
def test_runs_on_a_broker(amqp_url: str, program: str) -> None:
    done = examples.run(program, amqp_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert examples.PRINTED[program] in done.stdout.splitlines()


def test_a_message_that_nobody_gets_comes_back_to_its_publish(amqp_url: str) -> None:
    done = examples.run("confirmed_publisher", amqp_url)
    assert done.stdout.splitlines()[-1] == "returned: Basic.return: (312) NO_ROUTE"
