"""Wait for what has to happen, never longer than a bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

#: Seconds that a wait takes at most unless the test says otherwise: a bound against hanging, not an expectation.
PATIENCE = 30.0


def until(condition: Callable[[], object], timeout: float = PATIENCE, what: str = "a condition") -> Any:
    """Look until *condition()* is true and return what it gave.

    Raises:
        TimeoutError: it was not within *timeout* seconds.
    """
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(0.005)
    return found


def drain_until(
    connection: Any, condition: Callable[[], object], timeout: float = PATIENCE, what: str = "a condition"
) -> None:
    """Drain *connection* until *condition()* is true.

    Raises:
        TimeoutError: it was not within *timeout* seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"drained {timeout} s for {what}")
        try:
            connection.drain_events(timeout=left)
        except TimeoutError:
            raise TimeoutError(f"drained {timeout} s for {what}") from None


class Background:
    """Run *function* in a thread; leaving the block waits for its end and raises what it raised."""

    def __init__(self, function: Callable[..., Any], *args: Any, timeout: float = PATIENCE) -> None:
        self._function = function
        self._args = args
        self._timeout = timeout
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error: BaseException | None = None
        self.result: Any = None

    @property
    def alive(self) -> bool:
        """Whether it is still at it."""
        return self._thread.is_alive()

    def start(self) -> Background:
        """Begin, without a block to wait at the end of."""
        self._thread.start()
        return self

    def join(self) -> Any:
        """Wait for the end; return its result or raise its error.

        Raises:
            TimeoutError: it does not end.
        """
        self._thread.join(self._timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"{self._function} did not end within {self._timeout} s")
        if self.error is not None:
            raise self.error
        return self.result

    def __enter__(self) -> Background:
        return self.start()

    def __exit__(self, kind: object, *_rest: object) -> None:
        if kind is None:
            self.join()
        else:
            self._thread.join(self._timeout)

    def _run(self) -> None:
        try:
            self.result = self._function(*self._args)
        except BaseException as exc:
            self.error = exc
