"""Exceptions that need the ``amqp`` package, for :mod:`kombu.exceptions`, where they are found when first asked for."""

from __future__ import annotations

from amqp.exceptions import ChannelError, ConnectionError, ResourceError  # type: ignore[import-untyped]

__all__ = ("ChannelError", "ConnectionError", "InconsistencyError", "ResourceError")


class InconsistencyError(ConnectionError):  # type: ignore[misc]
    """Say that the state of the broker contradicts itself; trying again may help."""


# Where users find it, and where pickles look for it.
InconsistencyError.__module__ = "kombu.exceptions"
