"""A small Celery application, as users write them; the tests and their workers share it."""

from __future__ import annotations

from typing import Any

from celery import Celery

from kombu.transport import TRANSPORT_ALIASES

__all__ = ("THIRD_PARTY", "make_app")

#: The scheme of a transport of somebody else's, from tests/support.
THIRD_PARTY = "sqlitefile"


def make_app(broker: str, backend: str, **settings: Any) -> Celery:
    """Return the application with this broker and result backend."""
    if broker.startswith(f"{THIRD_PARTY}:"):
        TRANSPORT_ALIASES[THIRD_PARTY] = "sqlite_transport:Transport"
    app = Celery("proj", broker=broker, backend=backend, include=["proj.tasks"], set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_transport_options={"confirm_publish": True} if broker.startswith("amqp") else {},
        task_create_missing_queues=True,
        worker_hijack_root_logger=False,
    )
    app.conf.update(settings)
    return app
