from typing import Any

from .pool import Lender

__all__ = (
    "Hashed",
    "PoolMap",
    "ProducerLender",
    "identity",
    "rejoin",
)

ABI: int

class ProducerLender(Lender):
    connections: Any
    def __init__(self) -> None: ...
    def prepare(self, p: Any) -> Any: ...

class Hashed(list[Any]):
    hashvalue: int
    def __hash__(self) -> int: ...  # type: ignore[override]

class PoolMap(dict[Any, Any]):
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def __getitem__(self, key: Any, /) -> Any: ...

def identity(self: Any) -> Any: ...
def rejoin(producer: Any, connection: Any) -> bool: ...
