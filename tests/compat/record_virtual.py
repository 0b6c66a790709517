"""Record what the emulated brokers of kombu 5.7.0 answer, and what they ask of a transport's channel.

Run where kombu 5.7.0 is installed, from the root of the project, to make the record anew::

    python tests/compat/record_virtual.py

It overwrites ``recorded/virtual.json`` beside this file.  ``tests/unit/test_virtual_recorded.py`` takes the same steps
with the kombu under test and compares the answers.

A scenario is a list of steps, each the name of a method of :class:`Player` and its arguments; the answer is the list of
what came of each step.  Where the answers of 5.7 are not to be repeated, the steps do not belong here but into a test
that says why.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import random
import warnings
from collections import OrderedDict, deque
from queue import Empty
from typing import Any

from kombu.transport import memory, virtual

RECORD = pathlib.Path(__file__).parent / "recorded" / "virtual.json"

#: What is different in each process and each run.
VOLATILE = ("delivery_tag",)


class Client:
    """What a transport sees of its connection."""

    virtual_host = "/"

    def __init__(self, **transport_options: Any) -> None:
        self.transport_options = {"polling_interval": 0.01, **transport_options}


class LedgerChannel(virtual.Channel):
    """A channel as a third party writes it, which keeps a ledger of what it is asked."""

    supports_fanout = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.ledger: list[Any] = []
        self.waiting: dict[str, deque[Any]] = {}
        super().__init__(*args, **kwargs)

    def _note(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.ledger.append([name, plain(args), plain(kwargs)])

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        self._note("_new_queue", queue, **kwargs)
        self.waiting.setdefault(queue, deque())

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        self._note("_has_queue", queue, **kwargs)
        return queue in self.waiting

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        self._note("_get", queue, timeout)
        try:
            return self.waiting[queue].popleft()
        except (KeyError, IndexError):
            raise Empty() from None

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        self._note("_put", queue, message, **kwargs)
        self.waiting.setdefault(queue, deque()).append(message)

    def _put_fanout(self, exchange: str, message: Any, routing_key: str | None = None, **kwargs: Any) -> None:
        self._note("_put_fanout", exchange, message, routing_key, **kwargs)

    def _queue_bind(self, *args: Any) -> None:
        self._note("_queue_bind", *args)

    def _size(self, queue: str) -> int:
        self._note("_size", queue)
        return len(self.waiting.get(queue, ()))

    def _purge(self, queue: str) -> int:
        self._note("_purge", queue)
        waiting = self.waiting.get(queue, deque())
        size = len(waiting)
        waiting.clear()
        return size

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        self._note("_delete", queue, *args, **kwargs)
        self.waiting.pop(queue, None)

    def _poll(self, cycle: Any, callback: Any, timeout: float | None = None) -> Any:
        self._note("_poll", timeout is None)
        return super()._poll(cycle, callback, timeout=timeout)


class LedgerTransport(virtual.Transport):
    Channel = LedgerChannel


class ManyChannel(LedgerChannel):
    """A channel that takes many messages at once, by the method that is there only if a transport brings it."""

    def _get_many(self, queues: list[str], timeout: float | None = None) -> None:
        self._note("_get_many", list(queues), timeout is None)
        for queue in queues:
            if self.waiting.get(queue):
                return self.connection._deliver(self.waiting[queue].popleft(), queue)
        raise Empty()


class ManyTransport(virtual.Transport):
    Channel = ManyChannel


class Player:
    """Take steps on a transport, with two channels, and keep what came of them."""

    TRANSPORTS = {"memory": memory.Transport, "ledger": LedgerTransport, "many": ManyTransport}

    def __init__(self, transport: str, **options: Any) -> None:
        memory.Channel.queues.clear()
        memory.Transport.global_state.clear()
        self.transport = self.TRANSPORTS[transport](Client(**options))
        self.connection = self.transport.establish_connection()
        self.channels = [self.transport.create_channel(self.connection) for _ in range(2)]
        self.messages: dict[str, Any] = {}
        self.delivered: list[Any] = []

    def take(self, step: list[Any]) -> Any:
        """Take one step and return what came of it, exceptions and warnings included."""
        name, *args = step
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                answer = getattr(self, name)(*args)
            except Exception as exc:
                answer = {"raised": name_of(exc), "code": getattr(exc, "code", None)}
        answer = {"answer": plain(answer)}
        if warned:
            answer["warned"] = [warning.category.__name__ for warning in warned]
        ledgers = [settled(channel.ledger) for channel in self.channels if getattr(channel, "ledger", None)]
        for channel in self.channels:
            if hasattr(channel, "ledger"):
                channel.ledger.clear()
        if ledgers:
            answer["asked"] = ledgers
        return answer

    def close(self) -> None:
        for channel in self.channels:
            if channel._qos is not None:
                channel._qos._on_collect.cancel()
                channel._qos.restore_at_shutdown = False
        self.transport.close_connection(self.connection)

    # -- Steps.

    def call(self, channel: int, method: str, *args: Any) -> Any:
        """Call a method of a channel; a dict as the last argument has keywords."""
        *args, kwargs = args if args and isinstance(args[-1], dict) else (*args, {})
        return getattr(self.channels[channel], method)(*args, **kwargs)

    def publish(self, channel: int, body: str, exchange: str, routing_key: str, **options: Any) -> Any:
        target = self.channels[channel]
        message = target.prepare_message(body, content_type="text/plain", content_encoding="utf-8", **options)
        return target.basic_publish(message, exchange, routing_key)

    def publish_with(self, channel: int, body: str, exchange: str, routing_key: str, options: dict[str, Any]) -> Any:
        return self.publish(channel, body, exchange, routing_key, **options)

    def get(self, channel: int, queue: str, no_ack: bool = False) -> Any:
        return self._received(self.channels[channel].basic_get(queue, no_ack=no_ack))

    def consume(self, channel: int, queue: str, tag: str, no_ack: bool = False) -> Any:
        return self.channels[channel].basic_consume(queue, no_ack, self._received, tag)

    def cancel(self, channel: int, tag: str) -> Any:
        return self.channels[channel].basic_cancel(tag)

    def drain(self, most: int = 1) -> Any:
        """Drain until nothing comes, at most so many events."""
        self.delivered.clear()
        try:
            for _ in range(most):
                self.transport.drain_events(self.connection, timeout=0)
        except TimeoutError:
            return [*self.delivered, "timeout"]
        return list(self.delivered)

    def settle(self, body: str, how: str, **kwargs: Any) -> Any:
        return getattr(self.messages[body], how)(**kwargs)

    def unacked(self, channel: int) -> Any:
        qos = self.channels[channel].qos
        qos._flush()
        return [message.body for message in qos._delivered.values()]

    def estimate(self, channel: int) -> Any:
        return [self.channels[channel].qos.can_consume(), self.channels[channel].qos.can_consume_max_estimate()]

    def sizes(self, *queues: str) -> Any:
        return [self.channels[0]._size(queue) for queue in queues]

    def bindings(self) -> Any:
        return sorted(self.channels[0].list_bindings())

    def lookup(self, exchange: str, routing_key: str, *default: Any) -> Any:
        return sorted(self.channels[0]._lookup(exchange, routing_key, *default))

    def priority(self, value: Any, reverse: bool) -> Any:
        return self.channels[0]._get_message_priority({"properties": {"priority": value}}, reverse)

    def ids(self) -> Any:
        return [channel.channel_id for channel in self.channels]

    def reopen(self, channel: int) -> Any:
        self.channels[channel].close()
        self.channels[channel] = self.transport.create_channel(self.connection)
        return self.channels[channel].channel_id

    def _received(self, message: Any) -> Any:
        if message is None:
            return None
        body = message.body.decode() if isinstance(message.body, bytes) else message.body
        self.messages[body] = message
        shown = {
            "body": body,
            "headers": message.headers,
            "properties": message.properties,
            "delivery_info": message.delivery_info,
            "content": [message.content_type, message.content_encoding],
            "state": message._state,
        }
        self.delivered.append(plain(shown))
        return shown


def plain(value: Any) -> Any:
    """Return *value* as JSON can hold it, without what differs each time."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items() if key not in (*VOLATILE, "routed")}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(each) for each in value)
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return type(value).__name__


