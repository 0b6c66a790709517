"""Publishing in batches, for transports that can send many messages at once.

What :meth:`kombu.Producer.batch` returns stands here.  Batches of one producer in one thread nest: the outermost one
owns the transport's session, the inner ones publish into it, and an error in any of them gives the whole batch up.
"""

from __future__ import annotations

from threading import local
from typing import TYPE_CHECKING, Any

from .log import get_logger

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("BatchState", "CurrentBatch", "ProducerBatch", "DEFAULT_BATCH_SIZE")

DEFAULT_BATCH_SIZE = 1000

logger = get_logger(__name__)


class BatchState:
    """What nested batches of one producer in one thread share.

    The session is made by the first publish, as only then the producer needs a channel.  A channel makes sessions if it
    has ``create_publish_batch(max_size=)`` and does not say ``supports_batch_publish = False``; on any other channel
    messages are published at once.
    """

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self.aborted = False
        self.session: Any = None
        self.immediate = False

    def _session_on(self, channel: Any) -> Any:
        """Return the session to publish into, or None to publish at once."""
        if self.session is not None:
            if self.session.channel is not channel:
                raise RuntimeError("Producer channel changed while a publish batch was active")
            return self.session
        if not self.immediate:
            create = getattr(channel, "create_publish_batch", None)
            if create is not None and getattr(channel, "supports_batch_publish", True):
                self.session = create(max_size=self.max_size)
            else:
                self.immediate = True
        return self.session

    def publish(self, channel: Any, message: Any, **kwargs: Any) -> Any:
        """Add *message* to the batch; the keywords are those of ``basic_publish``."""
        if self.aborted:
            raise RuntimeError("Cannot publish through an aborted batch")
        session = self._session_on(channel)
        send = channel.basic_publish if session is None else session.publish
        return send(message, **kwargs)

    def publish_planned(
        self, channel: Any, plan: Any, body: Any, timeout: float | None, confirm_timeout: float | None
    ) -> Any:
        """Add a message that is planned but for its body; for a channel that ``plans_publishes``."""
        if self.aborted:
            raise RuntimeError("Cannot publish through an aborted batch")
        session = self.session
        if session is None or session.channel is not channel:
            session = self._session_on(channel)
        return (channel if session is None else session).publish_planned(plan, body, timeout, confirm_timeout)

    def flush(self) -> None:
        """Send what has been added so far."""
        if self.aborted:
            raise RuntimeError("Cannot flush an aborted batch")
        if self.session is not None:
            self.session.flush()

    def abort(self) -> None:
        """Throw away what has not been sent, and refuse everything from now on."""
        if not self.aborted:
            self.aborted = True
            if self.session is not None:
                self.session.discard()

    def finish(self) -> None:
        """Send the rest, unless the batch was given up, and close the session in either case."""
        try:
            if not self.aborted:
                self.flush()
        except BaseException:
            self.close_after_error()
            raise
        self.close()

    def close(self) -> None:
        """Close the session, if there is one."""
        if self.session is not None:
            self.session.close()

    def close_after_error(self) -> None:
        """Close the session; a fault in that is logged, so that it does not take the place of the first one."""
        try:
            self.close()
        except Exception:
            logger.exception("could not close a publish batch")


class CurrentBatch(local):
    """The batch that a producer is in, in each thread."""

    #: A class attribute, since looking up one that is missing would cost every publish an exception.
    current: BatchState | None = None


class ProducerBatch:
    """Context manager around the publishes of one batch."""

    def __init__(self, producer: Any, max_size: int) -> None:
        self.producer = producer
        self.max_size = max_size
        self.state: BatchState | None = None
        self.is_outermost = False
        self.entered = False
        self.active = False

    def __enter__(self) -> ProducerBatch:
        if self.entered:
            raise RuntimeError("Publish batch context cannot be re-entered")
        self.entered = self.active = True
        self.producer.batched = True
        batches = self.producer._batch_local
        self.state = batches.current
        if self.state is None:
            self.state = batches.current = BatchState(self.max_size)
            self.is_outermost = True
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None,
    ) -> None:
        state = self.state
        if state is None:
            return
        self.active = False
        if self.is_outermost:
            del self.producer._batch_local.current
        if exc_type is None:
            if self.is_outermost:
                state.finish()
            return
        try:
            state.abort()
        except Exception:
            logger.exception("could not discard a publish batch after %r", exc_value)
        finally:
            if self.is_outermost:
                state.close_after_error()

    def flush(self) -> None:
        """Send the messages that the batch has gathered so far."""
        state = self.state
        if state is None or not self.active:
            raise RuntimeError("Publish batch context is not active")
        state.flush()
