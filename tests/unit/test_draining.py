"""What a connection is drained by: its tap where it has one, its transport otherwise; on both cores alike."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from typing import Any

import pytest

import streams
from rig import Rig
from scripted_transport import forked


class Stopped(BaseException):
    """No error of a connection."""


def connection_of(core: Any) -> Any:
    """Return an object that is drained as a connection is, and records what it is asked for."""

    class Drained(core.draining.Drains):
        _tap: Any = None

        def __init__(self) -> None:
            self.asked: list[Any] = []
            self.noted: list[BaseException] = []

        def _drain_by_transport(self, timeout: Any, max_events: Any, kwargs: dict[str, Any]) -> Any:
            given = "nothing" if timeout is core.draining.UNSET else timeout
            self.asked.append((given, max_events, kwargs))
            return "from the transport"

        def _note(self, exc: BaseException) -> None:
            self.noted.append(exc)

    return Drained()


@pytest.fixture
def rig(core) -> Iterator[Rig]:
    made = Rig(core, False)
    yield made
    made.close()


def test_a_tap_is_given_time_and_number_of_events(core):
    connection, calls = connection_of(core), []
    connection._tap = core.draining.Tap(lambda timeout, max_events: calls.append((timeout, max_events)) or len(calls))
    assert [connection.drain_events(), connection.drain_events(2.5), connection.drain_events(max_events=7)] == [1, 2, 3]
    assert connection.drain_events(timeout=None, max_events=1) == 4
    assert calls == [(None, 1), (2.5, 1), (None, 7), (None, 1)]
    assert connection.asked == []


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ({"unknown": 1}, ("nothing", 1, {"unknown": 1})),
        ({"timeout": 1, "unknown": 1}, (1, 1, {"unknown": 1})),
        ({"max_events": 0}, ("nothing", 0, {})),
        ({"max_events": -1}, ("nothing", -1, {})),
        ({"max_events": True}, ("nothing", True, {})),
        ({"max_events": "2"}, ("nothing", "2", {})),
        ({"max_events": None, "timeout": 0}, (0, None, {})),
    ],
)
def test_what_a_tap_does_not_take_is_for_the_transport(core, arguments, asked):
    connection = connection_of(core)
    connection._tap = core.draining.Tap(lambda timeout, max_events: pytest.fail("called"))
    assert connection.drain_events(**arguments) == "from the transport"
    assert connection.asked == [asked]
    assert type(connection.asked[0][1]) is type(asked[1])


def test_without_a_tap_the_transport_is_asked(core):
    connection = connection_of(core)
    connection.drain_events()
    connection.drain_events(None)
    connection.drain_events(0, 2, unknown=3)
    assert connection.asked == [("nothing", 1, {}), (None, 1, {}), (0, 2, {"unknown": 3})]


def test_an_error_is_noted_and_raised(core):
    connection, error = connection_of(core), OSError("gone")

    def fail(timeout: Any, max_events: int) -> int:
        raise error

    connection._tap = core.draining.Tap(fail)
    with pytest.raises(OSError, match="gone") as caught:
        connection.drain_events(1)
    assert caught.value is error
    assert connection.noted == [error]


def test_each_connection_is_drained_by_the_tap_that_it_has_at_present(core):
    connections, calls = [connection_of(core) for _ in range(2)], []

    def tap(name: str) -> Any:
        return core.draining.Tap(lambda timeout, max_events: calls.append(name) or 1)

    for number, connection in enumerate(connections):
        connection._tap = tap(f"{number}")
    for _ in range(2):
        for connection in connections:
            connection.drain_events()
            connection.drain_events()
    assert calls == ["0", "0", "1", "1"] * 2
    first = connections[0]
    first.drain_events()
    first._tap = tap("new")
    first.drain_events()
    vars(first)["_tap"] = tap("newer")
    first.drain_events()
    assert calls[8:] == ["0", "new", "newer"]
    type(first)._tap = property(lambda self: tap("of the class"))
    first.drain_events()
    assert calls[11:] == ["of the class"]
    del type(first)._tap
    type(first)._tap = None
    first.drain_events()
    del first._tap
    assert first.drain_events() == "from the transport"
    assert calls[12:] == ["newer"]


def test_what_is_no_error_is_raised_and_not_noted(core):
    connection = connection_of(core)

    def stop(timeout: Any, max_events: int) -> int:
        raise Stopped

    connection._tap = core.draining.Tap(stop)
    with pytest.raises(Stopped):
        connection.drain_events(1)
    assert connection.noted == []


@pytest.mark.parametrize("bound", [True, False], ids=["the loop's own method", "a function"])
def test_a_receive_loop_dispatches_what_has_come(core, rig, bound):
    connection, receiver = connection_of(core), rig.receiver
    drain = receiver.drain_events if bound else lambda timeout, max_events: receiver.drain_events(timeout, max_events)
    connection._tap = core.draining.Tap(drain)
    rig.send(b"".join(streams.delivery(b"%d" % number) for number in range(6)))
    assert [connection.drain_events(), connection.drain_events(1)] == [1, 1]
    assert connection.drain_events(1, max_events=3) == 3
    assert rig.bodies == [b"0", b"1", b"2", b"3", b"4"]
    assert connection.drain_events(timeout=0) == 1
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0)
    assert [type(error) for error in connection.noted] == [TimeoutError]


def test_a_subclass_of_the_receive_loop_is_asked_by_its_own_method(core):
    class Counting(core.drain.Receiver):
        calls = 0

        def drain_events(self, timeout: Any = None, max_events: int = 1) -> int:
            type(self).calls += 1
            return int(super().drain_events(timeout, max_events))

    rig = Rig(core, False)
    try:
        receiver = Counting(rig.link, rig.channels, rig.on_method, None)
        connection = connection_of(core)
        connection._tap = core.draining.Tap(receiver.drain_events)
        rig.send(streams.delivery(b"x"))
        assert (connection.drain_events(1), Counting.calls, rig.bodies) == (1, 1, [b"x"])
    finally:
        rig.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_tap_is_of_no_use_in_a_child_process(core):
    connection = connection_of(core)
    connection._tap = core.draining.Tap(lambda timeout, max_events: 1)

    def child() -> Any:
        inherited = connection.drain_events(1)
        connection._tap = core.draining.Tap(lambda timeout, max_events: 2)
        return inherited, connection.drain_events(1)

    assert forked(child) == ("from the transport", 2)
    assert connection.drain_events(1) == 1


def test_a_class_may_have_another_base_that_is_compiled(core):
    class Both(core.pool.Lent, core.draining.Drains):
        _tap = None

    assert isinstance(Both(), core.draining.Drains)


def test_both_cores_take_the_same_arguments(core):
    parameters = inspect.signature(core.draining.Drains.drain_events).parameters
    assert [(name, parameter.kind.name) for name, parameter in parameters.items()] == [
        ("self", "POSITIONAL_OR_KEYWORD"),
        ("timeout", "POSITIONAL_OR_KEYWORD"),
        ("max_events", "POSITIONAL_OR_KEYWORD"),
        ("kwargs", "VAR_KEYWORD"),
    ]
    assert parameters["max_events"].default == 1
