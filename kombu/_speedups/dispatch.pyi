from typing import Any

__all__ = ("Dispatcher", "receive")

ABI: int

def receive(self: Any, body: Any, message: Any) -> None: ...

class Dispatcher:
    consumer: Any
    finished: type | None
    def __init__(self, consumer: Any, finished: type | None = None) -> None: ...
    def __call__(self, message: Any) -> Any: ...
