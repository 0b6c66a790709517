"""Run a private RabbitMQ: print its URL as one line, end it when the standard input is closed.

It exits with code 3 where none is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from rabbit import Rabbit, RabbitUnavailable, find_scripts  # noqa: E402

NOT_INSTALLED = 3


def main() -> None:
    try:
        server = Rabbit(find_scripts())
    except RabbitUnavailable as exc:
        print(f"{exc}; give the URL of a server with --url", file=sys.stderr)
        sys.exit(NOT_INSTALLED)
    try:
        server.start()
        print(server.url(), flush=True)
        sys.stdin.read()
    finally:
        server.close()


if __name__ == "__main__":
    main()
