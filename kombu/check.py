"""Try a broker: what ``python -m kombu check [URL]`` does.

Messages go through a queue of the check's own while the command publishes and consumes in turn, so that only a window
of them is ever outside; each is compared with what was published and acknowledged.  Anything that is not as it should
be is a :exc:`CheckFailed`, or the exception of the library that met it, and ends the command with one line.
"""

from __future__ import annotations

import argparse
import os
import platform
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points, version
from typing import Any, TextIO

from kombu import __version__, _core
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer, Producer
from kombu.transport import ENTRY_POINTS, TRANSPORT_ALIASES, resolve_transport
from kombu.utils.uuid import uuid

__all__ = ("CheckFailed", "Traffic", "add_arguments", "run")

#: Most messages, and about the most octets of body, that are published and not consumed yet.
WINDOW = 1000
WINDOW_OCTETS = 32 * 1024 * 1024
#: Seconds between two signs of life.
PROGRESS_INTERVAL = 1.0


class CheckFailed(Exception):
    """The broker, or what came from it, is not as it should be; the text says how."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give *parser* the arguments that :func:`run` reads."""
    parser.add_argument("url", nargs="?", default="memory://", help="broker to try (default: %(default)s)")
    parser.add_argument(
        "--count", type=_at_least(1), default=10_000, metavar="N", help="number of messages (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=_at_least(0), default=256, metavar="N", help="octets in each body (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=30.0,
        metavar="S",
        help="seconds to wait for the connection, and for any next message (default: %(default)g)",
    )
    parser.add_argument("--cafile", metavar="FILE", help="trust the TLS certificates that this PEM file signs")
    parser.add_argument("--quiet", action="store_true", help="no progress while it runs")


def run(options: argparse.Namespace, out: TextIO | None = None) -> None:
    """Carry out the check that *options* describe and print what it finds to *out*, by default ``sys.stdout``.

    Raises:
        CheckFailed: messages were lost, changed, doubled or not acknowledged, or nothing arrived any more.
        Exception: whatever the transport raises, when the broker cannot be reached or goes away.
    """
    out = sys.stdout if out is None else out
    say = partial(print, file=out, flush=True)
    say(f"kombu {__version__}, core: {_core.impl} ({_why()})")
    say(f"Python {platform.python_version()}, amqp {version('amqp')}, {platform.system()} {platform.machine()}")
    say(f"transports: {', '.join(_transports())}")
    connection = Connection(options.url, connect_timeout=options.timeout, transport_options=_limits(options.timeout))
    if options.cafile:
        connection.ssl = {
            "ca_certs": options.cafile,
            "cert_reqs": ssl.CERT_REQUIRED,
            "server_hostname": connection.hostname,
        }
    say(f"broker: {connection.as_uri()}")
    progress = _Progress(options.count, None if options.quiet else out)
    try:
        connection.connect()
        say(f"  {_broker(connection)}")
        traffic = Traffic(connection, options.count, options.size, options.timeout, progress.update)
        traffic.run()
    except BaseException:
        # Not in order, since that takes a broker that answers.
        connection.collect()
        raise
    finally:
        progress.finish()
    connection.release()
    for line in traffic.report():
        say(line)
    say("ok")


@dataclass
class Traffic:
    """Messages that go through a broker and back, each of them checked.

    Args:
        connection: connected.
        count: number of messages.
        size: octets in each body.
        timeout: seconds without any message after which the check fails.
        on_progress: called with the traffic from time to time.

    Attributes:
        published, consumed: numbers of messages so far; all that were consumed are acknowledged.
        publishing, consuming: seconds spent in either.
        cpu: seconds of processor time in the whole run.
    """

    connection: Any
    count: int
    size: int
    timeout: float = 30.0
    on_progress: Callable[[Traffic], None] = lambda traffic: None
    published: int = 0
    consumed: int = 0
    publishing: float = 0.0
    consuming: float = 0.0
    cpu: float = 0.0
    queue: str = field(init=False)

    def __post_init__(self) -> None:
        self.queue = f"kombu-check-{uuid()}"
        self.window = max(2, min(WINDOW, WINDOW_OCTETS // max(self.size, 1)))

    def body(self, number: int) -> bytes:
        """Return the body of the *number*-th message: the number in eight octets, again and again up to the size."""
        stamp = number.to_bytes(8, "big")
        if self.size < len(stamp):
            return stamp[len(stamp) - self.size :]
        return (stamp * (self.size // len(stamp) + 1))[: self.size]

    def run(self) -> None:
        """Move all messages, and remove the queue whatever happens.

        Raises:
            CheckFailed: see :func:`run` of the module.
        """
        started = time.process_time()
        channel = self.connection.channel()
        # Not by Queue.declare(), for which what is exclusive is deleted with its consumer too.
        channel.queue_declare(queue=self.queue, durable=False, exclusive=True, auto_delete=False)
        try:
            self._move(channel)
            # Closing a channel gives back what it left unacknowledged.
            channel.close()
            channel = self.connection.channel()
            left = channel.queue_declare(queue=self.queue, passive=True).message_count
            if left:
                raise CheckFailed(f"{left} of {self.count} messages were not acknowledged, or came out of nowhere")
        except KeyboardInterrupt:
            self._remove_queue_after_failure()
            raise KeyboardInterrupt(f"{self.consumed:,} of {self.count:,} messages had come back") from None
        except BaseException:
            self._remove_queue_after_failure()
            raise
        channel.queue_delete(self.queue)
        channel.close()
        self.cpu = time.process_time() - started

    def report(self) -> list[str]:
        """Return what was done, and how fast, in lines for people."""
        total = self.publishing + self.consuming
        megabytes = self.count * self.size / 1e6
        return [
            f"published {self.count:,} messages of {self.size:,} octets ({megabytes:,.1f} MB)"
            f" in {self.publishing:.2f} s: {_rate(self.count, self.publishing)}",
            f"consumed, verified and acknowledged all in {self.consuming:.2f} s: {_rate(self.count, self.consuming)}",
            f"both in {total:.2f} s: {_rate(self.count, total)}, {1e6 * self.cpu / self.count:.1f} us of CPU a message",
        ]

    def _move(self, channel: Any) -> None:
        producer = Producer(channel)
        consumer = Consumer(channel, queues=[Queue(self.queue)], on_message=self._receive, auto_declare=False)
        consumer.qos(prefetch_count=self.window)
        consumer.consume()
        next_progress = time.monotonic() + PROGRESS_INTERVAL
        while self.consumed < self.count:
            self._publish_window(producer)
            self._consume_half()
            now = time.monotonic()
            if now >= next_progress:
                self.on_progress(self)
                next_progress = now + PROGRESS_INTERVAL
        consumer.cancel()

    def _publish_window(self, producer: Producer) -> None:
        started = time.monotonic()
        goal = min(self.count, self.consumed + self.window)
        while self.published < goal:
            producer.publish(self.body(self.published), routing_key=self.queue, delivery_mode="transient")
            self.published += 1
        self.publishing += time.monotonic() - started

    def _consume_half(self) -> None:
        """Consume until half of the window, or at the end all of it, has come back."""
        started = last_arrival = time.monotonic()
        goal = self.published if self.published == self.count else self.published - self.window // 2
        while self.consumed < goal:
            before = self.consumed
            try:
                self.connection.drain_events(timeout=min(1.0, self.timeout))
            except TimeoutError:
                pass  # whether it has been too long is seen below
            now = time.monotonic()
            if self.consumed > before:
                last_arrival = now
            elif now - last_arrival >= self.timeout:
                raise CheckFailed(
                    f"no message arrived for {self.timeout:g} s: {self.published} published, {self.consumed} consumed"
                )
        self.consuming += time.monotonic() - started

    def _receive(self, message: Any) -> None:
        # A body without octets is an empty str where it has a content encoding.
        body = message.payload or b""
        expected = self.body(self.consumed)
        if body != expected:
            raise CheckFailed(f"message {self.consumed} is not the one published: {_difference(body, expected)}")
        message.ack()
        self.consumed += 1

    def _remove_queue_after_failure(self) -> None:
        if self.connection.transport.driver_type == "amqp":
            return  # it is exclusive and goes with the connection; the broker may not even answer any more
        try:
            self.connection.channel().queue_delete(self.queue)
        except Exception as exc:  # what failed first is what has to be reported
            print(f"kombu check: queue {self.queue} could not be removed: {exc!r}", file=sys.stderr)


class _Progress:
    """A line that is rewritten on a terminal, and lines one after the other elsewhere."""

    def __init__(self, count: int, out: TextIO | None) -> None:
        self.count = count
        self.out = out
        self.started = time.monotonic()
        self.rewriting = out is not None and out.isatty()
        self.shown = False

    def update(self, traffic: Traffic) -> None:
        if self.out is None:
            return
        share = 100 * traffic.consumed // self.count
        rate = _rate(traffic.consumed, time.monotonic() - self.started)
        line = f"  {traffic.consumed:,} of {self.count:,} ({share} %), {rate}"
        start, end = ("\r", "\033[K") if self.rewriting else ("", "\n")
        print(f"{start}{line}", end=end, file=self.out, flush=True)
        self.shown = True

    def finish(self) -> None:
        if self.shown and self.rewriting:
            print("\r\033[K", end="", file=self.out, flush=True)


def _limits(timeout: float) -> dict[str, float]:
    """Return transport options that keep a broker which has stopped from holding the check up for ever."""
    return {"read_timeout": timeout, "write_timeout": timeout}


def _why() -> str:
    wanted = os.environ.get("KOMBU_IMPL")
    if wanted:
        return f"KOMBU_IMPL={wanted}"
    if _core.fallback_reason:
        return f"the compiled core cannot be used: {_core.fallback_reason}"
    return "compiled"


def _transports() -> list[str]:
    """Return the names of the transports that can be used here."""
    names = {*TRANSPORT_ALIASES, *(entry.name for entry in entry_points(group=ENTRY_POINTS))}
    return sorted(name for name in names if _usable(name))


def _usable(name: str) -> bool:
    try:
        resolve_transport(name)
    except Exception:  # a transport of somebody else's may fail to import in any way; it cannot be used then
        return False
    return True


def _broker(connection: Any) -> str:
    """Return product, version and what was negotiated, as far as the transport knows."""
    transport, raw = connection.transport, connection.connection
    properties = getattr(raw, "server_properties", None)
    if not properties:
        driver_version = transport.driver_version()
        return transport.driver_name if driver_version == "N/A" else f"{transport.driver_name} {driver_version}"
    heartbeat = f"{raw.heartbeat:g} s" if raw.heartbeat else "off"
    return (
        f"{properties.get('product', 'unknown product')} {properties.get('version', 'of unknown version')}; "
        f"frame_max {raw.frame_max}, heartbeat {heartbeat}, channel_max {raw.channel_max}"
    )


def _difference(body: Any, expected: bytes) -> str:
    if not isinstance(body, bytes):
        return f"a {type(body).__name__} where {len(expected)} octets were expected"
    if len(body) != len(expected):
        return f"{len(body)} octets where {len(expected)} were expected"
    place = next(i for i, (one, other) in enumerate(zip(body, expected, strict=True)) if one != other)
    return f"0x{body[place]:02x} where 0x{expected[place]:02x} was expected at octet {place}"


def _rate(count: int, seconds: float) -> str:
    return f"{count / seconds:,.0f}/s" if seconds > 0 else "at once"


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return value

    return number


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value
