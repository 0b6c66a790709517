"""Record what is called, slept and raised by ``ensure`` and its kin, timers and event loops, and the classes of errors.

Run where kombu 5.7.0 is installed, from the root of the project, to make the record anew::

    python tests/compat/record_schedules.py

It overwrites ``recorded/schedules.json`` beside this file.  ``test_schedules_recorded.py`` asks the kombu under test
the same questions, and has those where the answers differ on purpose.
"""

from __future__ import annotations

import json
import logging
import pathlib
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import Empty
from typing import Any

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from amqp.exceptions import AccessRefused, NotFound, RecoverableChannelError, RecoverableConnectionError  # noqa: E402

import kombu  # noqa: E402
from kombu import Connection, exceptions  # noqa: E402
from kombu.asynchronous import ERR, READ, WRITE, Hub  # noqa: E402
from kombu.asynchronous.hub import Stop  # noqa: E402
from kombu.asynchronous.semaphore import DummyLock, LaxBoundedSemaphore  # noqa: E402
from kombu.asynchronous.timer import Timer, to_timestamp  # noqa: E402
from kombu.transport import base, memory, pyamqp, virtual  # noqa: E402
from kombu.utils.limits import TokenBucket  # noqa: E402
from scripted_transport import Broker, Scripted, Undecided, connection_to  # noqa: E402

RECORD = pathlib.Path(__file__).parent / "recorded" / "schedules.json"


class Clock:
    """Time that passes only while somebody sleeps, and the log of what happens in it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.log: list[Any] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        # Whether a long sleep is taken in slices is nobody's business.
        if self.log and self.log[-1][0] == "sleep":
            self.log[-1][1] = round(self.log[-1][1] + seconds, 6)
        elif seconds:
            self.log.append(["sleep", round(seconds, 6)])

    def note(self, *entry: Any) -> None:
        self.log.append(list(entry))


@contextmanager
def clocked() -> Iterator[Clock]:
    """Have every module of kombu live by a clock of our own, wherever it has kept the functions of ``time``."""
    clock = Clock()
    fakes = {time.monotonic: clock.monotonic, time.time: clock.monotonic, time.sleep: clock.sleep}
    undo: list[Callable[[], Any]] = []

    def fake(value: Any) -> Any:
        try:
            return fakes.get(value)
        except TypeError:  # not hashable
            return None

    def patch_defaults(function: Any) -> None:
        defaults = getattr(function, "__defaults__", None)
        if isinstance(function, types.FunctionType) and defaults and any(map(fake, defaults)):
            undo.append(partial(setattr, function, "__defaults__", defaults))
            function.__defaults__ = tuple(fake(value) or value for value in defaults)

    for name, module in list(sys.modules.items()):
        if module is None or name.partition(".")[0] != "kombu" or "_speedups" in name:
            continue
        for attribute, value in list(vars(module).items()):
            if fake(value):
                undo.append(partial(setattr, module, attribute, value))
                setattr(module, attribute, fake(value))
            elif isinstance(value, type):
                for method in list(vars(value).values()):
                    patch_defaults(method)
            else:
                patch_defaults(value)
    try:
        yield clock
    finally:
        for step in reversed(undo):
            step()


def name_of(cls: Any) -> str:
    # Ours has a module of another name where it is asked again.
    return cls.__qualname__ if cls is Retried else f"{cls.__module__}.{cls.__qualname__}"


# -- ensure and its kin.


class Retried(LookupError):
    """What ``retry_errors`` names."""


class Revived:
    """What is to be revived."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def revive(self, channel: Any) -> None:
        self.clock.note("revive")


ERRORS: dict[str, Any] = {
    "connection": lambda: OSError(5, "lost"),
    "amqp connection": lambda: RecoverableConnectionError("lost"),
    "channel": lambda: RecoverableChannelError("closed"),
    "not found": lambda: NotFound("no queue"),
    "refused": lambda: AccessRefused("no"),
    "retried": lambda: Retried("again"),
    "other": lambda: ZeroDivisionError("by zero"),
    "library": lambda: exceptions.OperationalError("from elsewhere"),
}


