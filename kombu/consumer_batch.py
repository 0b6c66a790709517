"""Messages handed to a consumer many at a time: ``Consumer(on_batch=)``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

from . import forks
from ._core import pool as _pool
from .log import get_logger
from .message import Message
from .utils.limits import check_positive

__all__ = ("DEFAULT_BATCH_SIZE", "Gatherer", "MessageBatch")

DEFAULT_BATCH_SIZE = 100

logger = get_logger(__name__)


class MessageBatch(Sequence[Any]):
    """Messages that were received one after the other, decoded, to be settled together or each by itself.

    Settling the batch settles what has not been settled in it; calling it again does nothing.
    """

    def __init__(self, messages: Iterable[Any]) -> None:
        self._messages = tuple(messages)

    def __len__(self) -> int:
        return len(self._messages)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> MessageBatch: ...

    def __getitem__(self, index: int | slice) -> Any:
        """Return a message; of a slice, a batch."""
        if isinstance(index, slice):
            return MessageBatch(self._messages[index])
        return self._messages[index]

    def __repr__(self) -> str:
        return f"<MessageBatch of {len(self)}, {len(self._unsettled())} unsettled>"

    @property
    def payloads(self) -> list[Any]:
        """The decoded bodies."""
        return [message.payload for message in self._messages]

    def ack(self) -> None:
        """Acknowledge what is unsettled: by one ``basic.ack`` as far as that means no other message.

        That is up to the first message of the channel that is outstanding and not of the batch; from there on, and on
        transports that know of one at a time, each is acknowledged by itself.

        Raises what ``Message.ack`` raises; the messages that it was not sent for stay unsettled.
        """
        rest = self._unsettled()
        together: dict[int, list[Any]] = {}
        for message in rest:
            if type(message).ack is Message.ack and getattr(message.channel, "settled_together", None) is not None:
                together.setdefault(id(message.channel), []).append(message)
        for messages in together.values():
            self._ack_together(messages[0].channel, messages)
        for message in rest:
            if not message.acknowledged:
                message.ack()

    def _ack_together(self, channel: Any, messages: list[Any]) -> None:
        no_ack = channel.no_ack_consumers
        if no_ack:
            messages = [message for message in messages if message.delivery_info.get("consumer_tag") not in no_ack]
        last = channel.settled_together([message.delivery_tag for message in messages])
        if last is None:
            return
        channel.basic_ack(last, multiple=True)
        for message in messages:
            if message.delivery_tag <= last:
                message._state = "ACK"

    def reject(self, requeue: bool = False) -> None:
        """Refuse what is unsettled: the broker drops or dead-letters it, or with *requeue* puts it back."""
        for message in self._unsettled():
            message.reject(requeue=requeue)

    def requeue(self) -> None:
        """Refuse what is unsettled, and have it delivered again."""
        for message in self._unsettled():
            message.requeue()

    def _unsettled(self) -> list[Any]:
        return [message for message in self._messages if not message.acknowledged]


class Gatherer:
    """A consumer's callback that gathers messages and hands them on as batches.

    A batch is handed on when it is full, and when ``drain_events`` has nothing left to dispatch, or would wait.

    Arguments:
        on_batch: called with a :class:`MessageBatch`.
        size: how many messages make it full.

    Raises :exc:`TypeError` or :exc:`ValueError` for a size that is no positive integer.
    """

    def __init__(self, on_batch: Callable[[MessageBatch], Any], size: int = DEFAULT_BATCH_SIZE) -> None:
        if not callable(on_batch):
            raise TypeError(f"on_batch has to be callable, not {on_batch!r}: give a function that takes a batch")
        self.on_batch = on_batch
        self.size = check_positive("batch_size", size, "give how many messages a batch may have")
        self._gathered: list[Any] = []
        # Several threads may drain a connection of some transports.
        self._lock = forks.ProcessLock()
        #: The connection that has been asked to call when it is at rest.
        self._asked: Any = None
        self._pid = forks.pid

    def __len__(self) -> int:
        return len(self._gathered)

    def __call__(self, body: Any, message: Any) -> None:
        """Take one message, which has been decoded."""
        with self._lock.current():
            self._forget_parents()
            self._gathered.append(message)
            full = len(self._gathered) >= self.size
        if full:
            self.hand_on()
            return
        connection = message.channel.connection
        if connection is self._asked:
            return
        call_at_rest = getattr(connection, "call_at_rest", None)
        if call_at_rest is None:
            # A transport that cannot say when it has no more.
            self.hand_on()
        else:
            self._asked = connection
            call_at_rest(self._at_rest)

    def _forget_parents(self) -> None:
        if self._pid != forks.pid:
            self._pid = forks.pid
            self._gathered = []
            self._asked = None

    def _at_rest(self) -> None:
        self._asked = None
        self.hand_on()

    def hand_on(self) -> None:
        """Hand on what has been gathered, if there is anything.

        What came on a channel that is closed is dropped: the broker has it again.  So is what a parent process has
        gathered.
        """
        with self._lock.current():
            self._forget_parents()
            gathered, self._gathered = self._gathered, []
        messages = [message for message in gathered if _pool.channel_is_open(message.channel)]
        if len(messages) < len(gathered):
            logger.debug("dropped %d messages of a closed channel", len(gathered) - len(messages))
        if messages:
            self.on_batch(MessageBatch(messages))
