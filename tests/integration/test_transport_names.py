"""``amqp://`` means the same whatever else is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import interpreter
from kombu import Connection
from kombu.transport.pyamqp import Transport
from rabbit import Rabbit

#: Modules that would break whoever imported them.
HIJACKERS = ("librabbitmq", "rabbitmq", "pyrabbit")

CODE = """
import sys
sys.path.insert(0, sys.argv[2])
from kombu import Connection
found = set()
for scheme in ("amqp", "pyamqp", "librabbitmq"):
    with Connection(sys.argv[1].replace("amqp://", scheme + "://")) as connection:
        with connection.SimpleQueue(sys.argv[3]) as queue:
            queue.put({"by": scheme})
            message = queue.get(timeout=10)
            assert message.payload == {"by": scheme}
            message.ack()
        found.add((type(connection.transport).__module__, type(connection.transport).__name__))
assert found == {("kombu.transport.pyamqp", "Transport")}, found
assert "librabbitmq" not in sys.modules
"""


@pytest.mark.parametrize("scheme", ["amqp", "pyamqp", "librabbitmq"])
def test_all_names_are_one_transport(scheme: str, rabbit: Rabbit, queue_name: str) -> None:
    with Connection(rabbit.url().replace("amqp://", f"{scheme}://")) as connection:
        assert type(connection.transport) is Transport
        with connection.SimpleQueue(queue_name) as queue:
            queue.put(scheme)
            assert queue.get(timeout=10).payload == scheme
        assert connection.transport.driver_type == "amqp"
    assert "librabbitmq" not in sys.modules


def test_an_installed_librabbitmq_changes_nothing(rabbit: Rabbit, queue_name: str, tmp_path: Path) -> None:
    for name in HIJACKERS:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('it was imported')\n")
    done = interpreter.run(CODE, rabbit.url(), str(tmp_path), queue_name)
    assert done.returncode == 0, done.stderr


def test_a_transport_may_be_named_by_module_and_class(rabbit: Rabbit) -> None:
    url = rabbit.url().partition("://")[2]
    with Connection(f"amqp://{url}", transport="kombu.transport.pyamqp:Transport") as connection:
        assert connection.connect().connected


def test_amqps_is_amqp_over_tls(rabbit: Rabbit) -> None:
    with Connection(rabbit.tls_url(), ssl=rabbit.tls_options()) as connection:
        sock: Any = connection.connect().sock
        assert sock.version().startswith("TLS")
