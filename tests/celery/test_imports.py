"""Every name of kombu's that Celery, Flower, django-celery-beat, django-celery-results and celery-types import.

Taken from their releases of the time (5.7.0, 2.2.0, 2.9.0, 2.6.0 and 0.26.0); no need to have them installed.  What is
left out belongs to transports that are not part of this version: Redis's and Azure's.
"""

from __future__ import annotations

import importlib

import pytest

NAMES = """
kombu: Connection Consumer Exchange Message Producer Queue eventloop pidbox pools serialization
kombu.abstract: Object
kombu.asynchronous: ERR Hub WRITE get_event_loop set_event_loop timer
kombu.asynchronous.semaphore: DummyLock LaxBoundedSemaphore
kombu.asynchronous.timer: Entry Timer logger to_timestamp
kombu.clocks: LamportClock timetuple
kombu.common: Broadcast QoS ignore_errors maybe_declare oid_from
kombu.compression: compress decompress encoders get_encoder
kombu.connection: maybe_channel
kombu.entity: Exchange Queue
kombu.exceptions: ConnectionError ContentDisallowed DecodeError EncodeError LimitExceeded OperationalError
kombu.log: LOG_LEVELS get_logger
kombu.matcher: match
kombu.message: Message
kombu.messaging: Producer
kombu.mixins: ConsumerMixin
kombu.pidbox: Mailbox
kombu.pools:
kombu.serialization: disable_insecure_serializers dumps loads pickle pickle_protocol prepare_accept_content registry
kombu.transport.base: StdChannel
kombu.transport.native_delayed_delivery: bind_queue_to_native_delayed_delivery_exchange calculate_routing_key
kombu.transport.native_delayed_delivery: declare_native_delayed_delivery_exchanges_and_queues
kombu.transport.virtual: Channel
kombu.utils: cached_property json symbol_by_name
kombu.utils.compat: _detect_environment detect_environment maybe_fileno register_after_fork
kombu.utils.encoding: bytes_to_str ensure_bytes from_utf8 safe_repr safe_str set_default_encoding_file str_to_bytes
kombu.utils.eventio: SELECT_BAD_FD
kombu.utils.functional: LRUCache dictfilter fxrange is_list lazy maybe_evaluate maybe_list memoize reprcall
kombu.utils.functional: retry_over_time
kombu.utils.imports: symbol_by_name
kombu.utils.json: dumps loads
kombu.utils.limits: TokenBucket
kombu.utils.objects: cached_property
kombu.utils.url: _parse_url maybe_sanitize_url parse_url url_to_parts urlparse
kombu.utils.uuid: uuid
"""

IMPORTS = [(module, names.split()) for module, _, names in (line.partition(":") for line in NAMES.split("\n") if line)]


@pytest.mark.parametrize(("module", "names"), IMPORTS, ids=[module for module, _ in IMPORTS])
def test_what_others_import_is_there(module, names):
    found = importlib.import_module(module)
    missing = []
    for name in names:
        if not hasattr(found, name):
            try:
                importlib.import_module(f"{module}.{name}")
            except ModuleNotFoundError:
                missing.append(name)
    assert missing == []
