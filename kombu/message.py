"""The message that a consumer gets."""

from __future__ import annotations

from kombu import compression, serialization
from kombu._core import Message
from kombu._core import bodies as _bodies

__all__ = ("Message",)

_bodies.configure(serialization.loads, compression.decompress, *serialization.registry.tables)
