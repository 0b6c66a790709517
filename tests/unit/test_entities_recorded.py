"""Entities, producers and consumers show and do what those of kombu 5.7.0 did (see tests/compat/record_entities.py)."""

from __future__ import annotations

import base64
import importlib.util
import json
import pathlib
import pickle

import pytest

COMPAT = pathlib.Path(__file__).parents[1] / "compat"
RECORD = json.loads((COMPAT / "recorded" / "entities.json").read_text())

spec = importlib.util.spec_from_file_location("record_entities", COMPAT / "record_entities.py")
questions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(questions)

#: A pickle's bytes depend on which strings are one object; that both sides read it is tested below.
NOT_COMPARED = {"pickle"}


@pytest.fixture(scope="module")
def answers():
    # Through JSON, as the record went through it.
    return json.loads(questions.lines(questions.answers()))


def cases():
    for section, content in RECORD.items():
        if isinstance(content, dict):
            yield from ((section, name) for name in content)
        else:
            yield section, None


@pytest.mark.parametrize(("section", "name"), list(cases()))
def test_answer_equals_that_of_5_7(answers, section, name):
    recorded, answer = RECORD[section], answers[section]
    if name is not None:
        recorded, answer = recorded[name], answer[name]
    if isinstance(recorded, dict):
        recorded, answer = ({k: v for k, v in each.items() if k not in NOT_COMPARED} for each in (recorded, answer))
    assert answer == recorded


def test_the_same_questions_were_asked(answers):
    assert {s: sorted(c) for s, c in answers.items() if isinstance(c, dict)} == {
        s: sorted(c) for s, c in RECORD.items() if isinstance(c, dict)
    }


@pytest.mark.parametrize("section", ["exchanges", "queues", "bindings"])
def test_pickles_of_5_7_are_read(section):
    made = {"exchanges": questions.exchanges, "queues": questions.queues}.get(section)
    for name, recorded in RECORD[section].items():
        read = pickle.loads(base64.b64decode(recorded["pickle"]))
        assert repr(read) == recorded["repr"]
        assert questions.plain(read.as_dict(recurse=True)) == recorded["as_dict recursive"]
        if made:
            assert read == made()[name]
