"""The pool of slots.h as a small state machine: every step is one atomic operation on shared memory.

A thread is a generator that yields before each such step.  :func:`explore` runs a set of threads in every possible
order; two orders that lead to the same state are followed once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

__all__ = ("Broken", "Model", "explore")

Steps = Generator[None, None, None]


class Broken(AssertionError):
    """Something that must hold did not; the message has the order of steps that led there."""


class Model:
    """Shared memory, and what is known of resources.

    *broken* names a rule to be broken, which shows that the checks can fail: ``"overtaking"`` leaves without a look at
    who waits, ``"unguarded"`` makes a resource whatever the population is, ``"forgetful"`` queues without a second look
    at the places, ``"racing"`` looks at the places and takes one in two steps, ``"trusting"`` does not look again,
    after a resource came back, whether there are more than the limit by now.
    """

    def __init__(self, limit: int, idle: int = 0, broken: str = "") -> None:
        self.limit, self.broken = limit, broken
        self.largest = limit  # who is inside when the limit becomes smaller may stay
        self.taken = 0
        self.queue: list[int] = []  # the gate's count of who waits, and the caller's queue, change together, locked
        self.locked: int | None = None
        self.served: dict[int, int] = {}  # thread -> resource passed to it; 0 is a place without one
        self.idle = list(range(1, idle + 1))
        self.population = idle
        self.owner: dict[int, int] = {}
        self.made = idle
        self.inside: set[int] = set()
        self.resources = idle

    def state(self) -> tuple[Any, ...]:
        return (
            self.limit, self.taken, tuple(self.queue), self.locked, tuple(sorted(self.served.items())),
            tuple(self.idle), self.population, tuple(sorted(self.owner.items())), tuple(sorted(self.inside)),
            self.resources, self.made,
        )  # fmt: skip

    def check(self) -> None:
        if max(self.taken, len(self.inside)) > self.largest:
            raise Broken(f"{self.taken} places in use, with a limit of {self.largest}")
        if self.resources > self.largest:
            raise Broken(f"{self.resources} resources, with a limit of {self.largest}")
        if len(set(self.idle)) != len(self.idle):
            raise Broken("a resource is idle twice")
        if set(self.idle) & set(self.owner):
            raise Broken("an idle resource has an owner")

    def check_end(self) -> None:
        if self.queue or self.served:
            raise Broken("somebody was forgotten")
        if self.taken or self.owner:
            raise Broken("a place or a resource was not given back")
        if self.population != len(self.idle) or self.resources != len(self.idle):
            raise Broken("a resource was lost")
        if self.resources > self.limit:
            raise Broken(f"{self.resources} resources are kept, with a limit of {self.limit}")

    # -- what slots.h and its callers do

    def pick(self, me: int) -> Generator[None, None, int]:
        while True:
            yield
            if self.idle:
                resource = self.idle.pop()
                self.own(me, resource)
                return resource
            yield
            if self.population < self.limit or self.taken > self.limit or self.broken == "unguarded":
                self.population += 1
                return 0

    def own(self, me: int, resource: int) -> None:
        if resource in self.owner:
            raise Broken(f"resource {resource} has two owners, {self.owner[resource]} and {me}")
        self.owner[resource] = me

    def lock(self, me: int) -> Steps:
        yield
        while self.locked is not None:
            yield
        self.locked = me

    def take(self, me: int, hasty: bool = False) -> Generator[None, None, int]:
        """Take a place; -1 if there is none, 0 if a resource has to be made."""
        yield
        if self.taken < self.limit:
            if self.broken == "racing":
                yield
            self.taken += 1
            return (yield from self.pick(me))
        if hasty:
            return -1
        if self.broken == "forgetful":
            yield from self.lock(me)
            yield
            self.queue.append(me)
            self.locked = None
        else:
            yield from self.lock(me)
            yield
            if self.taken < self.limit:  # one operation with what follows: the gate is one word
                self.taken += 1
                self.locked = None
                return (yield from self.pick(me))
            self.queue.append(me)
            self.locked = None
        while me not in self.served:
            yield
        resource = self.served.pop(me)
        if resource:
            self.own(me, resource)
        return resource

    def give_back(self, me: int, resource: int, keep: bool = True) -> Steps:
        """Give the place and the resource back."""
        yield
        if keep and (self.taken > self.limit or self.population > self.limit):
            keep = False  # slots_surplus()
        if not keep:
            del self.owner[resource]
            self.resources -= 1
            resource = 0
            yield
            self.population -= 1
        yield
        if self.owed():
            yield from self.pass_on(me, resource)
        else:
            if resource:
                del self.owner[resource]
                self.idle.append(resource)
                resource = 0
            yield
            if self.owed():
                yield from self.pass_on(me, resource)
            else:
                self.taken -= 1
        yield
        if self.population > self.limit and self.broken != "trusting":
            yield from self.lock(me)
            yield from self.trim(me, 1)
            self.locked = None

    def owed(self) -> bool:
        return bool(self.queue) and self.taken <= self.limit and self.broken != "overtaking"

    def pass_on(self, me: int, resource: int) -> Steps:
        """Give a place, and the resource that belongs to it, to the first who waits."""
        yield from self.lock(me)
        while True:
            yield
            if self.owed():
                if not resource:
                    resource = yield from self.pick(me)
                if resource:
                    del self.owner[resource]
                yield
                self.served[self.queue.pop(0)] = resource
                break
            if resource:
                del self.owner[resource]
                self.idle.append(resource)
                resource = 0
            yield
            if not self.owed():
                self.taken -= 1
                break
        self.locked = None

    def trim(self, me: int, most: int) -> Steps:
        """Remove idle resources for which there is no room; the lock is held."""
        while most:
            yield
            if self.population <= self.limit or not self.idle:
                break
            # What is being closed does not count as a resource any more: nobody will get it.
            self.idle.pop(0)
            self.resources -= 1
            yield
            self.population -= 1
            most -= 1

    def resize(self, me: int, limit: int) -> Steps:
        """Change the limit; who waits gets the places that there are more."""
        yield from self.lock(me)
        yield
        self.limit = limit
        while True:
            yield
            if not self.queue or self.taken >= self.limit:
                break
            self.taken += 1
            resource = yield from self.pick(me)
            if resource:
                del self.owner[resource]
            self.served[self.queue.pop(0)] = resource
        yield from self.trim(me, 99)
        self.locked = None

    def use(self, me: int, *, times: int = 1, hasty: bool = False, keep: bool = True) -> Steps:
        """Acquire and release."""
        for _turn in range(times):
            resource = yield from self.take(me, hasty)
            if resource < 0:
                continue
            self.inside.add(me)
            if not resource:
                yield
                self.made += 1
                self.resources += 1
                resource = self.made
                self.own(me, resource)
            yield
            self.inside.discard(me)
            yield from self.give_back(me, resource, keep)

    def put(self, me: int) -> Steps:
        """Add an idle resource."""
        yield
        if self.population < self.limit:
            self.population += 1
            yield
            self.made += 1
            self.resources += 1
            self.idle.append(self.made)


def explore(make: Callable[[], tuple[Model, list[Steps]]], most_states: int = 200_000) -> int:
    """Run the threads that *make* returns in every order; return the number of states that there are.

    Raises:
        Broken: if something does not hold, or there is no way on to where all threads have come through.
    """
    before: dict[Any, set[Any]] = {}
    ends: list[Any] = []
    orders: dict[Any, tuple[int, ...]] = {}
    pending: list[tuple[Any, tuple[int, ...]]] = [(None, ())]
    while pending:
        parent, order = pending.pop()
        # Generators cannot be copied, so each order is run from the beginning.
        model, threads = make()
        done = [False] * len(threads)
        try:
            for number in order:
                done[number] = next(threads[number], True) is True
                model.check()
            if all(done):
                model.check_end()
        except Broken as exc:
            raise Broken(f"{exc}, after {order}") from None
        state = (model.state(), tuple(_where(thread) for thread in threads))
        known = state in before
        before.setdefault(state, set()).add(parent)
        if known:
            continue
        orders[state] = order
        if len(before) > most_states:
            raise RuntimeError(f"more than {most_states} states")
        if all(done):
            ends.append(state)
        pending.extend((state, (*order, number)) for number, finished in enumerate(done) if not finished)
    reach = set()
    while ends:
        state = ends.pop()
        if state is not None and state not in reach:
            reach.add(state)
            ends.extend(before[state])
    stuck = [order for state, order in orders.items() if state not in reach]
    if stuck:
        raise Broken(f"somebody waits for ever, after {min(stuck, key=len)}")
    return len(before)


def _where(thread: Any) -> tuple[Any, ...]:
    """Return where a generator stands, in itself and in those that it waits for, with its local numbers."""
    places: list[Any] = []
    while thread is not None and thread.gi_frame is not None:
        frame = thread.gi_frame
        numbers = tuple((name, value) for name, value in frame.f_locals.items() if isinstance(value, int))
        places.append((frame.f_lasti, numbers))
        thread = thread.gi_yieldfrom
    return tuple(places)
