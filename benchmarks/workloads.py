"""The workloads: what is done how often, on which sides, against which peer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

KOMBUS = ("kombu57", "pure", "ours")
MAIN_KOMBUS = ("kombu57", "kombu57c", "pure", "ours")
OTHERS = ("pika", "amqpstorm", "aio-pika")
EVERYBODY = (*MAIN_KOMBUS, *OTHERS)

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    Args:
        key: its name on the command line.
        title: its name in tables.
        work: function of the client programs.
        peer: what it runs against: ``stream`` (the peer streams), ``swallow`` (the peer swallows publishes), ``rabbit``
            (a RabbitMQ), ``filled`` (a queue of a RabbitMQ with the messages in it), ``none``.
        sides: who takes part, in this order.
        count: messages a run of the compiled core; see ``slow``.
        slow: messages a run of everybody else, where that is given.
        pure: messages a run of the pure core; half-way between the two if not given.
        order: further settings of the work.
        instead: settings of single sides, which do the nearest that they can; ``fewer`` divides the messages of one
            that sleeps between them.
        left_out: who cannot do it, and why.
        metric: what the ratio is of, a key of ``report.METRICS``.
        on_request: sides that take part only when they are named.
        rounds: at the most so many.
        default: whether it is part of a run that names no workloads.
    """

    key: str
    title: str
    work: str
    peer: str
    sides: tuple[str, ...]
    count: int
    slow: int = 0
    pure: int = 0
    order: dict[str, Any] = field(default_factory=dict)
    instead: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    metric: str = "rate"
    rounds: int = 99
    default: bool = True
    on_request: tuple[str, ...] = ()

    def messages(self, side: str, share: float = 1.0) -> tuple[int, int]:
        """Return how many messages a run of *side* has, those before the clock starts included, and how many these are.

        Args:
            share: of the usual number.
        """
        slow = self.slow or self.count
        full = {"ours": self.count, "librabbitmq": self.count, "pure": self.pure or round((self.count * slow) ** 0.5)}
        fewer = self.instead.get(side, {}).get("fewer", 1)
        count = max(4, round(full.get(side, slow) * share / fewer))
        return count, max(1, min(1000, count // 10))

    def settings(self, side: str) -> dict[str, Any]:
        """Return what the client program of *side* is told."""
        return {"work": self.work, "content": "raw", "size": 256, **self.order, **self.instead.get(side, {})}


NOT_THEIRS = dict.fromkeys(OTHERS, "an interface of kombu's")
NO_BATCH = dict.fromkeys(OTHERS, "has no batches of publishes")
ONE_FRAME_EACH = dict.fromkeys(OTHERS, "has no such setting")
IN_C = {"librabbitmq": "the reference in C consumes raw bodies only"}
NO_WINDOW = {"pika": "waits for each confirm", "amqpstorm": "waits for each confirm"}
SAME_AMQP = {"kombu57c": "shown by the main workloads"}


def _consume(key: str, title: str, count: int, slow: int, **more: Any) -> Workload:
    settings = {"sides": EVERYBODY, "left_out": IN_C, **more}
    return Workload(key, title, settings.pop("work", "consume"), "stream", count=count, slow=slow, **settings)


def _publish(key: str, title: str, count: int, slow: int, how: str, content: str, **more: Any) -> Workload:
    order = {"how": how, "content": content, **more.pop("order", {})}
    settings = {"sides": EVERYBODY, "left_out": IN_C, **more}
    return Workload(key, title, "publish", "swallow", count=count, slow=slow, order=order, **settings)


_ALL = (
    _consume(
        "consume-raw",
        "consume + ack, raw 256 B",
        300_000,
        10_000,
        sides=(*EVERYBODY, "librabbitmq"),
        left_out={},
    ),
    _consume("consume-json", "consume + ack, json 256 B", 120_000, 10_000, order={"content": "json"}),
    _consume(
        "consume-task",
        "consume + ack, json with headers",
        100_000,
        8_000,
        sides=MAIN_KOMBUS,
        order={"content": "task"},
        left_out={**NOT_THEIRS, **IN_C},
    ),
    _consume(
        "consume-64k",
        "consume + ack, raw 64 KiB",
        10_000,
        3_000,
        sides=(*EVERYBODY, "librabbitmq"),
        order={"size": 64 * KIB},
        left_out={},
    ),
    _consume(
        "consume-1m",
        "consume + ack, raw 1 MiB",
        600,
        300,
        sides=(*EVERYBODY, "librabbitmq"),
        order={"size": MIB},
        left_out={},
    ),
    _consume(
        "consume-16m",
        "consume + ack, raw 16 MiB",
        30,
        16,
        sides=KOMBUS,
        order={"size": 16 * MIB},
        left_out={**dict.fromkeys(OTHERS, "shown with 1 MiB"), **SAME_AMQP, **IN_C},
    ),
    _consume(
        "consume-coalesced",
        'consume + ack, raw 256 B, ack_writes="coalesced"',
        400_000,
        10_000,
        sides=KOMBUS,
        order={"transport_options": {"ack_writes": "coalesced"}},
        instead={"kombu57": {"transport_options": {}}},
        left_out={**ONE_FRAME_EACH, **SAME_AMQP, **IN_C},
    ),
    _consume(
        "consume-immediate",
        'consume + ack, raw 256 B, ack_writes="immediate"',
        150_000,
        10_000,
        sides=KOMBUS,
        order={"transport_options": {"ack_writes": "immediate"}},
        instead={"kombu57": {"transport_options": {}}},
        left_out={**ONE_FRAME_EACH, **SAME_AMQP, **IN_C},
    ),
    _consume(
        "consume-many",
        "consume + ack, raw 256 B, drain_events(max_events=100)",
        300_000,
        10_000,
        sides=KOMBUS,
        order={"max_events": 100},
        instead={"kombu57": {"max_events": None}},
        left_out={**NOT_THEIRS, **SAME_AMQP, **IN_C},
    ),
    _consume(
        "consume-batches",
        "consume, raw 256 B, callback and ack for 100 at a time",
        300_000,
        10_000,
        sides=KOMBUS,
        work="batches",
        order={"batch_size": 100},
        instead={"kombu57": {"work": "consume"}},
        left_out={**NOT_THEIRS, **SAME_AMQP, **IN_C},
    ),
    _consume("consume-no-ack", "consume, no_ack, raw 256 B", 500_000, 12_000, order={"no_ack": True}),
    _consume(
        "mixin",
        "ConsumerMixin, raw 256 B",
        200_000,
        10_000,
        sides=KOMBUS,
        work="mixin",
        left_out={**NOT_THEIRS, **SAME_AMQP, **IN_C},
    ),
    _consume(
        "simple-queue",
        "SimpleQueue.get + ack, raw 256 B",
        100_000,
        8_000,
        sides=KOMBUS,
        work="simple_queue",
        left_out={**NOT_THEIRS, **SAME_AMQP, **IN_C},
    ),
    _publish("publish-raw", "publish, raw 256 B", 60_000, 15_000, "plain", "raw"),
    _publish("publish-json", "publish, json 256 B", 50_000, 12_000, "plain", "json"),
    _publish(
        "publish-batch-raw",
        "publish in Producer.batch(), raw 256 B",
        200_000,
        15_000,
        "batch",
        "raw",
        sides=KOMBUS,
        instead={"kombu57": {"lenient": True}},
        left_out={**NO_BATCH, **SAME_AMQP, **IN_C},
    ),
    _publish(
        "publish-batch-json",
        "publish in Producer.batch(), json 256 B",
        120_000,
        12_000,
        "batch",
        "json",
        sides=KOMBUS,
        instead={"kombu57": {"lenient": True}},
        left_out={**NO_BATCH, **SAME_AMQP, **IN_C},
    ),
    _publish(
        "confirm",
        "publish, confirmed one by one, raw 256 B",
        10_000,
        4_000,
        "confirm",
        "raw",
        order={"transport_options": {"confirm_publish": True}},
        instead={"amqpstorm": {"fewer": 40}},
    ),
    _publish(
        "confirm-window",
        "publish, confirmed in a window of 1000, raw 256 B",
        100_000,
        4_000,
        "window",
        "raw",
        sides=(*KOMBUS, "aio-pika"),
        order={"transport_options": {"confirm_publish": True, "confirm_window": 1000}},
        instead={"kombu57": {"how": "confirm", "transport_options": {"confirm_publish": True}}},
        left_out={**NO_WINDOW, **SAME_AMQP, **IN_C},
    ),
    Workload(
        "round-trip",
        "round trip through RabbitMQ, p50",
        "round_trip",
        "rabbit",
        (*KOMBUS, *OTHERS),
        1000,
        slow=1000,
        instead={"amqpstorm": {"fewer": 10}},
        left_out={**SAME_AMQP, **IN_C},
        metric="p50",
        rounds=3,
    ),
    Workload(
        "connect",
        "connect, open a channel, close",
        "connections",
        "swallow",
        (*KOMBUS, *OTHERS),
        400,
        slow=300,
        instead={"amqpstorm": {"fewer": 10}},
        left_out={**SAME_AMQP, **IN_C},
    ),
    Workload(
        "memory",
        "memory://, publish + consume, json 256 B",
        "memory",
        "none",
        KOMBUS,
        20_000,
        slow=8_000,
        order={"content": "json"},
        left_out={**NOT_THEIRS, **SAME_AMQP, **IN_C},
    ),
    Workload(
        "import",
        "import kombu; kombu.Connection",
        "import",
        "none",
        KOMBUS,
        10,
        left_out={**NOT_THEIRS, **SAME_AMQP, **IN_C},
        metric="ms",
    ),
    Workload(
        "rabbit-raw",
        "consume + ack from RabbitMQ, raw 256 B (processor time)",
        "consume",
        "filled",
        (*KOMBUS, *OTHERS, "librabbitmq"),
        60_000,
        slow=10_000,
        pure=10_000,
        left_out=SAME_AMQP,
        metric="cpu",
    ),
    Workload(
        "pools",
        "acquire and release of pools",
        "pools",
        "none",
        KOMBUS,
        20_000,
        slow=20_000,
        left_out={**NOT_THEIRS, **SAME_AMQP, **IN_C},
        metric="us",
        rounds=3,
    ),
    Workload(
        "soak",
        "ten million messages: consume + ack, raw 256 B",
        "soak",
        "stream",
        ("ours",),
        10_000_000,
        order={"direction": "consume"},
        rounds=1,
        default=False,
        on_request=("pure",),
    ),
    Workload(
        "soak-task",
        "ten million messages: consume + ack, json with headers",
        "soak",
        "stream",
        ("ours",),
        10_000_000,
        order={"direction": "consume", "content": "task"},
        rounds=1,
        default=False,
        on_request=("pure",),
    ),
    Workload(
        "soak-publish",
        "ten million messages: publish, raw 256 B",
        "soak",
        "swallow",
        ("ours",),
        10_000_000,
        order={"direction": "publish"},
        rounds=1,
        default=False,
        on_request=("pure",),
    ),
)

WORKLOADS = {workload.key: workload for workload in _ALL}
