"""Unique identifiers."""

from __future__ import annotations

from collections.abc import Callable

from .._lazy import TYPE_CHECKING, LazyModule

if TYPE_CHECKING:
    import uuid as standard
else:
    standard = LazyModule("uuid")

__all__ = ("uuid",)


def uuid(_uuid: Callable[[], standard.UUID] | None = None) -> str:
    """Return a random UUID (version 4, RFC 9562) in its 36-character text form; *_uuid* may make it instead."""
    return str((_uuid or standard.uuid4)())
