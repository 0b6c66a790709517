"""From a body's octets to what the user gets: decompressed, text where it is encoded, deserialized."""

from __future__ import annotations

from collections.abc import Callable, Collection
from sys import exc_info
from typing import Any

__all__ = ("configure",)

#: What sys.exc_info() returns.
ErrorInfo = tuple[Any, Any, Any]

#: Content encodings that say that the body is bytes; looking for a codec of that name would be slow and vain.
_NOT_A_CODEC = frozenset(("binary", "ascii-8bit", ""))


def _not_configured(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("the message core has no serializers yet: import kombu.message first")


_loads: Callable[..., Any] = _not_configured
_decompress: Callable[..., Any] = _not_configured


def configure(
    loads: Callable[..., Any],
    decompress: Callable[..., Any],
    decoders: dict[str, Callable[[Any], Any]] | None = None,
    disabled: Collection[str] = frozenset(),
    trusted: Collection[str] = frozenset(),
) -> None:
    """Set the functions that messages are deserialized and decompressed with.

    *loads* is called as ``loads(body, content_type, content_encoding, accept=accept)``, *decompress* as
    ``decompress(body, compression)``.  The core imports neither: they stand above it.

    *decoders* (by content type), and the content types that are *disabled* or *trusted*, are the live tables that
    *loads* goes by, for the compiled core to take the same decision without calling it.
    """
    global _loads, _decompress
    _loads, _decompress = loads, decompress


def deserialized(body: Any, content_type: str | None, content_encoding: str | None, accept: Any) -> Any:
    """Return *body* deserialized by *content_type*, if *accept* has that (None: if it is enabled)."""
    return _loads(body, content_type, content_encoding, accept=accept)


def decompressed(body: Any, compression: Any, errors: list[ErrorInfo]) -> Any:
    """Return *body* decompressed, or as it is after a failure, which goes to *errors*."""
    try:
        return _decompress(body, compression)
    except Exception:
        errors.append(exc_info())
        return body


def text_where_encoded(raw: bytes, content_encoding: str | None) -> str | bytes:
    """Return *raw* decoded by *content_encoding* where that is possible, otherwise as it is; empty it is a str."""
    if not raw:
        return ""
    if content_encoding is None or content_encoding in _NOT_A_CODEC:
        return raw
    try:
        return raw.decode(content_encoding)
    except Exception:
        # Not text, or not by a codec we have: whoever deserializes the bytes will say so.
        return raw
