from collections.abc import Callable, Collection
from typing import Any

__all__ = ("configure",)

ABI: int

def configure(
    loads: Callable[..., Any],
    decompress: Callable[..., Any],
    decoders: dict[str, Callable[[Any], Any]] | None = None,
    disabled: Collection[str] = ...,
    trusted: Collection[str] = ...,
) -> None: ...
