"""Run a private RabbitMQ: print its URL as one line, end it when the standard input is closed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from rabbit import Rabbit, RabbitUnavailable, find_scripts  # noqa: E402


def main() -> None:
    try:
        server = Rabbit(find_scripts())
    except RabbitUnavailable as exc:
        sys.exit(f"{exc}; give the URL of a server with --url")
    try:
        server.start()
        print(server.url(), flush=True)
        sys.stdin.read()
    finally:
        server.close()


if __name__ == "__main__":
    main()
