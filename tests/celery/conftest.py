"""Celery, unmodified, on this kombu: an application, its workers, and a RabbitMQ of the suite's own."""

from __future__ import annotations

import importlib.metadata
import logging
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brokers import is_required, rabbit_or_skip
from celery_worker import FOLDER, Worker
from patience import until
from rabbit import Rabbit

HERE = Path(__file__).parent


def installed(distribution: str) -> bool:
    """Return whether *distribution* is installed; a folder of its name does not count."""
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


# Without Celery none of these can be imported; test_installation.py says so.
collect_ignore = (
    []
    if installed("celery")
    else [path.name for path in HERE.glob("test_*.py") if path.name not in ("test_imports.py", "test_installation.py")]
)

if str(FOLDER) not in sys.path:
    sys.path.append(str(FOLDER))  # for proj


@pytest.fixture(scope="module", autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what Celery does to logging: other tests look at what is logged."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.root.manager.disable)
    known = {name: logging.getLogger(name) for name in list(logging.root.manager.loggerDict)}
    states = {name: (each.level, each.propagate, each.disabled, list(each.handlers)) for name, each in known.items()}
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    logging.disable(before[2])
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        level, propagate, disabled, handlers = states.get(name, (logging.NOTSET, True, False, []))
        logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, disabled
        logger.handlers[:] = handlers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.celery)


class Site:
    """An application, the worker that serves it, and its tasks by name."""

    def __init__(self, app: Any, worker: Worker | None = None) -> None:
        self.app = app
        self.worker = worker

    def task(self, name: str) -> Any:
        """Return the task *name* of ``proj.tasks``, bound to this application."""
        return self.app.tasks[f"proj.tasks.{name}"]

    @property
    def destination(self) -> list[str]:
        """The worker's name, for remote control."""
        assert self.worker is not None
        return [self.worker.hostname]

    def inspect(self, **options: Any) -> Any:
        """Return the inspection of the worker."""
        return self.app.control.inspect(destination=self.destination, timeout=10, limit=1, **options)

    def command(self, name: str, **arguments: Any) -> Any:
        """Give the worker a remote control command and return its answer."""
        [reply] = self.app.control.broadcast(
            name, arguments=arguments, destination=self.destination, reply=True, timeout=10, limit=1
        )
        return reply[self.destination[0]]


def make_site_app(broker: str, backend: str, queue: str, **settings: Any) -> Any:
    """Return the application whose tasks go to *queue*."""
    from proj import make_app  # only here, where Celery is known to be installed

    app = make_app(broker, backend, task_default_queue=queue, **settings)
    app.loader.import_default_modules()
    app.finalize()
    return app


def close(app: Any) -> None:
    """Close the connections of *app*, which Celery leaves to the garbage collector."""
    consumer = getattr(app.backend, "result_consumer", None)
    if consumer is not None and consumer._connection is not None:
        # Not consumer.stop(), which wants an answer of a broker that may have been restarted.
        consumer._connection.collect()
    app.pool.force_close_all()
    app.close()


@pytest.fixture(scope="session")
def make_app_for() -> Callable[..., Any]:
    """Give ``make_app_for(broker, backend, **settings)``: an application with a queue of its own."""

    def make(broker: str, backend: str, **settings: Any) -> Any:
        return make_site_app(broker, backend, f"q-{secrets.token_hex(4)}", **settings)

    return make


@pytest.fixture(scope="session")
def rabbit() -> Iterator[Rabbit]:
    """Give a RabbitMQ, running."""
    with rabbit_or_skip() as server:
        yield server


@pytest.fixture(autouse=True)
def _recovered(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have the server up again after a test that stopped or killed it."""
    yield
    if "rabbit" in request.fixturenames:
        request.getfixturevalue("rabbit").recover()


@pytest.fixture(scope="session")
def make_site(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Give ``make_site(...)``: an application of its own at RabbitMQ, closed in the end."""
    made: list[Any] = []

    def make(backend: str = "rpc://", broker: str | None = None, **settings: Any) -> Site:
        app = make_site_app(broker or rabbit.url(), backend, f"q-{secrets.token_hex(4)}", **settings)
        made.append(app)
        return Site(app)

    yield make
    for app in made:
        close(app)


@pytest.fixture(scope="session")
def start(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Worker]]:
    """Give ``start(site, pool, *options, concurrency=1, **settings)``: a worker of the site's, killed in the end."""
    made: list[Worker] = []
    folder = tmp_path_factory.mktemp("workers")

    def start_worker(site: Site, pool: str, *options: str, concurrency: int = 1, **settings: Any) -> Worker:
        if pool == "gevent" and not installed("gevent"):
            if is_required():
                pytest.fail("KOMBU_REQUIRE_BROKERS is set, and gevent is not installed", pytrace=False)
            pytest.skip("gevent is not installed")
        queue = site.app.conf.task_default_queue
        worker = Worker(
            folder,
            *options,
            pool=pool,
            queue=queue,
            concurrency=concurrency,
            broker=site.app.conf.broker_url,
            backend=site.app.conf.result_backend,
            settings={"task_default_queue": queue, **settings},
        )
        made.append(worker)
        site.worker = worker
        # With gevent, remote control starts beside the rest, and later.
        until(lambda: site.app.control.ping(site.destination, timeout=0.5, limit=1), 30)
        return worker

    yield start_worker
    for worker in made:
        worker.kill()


#: The pools, with the concurrency that each is tried with.
POOLS = {"prefork": 2, "threads": 4, "solo": 1, "gevent": 10}


@pytest.fixture(scope="session", params=POOLS)
def site(request: pytest.FixtureRequest, make_site: Any, start: Any) -> Iterator[Site]:
    """Give an application with results by ``rpc://`` and a worker of each pool in turn."""
    made = make_site()
    worker = start(made, request.param, concurrency=POOLS[request.param])
    yield made
    worker.kill()


@pytest.fixture
def notes(tmp_path: Path) -> Any:
    """Give the file that tasks note what they do in."""
    return Notes(tmp_path / "notes")


class Notes:
    """Lines that tasks have written."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._path = path

    @property
    def lines(self) -> list[str]:
        """The lines so far."""
        return self._path.read_text().splitlines() if self._path.exists() else []

    def write(self, line: str) -> None:
        """Append *line*, as a task would."""
        with self._path.open("a") as file:
            file.write(f"{line}\n")

    def time(self, note: str) -> float:
        """Return when the task ``note`` wrote *note*."""
        [at] = [line.split()[1] for line in self.lines if line.split()[0] == note]
        return float(at)

    def count(self, start: str = "") -> int:
        """Return how many lines begin with *start*."""
        return sum(line.startswith(start) for line in self.lines)
