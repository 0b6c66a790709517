from collections.abc import Callable, Iterable
from typing import Any, final

__all__ = ("make_decoder", "make_encoder")

ABI: int

@final
class Decoder:
    def __call__(self, s: Any) -> Any: ...

@final
class Encoder:
    def __call__(self, o: Any) -> str: ...

def make_decoder(
    plain: Callable[[str, int], tuple[Any, int]],
    typed: Callable[[str, int], tuple[Any, int]],
    escaped: Callable[[str], Any],
    malformed: type[ValueError],
    otherwise: Callable[[Any], Any],
) -> Callable[[Any], Any]: ...
def make_encoder(
    chunks: Callable[[Any, int], Iterable[str]],
    otherwise: Callable[[Any], str],
) -> Callable[[Any], str]: ...
