"""Find objects that nobody holds any more but what belongs to them.

An open channel is kept by its connection, so that it is never collected when its user has dropped it.  What can be done
is to count: if all references to it are its connection's and its own, nobody else has any.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from ._core import pool as _pool

__all__ = ("find_dropped",)

#: How far from a channel its own objects are looked for: a dict of sets of bound methods, at most.
_DEPTH = 3

_PLAIN = (str, bytes, int, float, type, type(None))
_CONTAINERS = (dict, list, tuple, set, frozenset)


def find_dropped(channels: list[Any]) -> list[Any]:
    """Return those of *channels* to which nobody but that list, their connection and they themselves refers.

    *channels* has to be the caller's only references to them.  Where in doubt, as a thread is busy with one, and on an
    interpreter that does not count references, an object counts as held.
    """
    if not hasattr(sys, "getrefcount"):
        return []
    # What a count shows of an object that a list alone holds depends on the interpreter.
    probe = [object()]
    alone = sys.getrefcount(probe[0])
    found = []
    for index in range(len(channels)):
        before = _own_references(channels[index], alone)
        count = sys.getrefcount(channels[index])
        if count - alone == before == _own_references(channels[index], alone):
            found.append(index)
    return [channels[index] for index in found]


def _own_references(channel: Any, alone: int) -> int:
    """Return how many references to *channel* its connection and the objects in its attributes have.

    *alone* is the count of an object with one reference.
    """
    connection = getattr(channel, "connection", None)
    kept = getattr(connection, "channels", None) or ()
    count = sum(other is channel for other in list(kept.values() if isinstance(kept, dict) else kept))
    # The receive loop remembers the channel that something came for last.
    receiver = getattr(connection, "_receiver", None)
    count += sum(thing is channel for thing in gc.get_referents(receiver))
    seen = {id(channel), id(connection), id(receiver)}
    pending = [(thing, 1) for thing in gc.get_referents(channel)]
    while pending:
        thing, depth = pending.pop()
        if thing is channel:
            count += 1
        elif id(thing) not in seen and depth <= _DEPTH and not isinstance(thing, _PLAIN) and gc.is_tracked(thing):
            # What stands in a container may be the user's, and is then looked into for a bound method only.
            if isinstance(thing, _pool.Return) and sys.getrefcount(thing) > alone + 1:
                continue  # somebody has kept the channel's release(), to give it back by that
            if depth == 1 or isinstance(thing, _CONTAINERS) or getattr(thing, "__self__", None) is channel:
                seen.add(id(thing))
                # Whether an object has its attributes in a dict is the interpreter's affair, so a dict is no step.
                further = depth if type(thing) is dict else depth + 1
                pending += [(inner, further) for inner in gc.get_referents(thing)]
            elif depth == 2 and hasattr(thing, "channel"):
                seen.add(id(thing))
                pending += [(inner, _DEPTH) for inner in gc.get_referents(thing)]
    return count
