"""Unique identifiers."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

__all__ = ("uuid",)


def uuid(_uuid: Callable[[], UUID] = uuid4) -> str:
    """Return a random UUID (version 4, RFC 9562) in its 36-character text form."""
    return str(_uuid())
