from typing import Any

__all__ = ("ReceiveBuffer",)

ABI: int

class ReceiveBuffer:
    @property
    def buffer_size(self) -> int: ...
    def __init__(self) -> None: ...
    def feed(self, data: Any) -> None: ...
