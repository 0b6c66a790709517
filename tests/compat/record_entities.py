"""Record what entities, producers and consumers are, and what they ask of a channel.

Run where kombu 5.7.0 is installed, from the root of the project, to make the record anew::

    python tests/compat/record_entities.py

It overwrites ``recorded/entities.json`` beside this file.  ``tests/unit/test_entities_recorded.py`` runs the same
questions against the kombu under test and compares the answers.
"""

from __future__ import annotations

import base64
import itertools
import json
import pathlib
import pickle
from typing import Any

from kombu import Connection, Consumer, Exchange, Producer, Queue, binding
from kombu.common import Broadcast
from kombu.entity import maybe_delivery_mode
from kombu.simple import SimpleBuffer, SimpleQueue

RECORD = pathlib.Path(__file__).parent / "recorded" / "entities.json"


class Client(Connection):
    """A connection that is there and does nothing."""

    def __init__(self) -> None:
        self.declared_entities: set[int] = set()
        self.connection_errors = (OSError,)
        self.channel_errors = (LookupError,)


class RawConnection:
    """What a transport's channel has as its connection."""

    def __init__(self) -> None:
        self.client = Client()


class RecordingChannel:
    """A channel that writes down each call and answers as a broker would."""

    no_ack_consumers: set[str] = set()

    def __init__(self) -> None:
        self.connection = RawConnection()
        self.channel_id = 7
        self.calls: list[list[Any]] = []
        self.events = {"basic_return": set()}

    def _note(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        shown = {key: "<callable>" if callable(value) else value for key, value in sorted(kwargs.items())}
        self.calls.append([name, plain(list(args)), plain(shown)])

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("basic_", "exchange_", "queue_", "flow", "prepare_")):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._note(name, args, kwargs)
            return None

        return call

    def prepare_queue_arguments(self, arguments: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        self._note("prepare_queue_arguments", (arguments,), kwargs)
        return {**arguments, **{name: value for name, value in kwargs.items() if value is not None}}

    def prepare_message(self, *args: Any, **kwargs: Any) -> str:
        self._note("prepare_message", args, kwargs)
        return "<message>"

    def queue_declare(self, *args: Any, **kwargs: Any) -> tuple[str, int, int]:
        self._note("queue_declare", args, kwargs)
        return kwargs["queue"] or "amq.gen-1", 3, 1

    def queue_purge(self, *args: Any, **kwargs: Any) -> int:
        self._note("queue_purge", args, kwargs)
        return 3


def plain(value: Any) -> Any:
    """Return *value* in the terms of JSON."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(each) for each in value)
    if isinstance(value, bytes):
        return {"<bytes>": value.decode("latin-1")}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return repr(value)


def exchanges() -> dict[str, Exchange]:
    """Return exchanges of all kinds."""
    return {
        "default": Exchange(),
        "named": Exchange("tasks"),
        "topic": Exchange("logs", "topic"),
        "transient": Exchange("gone", type="fanout", durable=False, auto_delete=True, delivery_mode="transient"),
        "mode by number": Exchange("n", delivery_mode=2),
        "mode by name": Exchange("n", delivery_mode="persistent"),
        "mode unknown": Exchange("n", delivery_mode=3),
        "arguments": Exchange("a", "headers", arguments={"alternate-exchange": "other", "x-n": 1}),
        "passive": Exchange("p", passive=True),
        "not declared": Exchange("nd", no_declare=True),
        "internal": Exchange("amq.topic", "topic"),
        "quotes": Exchange("it's"),
        "more keywords": Exchange("m", routing_key="ignored", durable=1),
    }


def queues() -> dict[str, Queue]:
    """Return queues of all kinds."""
    source = Exchange("tasks", "topic")
    return {
        "empty": Queue(),
        "named": Queue("q"),
        "exchange": Queue("q", source, "a.*"),
        "exchange by name": Queue("q", "tasks", routing_key="k"),
        "one binding": Queue("q", [binding(source, "a", {"x-match": "all"}, {"x": 1})]),
        "bindings keyword": Queue("q", bindings=[binding(source, routing_key="b")]),
        "binding to default": Queue("q", bindings=(binding(Exchange(""), "b"),)),
        "flags": Queue("q", source, "k", durable=False, exclusive=True, no_ack=True, alias="other"),
        "auto delete": Queue("q", source, auto_delete=True),
        "limits": Queue(
            "q", source, expires=10, message_ttl=1.5, max_length=100, max_length_bytes=2**20, max_priority=9,
        ),
        "arguments": Queue(
            "q", source, "k", queue_arguments={"x-expires": 1000, "x-queue-type": "quorum"},
            binding_arguments={"x-match": "any"}, consumer_arguments={"x-priority": 5},
        ),
        "not declared": Queue("q", source, no_declare=True),
        "broadcast": Broadcast("news", queue="bcast.1"),
        "broadcast exchange": Broadcast("news", queue="bcast.1", exchange=source, auto_delete=False, alias="n"),
        "from dict": Queue.from_dict("q", exchange="e", exchange_type="topic", routing_key="k", durable=False),
        "from dict, apart": Queue.from_dict(
            "q", exchange="e", binding_key="b", routing_key="k", durable=False, queue_durable=True,
            exchange_durable=True, auto_delete=True, queue_auto_delete=False, exchange_auto_delete=False,
            exchange_arguments={"x": 1}, delivery_mode=1, queue_arguments={"y": 2}, expires=5, message_ttl=6,
            max_length=7, no_ack=True, exclusive=False, alias="al",
        ),
        "from dict, little": Queue.from_dict("q"),
        "from as_dict": Queue.from_dict("q", **{
            name: value for name, value in Queue("q", expires=3, max_priority=4).as_dict().items()
            if name not in ("name", "exchange", "routing_key")
        }),
    }


def describe(entity: Any) -> dict[str, Any]:
    """Return all that an entity shows without a channel."""
    function, arguments = entity.__reduce__()
    copied = pickle.loads(pickle.dumps(entity))
    res = {
        "repr": repr(entity),
        "str": str(entity),
        "as_dict": plain(entity.as_dict()),
        "as_dict recursive": plain(entity.as_dict(recurse=True)),
        "reduce": [
            f"{function.__module__}.{function.__qualname__}", arguments[0].__qualname__, plain(arguments[1]),
        ],
        "order": [name for name, _ in entity.attrs],
        "survives a pickle": repr(copied) == repr(entity) and copied.as_dict(True) == entity.as_dict(True),
        "pickle": base64.b64encode(pickle.dumps(entity, protocol=2)).decode(),
    }
    for name in ("can_cache_declaration", "is_bound"):
        if hasattr(entity, name):
            res[name] = getattr(entity, name)
    return res


def exchange_calls(exchange: Exchange) -> list[Any]:
    """Do all that can be done with an exchange and return the channel's calls."""
    channel = RecordingChannel()
    bound = exchange(channel)
    other = Exchange("other")
    bound.declare()
    bound.declare(nowait=True, passive=True)
    exchange.declare(channel=channel)
    bound.bind_to(other, "rk", {"x": 1}, nowait=True)
    bound.bind_to("other", routing_key="rk", ignored=1)
    bound.unbind_from(other, "rk", True, {"x": 1})
    bound.unbind_from("other")
    bound.Message("text")
    bound.Message(b"bytes", delivery_mode="transient", priority=3, headers={"h": 1})
    bound.Message("text", properties={"content_encoding": "utf-16", "app_id": "x"})
    bound.publish("text", routing_key="rk", mandatory=True)
    bound.publish("<prepared>", exchange="elsewhere")
    bound.publish(b"<prepared>", immediate=True)
    bound.delete()
    bound.delete(if_unused=True, nowait=True)
    edge = exchange.binding("rk", {"a": 1}, {"u": 2})
    edge.declare(channel, nowait=True)
    edge.bind(Exchange("to"), channel=channel)
    edge.unbind(Queue("to"), nowait=True, channel=channel)
    return [repr(bound), *channel.calls]


def queue_calls(queue: Queue) -> list[Any]:
    """Do all that can be done with a queue and return the channel's calls."""
    channel = RecordingChannel()
    declared: list[Any] = []
    queue.on_declared = lambda *args: declared.append(list(args))
    bound = queue(channel)
    bound.declare()
    bound.declare(nowait=True)
    bound.queue_declare(passive=True)
    if not bound.bindings:
        bound.queue_bind()
        bound.queue_unbind(arguments={"x": 1}, nowait=True)
    bound.bind_to("e", "rk", {"x": 1}, nowait=True)
    bound.bind_to(Exchange("e2"))
    bound.unbind_from(Exchange("e2"), "rk", {"x": 1}, True)
    got = [bound.get(), bound.get(no_ack=True), bound.purge(), bound.purge(nowait=True)]
    bound.consume()
    bound.consume("tag", print, no_ack=True, nowait=True, on_cancel=print)
    bound.cancel("tag")
    bound.delete()
    bound.delete(if_unused=True, if_empty=True, nowait=True)
    queue.on_declared = None
    return [repr(bound), declared, got, *channel.calls]


def producer_calls() -> dict[str, Any]:
    """Publish in all ways and return the channel's calls."""
    tasks = Exchange("tasks", "topic", delivery_mode=1)
    ways: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "json": ({}, {"body": {"a": [1, "ü"]}}),
        "text": ({}, {"body": "ü", "routing_key": "q"}),
        "bytes": ({}, {"body": b"\x00\xff", "routing_key": "q"}),
        "pickled": ({}, {"body": {"a": 1}, "serializer": "pickle", "compression": "zlib"}),
        "default serializer": ({"serializer": "raw"}, {"body": b"x"}),
        "content type, text": ({}, {"body": "ü", "content_type": "text/plain"}),
        "content type, encoding": ({}, {"body": "ü", "content_type": "text/plain", "content_encoding": "latin-1"}),
        "content type, bytes": ({}, {"body": b"x", "content_type": "application/x-y"}),
        "compressed": ({}, {"body": "x" * 50, "compression": "gzip", "headers": {"h": 1}}),
        "compressed by default": ({"compression": "bzip2"}, {"body": "x" * 50}),
        "not compressed after all": ({"compression": "gzip"}, {"body": "x", "compression": ""}),
        "to an exchange": ({"exchange": tasks, "routing_key": "a.b"}, {"body": 1}),
        "without declaring": ({"exchange": tasks, "auto_declare": False}, {"body": 1}),
        "to another": ({"exchange": tasks}, {"body": 1, "exchange": "other", "routing_key": "x"}),
        "to another object": ({"exchange": tasks}, {"body": 1, "exchange": Exchange("other", delivery_mode=2)}),
        "declaring": ({"exchange": tasks}, {"body": 1, "declare": [Queue("q", tasks, "k"), Exchange("x")]}),
        "declaring the default twice": ({"exchange": tasks}, {"body": 1, "declare": [Exchange.__copy__(tasks)]}),
        "options": ({}, {
            "body": 1, "mandatory": True, "immediate": True, "priority": 5, "delivery_mode": "transient",
            "expiration": 1.5, "timeout": 3, "confirm_timeout": 4, "correlation_id": "c", "reply_to": "r",
        }),
    }
    res: dict[str, Any] = {}
    for title, (made_with, published) in ways.items():
        channel = RecordingChannel()
        producer = Producer(channel, **made_with)
        producer.publish(**published)
        producer.publish(**published)
        # Compressed bytes may differ from one build of zlib to the next.
        if any("compress" in key for key in (*made_with, *published)):
            for _, args, _ in (call for call in channel.calls if call[0] == "prepare_message"):
                args[0] = "<compressed>" if args[4] else args[0]
        res[title] = by_operation(channel.calls)
    producer = Producer(RecordingChannel(), tasks, "rk", "yaml", False, "gzip")
    res["reduce"] = [producer.__reduce__()[0].__qualname__, plain(producer.__reduce__()[1])]
    return res