def name_of(exc: BaseException) -> str:
    return "timeout" if isinstance(exc, TimeoutError) else type(exc).__name__


def settled(ledger: list[Any]) -> list[Any]:
    """Return *ledger* with calls of one name in a row sorted: 5.7 makes them in the order of a set."""
    runs = [list(run) for _, run in itertools.groupby(ledger, key=lambda call: call[0])]
    return [call for run in runs for call in sorted(run, key=json.dumps)]


# -- Scenarios.

DECLARED = [
    ["call", 0, "exchange_declare", "d"],
    ["call", 0, "exchange_declare", "t", "topic"],
    ["call", 0, "exchange_declare", "f", "fanout"],
    ["call", 0, "queue_declare", "q1"],
    ["call", 0, "queue_declare", "q2"],
    ["call", 0, "queue_declare", "q3", {"durable": True, "arguments": {"x-expires": 1000}}],
    ["call", 0, "queue_bind", "q1", "d", "one"],
    ["call", 0, "queue_bind", "q2", "d", "two"],
    ["call", 0, "queue_bind", "q1", "t", "a.*"],
    ["call", 0, "queue_bind", "q3", "t", "a.#"],
    ["call", 0, "queue_bind", "q1", "f"],
    ["call", 0, "queue_bind", "q2", "f"],
]

