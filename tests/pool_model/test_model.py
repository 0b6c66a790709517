"""The idea of the lock-free pool, tried in every order of its steps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from model import Broken, Model, explore  # noqa: E402


def threads_of(limit, idle, uses, *, puts=0, sizes=(), broken=""):
    def make():
        model = Model(limit, idle, broken)
        model.largest = max(limit, *sizes, 0)
        threads = [model.use(number, **options) for number, options in enumerate(uses)]
        threads += [model.put(len(uses) + number) for number in range(puts)]
        return model, threads + [model.resize(len(uses) + puts + number, size) for number, size in enumerate(sizes)]

    return make


@pytest.mark.parametrize(
    ("limit", "idle", "uses", "puts"),
    [
        (1, 0, [{}, {}], 0),
        (1, 1, [{}, {"times": 2}], 0),
        (1, 1, [{"keep": False}, {}], 0),
        (1, 0, [{}, {"hasty": True}, {}], 0),
        (1, 0, [{}, {}], 1),
        (2, 1, [{}, {}], 1),
        (2, 0, [{}, {"keep": False}], 1),
    ],
)
def test_in_every_order_nothing_is_lost_shared_or_forgotten(limit, idle, uses, puts):
    assert explore(threads_of(limit, idle, uses, puts=puts)) > 20


@pytest.mark.parametrize(
    ("limit", "idle", "uses", "sizes"),
    [
        (2, 0, [{}, {}], [1]),
        (2, 2, [{}, {}], [1]),
        (2, 1, [{}, {}], [1]),
        (2, 1, [{}], [1, 2]),
        (1, 1, [{}, {}], [2]),
        (1, 0, [{}, {"keep": False}], [2]),
    ],
)
def test_in_every_order_a_resized_pool_has_the_new_size(limit, idle, uses, sizes):
    assert explore(threads_of(limit, idle, uses, sizes=sizes)) > 20


@pytest.mark.parametrize(
    ("broken", "limit", "idle", "puts", "sizes", "complaint"),
    [
        ("overtaking", 1, 0, 0, (), "for ever"),
        ("forgetful", 1, 0, 0, (), "for ever"),
        ("racing", 1, 0, 0, (), "places in use"),
        ("unguarded", 1, 1, 1, (), "places in use, with a limit of 1"),
        ("trusting", 2, 0, 0, (1,), "resources are kept, with a limit of 1"),
    ],
)
def test_a_broken_rule_is_noticed(broken, limit, idle, puts, sizes, complaint):
    with pytest.raises(Broken, match=complaint):
        explore(threads_of(limit, idle, [{}, {}], puts=puts, sizes=sizes, broken=broken))
