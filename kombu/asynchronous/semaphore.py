"""A semaphore for event loops: instead of waiting, who has to wait leaves a callback."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec

__all__ = ("DummyLock", "LaxBoundedSemaphore")

P = ParamSpec("P")


class LaxBoundedSemaphore:
    """Let at most *value* callbacks be running, and call the others in turn as those are released.

    Lax because releasing more often than acquiring is not an error: the value stays within its bounds.

    Example:
        >>> semaphore = LaxBoundedSemaphore(1)
        >>> semaphore.acquire(print, "first")
        first
        True
        >>> semaphore.acquire(print, "second")
        False
        >>> semaphore.release()
        second
    """

    def __init__(self, value: int) -> None:
        #: How many may be running.
        self.initial_value = value
        #: How many more may.
        self.value = value
        self._waiting: deque[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = deque()

    def acquire(self, callback: Callable[P, None], *partial_args: P.args, **partial_kwargs: P.kwargs) -> bool:
        """Call *callback* with the arguments, now or when it is its turn.

        Returns:
            Whether it has been called now.
        """
        if self.value > 0:
            self.value -= 1
            callback(*partial_args, **partial_kwargs)
            return True
        self._waiting.append((callback, partial_args, partial_kwargs))
        return False

    def release(self) -> None:
        """Call who has waited longest; with nobody waiting, make room for one more."""
        if self._waiting:
            callback, args, kwargs = self._waiting.popleft()
            callback(*args, **kwargs)
        elif self.value < self.initial_value:
            self.value += 1

    def grow(self, n: int = 1) -> None:
        """Allow *n* more to be running; so many of those who wait are called."""
        self.value += n
        self.initial_value += n
        for _ in range(n):
            self.release()

    def shrink(self, n: int = 1) -> None:
        """Allow *n* less to be running; those that are go on."""
        self.value = max(0, self.value - n)
        self.initial_value = max(0, self.initial_value - n)

    def clear(self) -> None:
        """Forget who waits, and who is running."""
        self.value = self.initial_value
        self._waiting.clear()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x} value:{self.value} waiting:{len(self._waiting)}>"


class DummyLock:
    """Look like a lock, for code that has nobody to lock out."""

    def __enter__(self) -> DummyLock:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        pass