TOPIC_KEYS = [*"# * a.# a.* *.b a.*.c #.c a.b *.* a.b.# $x.+ a-b_c.* [ab].c a..b".split(), ""]
TOPIC_MESSAGES = [*"a a.b a.b.c b c x.b a.x.c a-b_c.d $x.+ a. .b b.c a..b [ab].c".split(), ""]
PRIORITIES = [None, 0, 5, 9, 10, -1, "7", "x", 3.6]


def scenarios() -> dict[str, tuple[str, dict[str, Any], list[list[Any]]]]:
    """Return name -> (transport, transport options, steps)."""
    found: dict[str, tuple[str, dict[str, Any], list[list[Any]]]] = {}
    for transport in ("memory", "ledger"):
        for name, steps in plain_scenarios().items():
            found[f"{transport}: {name}"] = (transport, {}, steps)
    found["many: consume"] = (
        "many",
        {},
        [*DECLARED, ["consume", 0, "q1", "a"], ["publish", 0, "m1", "d", "one"], ["publish", 0, "m2", "d", "one"],
         ["drain", 3], ["call", 0, "basic_qos", 0, 1], ["drain", 1], ["settle", "m1", "ack"], ["drain", 1]],
    )
    options = {"deadletter_queue": "dead", "body_encoding": None}
    found["memory: dead letter queue"] = ("memory", options, dead_letters("memory"))
    found["ledger: dead letter queue"] = ("ledger", options, dead_letters("ledger"))
    found["memory: utf-8 bodies"] = (
        "memory", {"body_encoding": "utf-8"}, [*DECLARED, ["publish", 0, "caf\xe9", "d", "one"], ["get", 0, "q1"]],
    )
    for seed in range(40):
        found[f"memory: random {seed}"] = ("memory", {}, [*DECLARED, *random_steps(seed)])
    return found


def dead_letters(transport: str) -> list[list[Any]]:
    # Messages of a topic exchange that match no binding go nowhere.
    return [
        *DECLARED,
        ["publish", 0, "m1", "d", "nowhere"],
        ["publish", 0, "m2", "t", "nowhere"],
        ["publish", 0, "m3", "absent", "key"],
        ["publish", 0, "m4", "", "q1"],
        ["lookup", "d", "nowhere"],
        ["lookup", "", ""],
        ["sizes", "dead", "q1", "q2", "q3"],
        ["get", 0, "dead"],
        ["get", 0, "dead"],
        ["get", 0, "dead"],
    ]


