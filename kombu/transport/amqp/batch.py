"""Many publishes by one write: what :meth:`kombu.Producer.batch` uses on this transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..._core import publish
from ..._locks import new_reentrant_lock
from ...exceptions import BatchPublishError
from .window import Confirmation

__all__ = ("PublishBatch",)

#: Bytes after which a batch is sent, however few messages they are.
MOST_BYTES = 1024 * 1024


class PublishBatch:
    """Publishes of one channel that are gathered, and written together.

    They are written when there are *max_size* of them, or a mebibyte, when the batch is flushed, and before anything
    else is written for the channel, an acknowledgement included: what comes later in the program comes later on the
    wire.

    Arguments:
        channel: the channel.
        max_size: how many messages are gathered at the most.

    With ``confirm_publish`` alone a flush waits until all have been confirmed.  With ``confirm_window`` each publish
    returns its promise, numbered when it is written, and a flush waits for room in the window alone.
    """

    def __init__(self, channel: Any, max_size: int) -> None:
        self.channel = channel
        self.max_size = max_size
        self._buffer = publish.PublishBuffer(max_size, MOST_BYTES)
        # Another thread that writes for the channel sends this first.
        self._lock = new_reentrant_lock()
        self._failure: BaseException | None = None
        self._discarded = self._closed = False
        self._gathering = False
        self._closings = 0
        self._frame_max = 0
        # The channel's number; if it gets another one, what was gathered is refused as a whole.
        self._number: int | None = None
        #: Whether there is something to note of each message.
        self._notes = channel.confirm_window is not None or channel.confirms_each
        self._timeout: float | None = None
        self._confirm_timeout: float | None = None
        # One by one: the exchange and routing key of a mandatory message, None for another.
        self._addresses: list[tuple[str, str] | None] | None = None
        # In a window: the promise of each message, and whether it is mandatory.
        self._promises: list[tuple[Confirmation, bool]] | None = None
        if self._notes:
            # Now, while no lock is held that another thread may wait for.
            channel.confirm_select()
        if channel.confirm_window is not None:
            self._promises = []
        elif channel.confirms_each:
            self._addresses = []

    # -- gathering

    def publish(
        self,
        message: Any,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
        confirm_callback: Callable[[Confirmation], Any] | None = None,
    ) -> Confirmation | None:
        """Add a message that the channel has prepared; in a window, return its promise.

        The time limits are those of the flush; the last ones given count.

        Raises:
            kombu.exceptions.BatchPublishError: the batch was full, and sending it failed; or it had failed before.
        """
        with self._lock:
            if not self._gathering:
                self._begin()
            channel = self.channel
            frames = channel._encode(message, exchange, routing_key, mandatory, immediate, self._frame_max)
            full = self._buffer.add_frames(frames)
            return self._added(full, exchange, routing_key, mandatory, timeout, confirm_timeout, confirm_callback)

    def publish_planned(
        self, plan: Any, body: Any, timeout: float | None = None, confirm_timeout: float | None = None
    ) -> Confirmation | None:
        """Add a message whose frames have been planned but for its body; as :meth:`publish` otherwise."""
        with self._lock:
            if not self._gathering:
                self._begin()
            if plan.channel_id != self._number:
                plan = self.channel.current(plan)
            full = self._buffer.add(plan, body)
            if full or timeout is not None or confirm_timeout is not None or self._notes:
                return self._added(
                    full, plan.exchange, plan.routing_key, plan.mandatory, timeout, confirm_timeout, None
                )
            return None

    def _begin(self) -> None:
        self._check_usable()
        channel = self.channel
        connection, self._closings = channel._before_publish()
        self._frame_max = connection.frame_max
        self._number = channel.channel_id
        channel.hold_back(self)
        self._gathering = True

    def _added(
        self, full: bool, exchange: str, routing_key: str, mandatory: bool, timeout: float | None,
        confirm_timeout: float | None, confirm_callback: Callable[[Confirmation], Any] | None,
    ) -> Confirmation | None:
        confirmation = None
        if self._promises is not None:
            window = self.channel.confirm_window
            confirmation = Confirmation(window, 0, exchange or "", routing_key or "", confirm_callback)
            self._promises.append((confirmation, mandatory))
        elif self._addresses is not None:
            self._addresses.append((exchange or "", routing_key or "") if mandatory else None)
        if timeout is not None:
            self._timeout = timeout
        if confirm_timeout is not None:
            self._confirm_timeout = confirm_timeout
        if full:
            self.flush()
        return confirmation

    # -- sending

    def flush(self) -> None:
        """Write what has been gathered; with ``confirm_publish`` alone, wait until the broker has confirmed it.

        Raises:
            kombu.exceptions.BatchPublishError: it could not be written, or not all of it was confirmed.  The batch
                cannot be used any more.
        """
        with self._lock:
            self._check_usable()
            # What follows may write for the channel, and is not to find this batch in its way.
            self._gathering = False
            if self._notes or not self._buffer.count:
                # Other threads are not to wait, as they do for a batch that is held back, for the broker's answer.
                self._rest()
            if not self._buffer.count:
                return
            try:
                self._look()
                if self._promises is not None:
                    self._send_in_window()
                elif self._addresses is not None:
                    self._send_and_wait()
                else:
                    self._write(self._buffer.count)
                    # Only now: whose batch it is may publish past it, and this may be another thread that makes way.
                    self._rest()
            except BaseException as error:
                self._fail(error)
                if not isinstance(error, Exception):
                    raise
                raise BatchPublishError(
                    f"it is not known which messages of the batch have arrived: {error!r}"
                ) from error

    def make_way(self) -> None:
        """Write what has been gathered, since something else is to be written; nothing if that was done meanwhile.

        Raises:
            kombu.exceptions.BatchPublishError: as :meth:`flush` does.
        """
        with self._lock:
            if self._gathering:
                self.flush()

    def _rest(self) -> None:
        """Have the channel write freely again."""
        self._gathering = False
        self.channel.hold_back_no_more(self)

    def _look(self) -> None:
        """See that the channel has been open all the time: what was gathered is for no other life of it."""
        _, closings = self.channel._before_publish(self._timeout)
        if closings != self._closings:
            self.channel.raise_closed()

    def _write(self, count: int) -> None:
        self.channel._write_publish([self._buffer.take(count)], self._timeout, self._closings)

    def _send_and_wait(self) -> None:
        channel, addresses = self.channel, self._addresses
        assert addresses is not None
        wait = self._confirm_timeout if self._confirm_timeout is not None else self._timeout
        if wait is None and channel.connection is not None:
            wait = channel.connection.confirm_timeout
        self._addresses = []
        with channel.waits():
            with channel._opening.current():
                self._ready_for_confirms()
                confirms = channel._confirms
                tags = [confirms.expect(address) for address in addresses]
                try:
                    self._write(len(tags))
                except BaseException:
                    for tag in reversed(tags):
                        confirms.retract(tag)
                    raise
            # The last is not always answered last.
            unanswered = list(tags)

            def settled() -> bool:
                while unanswered and confirms.settled(unanswered[-1]):
                    unanswered.pop()
                return not unanswered

            try:
                channel.wait_until(settled, wait)
            except TimeoutError:
                left = sum(not confirms.settled(tag) for tag in tags)
                raise TimeoutError(f"the broker did not confirm {left} publish(es) within {wait:g} seconds") from None
            finally:
                outcomes = [confirms.outcome(tag) for tag in tags]
        failures = [outcome for outcome in outcomes if outcome is not None]
        if failures:
            raise failures[0]

    def _ready_for_confirms(self) -> None:
        """See that the channel is in confirm mode, and has not been closed meanwhile; the caller holds ``_opening``."""
        channel = self.channel
        if channel.closings != self._closings:
            channel.raise_closed()
        channel._before_confirmed()

    def _send_in_window(self) -> None:
        """Write as many messages at a time as the window has room for."""
        channel, promises = self.channel, self._promises
        assert promises is not None
        window = channel.confirm_window
        wait = self._confirm_timeout if self._confirm_timeout is not None else self._timeout
        if wait is None and channel.connection is not None:
            wait = channel.connection.confirm_timeout
        while promises:
            channel._await_room(wait, None, len(promises))
            with channel._opening.current():
                self._ready_for_confirms()
                room = window.size - len(window)
                if room < 1:
                    # Another thread was faster.
                    continue
                part = promises[:room]
                window.held = True
                window.number(part)
                try:
                    self._write(len(part))
                except BaseException:
                    window.retract([confirmation for confirmation, _ in reversed(part)])
                    raise
                finally:
                    window.held = False
                del promises[:room]

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._drop(error)

    def _drop(self, error: BaseException) -> None:
        """Throw away what has not been written; who holds its promises gets to know why."""
        self._buffer.clear()
        if self._addresses is not None:
            self._addresses = []
        promises, self._promises = self._promises, None if self._promises is None else []
        for confirmation, _ in promises or ():
            confirmation.give_up(error)
        self._rest()

    # -- the end

    def discard(self) -> None:
        """Throw away what has not been written."""
        with self._lock:
            self._discarded = True
            self._drop(BatchPublishError("the message was not sent: its batch was given up"))

    def close(self) -> None:
        """End the batch; what has not been written is thrown away."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._drop(BatchPublishError("the message was not sent: its batch was closed"))

    def _check_usable(self) -> None:
        if self._closed:
            raise RuntimeError("the publish batch is closed")
        if self._discarded:
            raise RuntimeError("the publish batch was discarded")
        if self._failure is not None:
            raise BatchPublishError(f"the publish batch has failed before: {self._failure!r}") from self._failure
