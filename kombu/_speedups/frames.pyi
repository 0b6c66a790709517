from collections.abc import Iterable
from typing import Any

__all__ = (
    "FRAME_BODY",
    "FRAME_END",
    "FRAME_HEADER",
    "FRAME_HEARTBEAT",
    "FRAME_METHOD",
    "HEARTBEAT",
    "MAX_DEPTH",
    "check_properties",
    "decode_arguments",
    "decode_properties",
    "decode_table",
    "encode_ack",
    "encode_arguments",
    "encode_content",
    "encode_method",
    "encode_nack",
    "encode_properties",
    "encode_publish",
    "encode_reject",
    "encode_table",
)

ABI: int

FRAME_METHOD: int
FRAME_HEADER: int
FRAME_BODY: int
FRAME_HEARTBEAT: int
FRAME_END: int
HEARTBEAT: bytes
MAX_DEPTH: int

def decode_table(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[dict[str | bytes, Any], int]: ...
def decode_arguments(format: str, data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[list[Any], int]: ...
def decode_properties(data: bytes | bytearray | memoryview, offset: int = 0) -> dict[str, Any]: ...
def check_properties(data: bytes | bytearray | memoryview, offset: int = 0) -> None: ...
def encode_table(table: dict[str, Any] | None) -> bytes: ...
def encode_arguments(format: str, values: Iterable[Any]) -> bytes: ...
def encode_properties(properties: dict[str, Any]) -> bytes: ...
def encode_method(channel_id: int, class_id: int, method_id: int, arguments: bytes) -> bytes: ...
def encode_content(
    channel_id: int,
    class_id: int,
    method_id: int,
    arguments: bytes,
    properties: bytes,
    body: bytes | bytearray | memoryview,
    frame_max: int,
) -> list[bytes | memoryview]: ...
def encode_publish(
    channel_id: int,
    exchange: str,
    routing_key: str,
    mandatory: bool,
    immediate: bool,
    properties: bytes,
    body: bytes | bytearray | memoryview,
    frame_max: int,
) -> list[bytes | memoryview]: ...
def encode_ack(channel_id: int, delivery_tag: int, multiple: bool = False) -> bytes: ...
def encode_reject(channel_id: int, delivery_tag: int, requeue: bool) -> bytes: ...
def encode_nack(channel_id: int, delivery_tag: int, multiple: bool, requeue: bool) -> bytes: ...
