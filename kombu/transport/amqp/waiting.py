"""Replies to synchronous methods, awaited by whichever thread asked.

Shared by the connection (channel 0) and its channels; replaces the waiting of ``amqp.abstract_channel``, which reads
the socket from every thread that waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from amqp import spec
from amqp.exceptions import AMQPNotImplementedError, FrameSyntaxError, RecoverableConnectionError
from vine import ensure_promise

from ..._core import frames

__all__ = ("AwaitsReplies",)

#: Replies that mean something even when nobody waits for them any more.
_ENDINGS = (spec.Channel.CloseOk, spec.Basic.CancelOk)


class AwaitsReplies:
    """Mixin for ``amqp.abstract_channel.AbstractChannel`` subclasses."""

    # Supplied by AbstractChannel and its subclasses.
    connection: Any
    channel_id: int
    _pending: dict[Any, Any]
    _callbacks: dict[Any, Callable[..., Any]]
    _METHODS: dict[Any, Any]
    _ALLOWED_METHODS_WHEN_CLOSING: Iterable[Any]
    is_closing: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: The threads that wait for a reply on this channel, under a key for each wait.
        self.waiting_threads: dict[object, int] = {}
        #: How many times the broker has closed this channel; it may have opened again since.
        self.closings = 0
        # Replies that nobody waits for any more, each as its alternatives; they come before that to a later request.
        self._overdue: list[list[tuple[int, int]]] = []
        super().__init__(*args, **kwargs)

    def raise_closed(self) -> None:
        """Raise what closed this channel last, if something did."""

    def send_method(
        self,
        sig: tuple[int, int],
        format: str | None = None,
        args: Any = None,
        content: Any = None,
        wait: Any = None,
        callback: Callable[..., Any] | None = None,
        returns_tuple: bool = False,
    ) -> Any:
        """Send a method and, with *wait*, return its reply's arguments; as the ``amqp`` package's method does.

        Raises:
            amqp.exceptions.AMQPError: the channel or the connection is closed, or was closed meanwhile.
            OSError: the connection is lost.
        """
        return self.send_at(self.closings, sig, format, args, wait, callback, returns_tuple)

    def send_at(
        self,
        closings: int,
        sig: tuple[int, int],
        format: str | None = None,
        args: Any = None,
        wait: Any = None,
        callback: Callable[..., Any] | None = None,
        returns_tuple: bool = False,
    ) -> Any:
        """Do what :meth:`send_method` says, unless :attr:`closings` is no longer *closings*."""
        if self.connection is None:
            raise RecoverableConnectionError("connection already closed")
        frame = frames.encode_method(
            self.channel_id, sig[0], sig[1], frames.encode_arguments(format, args) if format else b""
        )
        sent = ensure_promise(callback)
        if not wait:
            self.connection.frame_writer.write([frame], None, self, closings)
            sent()
            return sent
        return self.request(closings, frame, wait, returns_tuple=returns_tuple, sent=sent)

    def request(
        self,
        closings: int,
        frame: bytes,
        method: Any,
        timeout: float | None = None,
        returns_tuple: bool = False,
        sent: Callable[[], Any] | None = None,
    ) -> Any:
        """Write *frame*, call *sent*, and return the arguments of the reply, *method*; see :meth:`wait`."""
        deadline = None if timeout is None else monotonic() + timeout
        # Another thread may read the reply as soon as the request is out, so it is expected before.
        with self.waits(), self._expecting(method) as promise:
            self.connection.frame_writer.write([frame], timeout, self, closings)
            try:
                if sent is not None:
                    sent()
                left = None if deadline is None else max(0.0, deadline - monotonic())
                return self._reply(promise, left, returns_tuple, closings)
            except BaseException:
                if not promise.ready and self.closings == closings:
                    self._overdue.append(method if isinstance(method, list) else [method])
                raise

    def wait(
        self,
        method: Any,
        callback: Callable[..., Any] | None = None,
        timeout: float | None = None,
        returns_tuple: bool = False,
    ) -> Any:
        """Wait for *method* (a signature, or a list of alternatives) on this channel and return its arguments.

        Arguments:
            callback: called with the signature and the arguments as soon as the method arrives.
            timeout: seconds; by default the connection's ``operation_timeout``.
            returns_tuple: return all arguments, not the first alone.

        Raises:
            socket.timeout: it did not arrive in time.
            amqp.exceptions.AMQPError: the channel or the connection was closed meanwhile.
        """
        if self.connection is None:
            raise RecoverableConnectionError("connection already closed")
        with self._expecting(method, callback) as promise:
            return self._reply(promise, timeout, returns_tuple)

    @contextmanager
    def _expecting(self, method: Any, callback: Callable[..., Any] | None = None) -> Iterator[Any]:
        """Have *method*, when it arrives within the block, fulfil the promise that this gives."""
        promise = ensure_promise(callback)
        methods = method if isinstance(method, list) else [method]
        pending = self._pending
        shadowed = [(each, pending.get(each)) for each in methods]
        for each in methods:
            pending[each] = promise
        try:
            yield promise
        finally:
            for each, previous in shadowed:
                if previous is not None:
                    pending[each] = previous
                elif pending.get(each) is promise:
                    del pending[each]

    def _reply(self, promise: Any, timeout: float | None, returns_tuple: bool, closings: int | None = None) -> Any:
        """Wait until *promise* is fulfilled and return what it was given, the method's signature left out."""
        if timeout is None and self.connection is not None:
            timeout = self.connection.operation_timeout
        self.wait_until(lambda: promise.ready, timeout, closings)
        if not promise.value:
            return None
        arguments = promise.value[0][1:]
        return arguments if returns_tuple else (arguments[0] if arguments else None)

    def wait_until(self, ready: Callable[[], bool], timeout: float | None, closings: int | None = None) -> None:
        """Wait until *ready()* holds; a broker that closes this channel meanwhile ends the wait.

        Arguments:
            timeout: seconds; None for ever.
            closings: :attr:`closings` at the time from which on the channel has to stay open; by default now.

        Raises:
            socket.timeout: it did not hold within *timeout* seconds.
            amqp.exceptions.AMQPError: the channel or the connection was closed meanwhile.
        """
        connection = self.connection
        if closings is None:
            closings = self.closings

        def settled() -> bool:
            if ready():
                return True
            if self.closings != closings:
                self.raise_closed()
            return False

        if settled():
            return
        if connection is None:
            raise RecoverableConnectionError("connection already closed")
        with self.waits():
            connection.wait_for(settled, timeout)

    @contextmanager
    def waits(self) -> Iterator[None]:
        """Have the calling thread count as one that waits on this channel: what closes the channel is raised there."""
        key = object()
        self.waiting_threads[key] = threading.get_ident()
        try:
            yield
        finally:
            del self.waiting_threads[key]

    def waited_for_here(self) -> bool:
        """Return whether this thread waits on this channel."""
        return threading.get_ident() in list(self.waiting_threads.values())

    def waited_for_elsewhere(self) -> bool:
        """Return whether other threads wait on this channel, and this one does not."""
        return bool(self.waiting_threads) and not self.waited_for_here()

    def decode_method(self, method: tuple[int, int], payload: Any) -> list[Any]:
        """Decode the arguments of *method* from the payload of its frame.

        Raises:
            amqp.exceptions.AMQPNotImplementedError: no such method on this channel.
            amqp.exceptions.FrameSyntaxError: the arguments cannot be decoded.
        """
        try:
            specification = self._METHODS[method]
        except KeyError:
            raise AMQPNotImplementedError(f"Unknown AMQP method {method!r}") from None
        if not specification.args:
            return []
        arguments, end = frames.decode_arguments(specification.args, payload, 4)
        if end != len(payload):
            raise FrameSyntaxError(f"{len(payload) - end} bytes are left over after the arguments of method {method!r}")
        return arguments

    def deliver_method(self, method: tuple[int, int], arguments: list[Any]) -> None:
        """Hand *arguments* to the listener of *method* and to whoever waits for it."""
        if self.is_closing and method not in self._ALLOWED_METHODS_WHEN_CLOSING:
            # Whatever was under way when we asked to close has to be discarded: section 1.5.2.5 of the specification.
            return
        listener = self._callbacks.get(method)
        late = next((methods for methods in self._overdue if method in methods), None)
        if late is not None:
            self._overdue.remove(late)
            waiting = None
            if method not in _ENDINGS:
                listener = None
        else:
            waiting = self._pending.pop(method, None)
        if listener is not None:
            listener(*arguments)
        if waiting is not None:
            waiting(method, *arguments)
