"""What is called, slept and raised, and when, is what it was with kombu 5.7.0 (see record_schedules.py)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

import documentation

HERE = Path(__file__).parent
RECORD = json.loads((HERE / "recorded" / "schedules.json").read_text(encoding="ascii"))

spec = importlib.util.spec_from_file_location("record_schedules", HERE / "record_schedules.py")
questions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(questions)

#: Answers that differ on purpose, and the subject among the README's differences that says why.
DIFFERENT = {
    # Two retries are two in all, connects included.
    "ensuring('connection', 1, down=9, max_retries=2)": "``ensure``, ``publish(retry=True)``",
    # The error in the end has what each host said.
    "connecting(4, hosts='one;two;three', max_retries=3)": "Failover",
    # No sleep goes beyond the limit.
    "connecting(99, timeout=5)": "``retry_over_time(timeout=)``",
    "connecting(99, timeout=0.5, interval_start=1)": "``retry_over_time(timeout=)``",
    # It waits where it can be woken, in place of sleeping.
    "nothing": "The event loop",
    "removed": "The event loop",
    "timers alone": "The event loop",
    # Which 5.7 leaves to other transports.
    "kombu.transport.pyamqp.Transport implements": "``Producer.batch()``",
    "kombu.transport.pyamqp.SSLTransport implements": "``Producer.batch()``",
}

#: What 5.7 has not got.
ADDED = {"exceptions.ConfirmError": "Confirms"}

#: What is left out where an operation is repeated: 5.7 makes no pause before it connects again, and after an error of a
#: channel it goes on with the one that is closed.
PAUSES = ("sleep",)
REPLACED = ("sleep", "revive", "on_revive")
REPEATED = "``ensure``, ``publish(retry=True)``"


@pytest.fixture(scope="module")
def answers() -> Any:
    # Through JSON, as the record went through it.
    return json.loads(questions.lines(questions.answers()))


def without(log: list[Any], kinds: tuple[str, ...]) -> list[Any]:
    return [entry for entry in log if entry[0] not in kinds]


@pytest.mark.parametrize(("section", "name"), [(section, name) for section in RECORD for name in RECORD[section]])
def test_answer_equals_that_of_5_7(answers: Any, section: str, name: str) -> None:
    recorded, answer = RECORD[section][name], answers[section][name]
    if name in DIFFERENT:
        assert answer != recorded, f"{name} does not differ any more"
        return
    if name.startswith("ensuring("):
        kinds = REPLACED if "'channel'" in name else PAUSES
        recorded, answer = without(recorded, kinds), without(answer, kinds)
    assert answer == recorded


def test_the_same_questions_were_asked(answers: Any) -> None:
    assert {section: [name for name in each if name not in ADDED] for section, each in answers.items()} == {
        section: list(each) for section, each in RECORD.items()
    }


@pytest.mark.skipif(not documentation.pages(), reason="the tests stand without the documentation here")
def test_what_differs_is_documented() -> None:
    assert {*DIFFERENT.values(), *ADDED.values(), REPEATED} <= documentation.differences()
