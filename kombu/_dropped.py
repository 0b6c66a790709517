"""Find objects that nobody can reach any more but by what belongs to them.

An open channel is kept by its connection, so that it is never collected when its user has dropped it, and no weak
reference tells.  What is asked here is what the garbage collector asks, of a few objects: leaving out the references
that they have from one another and from the connection, which of them has one more?  Somebody holds that one, and with
it all that can be reached from it.

Such an answer errs on one side only.  What is not looked at counts as somebody who holds what it refers to: objects
that are too far away, those without support for the garbage collector, variables of functions that run.
"""

from __future__ import annotations

import gc
import sys
from time import monotonic
from types import BuiltinFunctionType, FunctionType, ModuleType

from ._core import pool as _pool
from ._lazy import TYPE_CHECKING, LazyModule

if TYPE_CHECKING:
    import random
    from typing import Any
else:
    random = LazyModule("random")

__all__ = ("find_dropped",)

#: How many references away from a channel the objects are that are looked at.
_DEPTH = 8

#: How many those are, at most.
_MANY = 500

#: Seconds that one search may take.
_LONGEST = 0.02

#: They hold half the program, and are held by it.
_NOT_FOLLOWED = (type, ModuleType, FunctionType, BuiltinFunctionType, type(_pool.channel_is_open), _pool.Lender)


def find_dropped(channels: list[Any]) -> list[Any]:
    """Return those of *channels* that can only be reached from that list, their connection and they themselves.

    *channels* has to be the caller's only references to them.  One that has consumers is in use.  Where in doubt, as a
    thread is busy with one, and on an interpreter that does not count references, an object counts as held.
    """
    if not hasattr(sys, "getrefcount"):
        return []
    found = []
    until = monotonic() + _LONGEST
    # Of so many that there is no time for all, others are looked at the next time.
    for index in random.sample(range(len(channels)), len(channels)):
        if _is_dropped(channels, index):
            found.append(index)
        if monotonic() > until:
            break
    return [channels[index] for index in found]


def _is_dropped(channels: list[Any], index: int) -> bool:
    # Of AMQP's channels, and of virtual ones.
    if getattr(channels[index], "callbacks", None) or getattr(channels[index], "_consumers", None):
        return False
    things, leads_to, inner = _surroundings(channels[index])
    # What a count shows of an object that one list alone holds depends on the interpreter.
    once = _counts([object()])[0]
    counts = _counts(things)
    counts[0] -= 1  # for *channels*
    held = [number for number, count in enumerate(counts) if count - once != inner[number]]
    reached = set(held)
    while held:
        further = leads_to[held.pop()] - reached
        reached |= further
        held += further
    if 0 in reached:
        return False
    seen = [id(thing) for thing in things]
    things, _, again = _surroundings(channels[index])
    # Otherwise somebody is busy with it.
    return again == inner and [id(thing) for thing in things] == seen


def _counts(things: list[Any]) -> list[int]:
    return [sys.getrefcount(thing) for thing in things]


def _surroundings(channel: Any) -> tuple[list[Any], list[set[int]], list[int]]:
    """Look around *channel*.

    Returns:
        Objects, *channel* first; for each the numbers of those that it refers to; for each how many references it has
        from these and from the connection.
    """
    connection = getattr(channel, "connection", None)
    kept = getattr(connection, "channels", None)
    # The receive loop remembers the channel that something came for last.
    receiver = getattr(connection, "_receiver", None)
    keepers = [kept.get(getattr(channel, "channel_id", None))] if isinstance(kept, dict) else list(kept or ())
    keepers += gc.get_referents(receiver)
    things, inner = [channel], [list(map(id, keepers)).count(id(channel))]
    leads_to: list[set[int]] = [set()]
    numbers = {id(channel): 0}
    not_followed = {id(connection), id(kept), id(receiver)}
    begin = 0
    for _ in range(_DEPTH):
        end = len(things)
        for number in range(begin, end):
            for thing in gc.get_referents(things[number]):
                if id(thing) in not_followed or isinstance(thing, _NOT_FOLLOWED) or not gc.is_tracked(thing):
                    continue
                there = numbers.get(id(thing))
                if there is None:
                    if len(things) == _MANY:
                        continue
                    there = numbers[id(thing)] = len(things)
                    things.append(thing)
                    inner.append(0)
                    leads_to.append(set())
                inner[there] += 1
                leads_to[number].add(there)
        begin = end
    return things, leads_to, inner
