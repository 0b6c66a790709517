"""What an emulated broker knows: exchanges, bindings, and which channel numbers are taken.

Everything here may be used from several threads at once. There is no lock (one held by another thread while the
process forks would stay locked in the child for ever): each change is one operation that a dict or a set does
whole, and whoever walks through something walks through a copy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, NamedTuple

from kombu.exceptions import ResourceError

__all__ = ("BrokerState", "ChannelIds", "binding_key_t", "free_channel_id", "queue_binding_t")


class binding_key_t(NamedTuple):
    """Key of a binding in :attr:`BrokerState.bindings`."""

    queue: str
    exchange: str
    routing_key: str


class queue_binding_t(NamedTuple):
    """A binding as :meth:`BrokerState.queue_bindings` gives it."""

    exchange: str
    routing_key: str
    arguments: Any


class BrokerState:
    """Hold the exchanges and bindings of a broker."""

    #: Name of an exchange -> what it was declared with (``type``, ``durable``, ``auto_delete``, ``arguments``) and
    #: its routing ``table``, a list of what :meth:`ExchangeType.prepare_bind` returned for each binding.
    exchanges: Any = None

    #: :class:`binding_key_t` -> arguments of the binding.
    bindings: dict[binding_key_t, Any] | None = None

    #: Name of a queue -> set of the keys of its bindings.
    queue_index: defaultdict[str, set[binding_key_t]] | None = None

    def __init__(self, exchanges: Any = None) -> None:
        self.queue_index = defaultdict(set)
        self.bindings = {}
        self.exchanges = {} if exchanges is None else exchanges

    def clear(self) -> None:
        """Forget everything."""
        for part in (self.exchanges, self.bindings, self.queue_index):
            part.clear()

    def has_binding(self, queue: str, exchange: str, routing_key: str) -> bool:
        """Return whether *queue* is bound to *exchange* by *routing_key*."""
        return (queue, exchange, routing_key) in self.bindings

    def binding_declare(self, queue: str, exchange: str, routing_key: str, arguments: Any) -> None:
        """Add a binding; one that is there already keeps its arguments."""
        key = binding_key_t(queue, exchange, routing_key)
        # Not queue_index[queue]: two threads would each make the missing set, and one binding be lost.
        self.queue_index.setdefault(queue, set()).add(key)
        self.bindings.setdefault(key, arguments)

    def binding_delete(self, queue: str, exchange: str, routing_key: str) -> None:
        """Remove a binding, if it is there."""
        key = binding_key_t(queue, exchange, routing_key)
        self.bindings.pop(key, None)
        keys = self.queue_index.get(queue)
        if keys is not None:
            keys.discard(key)

    def queue_bindings_delete(self, queue: str) -> None:
        """Remove every binding of *queue*."""
        for key in tuple(self.queue_index.pop(queue, ())):
            self.bindings.pop(key, None)

    def queue_bindings(self, queue: str) -> Iterator[queue_binding_t]:
        """Iterate over the bindings that *queue* has at this moment."""
        keys = tuple(self.queue_index.get(queue, ()))
        return (
            queue_binding_t(key.exchange, key.routing_key, self.bindings[key]) for key in keys if key in self.bindings
        )


class ChannelIds(set):
    """The numbers of the open channels of a connection, which also finds a free number in constant time.

    Kept as a set. It takes the ``append`` and ``remove`` of the array that kombu 5.7 keeps, and compares equal to
    an array or list of the same numbers.
    """

    def __init__(self, taken: Iterable[int] = ()) -> None:
        super().__init__(taken)
        self._unused = count(1)
        self._released: list[int] = []

    def allocate(self, channel_max: int) -> int:
        """Take a number from 1 to *channel_max*, one that was released if there is such.

        Raises:
            ResourceError: All are taken.
        """
        while len(self) < channel_max:
            try:
                number = self._released.pop()
            except IndexError:
                number = next(self._unused)
            if number not in self and number <= channel_max:
                self.add(number)
                return number
            if number > channel_max:
                break
        raise _no_free_id(len(self), channel_max)

    def append(self, number: int) -> None:
        """Mark *number* as taken."""
        self.add(number)

    def remove(self, number: int) -> None:
        """Release *number*.

        Raises:
            ValueError: It is not taken.
        """
        try:
            super().remove(number)
        except KeyError:
            raise ValueError(f"channel id {number!r} is not in use") from None
        self._released.append(number)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Iterable) and sorted(self) == sorted(other)

    __hash__ = None  # type: ignore[assignment]


def free_channel_id(taken: Any, channel_max: int) -> int:
    """Take a number from 1 to *channel_max* that is not among *taken*, and add it there.

    Arguments:
        taken: :class:`ChannelIds`, or the list or array of a transport that keeps its own.

    Raises:
        ResourceError: All are taken.
    """
    if isinstance(taken, ChannelIds):
        return taken.allocate(channel_max)
    present = set(taken)
    for number in range(1, channel_max + 1):
        if number not in present:
            taken.append(number)
            return number
    raise _no_free_id(len(present), channel_max)


def _no_free_id(taken: int, channel_max: int) -> ResourceError:
    text = f"No free channel ids, current={taken}, channel_max={channel_max}: close channels that are not in use"
    return ResourceError(text, (20, 10))