def plain_scenarios() -> dict[str, list[list[Any]]]:
    return {
        "declare": [
            ["ids"],
            *DECLARED,
            ["call", 0, "queue_declare", "q1"],
            ["call", 0, "queue_declare", "q1", True],
            ["call", 0, "queue_declare", "absent", True],
            ["call", 0, "exchange_declare", "d"],
            ["call", 0, "exchange_declare", "d", "topic"],
            ["call", 0, "exchange_declare", "d", "direct", True],
            ["call", 0, "exchange_declare", "d", "direct", False, False, {"x": 1}],
            ["call", 0, "exchange_declare", "d", {"passive": True}],
            ["call", 0, "exchange_declare", "absent", {"passive": True}],
            ["call", 0, "exchange_declare", None],
            ["call", 0, "exchange_declare", None, "topic"],
            ["call", 0, "exchange_declare", "n", None],
            ["call", 0, "queue_bind", "q1"],
            ["call", 0, "queue_bind", "q1", "d", "one"],
            ["call", 0, "queue_bind", "q1", "absent", "one"],
            ["call", 0, "get_exchanges"],
            ["bindings"],
            ["call", 0, "queue_unbind", "q1", "d", "one"],
            ["call", 0, "queue_unbind", "q1", "d", "one"],
            ["call", 0, "queue_unbind", "q1", "absent", "one"],
            ["bindings"],
            ["call", 0, "exchange_bind", "a", "b"],
            ["call", 0, "exchange_unbind", "a", "b"],
            ["call", 0, "flow", True],
            ["call", 0, "exchange_delete", "t"],
            ["call", 0, "exchange_delete", "absent"],
            ["call", 0, "get_exchanges"],
            ["sizes", "q1", "q2", "q3"],
        ],
        "publish": [
            *DECLARED,
            ["publish", 0, "m1", "d", "one"],
            ["publish", 1, "m2", "d", "two"],
            ["publish", 0, "m3", "t", "a.b"],
            ["publish", 0, "m4", "t", "a.b.c"],
            ["publish", 0, "m5", "f", ""],
            ["publish", 0, "m6", "", "q3"],
            ["publish", 0, "m7", "d", "nowhere"],
            ["publish", 0, "m8", "absent", "one"],
            ["publish_with", 0, "m9", "", "q3", {"priority": 7, "headers": {"a": [1]}, "properties": {"x": "y"}}],
            ["call", 0, "queue_declare", "q1"],
            ["sizes", "q1", "q2", "q3"],
            *[["get", channel, queue] for queue in ("q1", "q2", "q3") for channel in (0, 1, 0)],
            ["get", 0, "q3", True],
            ["get", 0, "q1"],
            ["unacked", 0],
            ["unacked", 1],
        ],
        "consume": [
            *DECLARED,
            *[["publish", 0, f"{queue}-{number}", "", queue] for number in range(3) for queue in ("q1", "q2", "q3")],
            ["drain"],
            ["consume", 0, "q1", "a"],
            ["consume", 0, "q2", "b", True],
            ["consume", 1, "q3", "c"],
            ["drain", 4],
            ["cancel", 0, "b"],
            ["cancel", 0, "b"],
            ["cancel", 0, "unknown"],
            ["drain", 10],
            ["unacked", 0],
            ["unacked", 1],
            ["sizes", "q1", "q2", "q3"],
            ["settle", "q1-0", "ack"],
            ["settle", "q1-0", "ack"],
            ["settle", "q1-1", "reject"],
            ["settle", "q1-2", "requeue"],
            ["unacked", 0],
            ["drain", 2],
        ],
        "prefetch": [
            *DECLARED,
            *[["publish", 0, f"m{number}", "", "q1"] for number in range(6)],
            ["estimate", 0],
            ["call", 0, "basic_qos", 0, 2],
            ["estimate", 0],
            ["consume", 0, "q1", "a"],
            ["drain", 4],
            ["estimate", 0],
            ["settle", "m0", "ack"],
            ["estimate", 0],
            ["drain", 4],
            ["settle", "m1", "reject"],
            ["settle", "m2", "requeue"],
            ["drain", 4],
            ["call", 0, "basic_qos", 0, 0],
            ["drain", 4],
            ["estimate", 0],
            ["unacked", 0],
        ],
        "recover": [
            *DECLARED,
            *[["publish", 0, f"m{number}", "", "q1"] for number in range(4)],
            ["get", 0, "q1"],
            ["get", 0, "q1"],
            ["get", 0, "q1"],
            ["settle", "m1", "ack"],
            ["call", 0, "basic_recover"],
            ["call", 0, "basic_recover", True],
            ["unacked", 0],
            ["sizes", "q1"],
            *[["get", 0, "q1"]] * 4,
            ["call", 0, "basic_reject", "unknown", True],
            ["call", 0, "basic_reject", "unknown"],
            ["call", 0, "basic_ack", "unknown"],
            ["unacked", 0],
        ],
        "delete and purge": [
            *DECLARED,
            *[["publish", 0, f"m{number}", "d", key] for number in range(3) for key in ("one", "two")],
            ["call", 0, "queue_purge", "q1"],
            ["call", 0, "queue_purge", "q1"],
            ["call", 0, "queue_delete", "q2", False, True],
            ["sizes", "q2"],
            ["call", 0, "queue_delete", "q2"],
            ["sizes", "q2"],
            ["call", 0, "queue_delete", "q1", False, True],
            ["call", 0, "queue_delete", "absent"],
            ["call", 0, "after_reply_message_received", "q3"],
        ],
        "topics": [
            ["call", 0, "exchange_declare", "t", "topic"],
            *[["call", 0, "queue_bind", f"q:{key}", "t", key] for key in TOPIC_KEYS],
            *[["lookup", "t", key] for key in TOPIC_MESSAGES],
        ],
        "channels": [
            ["ids"],
            *DECLARED,
            ["reopen", 0],
            ["reopen", 1],
            ["ids"],
        ],
        "priorities": [["priority", value, reverse] for value in PRIORITIES for reverse in (False, True)],
    }


