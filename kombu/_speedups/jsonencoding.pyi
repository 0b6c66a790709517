from collections.abc import Callable, Iterable
from typing import Any, final

__all__ = ("make_encoder",)

ABI: int

@final
class Encoder:
    def __call__(self, o: Any) -> str: ...

def make_encoder(
    chunks: Callable[[Any, int], Iterable[str]],
    otherwise: Callable[[Any], str],
) -> Callable[[Any], str]: ...