def by_operation(calls: list[Any]) -> dict[str, Any]:
    """Sort calls into those that go to the broker, in their order, and the two kinds that stay in this process.

    Whether a message is prepared before or after a declaration is nobody's business.
    """
    local = ("prepare_message", "prepare_queue_arguments")
    return {
        "broker": [call for call in calls if call[0] not in local],
        **{name: [call for call in calls if call[0] == name] for name in local},
    }


def consumer_calls() -> dict[str, Any]:
    """Consume in all ways and return the channel's calls."""
    tasks = Exchange("tasks", "topic")
    several = [Queue("a", tasks, "x"), Queue("b", tasks, no_ack=True), Queue("c")]
    ways: dict[str, dict[str, Any]] = {
        "one queue": {"queues": Queue("a", tasks)},
        "several": {"queues": several, "prefetch_count": 10},
        "no ack": {"queues": several, "no_ack": True, "tag_prefix": "me"},
        "not declared": {"queues": several, "auto_declare": False, "accept": ["json", "text/plain"]},
        "unnamed": {"queues": Queue("")},
    }
    res: dict[str, Any] = {}
    for title, made_with in ways.items():
        Consumer._tags = itertools.count(1)
        channel = RecordingChannel()
        consumer = Consumer(channel, callbacks=[print], **made_with)
        shown = [repr(consumer), plain(consumer.accept)]
        consumer.consume()
        consumer.consume(no_ack=True)
        consumer.add_queue(Queue("late", tasks, "l"))
        consumer.consume(no_ack=False)
        shown.append([consumer.consuming_from(name) for name in ("a", "late", "nowhere")])
        shown.append(consumer.purge())
        consumer.flow(False)
        consumer.qos(prefetch_count=3)
        consumer.qos(0, 4, True)
        consumer.recover()
        consumer.recover(requeue=True)
        consumer.cancel_by_queue("late")
        consumer.cancel_by_queue(Queue("nowhere"))
        after = RecordingChannel()
        consumer.revive(after)
        consumer.cancel()
        with consumer:
            pass
        try:
            with consumer:
                raise OSError
        except OSError:
            pass
        res[title] = [shown, channel.calls, after.calls]
    return res


