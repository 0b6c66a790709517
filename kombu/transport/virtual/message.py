"""Messages of an emulated broker: how they are laid out in its queues, and what a consumer gets."""

from __future__ import annotations

from kombu._core import virtual as _virtual

__all__ = ("Base64", "Message")

Base64 = _virtual.Base64
Message = _virtual.Message
