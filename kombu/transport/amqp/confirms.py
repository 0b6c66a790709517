"""Publisher confirms: which publishes the broker has answered, by their number on the channel.

Source: RabbitMQ's extension to AMQP 0-9-1, class ``confirm``; the n-th publish since ``confirm.select`` has tag n.
"""

from __future__ import annotations

from amqp.exceptions import MessageNacked

__all__ = ("Confirms", "refusal")

_PENDING = object()


def refusal(tag: int) -> MessageNacked:
    """Return the exception for a publish that the broker refused."""
    return MessageNacked(f"the broker refused the message with publish tag {tag}")


class Confirms:
    """The publishes of one channel in confirm mode that await the broker's answer, counted from ``confirm.select`` on.

    The caller sees to it that numbers are taken in the order of the messages on the wire.

    A publish stays known after its publisher gave up waiting, so that a late answer is never credited to another.
    """

    __slots__ = ("_last", "_outcomes", "_mandatory", "_returned")

    def __init__(self) -> None:
        self._last = 0
        # Insertion order is tag order, which an answer for several relies on.
        self._outcomes: dict[int, object] = {}
        self._mandatory: dict[int, tuple[str, str]] = {}
        self._returned: dict[int, BaseException] = {}

    def __len__(self) -> int:
        return len(self._outcomes)

    def expect(self, mandatory: tuple[str, str] | None = None) -> int:
        """Return the tag of the next publish; with its exchange and routing key if the broker may return it."""
        self._last += 1
        self._outcomes[self._last] = _PENDING
        if mandatory is not None:
            self._mandatory[self._last] = mandatory
        return self._last

    def retract(self, tag: int) -> None:
        """Take back the tag of a publish that was not written, before any other is taken."""
        if tag == self._last:
            self._last -= 1
        self._outcomes.pop(tag, None)
        self._mandatory.pop(tag, None)

    def returned(self, exchange: str, routing_key: str, error: BaseException, handled: bool = False) -> bool:
        """Note that the broker returned a publish, before its answer; return False if none awaits one.

        One that was *handled* already is no failure of the publish.

        Returns come in the order of the publishes, so it is the first mandatory one with that exchange and routing key.
        """
        if handled:
            return True
        for tag, address in self._mandatory.items():
            if address == (exchange, routing_key) and tag not in self._returned and not self.settled(tag):
                self._returned[tag] = error
                return True
        return False

    def settle(self, tag: int, multiple: bool, outcome: BaseException | None) -> None:
        """Note the broker's answer for *tag*; with *multiple*, for all up to it, and for all at once for tag 0."""
        outcomes = self._outcomes
        if not multiple:
            if outcomes.get(tag) is _PENDING:
                outcomes[tag] = outcome
            return
        for each in list(outcomes):
            if tag and each > tag:
                break
            if outcomes.get(each) is _PENDING:
                outcomes[each] = outcome

    def abandon(self, error: BaseException) -> list[object]:
        """Settle everything with *error*, as no answer will come any more; return who has to be told: nobody."""
        self.settle(0, True, error)
        return []

    def tell(self, abandoned: list[object]) -> None:
        """Do nothing: each publish waits for its own answer."""

    def restart(self) -> None:
        """Do nothing: there are new numbers for each time that confirm mode is selected."""

    def settled(self, tag: int) -> bool:
        """Return whether the publish has been answered."""
        return self._outcomes.get(tag) is not _PENDING

    def outcome(self, tag: int) -> BaseException | None:
        """Return the error that the publish met, or None, and forget it.  One not yet answered is forgotten too."""
        outcome = self._outcomes.pop(tag, None)
        self._mandatory.pop(tag, None)
        returned = self._returned.pop(tag, None)
        return outcome if isinstance(outcome, BaseException) else returned
