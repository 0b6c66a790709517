"""What kombu 5.7 answered to many small questions is answered here too; ``record_serialization.py`` asked it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import documentation
from methods import require_method
from outcomes import outcome

RECORDED = Path(__file__).parent / "recorded"
NAMES = ("serialize", "deserialize", "malformed", "compression", "url", "retry", "helpers", "pickles")

#: Packages without which an answer is another one.
NEEDED = {"yaml": "yaml", "msgpack": "msgpack"}

#: Answers that differ on purpose, and the subject among the README's differences that says why.
DIFFERENT = {
    # A budget that is just used up sets the end, and no sleep goes beyond it.
    "retries(9, timeout=6, interval_start=2, interval_step=0)": "``retry_over_time(timeout=)``",
    "retries(9, timeout=4, interval_start=2, interval_step=0, takes=1.0)": "``retry_over_time(timeout=)``",
}


def answers() -> list[Any]:
    return [
        pytest.param(answer, id=f"{name}-{number}")
        for name in NAMES
        for number, answer in enumerate(json.loads((RECORDED / f"{name}.json").read_text(encoding="ascii")))
        if answer["expression"] not in DIFFERENT
    ]


@pytest.mark.parametrize("recorded", answers())
def test_answer_is_that_of_kombu_5_7(recorded: dict[str, Any]) -> None:
    expression = recorded["expression"]
    for word, package in NEEDED.items():
        if word in expression:
            pytest.importorskip(package)
    if "brotli" in expression:
        require_method("brotli")
    answer = outcome(expression)
    if "text" not in recorded:
        # Not kept, since the words are those of Python or of another package.
        answer.pop("text", None)
    assert {"expression": expression, **answer} == recorded


@pytest.mark.skipif(not documentation.pages(), reason="the tests stand without the documentation here")
def test_what_differs_is_documented() -> None:
    assert set(DIFFERENT.values()) <= documentation.differences()
