"""What fits nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._lazy import LazyLogger, LazyModule

if TYPE_CHECKING:
    import pickle
    import pprint
    import tempfile
else:
    # Every program imports this module, and hardly any has an emergency.
    pickle, pprint, tempfile = LazyModule("pickle"), LazyModule("pprint"), LazyModule("tempfile")

__all__ = ("emergency_dump_state",)

logger = LazyLogger(__name__)


def emergency_dump_state(
    state: Any,
    open_file: Callable[..., Any] = open,
    dump: Callable[..., Any] | None = None,
    stderr: Any = None,
) -> str:
    """Write *state* to a new temporary file, say where on *stderr* or to the log, and return its path.

    It is pickled, and pretty-printed where that fails. ``dump(state, file, protocol=0)`` takes the place of
    :func:`pickle.dump` and gets a text file; if it writes bytes, *open_file* has to see to that.
    """
    handle, path = tempfile.mkstemp()
    os.close(handle)
    if stderr:
        print(f"EMERGENCY DUMP STATE TO FILE -> {path} <-", file=stderr)
    else:
        logger.error("EMERGENCY DUMP STATE TO FILE -> %s <-", path, extra={"emergency_state_file": path})
    file = open_file(path, "wb" if dump is None else "w")
    try:
        try:
            (dump or pickle.dump)(state, file, protocol=0)
        except Exception as exc:
            if stderr:
                print(f"Cannot pickle state: {exc!r}. Fallback to pformat.", file=stderr)
            else:
                logger.exception("Cannot pickle state. Falling back to pformat.")
            _rewind(file)
            text = pprint.pformat(state)
            try:
                file.write(text.encode())
            except TypeError:
                # There is no telling a text file from a binary one by its class.
                file.write(text)
    finally:
        file.flush()
        file.close()
    return path


def _rewind(file: Any) -> None:
    """Drop what was written to *file*; where that cannot be done, go on after it."""
    try:
        file.seek(0)
        file.truncate()
    except (OSError, ValueError):
        try:
            file.seek(0, os.SEEK_END)
        except (OSError, ValueError):
            # It cannot be positioned at all: what follows stands behind half a pickle.
            return
