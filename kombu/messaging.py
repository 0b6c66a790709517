"""Those who send and those who receive: :class:`Producer`, :class:`Consumer`, and the entities between them."""

# The names beside those of __all__ are here because programs have imported them from here.
# ruff: noqa: F401

from __future__ import annotations

from .batch import DEFAULT_BATCH_SIZE
from .batch import BatchState as _ProducerBatchState
from .batch import ProducerBatch as _ProducerBatch
from .channels import is_connection, maybe_channel
from .common import maybe_declare
from .compression import compress
from .consumer import Consumer
from .entity import Exchange, Queue, maybe_delivery_mode
from .exceptions import ContentDisallowed
from .producer import Producer
from .serialization import dumps, prepare_accept_content
from .utils.functional import ChannelPromise, maybe_list

__all__ = ("Exchange", "Queue", "Producer", "Consumer")