def random_steps(seed: int) -> list[list[Any]]:
    """Return steps in which each message is in one queue, so that requeueing it means one thing."""
    chance = random.Random(seed)
    routes = [("d", "one"), ("d", "two"), ("t", "a"), ("", "q1"), ("", "q2"), ("", "q3"), ("t", "a.x.y")]
    steps: list[list[Any]] = []
    bodies: list[str] = []
    tags: OrderedDict[str, int] = OrderedDict()
    for number in range(40):
        kind = chance.choice("ppppppggddddasrcqxPR")
        channel = chance.randrange(2)
        queue = chance.choice(("q1", "q2", "q3"))
        if kind == "p":
            bodies.append(f"m{number}")
            steps.append(["publish", channel, bodies[-1], *chance.choice(routes)])
        elif kind == "g":
            steps.append(["get", channel, queue, chance.random() < 0.3])
        elif kind == "d":
            steps.append(["drain", chance.randrange(1, 4)])
        elif kind in "asr" and bodies:
            how = {"a": "ack", "s": "reject", "r": "requeue"}[kind]
            steps.append(["settle", chance.choice(bodies), how])
        elif kind == "c" and queue not in tags.values():
            tag = f"tag{number}"
            tags[tag] = queue
            steps.append(["consume", channel, queue, tag, chance.random() < 0.3])
        elif kind == "x" and tags:
            tag, _ = tags.popitem()
            steps += [["cancel", 0, tag], ["cancel", 1, tag]]
        elif kind == "q":
            steps += [["call", channel, "basic_qos", 0, chance.randrange(4)], ["estimate", channel]]
        elif kind == "P":
            steps.append(["call", channel, "queue_purge", queue])
        elif kind == "R":
            steps.append(["call", channel, "basic_recover", True])
    return [*steps, ["sizes", "q1", "q2", "q3"], ["unacked", 0], ["unacked", 1], ["bindings"]]


def play(transport: str, options: dict[str, Any], steps: list[list[Any]]) -> list[Any]:
    """Return what comes of each of *steps*."""
    player = Player(transport, **options)
    try:
        return [player.take(step) for step in steps]
    finally:
        player.close()


def answers() -> dict[str, list[Any]]:
    return {name: play(*scenario) for name, scenario in scenarios().items()}


def lines(record: dict[str, list[Any]]) -> str:
    """Return the record as JSON, an answer a line, so that a difference is seen."""
    parts = []
    for name, found in record.items():
        body = ",\n  ".join(json.dumps(each, sort_keys=True) for each in found)
        parts.append(f"{json.dumps(name)}: [\n  {body}\n ]")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


if __name__ == "__main__":
    RECORD.write_text(lines(answers()))
