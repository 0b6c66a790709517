"""A RabbitMQ of the suite's own, started when the first test asks for it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kombu import Connection
from proxy import Proxy
from rabbit import Rabbit, RabbitUnavailable, find_scripts

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Broker:
    """One way into the server: ``Connection(broker.url, **broker.options)``."""

    name: str
    url: str
    options: dict[str, Any] = field(default_factory=dict)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def rabbit() -> Iterator[Rabbit]:
    """Give the session's RabbitMQ (see :class:`rabbit.Rabbit`), running.

    A machine without one skips the test, unless ``KOMBU_REQUIRE_BROKERS=1`` makes that an error.  A server that is
    installed but does not start is an error everywhere.
    """
    try:
        scripts = find_scripts()
    except RabbitUnavailable as exc:
        if os.environ.get("KOMBU_REQUIRE_BROKERS", "") in ("", "0"):
            pytest.skip(f"{exc}; install rabbitmq-server")
        pytest.fail(f"KOMBU_REQUIRE_BROKERS is set, and there is {exc}", pytrace=False)
    server = Rabbit(scripts)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(autouse=True)
def _recovered(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have the server up again after a test that froze, stopped or killed it."""
    yield
    if "rabbit" in request.fixturenames:
        request.getfixturevalue("rabbit").recover()


@pytest.fixture
def amqp_url(rabbit: Rabbit) -> str:
    """Give the URL of the server over TCP."""
    return rabbit.url()


@pytest.fixture(params=["tcp", "tls"])
def broker(request: pytest.FixtureRequest, rabbit: Rabbit) -> Broker:
    """Give the server over TCP and over TLS in turn."""
    if request.param == "tls":
        return Broker("tls", rabbit.tls_url(), {"ssl": rabbit.tls_options()})
    return Broker("tcp", rabbit.url())


@pytest.fixture
def broker_url(broker: Broker) -> str:
    """Give the URL of :func:`broker`; over TLS it needs :func:`broker_options` beside it."""
    return broker.url


@pytest.fixture
def broker_options(broker: Broker) -> dict[str, Any]:
    """Give the keyword arguments that ``Connection(broker_url, ...)`` needs."""
    return dict(broker.options)


@pytest.fixture
def queue_name(request: pytest.FixtureRequest) -> str:
    """Give a name that no other test has; the server is thrown away, so nothing need be deleted."""
    return f"{request.node.name}-{secrets.token_hex(4)}"


@pytest.fixture
def connect(broker: Broker) -> Iterator[Callable[..., Connection]]:
    """Give ``connect(url=..., **options)``, which returns a connection to :func:`broker` that is closed in the end."""
    made: list[Connection] = []

    def connect(url: str | None = None, **options: Any) -> Connection:
        made.append(Connection(url or broker.url, **{**broker.options, **options}))
        return made[-1]

    yield connect
    for connection in made:
        connection.collect()


@pytest.fixture
def connection(connect: Callable[..., Connection]) -> Connection:
    """Give one connection to :func:`broker`."""
    return connect()


@pytest.fixture
def proxy(rabbit: Rabbit, broker: Broker) -> Iterator[Proxy]:
    """Give a proxy in front of :func:`broker`; ``connect(proxy.url(broker.url))`` goes through it."""
    with Proxy(rabbit.tls_port if broker.name == "tls" else rabbit.port) as made:
        yield made
