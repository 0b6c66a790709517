"""Publisher confirms in a window: many publishes under way, each with a promise of the broker's answer.

Source: RabbitMQ's extension to AMQP 0-9-1, class ``confirm``; the n-th publish since ``confirm.select`` has tag n, and
``basic.return`` comes before the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from amqp.exceptions import RecoverableConnectionError
from vine import promise
from vine.abstract import Thenable

from ... import forks
from ..._core import window
from ..._locks import new_lock
from ...exceptions import ConfirmError
from .confirms import refusal

__all__ = ("Confirmation", "ConfirmWindow")

logger = logging.getLogger("amqp")

#: Failures that are kept for flush(); of more than these it tells the number.
FAILURES_KEPT = 1000


class Confirmation(promise):
    """The broker's answer to one publish, as a promise.

    Attributes:
        ready: whether the broker has taken the message over.
        failed: whether it has not, and never will.
        reason: the exception that says why it failed: :exc:`amqp.exceptions.MessageNacked`, the error of a
            ``basic.return``, or what closed the channel or the connection; then nobody knows whether it arrived.
        delivery_tag: the publish's number on its channel.
        exchange, routing_key: what it was published with.
    """

    # What an answer changes stands in slots, vine's or our own, where the core finds it; the rest of what vine keeps
    # in slots is on the class, as it never changes.
    __slots__ = tuple(name for name in window.STATE if name not in getattr(promise, "__slots__", ()))

    fun = on_error = None
    args: Any = ()
    kwargs: Any = {}
    ignore_result = weak = False

    #: Whether the failure has been told to somebody: flush() need not.
    told: bool
    #: The error of the basic.return that came for it.
    returned: BaseException | None

    def __init__(
        self, window: ConfirmWindow, delivery_tag: int, exchange: str, routing_key: str,
        callback: Callable[[Confirmation], Any] | None = None,
    ) -> None:
        # The compiled core makes promises without calling this.
        self.window = window
        self.delivery_tag = delivery_tag
        self.exchange = exchange
        self.routing_key = routing_key
        self.ready = self.failed = self.cancelled = self.told = False
        self.reason = self.returned = self._lvpending = None
        self._svpending = callback  # type: ignore[assignment]

    def __repr__(self) -> str:
        state = "confirmed" if self.ready else f"failed: {self.reason!r}" if self.failed else "outstanding"
        return f"<Confirmation of publish {self.delivery_tag} to {self.exchange!r}/{self.routing_key!r}: {state}>"

    @property
    def value(self) -> Any:
        """What listeners are called with, once it is ready: positional and keyword arguments."""
        return ((self.delivery_tag,), {}) if self.ready else None

    @property
    def settled(self) -> bool:
        """Whether there is an answer, or will never be one."""
        return self.ready or self.failed

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the answer, at most *timeout* seconds; by default the connection's ``confirm_timeout``.

        Raises:
            socket.timeout: no answer came in time; it is still outstanding.
            Exception: :attr:`reason`, if the publish failed.
        """
        self.window.wait_for(self, timeout)

    def then(self, callback: Any, on_error: Callable[[BaseException], Any] | None = None) -> Any:
        """Have *callback* called with the delivery tag, or *on_error* with the exception, once there is an answer.

        They run in the thread that reads the answer, or here if there is one already.  Without *on_error* a failure
        is left to :meth:`wait` and to ``flush()``.
        """
        if not isinstance(callback, Thenable):
            callback = promise(callback, on_error=on_error)
        if self.cancelled:
            callback.cancel()
            return callback
        if not self.window.listen(self, callback):
            self.tell(callback)
        return callback

    def cancel(self) -> None:
        """Call nobody; the message is on its way all the same."""
        self.cancelled = self.told = True

    def give_up(self, error: BaseException) -> None:
        """Fail by *error*, which somebody has been told of: the message was never written."""
        self.told = True
        self.window.give_up(self, error)

    def tell(self, listener: Any) -> None:
        """Tell *listener* the answer."""
        if not isinstance(listener, Thenable):
            self.told = True
            listener(self)
        elif self.ready:
            listener(self.delivery_tag)
        elif not isinstance(listener, promise) or listener.on_error is not None:
            self.told = True
            listener.throw(self.reason)
        else:
            # Nobody is there to hear of it, so vine would raise it at whoever reads the socket.
            listener.throw1(self.reason)

    def listeners_to_tell(self) -> list[Any]:
        """Return who has to be told, and forget them."""
        first, more = self._svpending, self._lvpending
        self._svpending = self._lvpending = None
        if self.cancelled:
            return []
        return [*([] if first is None else [first]), *(more or ())]


