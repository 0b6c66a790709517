from typing import Any, Final

__all__ = (
    "MAX_DEPTH",
    "check_properties",
    "decode_arguments",
    "decode_properties",
    "decode_table",
)

ABI: int

MAX_DEPTH: Final[int]

def decode_table(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[dict[str | bytes, Any], int]: ...
def decode_arguments(format: str, data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[list[Any], int]: ...
def decode_properties(data: bytes | bytearray | memoryview, offset: int = 0) -> dict[str, Any]: ...
def check_properties(data: bytes | bytearray | memoryview, offset: int = 0) -> None: ...
