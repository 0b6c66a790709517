"""Limit how often something happens, and how much at once."""

from __future__ import annotations

from collections import deque
from operator import index
from time import monotonic

from .._lazy import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

__all__ = ("TokenBucket", "check_max_events", "check_positive")


def check_positive(name: str, value: Any, instead: str = "give a positive integer") -> int:
    """Return *value* as an int; *instead* is what the errors tell the caller to do.

    Raises:
        TypeError: it is no integer; a bool is none here.
        ValueError: it is less than 1.
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} has to be an integer, not {value!r}: {instead}")
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{name} has to be an integer, not {value!r}: {instead}") from None
    if number < 1:
        raise ValueError(f"{name} has to be at least 1, not {number}: {instead}")
    return number


def check_max_events(value: Any) -> int:
    """Return *value*, the most events that one call of ``drain_events`` may dispatch, as an int.

    Raises :exc:`TypeError` or :exc:`ValueError` where it is no positive integer.
    """
    return check_positive("max_events", value, "give the number of events to dispatch at most, or leave it out for one")


class TokenBucket:
    """Hold up to *capacity* tokens, refilled at *fill_rate* a second; who wants to do something takes some out.

    It is full at first. :meth:`add` and :meth:`pop` keep a queue of what waits for tokens. Not safe for threads.
    """

    #: Tokens a second.
    fill_rate: float = None  # type: ignore[assignment]
    #: The most tokens it holds.
    capacity: float = 1
    #: When the tokens were last counted, on the monotonic clock.
    timestamp: float = None  # type: ignore[assignment]

    def __init__(self, fill_rate: float, capacity: float = 1) -> None:
        self.fill_rate = float(fill_rate)
        self.capacity = float(capacity)
        self.contents: deque[Any] = deque()
        self._tokens: float = capacity
        self.timestamp = monotonic()

    def add(self, item: Any) -> None:
        """Put *item* at the end of the queue."""
        self.contents.append(item)

    def pop(self) -> Any:
        """Take the first item from the queue; IndexError when it is empty."""
        return self.contents.popleft()

    def clear_pending(self) -> None:
        """Empty the queue."""
        self.contents.clear()

    def can_consume(self, tokens: float = 1) -> bool:
        """Take *tokens* out and return True, or return False and take none if there are not that many."""
        enough = tokens <= self._get_tokens()
        if enough:
            self._tokens -= tokens
        return enough

    def expected_time(self, tokens: float = 1) -> float:
        """Return in how many seconds there will be *tokens*."""
        return max(0.0, tokens - self._get_tokens()) / self.fill_rate

    def _get_tokens(self) -> float:
        # Time in which it was full adds nothing, so the clock goes on in any case.
        now = monotonic()
        elapsed, self.timestamp = now - self.timestamp, now
        if self._tokens < self.capacity:
            self._tokens = min(self.capacity, self._tokens + self.fill_rate * elapsed)
        return self._tokens
