from collections.abc import Callable
from typing import Any, final

__all__ = ("make_decoder",)

ABI: int

@final
class Decoder:
    def __call__(self, s: Any) -> Any: ...

def make_decoder(
    plain: Callable[[str, int], tuple[Any, int]],
    typed: Callable[[str, int], tuple[Any, int]],
    escaped: Callable[[str], Any],
    malformed: type[ValueError],
    otherwise: Callable[[Any], Any],
) -> Callable[[Any], Any]: ...