def simple_calls() -> dict[str, Any]:
    """Use simple queues and return the channel's calls."""
    res: dict[str, Any] = {}
    for title, cls, options in (
        ("queue", SimpleQueue, {"name": "s"}),
        ("buffer", SimpleBuffer, {"name": "s"}),
        ("options", SimpleQueue, {
            "name": "s", "no_ack": True, "queue_opts": {"durable": False}, "queue_args": {"x-n": 1},
            "exchange_opts": {"durable": False}, "serializer": "pickle", "accept": ["json"],
        }),
        ("ready made", SimpleQueue, {"name": Queue("q", Exchange("e", "topic"), "k")}),
    ):
        Consumer._tags = itertools.count(1)
        channel = RecordingChannel()
        simple = cls(channel, **options)
        simple.put({"a": 1})
        simple.put("x", serializer="raw", headers={"h": 1}, routing_key="other", priority=3)
        seen = [len(simple), bool(simple), simple.clear()]
        for arguments in ({"block": False}, {"timeout": 0}):
            try:
                simple.get(**arguments)
            except simple.Empty:
                seen.append("empty")
        simple.close()
        res[title] = {"seen": seen, **by_operation(channel.calls)}
    return res


def answers() -> dict[str, Any]:
    """Ask everything."""
    named_exchanges, named_queues = exchanges(), queues()
    edges = {
        "plain": binding(Exchange("e"), "k"),
        "arguments": binding(Exchange("e"), "k", {"a": 1}, {"u": 1}),
    }
    everything: dict[str, Any] = {**named_exchanges, **{f"q {name}": queue for name, queue in named_queues.items()}}
    return {
        "delivery modes": [
            maybe_delivery_mode(mode) for mode in (None, 0, 1, 2, 7, "transient", "persistent")
        ] + [maybe_delivery_mode("x", {"x": 9}), maybe_delivery_mode(None, default=1)],
        "exchanges": {name: describe(entity) for name, entity in named_exchanges.items()},
        "queues": {name: describe(entity) for name, entity in named_queues.items()},
        "bindings": {name: describe(entity) for name, entity in edges.items()},
        "equal": sorted(
            [one, other] for one, other in itertools.combinations(everything, 2)
            if everything[one] == everything[other] and not everything[one] != everything[other]
        ),
        "equal hash": sorted(
            [one, other] for one, other in itertools.combinations(everything, 2)
            if hash(everything[one]) == hash(everything[other])
        ),
        "exchange calls": {name: exchange_calls(entity) for name, entity in named_exchanges.items()},
        "queue calls": {name: queue_calls(entity) for name, entity in named_queues.items()},
        "producer calls": producer_calls(),
        "consumer calls": consumer_calls(),
        "simple calls": simple_calls(),
    }


def lines(record: dict[str, Any]) -> str:
    """Return *record* as JSON with a line for each answer, so that a difference between two records is short."""
    sections = []
    for section, content in sorted(record.items()):
        entries = content.items() if isinstance(content, dict) else [(None, each) for each in content]
        shown = [(json.dumps(key) + ": " if key else "") + json.dumps(each, sort_keys=True) for key, each in entries]
        opening, closing = "{}" if isinstance(content, dict) else "[]"
        sections.append(f'"{section}": {opening}\n' + ",\n".join(shown) + f"\n{closing}")
    return "{\n" + ",\n".join(sections) + "\n}\n"


if __name__ == "__main__":
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(lines(answers()))
