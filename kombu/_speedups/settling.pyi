from typing import Any

__all__ = ("basic_ack",)

ABI: int

def basic_ack(self: Any, delivery_tag: int, multiple: bool = False, argsig: str = "Lb") -> None: ...
