"""``Producer.publish`` is a function to all who look at it, whoever serves its calls."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
import types
from importlib import import_module
from typing import Any

import pytest

import kombu

PUBLISH = kombu.Producer.publish


@pytest.fixture
def producer(peer, connect):
    producer = kombu.Producer(connect(peer), routing_key="k")
    for _ in range(2):
        producer.publish(b"planned from here on")
    return producer


def arrived(peer: Any, count: int) -> list[Any]:
    return peer.session().wait_for("basic.publish", 2 + count)[2:]


def test_it_is_a_function_to_all_who_look_at_it():
    assert inspect.isfunction(PUBLISH)
    assert isinstance(PUBLISH, types.FunctionType)
    assert PUBLISH.__qualname__ == "Producer.publish"
    assert PUBLISH.__module__ == "kombu.producer"
    assert type(kombu.Producer(None).publish) is types.MethodType
    assert repr(PUBLISH).startswith("<function Producer.publish at ")
    assert "def publish(" in inspect.getsource(PUBLISH)
    assert PUBLISH.__doc__.startswith("Publish one message.")
    assert PUBLISH.__dict__ == {} and PUBLISH.__closure__ is None
    parameters = list(inspect.signature(PUBLISH).parameters.values())
    assert [parameter.name for parameter in parameters[:3]] == ["self", "body", "routing_key"]
    assert parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(PUBLISH, protocol)) is PUBLISH
    assert copy.copy(PUBLISH) is copy.deepcopy(PUBLISH) is PUBLISH


def test_arguments_by_place_and_by_name_are_the_same(peer, producer):
    everything = {
        "body": b"x", "routing_key": "other", "delivery_mode": 1, "mandatory": True, "immediate": False, "priority": 3,
        "content_type": "x/y", "content_encoding": "binary", "serializer": None, "headers": None, "compression": None,
        "exchange": "e", "retry": False, "retry_policy": {"max_retries": 1}, "declare": None, "expiration": None,
        "timeout": None, "confirm_timeout": None, "confirm_callback": None,
    }
    names = list(inspect.signature(PUBLISH).parameters)[1:-1]
    assert list(everything) == names
    for count in range(len(names) + 1):
        producer.publish(
            *[everything[name] for name in names[:count]], **{name: everything[name] for name in names[count:]}
        )
        # As names are that nobody has written in a program.
        producer.publish(**{"".join(list(name)): value for name, value in everything.items()})
    publishes = arrived(peer, 2 * (len(names) + 1))
    looks = {
        (each.exchange, each.routing_key, each.mandatory, str(each.properties), bytes(each.body)) for each in publishes
    }
    assert len(looks) == 1
    assert looks.pop()[:3] == ("e", "other", True)


def test_what_is_not_planned_takes_the_long_way(peer, producer):
    producer.publish(b"x", headers={"a": 1})
    producer.publish(b"x", correlation_id="c")
    producer.publish(b"x", expiration=2)
    producer.publish(b"x", compression="zlib")
    producer.publish(b"x", retry=True)
    producer.publish(b"x", declare=[kombu.Exchange("e", channel=producer.channel)])
    seen = [each.properties for each in arrived(peer, 6)]
    assert seen[0]["application_headers"] == {"a": 1}
    assert seen[1]["correlation_id"] == "c"
    assert seen[2]["expiration"] == "2000"
    assert seen[3]["application_headers"] == {"compression": "application/x-gzip"}
    assert seen[4:] == [{"content_type": "application/data", "content_encoding": "binary", "delivery_mode": 2,
                         "application_headers": {}, "priority": 0}] * 2
    assert len(peer.session().arrived("exchange.declare")) == 1


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((), {"routing_key": "k"}),
        (("x",), {"body": "x"}),
        (("x", "k"), {"routing_key": "k"}),
        (tuple("x" * 20), {}),
    ],
)
def test_a_wrong_call_is_the_error_that_it_always_was(producer, args, kwargs):
    plain = types.FunctionType(PUBLISH.__code__, PUBLISH.__globals__, "publish", PUBLISH.__defaults__)
    plain.__qualname__ = PUBLISH.__qualname__
    with pytest.raises(TypeError) as expected:
        plain(producer, *args, **kwargs)
    with pytest.raises(TypeError) as found:
        producer.publish(*args, **kwargs)
    assert str(found.value) == str(expected.value)
    with pytest.raises(TypeError, match="self"):
        PUBLISH()


def test_whoever_is_no_producer_is_asked_as_any_self_is():
    class Stand:
        _plans = None
        exchange = kombu.Exchange("e")
        asked: list[Any] = []

        def _delivery_details(self, *args):
            self.asked.append(args)
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        PUBLISH(Stand(), "x")
    assert len(Stand.asked) == 1


def test_code_and_defaults_that_are_put_in_count(peer, producer, monkeypatch):
    def other(self, body, **properties):
        return "other"

    with monkeypatch.context() as patch:
        patch.setattr(PUBLISH, "__code__", other.__code__)
        assert producer.publish(b"x", routing_key="k") == "other"
    with monkeypatch.context() as patch:
        defaults = list(PUBLISH.__defaults__)
        defaults[0] = "another key"
        patch.setattr(PUBLISH, "__defaults__", tuple(defaults))
        producer.publish(b"x")
    producer.publish(b"x")
    assert [each.routing_key for each in arrived(peer, 2)] == ["another key", "k"]


def test_errors_of_the_encoder_come_out(producer):
    for _ in range(3):
        with pytest.raises(kombu.exceptions.EncodeError):
            producer.publish(object())


def test_calls_keep_nothing(peer, producer):
    key, body = "key of its own", {"a": object}
    headers: dict[str, Any] = {}
    before = [sys.getrefcount(each) for each in (key, body, headers, producer, PUBLISH)]
    for _ in range(50):
        with pytest.raises(kombu.exceptions.EncodeError):
            producer.publish(body, key)
        producer.publish(b"x", "k", headers=headers)
    after = [sys.getrefcount(each) for each in (key, body, headers, producer, PUBLISH)]
    assert [now - then for now, then in zip(after, before, strict=True)] == [0] * 5


@pytest.mark.c_extensions
def test_no_other_function_is_served():
    with pytest.raises(TypeError, match="other parameters than the compiled core knows: self, body"):
        import_module("kombu._speedups.planning").quicken(lambda self, body: None)
