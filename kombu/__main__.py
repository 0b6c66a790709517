"""Commands of the package: ``python -m kombu --help``."""

from __future__ import annotations

import argparse
import runpy
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path


def _run_what_is_installed() -> None:
    """Make way for the installed package where ``-m``, in the root of a checkout, has found the sources there.

    They have no compiled core, and to try what was just installed is what the command is for.
    """
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / "pyproject.toml").is_file() or Path(sys.path[0] or ".").resolve() != checkout:
        return
    installed = PathFinder.find_spec("kombu", sys.path[1:])
    if installed is None or installed.origin is None or Path(installed.origin).resolve().parent.parent == checkout:
        return
    del sys.path[0]
    for name in [name for name in sys.modules if name == "kombu" or name.startswith("kombu.")]:
        del sys.modules[name]
    runpy.run_module("kombu", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    _run_what_is_installed()

try:
    from kombu import __version__, check
except ImportError as exc:  # the core that KOMBU_IMPL demands is not there, or a requirement is not
    sys.exit(f"kombu: cannot be imported: {exc}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m kombu", description="Messaging library for Python.")
    parser.add_argument("--version", action="version", version=f"kombu {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    help_text = "say which core is live, and move messages through a broker, verifying each"
    command = commands.add_parser("check", help=help_text, description=f"{help_text.capitalize()}.")
    check.add_arguments(command)
    command.add_argument("--traceback", action="store_true", help="where it fails, print the traceback too")
    options = parser.parse_args(arguments)
    try:
        check.run(options)
    except KeyboardInterrupt as exc:
        print(f"kombu check: interrupted: {exc}" if str(exc) else "kombu check: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as exc:
        if options.traceback:
            traceback.print_exc()
        print(f"kombu check: FAILED: {_one_line(exc)}", file=sys.stderr)
        return 1
    return 0


def _one_line(exc: BaseException) -> str:
    if isinstance(exc, check.CheckFailed):
        return str(exc)
    # A KeyError's text is the repr of what it was made with.
    text = exc.args[0] if isinstance(exc, KeyError) and exc.args else exc
    said = " ".join(str(text).split())
    return f"{type(exc).__name__}: {said}" if said else type(exc).__name__


if __name__ == "__main__":
    sys.exit(main())
