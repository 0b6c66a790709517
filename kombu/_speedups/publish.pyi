from typing import Any

__all__ = ("PublishBuffer", "PublishPlan")

ABI: int

class PublishPlan:
    channel_id: int
    exchange: str
    routing_key: str
    mandatory: bool
    immediate: bool
    properties: bytes
    def __init__(
        self,
        channel_id: int,
        exchange: str,
        routing_key: str,
        mandatory: bool,
        immediate: bool,
        properties: bytes,
        frame_max: int,
    ) -> None: ...
    def on(self, channel_id: int, frame_max: int) -> PublishPlan: ...
    def encode(self, body: bytes | bytearray | memoryview | str) -> list[Any]: ...

class PublishBuffer:
    count: int
    most_messages: int
    most_bytes: int
    def __init__(self, most_messages: int, most_bytes: int) -> None: ...
    def __len__(self) -> int: ...
    def add(self, plan: PublishPlan, body: bytes | bytearray | memoryview | str) -> bool: ...
    def add_frames(self, frames: list[Any]) -> bool: ...
    def take(self, count: int) -> bytes: ...
    def clear(self) -> None: ...
