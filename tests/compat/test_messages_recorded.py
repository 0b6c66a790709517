"""Publishes are the octets on the wire, and deliveries the messages, that they were with kombu 5.7.0."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
RECORD = json.loads((HERE / "recorded" / "messages.json").read_text(encoding="ascii"))

spec = importlib.util.spec_from_file_location("record_messages", HERE / "record_messages.py")
questions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(questions)


@pytest.fixture(scope="module")
def answers() -> Any:
    # Through JSON, as the record went through it.
    return json.loads(questions.lines(questions.answers()))


@pytest.mark.parametrize(("section", "name"), [(section, name) for section in RECORD for name in RECORD[section]])
def test_answer_equals_that_of_5_7(answers: Any, section: str, name: str) -> None:
    assert answers[section][name] == RECORD[section][name]


def test_the_same_questions_were_asked(answers: Any) -> None:
    assert {section: list(each) for section, each in answers.items()} == {
        section: list(each) for section, each in RECORD.items()
    }
