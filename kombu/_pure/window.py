"""The publishes of a channel that await the broker's answer: their numbers, and the promise of each.

Source: RabbitMQ's extension to AMQP 0-9-1, class ``confirm``; the n-th publish since ``confirm.select`` has tag n, and
``basic.return`` comes before the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import Any

from kombu._locks import new_lock

__all__ = ("STATE", "Window")

#: The slots that a class of promises has; what each is for says :class:`kombu.transport.amqp.window.Confirmation`.
STATE = (
    "window", "delivery_tag", "exchange", "routing_key", "ready", "failed", "reason", "cancelled", "told", "returned",
    "_svpending", "_lvpending",
)


class Window:
    """Number publishes, and find the promise that an answer is for.

    Arguments:
        promises: the class of the promises: called with the window, the tag, the exchange, the routing key and a
            listener or None.  It has the slots :data:`STATE`.
        size: how many publishes may be outstanding; to keep to it is the caller's affair.

    Attributes:
        count: how many publishes are outstanding.
        held: set while somebody is between numbering publishes and having them written.
        live: whether the channel is in confirm mode, so that publishes may be numbered.

    Any thread may call any of this.  Whoever numbers publishes sees to it that they get to the wire in that order.
    """

    def __init__(self, promises: type[Any], size: int) -> None:
        missing = [name for name in STATE if not hasattr(getattr(promises, name, None), "__set__")]
        if missing:
            raise TypeError(f"{promises.__name__} cannot be a window's promise: it has no slot {missing[0]!r}")
        self.promises = promises
        self.size = size
        self.clear()

    def clear(self) -> None:
        """Forget everything, and count from 1; in a forked child, for instance."""
        self._lock = new_lock()
        self.held = self.live = False
        self._last = 0
        # By tag, in their order; what may be returned, too.
        self._outstanding: dict[int, Any] = {}
        self._mandatory: dict[int, Any] = {}

    def restart(self) -> None:
        """Count from 1 again: the channel has been put into confirm mode anew."""
        with self._lock:
            self._last = 0
            self.live = True

    @property
    def count(self) -> int:
        """How many publishes are outstanding."""
        return len(self._outstanding)

    # -- publishing

    def expect(
        self, mandatory: bool, exchange: str, routing_key: str, callback: Callable[[Any], Any] | None = None
    ) -> Any:
        """Return the promise for the next publish; the caller holds what keeps others from writing in between."""
        with self._lock:
            self._last = tag = self._last + 1
            confirmation = self._outstanding[tag] = self.promises(self, tag, exchange, routing_key, callback)
            if mandatory:
                self._mandatory[tag] = confirmation
        return confirmation

    def number(self, publishes: Iterable[tuple[Any, bool]]) -> None:
        """Number promises made before, each with whether the message is mandatory; as :meth:`expect` otherwise."""
        with self._lock:
            for confirmation, mandatory in publishes:
                self._last = tag = self._last + 1
                confirmation.delivery_tag = tag
                self._outstanding[tag] = confirmation
                if mandatory:
                    self._mandatory[tag] = confirmation

    def retract(self, confirmations: Iterable[Any]) -> None:
        """Take back publishes that were not written, the last one first, before any other is numbered."""
        with self._lock:
            for confirmation in confirmations:
                tag = confirmation.delivery_tag
                # One that has been settled, by the end of the channel, belongs to numbers that mean nothing any more.
                if self._outstanding.get(tag) is confirmation:
                    del self._outstanding[tag]
                    self._mandatory.pop(tag, None)
                    self._last -= tag == self._last

    # -- answers

    def listen(self, confirmation: Any, listener: Any) -> bool:
        """Have *listener* told of the answer; return False if there is one already."""
        with self._lock:
            if confirmation.ready or confirmation.failed:
                return False
            if confirmation._svpending is None:
                confirmation._svpending = listener
            elif confirmation._lvpending is None:
                confirmation._lvpending = [listener]
            else:
                confirmation._lvpending.append(listener)
            return True

    def returned(self, exchange: str, routing_key: str, error: BaseException, handled: bool = False) -> bool:
        """Note that the broker returned a publish, before its answer; return False if none awaits one.

        Returns come in the order of the publishes, so it is the first mandatory one with that exchange and routing
        key.  It fails in any case; with *handled*, somebody has been told.
        """
        with self._lock:
            for confirmation in self._mandatory.values():
                if (
                    confirmation.returned is None
                    and confirmation.routing_key == routing_key
                    and confirmation.exchange == exchange
                ):
                    confirmation.returned = error
                    confirmation.told = handled
                    return True
        return False

    def confirm(self, tag: int, multiple: bool) -> bool:
        """Note that the broker has confirmed *tag*, if nobody has to be told of that; otherwise return False.

        With *multiple*, all up to it, and all at once for tag 0.  Where it returns False it has done nothing, and the
        caller goes to :meth:`take`.
        """
        outstanding = self._outstanding
        # What is settled goes when the lock is free again: more may happen then.
        done = []
        with self._lock:
            if self._mandatory:
                return False
            tags = self._meant(tag, multiple)
            if any(outstanding[each]._svpending is not None for each in tags):
                return False
            for each in tags:
                done.append(outstanding.pop(each))
                done[-1].ready = True
        return True

    def _meant(self, tag: int, multiple: bool) -> list[int]:
        """Return the outstanding tags that *tag* and *multiple* mean."""
        outstanding = self._outstanding
        if not multiple:
            return [tag] if tag in outstanding else []
        return list(takewhile(tag.__ge__, outstanding) if tag else outstanding)

    def take(self, tag: int, multiple: bool, reason: Callable[[int], BaseException] | None) -> list[Any]:
        """Settle what *tag* and *multiple* mean, as :meth:`confirm` does; return those that somebody is told of.

        Arguments:
            reason: makes the exception by which the publish of a tag fails; None if they are confirmed.
        """
        outstanding, mandatory = self._outstanding, self._mandatory
        noteworthy = []
        taken = []
        with self._lock:
            for each in self._meant(tag, multiple):
                confirmation = outstanding.pop(each)
                taken.append(confirmation)
                mandatory.pop(each, None)
                error = confirmation.returned if reason is None else reason(each)
                if error is not None:
                    confirmation.reason = error
                    confirmation.failed = True
                    noteworthy.append(confirmation)
                else:
                    confirmation.ready = True
                    if confirmation._svpending is not None:
                        noteworthy.append(confirmation)
        return noteworthy

    def fail(self, confirmation: Any, error: BaseException) -> bool:
        """Let a publish that was not written fail by *error*; return False if it has been settled before."""
        with self._lock:
            if confirmation.ready or confirmation.failed:
                return False
            confirmation.reason = error
            confirmation.failed = True
            return True
