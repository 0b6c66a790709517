"""A camera that writes what it sees into a file."""

from __future__ import annotations

import json
from typing import Any

from celery.events.snapshot import Polaroid

from proj.tasks import append


class Camera(Polaroid):
    """Append the states of all tasks and the names of the workers to the file ``album`` of the settings."""

    clear_after = False

    def on_shutter(self, state: Any) -> None:
        shot = {"tasks": {uuid: task.state for uuid, task in state.tasks.items()}, "workers": list(state.workers)}
        if shot["tasks"]:
            append(self.app.conf["album"], json.dumps(shot))
