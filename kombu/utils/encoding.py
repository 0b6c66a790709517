"""Turn text into bytes and back, and anything into text without failing."""

from __future__ import annotations

import sys

from .._lazy import TYPE_CHECKING, LazyModule

if TYPE_CHECKING:
    import traceback
    from typing import Any
else:
    traceback = LazyModule("traceback")

__all__ = (
    "bytes_to_str",
    "default_encode",
    "default_encoding",
    "default_encoding_file",
    "ensure_bytes",
    "from_utf8",
    "get_default_encoding_file",
    "safe_repr",
    "safe_str",
    "set_default_encoding_file",
    "str_to_bytes",
)

#: The file whose encoding :func:`default_encoding` reports; see :func:`set_default_encoding_file`.
default_encoding_file: Any = None


def set_default_encoding_file(file: Any) -> None:
    """Make :func:`default_encoding` report the encoding of *file*; None undoes it."""
    global default_encoding_file
    default_encoding_file = file


def get_default_encoding_file() -> Any:
    """Return the file given to :func:`set_default_encoding_file`, or None."""
    return default_encoding_file


def default_encoding(file: Any = None) -> str:
    """Return the encoding of *file*, of the default file, or of the file system: the first that is known."""
    encoding = getattr(file or default_encoding_file, "encoding", None)
    return encoding or sys.getfilesystemencoding()


def str_to_bytes(s: Any) -> Any:
    """Encode a str as UTF-8; return anything else as it is."""
    return s.encode() if isinstance(s, str) else s


def bytes_to_str(s: Any) -> Any:
    """Decode bytes as UTF-8, with U+FFFD for what is not; return anything else as it is."""
    return s.decode("utf-8", "replace") if isinstance(s, bytes) else s


def ensure_bytes(s: Any) -> Any:
    """Return bytes for a str; anything else (bytes, other buffers) is returned as it is."""
    return s.encode() if isinstance(s, str) else s


def from_utf8(s: Any, *args: Any, **kwargs: Any) -> Any:
    """Return *s*: text needs no conversion."""
    return s


def default_encode(obj: Any) -> Any:
    """Return *obj*: text needs no conversion."""
    return obj


def safe_str(s: Any, errors: str = "replace") -> str:
    """Return *s* as text: str as it is, bytes decoded, the ``repr`` of anything else. Never fails."""
    text = bytes_to_str(s)
    return text if isinstance(text, str) else safe_repr(s, errors)


def safe_repr(o: Any, errors: str = "replace") -> str:
    """Return ``repr(o)``, and when that fails ``str(o)`` or a text that says why there is neither."""
    try:
        return repr(o)
    except Exception:
        return _safe_str(o, errors)


def _safe_str(s: Any, errors: str = "replace", file: Any = None) -> str:
    if isinstance(s, str):
        return s
    try:
        return str(s)
    except Exception as exc:
        stack = "\n".join(traceback.format_stack())
        return f"<Unrepresentable {type(s)!r}: {exc!r} {stack!r}>"
