"""Emulated brokers answer, and ask of channels, what those of kombu 5.7.0 did (see tests/compat/record_virtual.py)."""

from __future__ import annotations

import importlib.util
import json
import pathlib

import pytest

COMPAT = pathlib.Path(__file__).parents[1] / "compat"

spec = importlib.util.spec_from_file_location("record_virtual", COMPAT / "record_virtual.py")
questions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(questions)

RECORD = json.loads(questions.RECORD.read_text())
SCENARIOS = questions.scenarios()


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_goes_as_with_5_7(name):
    transport, options, steps = SCENARIOS[name]
    # Through JSON, as the record went through it.
    answers = json.loads(questions.lines({name: questions.play(transport, options, steps)}))[name]
    went = [[step, answer] for step, answer in zip(steps, answers, strict=True)]
    assert went == [[step, answer] for step, answer in zip(steps, RECORD[name], strict=True)]


def test_the_record_has_no_other_scenarios():
    assert RECORD.keys() == SCENARIOS.keys()
