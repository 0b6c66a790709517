"""The application of a worker's process, configured by its environment."""

from __future__ import annotations

import json
import os

from proj import make_app

app = make_app(os.environ["PROJ_BROKER"], os.environ["PROJ_BACKEND"], **json.loads(os.environ["PROJ_SETTINGS"]))
