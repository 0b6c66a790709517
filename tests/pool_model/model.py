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

    *broken* names a rule to be broken, which shows that the checks can fail: ``"overtaking"`` parks without a look at
    who waits, before or after; ``"forgetful"`` queues without a look at what is parked; ``"racing"`` looks at the gate
    and takes a place in two steps; ``"unguarded"`` adds a resource whatever the limit is; ``"trusting"`` does not look
    again, after a resource was parked, whether there are more places than the limit by now.
    """

    def __init__(self, limit: int, idle: int = 0, broken: str = "") -> None:
        self.limit, self.broken = limit, broken
        self.largest = limit  # who is inside when the limit becomes smaller may stay
        self.taken = idle  # places of idle resources are taken
        self.queue: list[int] = []  # the gate's count of who waits, and the caller's queue, change together, locked
        self.locked: int | None = None
        self.served: dict[int, int] = {}  # thread -> resource passed to it; 0 is a place without one
        #: Two lists of idle resources, and their tags.
        self.idle: tuple[list[int], list[int]] = ([], [])
        self.tags = [0, 0]
        for number in range(1, idle + 1):
            self.idle[number % 2].append(number)
        self.owner: dict[int, int] = {}
        self.made = self.resources = idle
        self.inside: set[int] = set()

    def state(self) -> tuple[Any, ...]:
        return (
            self.limit, self.taken, tuple(self.queue), self.locked, tuple(sorted(self.served.items())),
            tuple(self.idle[0]), tuple(self.idle[1]), tuple(self.tags), tuple(sorted(self.owner.items())),
            tuple(sorted(self.inside)), self.resources, self.made,
        )  # fmt: skip

    def check(self) -> None:
        if max(self.taken, len(self.inside)) > self.largest:
            raise Broken(f"{self.taken} places in use, with a limit of {self.largest}")
        if self.resources > self.largest:
            raise Broken(f"{self.resources} resources, with a limit of {self.largest}")
        idle = self.idle[0] + self.idle[1]
        if len(set(idle)) != len(idle):
            raise Broken("a resource is idle twice")
        if set(idle) & set(self.owner):
            raise Broken("an idle resource has an owner")

    def check_end(self) -> None:
        if self.queue or self.served:
            raise Broken("somebody was forgotten")
        if self.owner:
            raise Broken("a resource was not given back")
        idle = len(self.idle[0]) + len(self.idle[1])
        if not idle == self.taken == self.resources:
            raise Broken("a place or a resource was lost")
        if idle > self.limit:
            raise Broken(f"{idle} resources are kept, with a limit of {self.limit}")

    # -- what slots.h and its callers do

    def gate(self) -> tuple[int, int, int]:
        return self.taken, self.limit, len(self.queue)

    def surplus(self) -> bool:
        return self.taken > self.limit

    def own(self, me: int, resource: int) -> None:
        if resource in self.owner:
            raise Broken(f"resource {resource} has two owners, {self.owner[resource]} and {me}")
        self.owner[resource] = me

    def pop(self, me: int, number: int) -> int:
        if not self.idle[number]:
            return 0
        self.tags[number] += 1
        resource = self.idle[number].pop()
        self.own(me, resource)
        return resource

    def push(self, me: int, resource: int) -> None:
        del self.owner[resource]
        self.tags[me % 2] += 1
        self.idle[me % 2].append(resource)

    def find_parked(self, me: int) -> Generator[None, None, int]:
        yield
        resource = self.pop(me, me % 2)
        if resource:
            return resource
        while True:
            same, seen = True, []
            for number in (0, 1):
                yield
                seen.append(self.tags[number])
                if self.idle[number]:
                    yield
                    resource = self.pop(me, number)
                    if resource:
                        return resource
                    same = False
            for number in (0, 1):
                yield
                same = same and self.tags[number] == seen[number]
            if same:
                return 0

    def lock(self, me: int) -> Steps:
        yield
        while self.locked is not None:
            yield
        self.locked = me

    def take(self, me: int, hasty: bool = False) -> Generator[None, None, int]:
        """Take a place; -1 if there is none, 0 if a resource has to be made."""
        while True:
            yield
            taken, limit, waiting = gate = self.gate()
            if waiting or taken > limit:
                break
            resource = yield from self.find_parked(me)
            if resource:
                return resource
            yield
            if self.broken == "racing" and taken < limit:
                self.taken += 1
                return 0
            if self.gate() == gate:
                if taken >= limit:
                    break
                self.taken += 1
                return 0
        if hasty:
            return -1
        yield from self.lock(me)
        yield
        if not self.queue and self.taken < self.limit:  # one operation with what follows: the gate is one word
            self.taken += 1
            self.locked = None
            return 0
        self.queue.append(me)
        if self.broken != "forgetful":
            yield from self.serve(me)
        self.locked = None
        while me not in self.served:
            yield
        resource = self.served.pop(me)
        if resource:
            self.own(me, resource)
        return resource

    def give_back(self, me: int, resource: int, keep: bool = True) -> Steps:
        """Give the place and the resource back."""
        if not keep:
            del self.owner[resource]
            self.resources -= 1
            yield
            if not self.owed():
                self.taken -= 1
                return
            yield from self.lock(me)
            yield
            if self.owed():
                self.served[self.queue.pop(0)] = 0
            else:
                self.taken -= 1
            self.locked = None
            return
        yield
        waits = bool(self.queue) and self.broken != "overtaking"
        if self.surplus() or waits:
            yield from self.settle(me, resource)
            return
        yield
        self.push(me, resource)
        yield
        waits = bool(self.queue) and self.broken != "overtaking"
        if (self.surplus() and self.broken != "trusting") or waits:
            yield from self.settle(me, 0)

    def owed(self) -> bool:
        return bool(self.queue) and not self.surplus()

    def settle(self, me: int, resource: int) -> Steps:
        """See to who waits and what is too many; *resource* comes back, or 0 if it is parked."""
        yield from self.lock(me)
        yield
        if not resource:
            if self.surplus():
                resource = yield from self.find_parked(me)
                if resource:
                    self.drop(resource)
        elif self.surplus():
            self.drop(resource)
        elif self.queue:
            del self.owner[resource]
            self.served[self.queue.pop(0)] = resource
        else:
            self.push(me, resource)
        yield from self.serve(me)
        self.locked = None

    def drop(self, resource: int) -> None:
        del self.owner[resource]
        self.resources -= 1
        self.taken -= 1

    def serve(self, me: int) -> Steps:
        """Give free places to who waits; the lock is held."""
        while True:
            yield
            if not self.owed():
                return
            resource = yield from self.find_parked(me)
            if resource:
                del self.owner[resource]
            else:
                yield
                if self.taken >= self.limit:
                    return
                self.taken += 1
            self.served[self.queue.pop(0)] = resource

    def resize(self, me: int, limit: int) -> Steps:
        """Change the limit; who waits gets the places that there are more."""
        yield from self.lock(me)
        yield
        self.limit = limit
        while True:
            yield
            if not self.surplus():
                break
            resource = yield from self.find_parked(me)
            if not resource:
                break
            self.drop(resource)
        yield from self.serve(me)
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
        if self.taken < self.limit or self.broken == "unguarded":
            self.taken += 1
            yield
            self.made += 1
            self.resources += 1
            self.owner[self.made] = me
            self.push(me, self.made)
            yield
            if self.queue:
                yield from self.lock(me)
                yield from self.serve(me)
                self.locked = None


def explore(make: Callable[[], tuple[Model, list[Steps]]], most_states: int = 400_000) -> int:
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
