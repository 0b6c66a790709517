"""Places of a pool in random use, compared with lists that say what must come out; on both cores."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule


class Places(RuleBasedStateMachine):
    """Use a pool in every way that one thread can, beside lists that say what must come out."""

    pool = None

    def __init__(self):
        super().__init__()
        self.slots = self.places.SlotPool(3)
        self.limit, self.idle, self.out, self.reserved, self.made = 3, [], [], [], 0

    def taken(self):
        return len(self.out) + len(self.reserved)

    @rule()
    def acquire(self):
        answer = self.slots.acquire()
        if self.taken() >= self.limit:
            assert answer is self.places.FULL
            return
        if self.idle:
            assert answer is self.idle.pop()
        else:
            assert answer is self.places.VACANT
            self.made += 1
            answer = f"thing {self.made}"
        self.slots.occupy(answer)
        self.out.append(answer)

    @rule()
    def reserve(self):
        answer = self.slots.acquire(True, 0)
        if self.taken() >= self.limit:
            assert answer is self.places.FULL
        else:
            if self.idle:
                assert answer is self.idle.pop()
            self.reserved.append(answer)

    @precondition(lambda self: self.reserved)
    @rule(keep=st.booleans())
    def give_up(self, keep):
        item = self.reserved.pop()
        fits = len(self.out) + len(self.reserved) < self.limit
        surplus = self.slots.vacate(item, keep)
        if keep and item is not self.places.VACANT:
            assert surplus is (self.places.VACANT if fits else item)
            if fits:
                self.idle.append(item)
        else:
            assert surplus is self.places.VACANT
        if item is not self.places.VACANT:
            assert self.slots.knows(item) == (keep and fits)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def release(self, data):
        thing = data.draw(st.sampled_from(self.out))
        assert self.slots.withdraw(thing)
        fits = self.taken() <= self.limit
        assert self.slots.vacate(thing) is (self.places.VACANT if fits else thing)
        self.out.remove(thing)
        if fits:
            self.idle.append(thing)
        assert not self.slots.withdraw(thing)

    @rule()
    def put(self):
        self.made += 1
        thing = f"thing {self.made}"
        if self.slots.put(thing):
            self.idle.append(thing)
        else:
            assert self.taken() + len(self.idle) >= self.limit

    @rule(limit=st.integers(0, 5))
    def resize(self, limit):
        self.limit = limit
        surplus = self.slots.resize(limit)
        assert surplus == self.idle[: len(surplus)]
        del self.idle[: len(surplus)]
        assert not self.idle or self.taken() + len(self.idle) <= limit

    @rule()
    def clear(self):
        out, idle = self.slots.clear()
        assert (sorted(out), idle) == (sorted(self.out), self.idle)
        self.out, self.idle = [], []

    @invariant()
    def both_agree(self):
        assert self.slots.in_use == self.taken()
        assert self.slots.idle_resources() == self.idle
        assert sorted(self.slots.out_resources()) == sorted(self.out)
        assert self.slots.waiting == 0


def test_random_use_goes_as_the_model_says(core):
    machine = type("PlacesOfOneCore", (Places,), {"places": core.places})
    case = machine.TestCase
    case.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
    case("runTest").runTest()
