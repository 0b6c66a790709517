"""Connections say of themselves what those of kombu 5.7.0 said (see tests/compat/record_connection.py)."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys

import pytest

COMPAT = pathlib.Path(__file__).parents[1] / "compat"
RECORD = json.loads((COMPAT / "recorded" / "connection.json").read_text(encoding="ascii"))

spec = importlib.util.spec_from_file_location("record_connection", COMPAT / "record_connection.py")
questions = importlib.util.module_from_spec(spec)
# Transports and strategies of the questions are pickled, which takes a module that can be found.
sys.modules["record_connection"] = questions
spec.loader.exec_module(questions)


@pytest.fixture(scope="module")
def answers():
    # Through JSON, as the record went through it.
    return json.loads(questions.lines(questions.answers()))


@pytest.mark.parametrize(("section", "name"), [(section, name) for section in RECORD for name in RECORD[section]])
def test_answer_equals_that_of_5_7(answers, section, name):
    assert answers[section][name] == RECORD[section][name]


def test_the_same_questions_were_asked(answers):
    assert {section: list(each) for section, each in answers.items()} == {
        section: list(each) for section, each in RECORD.items()
    }
