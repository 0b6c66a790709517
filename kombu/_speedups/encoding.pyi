from collections.abc import Iterable
from typing import Any

__all__ = ("encode_arguments", "encode_properties", "encode_table")

ABI: int

def encode_table(table: dict[str, Any] | None) -> bytes: ...
def encode_arguments(format: str, values: Iterable[Any]) -> bytes: ...
def encode_properties(properties: dict[str, Any]) -> bytes: ...