def ensuring(
    error: str,
    times: int,
    *,
    transport: Any = Scripted,
    connected: bool = True,
    down: int = 0,
    cut: bool = True,
    hosts: str = "one",
    **policy: Any,
) -> list[Any]:
    """Ensure an operation that fails *times* times; the next *down* connects are refused."""
    with clocked() as clock:
        broker = Broker()
        broker.failures["connect"] = []
        connection = connection_to(broker, hosts, transport=transport)
        if connected:
            connection.connect()
        broker.failures["connect"] = [ConnectionRefusedError(111, "down")] * down
        broker.log.clear()
        note = broker.note
        broker.note = lambda *entry: (  # type: ignore[method-assign]
            clock.note(*entry) if entry[0] == "connect" else None,
            note(*entry),
        )
        calls = 0

        def operation(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            clock.note("call")
            if calls <= times:
                raised = ERRORS[error]()
                if cut and "connection" in error:
                    broker.cut()
                raise raised
            return [list(args), kwargs]

        if policy.pop("errback", False):
            policy["errback"] = lambda exc, interval: clock.note("errback", type(exc).__name__)
        if policy.pop("on_revive", False):
            policy["on_revive"] = lambda channel: clock.note("on_revive")
        if "retry_errors" in policy:
            policy["retry_errors"] = (Retried,)
        try:
            result = connection.ensure(Revived(clock), operation, **policy)(1, a=2)
            clock.note("result", result)
        except Exception as exc:
            clock.note("raised", name_of(type(exc)), str(exc))
        return clock.log


def connecting(down: int, *, hosts: str = "one", takes: float = 0.0, **policy: Any) -> list[Any]:
    """Make sure of a connection where the first *down* connects are refused."""
    with clocked() as clock:
        broker = Broker()
        broker.failures["connect"] = [ConnectionRefusedError(111, "down")] * down
        connection = connection_to(broker, hosts)
        note = broker.note

        def noted(*entry: Any) -> None:
            if entry[0] == "connect":
                clock.note(*entry)
                clock.now += takes
            note(*entry)

        broker.note = noted  # type: ignore[method-assign]
        if policy.pop("errback", False):
            policy["errback"] = lambda exc, interval: clock.note("errback", type(exc).__name__, interval)
        if policy.pop("callback", False):
            policy["callback"] = lambda: clock.note("callback")
        try:
            clock.note("result", connection.ensure_connection(**policy) is connection)
        except Exception as exc:
            clock.note("raised", name_of(type(exc)), str(exc))
        return clock.log


def retrying() -> dict[str, Any]:
    """Return what ``ensure`` and ``ensure_connection`` do, by calls of :func:`ensuring` and :func:`connecting`."""
    answers = {}
    asked = {"ensuring": ensuring, "connecting": connecting, "Undecided": Undecided}
    for expression in (
        *(f"ensuring({error!r}, 0)" for error in ERRORS),
        *(f"ensuring({error!r}, 1)" for error in ERRORS if error not in ("other", "library")),
        *(f"ensuring({error!r}, 3)" for error in ("connection", "amqp connection")),
        *(f"ensuring({error!r}, 1, errback=True, on_revive=True)" for error in ERRORS),
        *(f"ensuring({error!r}, 9, max_retries={n})" for error in ERRORS for n in (0, 1, 3)),
        *(f"ensuring({error!r}, 2, max_retries=3)" for error in ERRORS),
        *(f"ensuring({error!r}, 2, retry_errors=True)" for error in ("retried", "connection", "other")),
        *(f"ensuring({error!r}, 9, retry_errors=True, max_retries=2)" for error in ("retried", "connection", "other")),
        "ensuring('connection', 1, connected=False)",
        "ensuring('connection', 1, cut=False)",
        "ensuring('connection', 1, transport=Undecided)",
        "ensuring('channel', 1, transport=Undecided)",
        "ensuring('connection', 3, transport=Undecided)",
        "ensuring('connection', 1, hosts='one;two;three')",
        "ensuring('connection', 1, down=1)",
        "ensuring('connection', 1, down=2)",
        "ensuring('connection', 1, down=3, interval_start=0, interval_step=0)",
        "ensuring('connection', 1, down=4, interval_start=2, interval_step=3, interval_max=4)",
        "ensuring('connection', 1, down=1, errback=True)",
        "ensuring('connection', 1, down=9, max_retries=2)",
        "ensuring('connection', 1, down=2, hosts='one;two;three')",
    ):
        answers[expression] = eval(expression, asked)
    for down in (0, 1, 2, 4):
        for policy in (
            "",
            ", interval_start=1, interval_step=1, interval_max=1",
            ", interval_start=0, interval_step=0.5",
            ", max_retries=2",
            ", max_retries=4, interval_start=1, interval_step=2, interval_max=3",
            ", errback=True, max_retries=3",
            ", callback=True, interval_start=1",
            ", timeout=100",
            ", reraise_as_library_errors=False, max_retries=1",
            ", hosts='one;two'",
            ", hosts='one;two;three', max_retries=3",
        ):
            expression = f"connecting({down}{policy})"
            answers[expression] = eval(expression, asked)
    for policy in ("timeout=5", "timeout=5, takes=2", "timeout=5, takes=10", "timeout=0.5, interval_start=1"):
        expression = f"connecting(99, {policy})"
        answers[expression] = eval(expression, asked)
    return answers


# -- Timers.


def drained(timer: Timer, clock: Clock, rounds: int) -> None:
    """Let *rounds* turns of a loop pass as a worker does: apply what is due, sleep for what is not."""
    for (delay, entry), _ in zip(timer, range(rounds), strict=False):
        if entry is not None:
            clock.note("due", round(clock.now - 1000, 6))
            timer.apply_entry(entry)
        else:
            clock.note("wait", delay if delay is None else round(delay, 6))
            if delay is None:
                return
            clock.now += delay


def shown(timer: Timer) -> list[Any]:
    return [[round(each.eta - 1000, 6), each.priority, each.entry.args[0]] for each in timer.queue]


def timers() -> dict[str, Any]:
    """Return what timers do, by what they were told."""
    answers: dict[str, Any] = {}

    def case(title: str, *, rounds: int = 12, **options: Any) -> Callable[[Callable[[Any, Any], Any]], None]:
        def run(script: Callable[[Timer, Clock], Any]) -> None:
            with clocked() as clock:
                timer = Timer(**options)
                script(timer, clock)
                clock.note("queue", *shown(timer))
                drained(timer, clock, rounds)
                clock.note("left", *shown(timer))
                answers[title] = clock.log

        return run

    def say(clock: Clock) -> Callable[..., None]:
        return lambda *words, **more: clock.note("said", *words, *sorted(more.items()))

    @case("empty")
    def _(timer: Timer, clock: Clock) -> None:
        pass

    @case("out of order")
    def _(timer: Timer, clock: Clock) -> None:
        for delay in (3, 1, 2, 0, 1.5, -1):
            timer.call_after(delay, say(clock), (delay,))

    @case("priorities")
    def _(timer: Timer, clock: Clock) -> None:
        for number, priority in enumerate((0, 5, 3, 7)):
            timer.call_at(1001.0, say(clock), (number,), priority=priority)

    @case("keywords")
    def _(timer: Timer, clock: Clock) -> None:
        timer.call_after(1, say(clock), ("a",), {"b": 2})

    @case("absolute", max_interval=None)
    def _(timer: Timer, clock: Clock) -> None:
        timer.call_at(1002.5, say(clock), ("absolute",))
        timer.call_at(999, say(clock), ("past",))

    @case("limited", max_interval=2)
    def _(timer: Timer, clock: Clock) -> None:
        timer.call_after(5, say(clock), ("late",))

    @case("repeated", rounds=9)
    def _(timer: Timer, clock: Clock) -> None:
        timer.call_repeatedly(2, say(clock), ("again",))

    @case("repeated and single", rounds=15)
    def _(timer: Timer, clock: Clock) -> None:
        timer.call_repeatedly(2, say(clock), ("two",))
        timer.call_repeatedly(3.25, say(clock), ("three",))
        timer.call_after(4.5, say(clock), ("once",))

    @case("cancelled")
    def _(timer: Timer, clock: Clock) -> None:
        kept, dropped = (timer.call_after(n, say(clock), (n,)) for n in (1, 2))
        dropped.cancel()
        clock.note("cancelled", kept.canceled, dropped.canceled, dropped.cancelled)

    @case("cancelled by another")
    def _(timer: Timer, clock: Clock) -> None:
        victim = timer.call_after(2, say(clock), ("victim",))
        timer.call_after(1, lambda *_: timer.cancel(victim), ("murderer",))

    @case("repetition that cancels itself", rounds=9)
    def _(timer: Timer, clock: Clock) -> None:
        count: list[int] = []

        def again(*_: Any) -> None:
            count.append(1)
            clock.note("said", len(count))
            if len(count) == 2:
                entry.cancel()

        entry = timer.call_repeatedly(1, again, ("again",))

    @case("adds another")
    def _(timer: Timer, clock: Clock) -> None:
        timer.call_after(1, lambda *_: timer.call_after(1, say(clock), ("second",)), ("first",))

    @case("an error")
    def _(timer: Timer, clock: Clock) -> None:
        timer.on_error = lambda exc: clock.note("on_error", repr(exc))

        def fail(*_: Any) -> None:
            raise KeyError("failed")

        timer.call_after(1, fail, ("bad",))
        timer.call_after(2, say(clock), ("good",))

    @case("an error of a repetition", rounds=8)
    def _(timer: Timer, clock: Clock) -> None:
        def fail(*_: Any) -> None:
            clock.note("failing")
            raise KeyError("failed")

        timer.call_repeatedly(1, fail, ("bad",))

    @case("cleared")
    def _(timer: Timer, clock: Clock) -> None:
        timer.call_after(1, say(clock), ("gone",))
        clock.note("length", len(timer))
        timer.clear()
        clock.note("length", len(timer), bool(timer))

    @case("entries")
    def _(timer: Timer, clock: Clock) -> None:
        one, other = timer.call_after(1, say(clock), ("one",)), timer.call_after(2, say(clock), ("other",))
        clock.note("equal", one == one, one == other, one != other, hash(one) == hash(one))
        clock.note("tref", one.tref is one, one.cancelled, one.canceled, one.args, one.kwargs)
        one()

    return answers


# -- Event loops.


class ScriptedPoller:
    """A poller that reports what it was told, and notes how long it was to wait."""

    def __init__(self, clock: Clock, script: list[list[tuple[int, int]]]) -> None:
        self.clock, self.script = clock, list(script)

    def register(self, fd: Any, events: int) -> None:
        # The loop's own descriptor, which wakes it, has another number each time.
        self.clock.note("register", fd if fd > 1000 else "waker", events)

    def unregister(self, fd: Any) -> None:
        self.clock.note("unregister", fd)

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        self.clock.note("poll", timeout if timeout is None else round(timeout, 6))
        self.clock.now += timeout or 0
        return self.script.pop(0) if self.script else []

    def close(self) -> None:
        pass


def hubs() -> dict[str, Any]:
    """Return what event loops do, by what they were told."""
    answers: dict[str, Any] = {}

    def case(
        title: str, *script: list[tuple[int, int]], rounds: int = 4
    ) -> Callable[[Callable[[Hub, Clock], Any]], None]:
        def run(prepare: Callable[[Hub, Clock], Any]) -> None:
            with clocked() as clock:
                hub = Hub()
                hub.poller = ScriptedPoller(clock, list(script))
                prepare(hub, clock)
                loop = hub.create_loop(sleep=clock.sleep)
                for _ in range(rounds):
                    try:
                        next(loop)
                    except StopIteration:
                        clock.note("loop ends")
                        break
                    except (Exception, Stop) as exc:
                        clock.note("loop raises", repr(exc))
                        break
                clock.note("watched", sorted(hub.readers), sorted(hub.writers))
                answers[title] = list(clock.log)
                loop.close()
                hub.close()

        return run

    def say(clock: Clock) -> Callable[..., None]:
        return lambda *words: clock.note("said", *words)

    @case("nothing", rounds=2)
    def _(hub: Hub, clock: Clock) -> None:
        pass

    @case("a reader", [(1011, READ)], [], [(1011, READ)])
    def _(hub: Hub, clock: Clock) -> None:
        hub.add_reader(1011, say(clock), "read", 1)

    @case("a writer", [(1011, WRITE)], [(1011, WRITE)])
    def _(hub: Hub, clock: Clock) -> None:
        hub.add_writer(1011, say(clock), "write")

    @case("several", [(1011, READ), (1012, WRITE), (1013, READ)])
    def _(hub: Hub, clock: Clock) -> None:
        hub.add_reader(1011, say(clock), "read")
        hub.add_reader(1013, say(clock), "read, too")
        hub.add_writer(1012, say(clock), "write")

    @case("an error", [(1011, ERR)], [(1012, ERR)], [(1013, READ | ERR)])
    def _(hub: Hub, clock: Clock) -> None:
        hub.add_reader(1011, say(clock), "read")
        hub.add_writer(1012, say(clock), "write")
        hub.add_reader(1013, say(clock), "read, too")

    @case("nobody waits for it", [(1099, READ)], [(1098, WRITE)])
    def _(hub: Hub, clock: Clock) -> None:
        hub.add_reader(1011, say(clock), "read")

    @case("removed", [(1011, READ), (1012, READ)])
    def _(hub: Hub, clock: Clock) -> None:
        hub.add_reader(1011, say(clock), "read")
        hub.add_writer(1012, say(clock), "write")
        hub.remove(1011)
        hub.remove_writer(1012)
        hub.remove_reader(1077)

    @case("a timer", rounds=6)
    def _(hub: Hub, clock: Clock) -> None:
        hub.add_reader(1011, say(clock), "read")
        hub.call_later(0.25, say(clock), "later")
        hub.call_at(1000.75, say(clock), "at")

    @case("a repetition", rounds=8)
    def _(hub: Hub, clock: Clock) -> None:
        hub.add_reader(1011, say(clock), "read")
        hub.call_repeatedly(0.4, say(clock), "again")

    @case("timers alone", rounds=5)
    def _(hub: Hub, clock: Clock) -> None:
        hub.call_later(3, say(clock), "later")

    @case("call_soon", [(1011, READ)])
    def _(hub: Hub, clock: Clock) -> None:
        hub.add_reader(1011, say(clock), "read")
        hub.call_soon(say(clock), "soon")

    @case("on_tick", [(1011, READ)], rounds=3)
    def _(hub: Hub, clock: Clock) -> None:
        hub.add_reader(1011, say(clock), "read")
        hub.on_tick.add(lambda: clock.note("tick"))

    @case("a generator", [(1011, READ)], [(1011, READ)], [(1011, READ)], rounds=4)
    def _(hub: Hub, clock: Clock) -> None:
        def steps() -> Iterator[None]:
            clock.note("first")
            yield
            clock.note("second")

        hub.add_reader(1011, steps())

    @case("an empty queue", [(1011, READ)])
    def _(hub: Hub, clock: Clock) -> None:
        def read() -> None:
            raise Empty

        hub.add_reader(1011, read)

    @case("an error of a reader", [(1011, READ)])
    def _(hub: Hub, clock: Clock) -> None:
        def read() -> None:
            raise ZeroDivisionError("failed")

        hub.add_reader(1011, read)

    @case("a lost descriptor", [(1011, READ)])
    def _(hub: Hub, clock: Clock) -> None:
        def read() -> None:
            raise OSError(9, "bad descriptor")

        hub.add_reader(1011, read)

    @case("consolidated", [(1011, WRITE), (1012, WRITE)])
    def _(hub: Hub, clock: Clock) -> None:
        hub.consolidate_callback = lambda ready: clock.note("consolidated", sorted(ready))
        for fd in (1011, 1012):
            hub.add(fd, None, WRITE | ERR, consolidate=True)

    @case("stopped", [(1011, READ)])
    def _(hub: Hub, clock: Clock) -> None:
        hub.add_reader(1011, hub.stop)

    @case("unknown events", [(1011, 1 << 10)])
    def _(hub: Hub, clock: Clock) -> None:
        hub.add_reader(1011, say(clock), "read")

    def fired(expression: str) -> None:
        with clocked() as clock:
            hub = Hub()
            for delay in (0, -1, 0, 2.5, 30):
                hub.call_later(delay, say(clock), delay)
            clock.note("wait", hub.fire_timers(**eval(expression)))
            clock.note("wait", hub.fire_timers(**eval(expression)))
            answers[f"fire_timers {expression}"] = list(clock.log)
            hub.close()

    for expression in ("{}", "{'min_delay': 5}", "{'max_delay': 2}", "{'max_timers': 1}", "{'min_delay': 0.1}"):
        fired(expression)
    return answers


# -- What tasks are held back by.


def limits() -> dict[str, Any]:
    """Return what token buckets and semaphores let pass."""
    answers: dict[str, Any] = {}
    for rate, capacity in ((1, 1), (2, 1), (0.5, 1), (10, 5), (1, 3)):
        with clocked() as clock:
            bucket = TokenBucket(rate, capacity=capacity)
            for step in (0, 0, 0.05, 0.1, 0.5, 1, 1, 5, 0, 0, 0):
                clock.now += step
                passes = bucket.can_consume(1)
                clock.note(step, passes, None if passes else round(bucket.expected_time(1), 6))
            answers[f"bucket {rate} {capacity}"] = clock.log
    log: list[Any] = []
    semaphore = LaxBoundedSemaphore(2)
    for number in range(4):
        log.append([semaphore.acquire(log.append, number), semaphore.value])
    for _ in range(5):
        semaphore.release()
        log.append(semaphore.value)
    semaphore.grow(1)
    log.append([semaphore.initial_value, semaphore.value])
    semaphore.shrink(2)
    log.append([semaphore.initial_value, semaphore.value])
    semaphore.clear()
    log.append([semaphore.initial_value, semaphore.value])
    answers["semaphore"] = log
    with DummyLock() as locked:
        answers["dummy lock"] = repr(locked is None)
    return answers


# -- Errors.


def errors() -> dict[str, Any]:
    """Return the classes of exceptions of the library and of each transport."""
    answers: dict[str, Any] = {}
    for name, value in sorted(vars(exceptions).items()):
        if isinstance(value, type) and issubclass(value, BaseException):
            answers[f"exceptions.{name}"] = [name_of(cls) for cls in value.__mro__]
    kinds = ("connection_errors", "channel_errors", "recoverable_connection_errors", "recoverable_channel_errors")
    for transport in (pyamqp.Transport, pyamqp.SSLTransport, memory.Transport, virtual.Transport, base.Transport):
        for kind in kinds:
            answers[f"{name_of(transport)} {kind}"] = [name_of(cls) for cls in getattr(transport, kind, ())]
        answers[f"{name_of(transport)} implements"] = {
            key: sorted(value) if isinstance(value, (set, frozenset)) else value
            for key, value in sorted(transport.implements.items())
        }
        for name in ("driver_type", "driver_name", "default_port", "default_ssl_port", "can_parse_url"):
            answers[f"{name_of(transport)} {name}"] = getattr(transport, name, "(absent)")
    for url in ("amqp://", "amqps://", "pyamqp://", "memory://"):
        connection = Connection(url)
        for kind in kinds:
            answers[f"{url} {kind}"] = [name_of(cls) for cls in getattr(connection, kind)]
        for question in ("is_evented", "supports_heartbeats"):
            answers[f"{url} {question}"] = getattr(connection, question)
        types = ("direct", "topic", "fanout", "headers", "x-custom")
        answers[f"{url} exchange types"] = [kind for kind in types if connection.supports_exchange_type(kind)]
    for expression in (
        "kombu.Producer(None).publish('x')",
        "kombu.Exchange('e').declare()",
        "kombu.Queue('q').get()",
        "kombu.Exchange('e').channel",
        "kombu.Queue('q').channel",
        "kombu.Connection('memory://').Pool(1).acquire().Pool",
        "kombu.Exchange('e', delivery_mode='strange').delivery_mode",
        "kombu.Queue('q', nonsense=1)",
        "kombu.Consumer(kombu.Connection('memory://'), [kombu.Queue('q')]).consume()",
        "kombu.Consumer(kombu.Connection('memory://'), [kombu.Queue('q')]).receive('x', None)",
        "kombu.Connection('memory://').drain_events(timeout=0)",
        "kombu.Connection('memory://').channel().queue_declare('absent', passive=True)",
        "kombu.Connection('memory://').channel().typeof('absent')",
        "kombu.Connection('memory://').SimpleQueue('s').get_nowait()",
        "kombu.Connection('amqp://').supports_exchange_type('x')",
    ):
        try:
            answers[expression] = repr(eval(expression, {"kombu": kombu})).partition(" at 0x")[0]
        except Exception as exc:
            told = [name_of(type(exc))]
            # What a builtin says is Python's to change.
            answers[expression] = told if type(exc).__module__ == "builtins" else [*told, str(exc)]
    return answers


def to_timestamps() -> dict[str, Any]:
    return {repr(value): to_timestamp(value) for value in (0, 1.5, -3, 1e9)}


def answers() -> dict[str, Any]:
    """Ask everything."""
    logging.disable(logging.CRITICAL)
    try:
        return {
            "ensure": retrying(),
            "timers": timers(),
            "hubs": hubs(),
            "limits": limits(),
            "errors": errors(),
            "timestamps": to_timestamps(),
        }
    finally:
        logging.disable(logging.NOTSET)


def lines(record: dict[str, Any]) -> str:
    """Return *record* as JSON with a line for each answer."""
    sections = []
    for section, content in sorted(record.items()):
        entries = [f"{json.dumps(key)}: {json.dumps(each, sort_keys=True)}" for key, each in content.items()]
        sections.append(f'"{section}": {{\n' + ",\n".join(entries) + "\n}")
    return "{\n" + ",\n".join(sections) + "\n}\n"


if __name__ == "__main__":
    if kombu.__version__ != "5.7.0":
        sys.exit(f"this is kombu {kombu.__version__}, from {kombu.__file__}: the answers wanted are those of 5.7.0")
    RECORD.write_text(lines(answers()), encoding="ascii")
