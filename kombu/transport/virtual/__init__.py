"""Emulation of an AMQP broker, for transports to brokers that are none.

A transport derives its channel from :class:`Channel` and says there how a message is put into a queue and taken
out of it; exchanges, bindings, acknowledgement and prefetch limits are done here.
"""

from __future__ import annotations

from .base import (
    AbstractChannel,
    Base64,
    BrokerState,
    Channel,
    Empty,
    Management,
    Message,
    NotEquivalentError,
    QoS,
    Transport,
    UndeliverableWarning,
    binding_key_t,
    queue_binding_t,
)

__all__ = (
    "AbstractChannel",
    "Base64",
    "BrokerState",
    "Channel",
    "Empty",
    "Management",
    "Message",
    "NotEquivalentError",
    "QoS",
    "Transport",
    "UndeliverableWarning",
    "binding_key_t",
    "queue_binding_t",
)