class ConfirmWindow(window.Window):
    """The publishes of one channel that await the broker's answer; at most :attr:`size` of them.

    Arguments:
        channel: the channel.
        size: how many may be outstanding.

    Any thread may publish, and any may read the answers.
    """

    def __init__(self, channel: Any, size: int) -> None:
        self.channel = channel
        self._begin()
        super().__init__(Confirmation, size)

    def _begin(self) -> None:
        self._pid = forks.pid
        # Held while failures are noted or taken.
        self._noting = new_lock()
        # Those that failed and that nobody has been told of: kept in a dict, as a set in order.
        self._failures: dict[Confirmation, None] = {}
        self._more_failures = 0

    def check_process(self) -> None:
        """Forget everything in a forked child: what its parent published is not its own."""
        if self._pid != forks.pid:
            with forks.renewal():
                if self._pid != forks.pid:
                    self.clear()
                    self._begin()

    def restart(self) -> None:
        """Count from 1 again: the channel has been put into confirm mode anew."""
        self.check_process()
        super().restart()

    def __len__(self) -> int:
        self.check_process()
        return self.count

    @property
    def idle(self) -> bool:
        """Whether :meth:`flush` would have nothing to wait for, and nothing to say."""
        return not len(self) and not self._failures

    def retract(self, confirmations: Iterable[Confirmation]) -> None:
        """Take back publishes that were not written, the last one first, before any other is numbered."""
        confirmations = list(confirmations)
        super().retract(confirmations)
        with self._noting:
            for confirmation in confirmations:
                self._failures.pop(confirmation, None)

    def await_room(self, timeout: float | None, wanted: int = 1) -> None:
        """Wait, while answers are read, until *wanted* publishes fit.

        Raises:
            socket.timeout: they do not fit within *timeout* seconds.
            amqp.exceptions.AMQPError, OSError: the channel or the connection is closed.
        """
        wanted = min(wanted, self.size)
        if len(self) + wanted <= self.size:
            return
        try:
            self.channel.wait_until(lambda: self.count + wanted <= self.size, timeout)
        except TimeoutError:
            raise TimeoutError(
                f"nothing was published: {self.count} publishes are unconfirmed, confirm_window is "
                f"{self.size}, and the broker did not answer within {timeout:g} seconds"
            ) from None
        # Where there is one answer there are more, and one at a time would cost each publish a wait.
        self.channel.connection.read_waiting()

    # -- answers

    def listen(self, confirmation: Confirmation, listener: Any) -> bool:
        """Have *listener* told of the answer; return False if there is one already."""
        self.check_process()
        return super().listen(confirmation, listener)

    def settle(self, tag: int, multiple: bool, error: BaseException | None) -> None:
        """Note the broker's answer for *tag*; with *multiple*, for all up to it, and for all at once for tag 0.

        Whoever listens is told.  An exception raised there comes out of this when all others have been told.
        """
        if error is None and self.confirm(tag, multiple):
            # Most answers: there is nobody to tell.
            return
        failure = self._tell(self.take(tag, multiple, None if error is None else refusal))
        if failure is not None:
            raise failure

    def abandon(self, error: BaseException) -> list[Confirmation]:
        """Let everything fail by *error*, as no answer will come; return what has to be given to :meth:`tell`."""
        self.check_process()
        self.live = False
        return self.take(0, True, lambda tag: error)

    def give_up(self, confirmation: Confirmation, error: BaseException) -> None:
        """Let a publish that was not written fail, unless it has."""
        if self.fail(confirmation, error):
            self.tell([confirmation])

    def tell(self, confirmations: list[Confirmation]) -> None:
        """Tell those who listen; their exceptions are logged, since what is under way must not end in the middle."""
        failure = self._tell(confirmations)
        if failure is not None:
            logger.error("error in a callback of a publish that was not confirmed", exc_info=failure)

    def _tell(self, confirmations: list[Confirmation]) -> BaseException | None:
        """Tell those who listen; return the first exception raised there."""
        first: BaseException | None = None
        untold = []
        for confirmation in confirmations:
            for listener in confirmation.listeners_to_tell():
                try:
                    confirmation.tell(listener)
                except Exception as error:
                    first = first or error
            if confirmation.failed and not confirmation.told:
                untold.append(confirmation)
        if untold:
            self._keep(untold)
        return first

    def _keep(self, untold: list[Confirmation]) -> None:
        with self._noting:
            for confirmation in untold:
                if len(self._failures) < FAILURES_KEPT:
                    self._failures[confirmation] = None
                else:
                    self._more_failures += 1
        logger.warning(
            "not confirmed: %d publish(es), the first to exchange %r with routing key %r: %r; flush() raises it",
            len(untold), untold[0].exchange, untold[0].routing_key, untold[0].reason,
        )

    def keep(self, confirmation: Confirmation) -> None:
        """Keep a failure for the next :meth:`flush`, which was about to be told and was not."""
        with self._noting:
            self._failures[confirmation] = None

    # -- waiting

    def wait_for(self, confirmation: Confirmation, timeout: float | None) -> None:
        """Wait for the answer to one publish; see :meth:`Confirmation.wait`."""
        if self._pid != forks.pid and not confirmation.settled:
            raise RecoverableConnectionError(
                f"publish {confirmation.delivery_tag} was made by the parent process, which alone gets the answer"
            )
        if self.channel.held_back and not confirmation.settled:
            # It may be one that has not been written yet.
            self.channel.send_held_back()
        failure = self._wait(lambda: confirmation.ready or confirmation.failed, timeout)
        if isinstance(failure, TimeoutError):
            raise TimeoutError(f"the broker did not confirm publish {confirmation.delivery_tag} in time") from None
        if confirmation.failed:
            with self._noting:
                confirmation.told = True
                self._failures.pop(confirmation, None)
            raise confirmation.reason  # type: ignore[misc]

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every publish of the channel has been answered, and raise what nobody has been told of.

        Arguments:
            timeout: seconds; by default the connection's ``confirm_timeout``.

        Raises:
            socket.timeout: some have no answer yet; they stay outstanding, and the failures are kept for the next time.
            kombu.exceptions.ConfirmError: some failed; each is in ``failures``.
        """
        self.check_process()
        if self.channel.held_back:
            self.channel.send_held_back()
        failure = self._wait(lambda: not self.count, timeout)
        if isinstance(failure, TimeoutError):
            raise TimeoutError(f"not confirmed in time: {self.count} publish(es) are outstanding") from None
        with self._noting:
            failures = [confirmation for confirmation in self._failures if not confirmation.told]
            more = self._more_failures
            self._failures.clear()
            self._more_failures = 0
        if failures:
            raise ConfirmError(failures, len(failures) + more) from failures[0].reason

    def _wait(self, settled: Callable[[], bool], timeout: float | None) -> BaseException | None:
        """Wait until *settled()*; return the time-out that came first, and raise what keeps it from ever happening."""
        if settled():
            return None
        channel = self.channel
        if timeout is None and channel.connection is not None:
            timeout = channel.connection.confirm_timeout
        try:
            channel.wait_until(settled, timeout)
        except TimeoutError as error:
            return None if settled() else error
        except Exception:
            # What ended the channel is the reason of everything that was outstanding, and is raised as that.
            if not settled():
                raise
        return None
