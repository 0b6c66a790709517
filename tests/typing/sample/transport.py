"""A transport of the shop's own: queues are files in a folder, one for each message."""

from __future__ import annotations

import json
from pathlib import Path
from queue import Empty
from typing import Any

from kombu import Connection
from kombu.asynchronous import Hub, set_event_loop
from kombu.transport import TRANSPORT_ALIASES, virtual


class Channel(virtual.Channel):
    """Keeps each message as a file whose name is its number."""

    do_restore = False

    @property
    def folder(self) -> Path:
        return Path(self.connection.client.transport_options["folder"])

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        for path in sorted((self.folder / queue).glob("*.json")):
            message: dict[str, Any] = json.loads(path.read_text())
            path.unlink()
            return message
        raise Empty()

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        number = self._size(queue)
        (self.folder / queue / f"{number:010}.json").write_text(json.dumps(message))

    def _size(self, queue: str) -> int:
        return len(list((self.folder / queue).glob("*.json")))

    def _purge(self, queue: str) -> int:
        size = self._size(queue)
        for path in (self.folder / queue).glob("*.json"):
            path.unlink()
        return size

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        (self.folder / queue).mkdir(parents=True, exist_ok=True)


class Transport(virtual.Transport):
    """Polls the folder once a second."""

    Channel = Channel

    polling_interval = 1.0
    driver_type = "files"
    driver_name = "files"
    connection_errors = (*virtual.Transport.connection_errors, OSError)

    implements = virtual.Transport.implements.extend(exchange_type=frozenset({"direct", "topic"}))

    def driver_version(self) -> str:
        return "1.0"


TRANSPORT_ALIASES["files"] = "sample.transport:Transport"


def connect(folder: Path) -> Connection:
    return Connection("files://", transport_options={"folder": str(folder)})


def run(connection: Connection, seconds: float) -> None:
    """Drain *connection* in an event loop, and stop after *seconds*."""
    hub = Hub()
    set_event_loop(hub)
    connection.register_with_event_loop(hub)
    hub.call_later(seconds, hub.stop)
    hub.call_repeatedly(1.0, connection.heartbeat_check)
    hub.run_forever()
