"""To JSON text by the standard library's encoder, one that is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

__all__ = ("make_encoder",)


def make_encoder(chunks: Callable[[Any, int], Iterable[str]], otherwise: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return what encodes an object as JSON text.

    Arguments:
        chunks: the standard library's encoder, which encodes an object, at an indentation, in pieces.  The compiled
            twin writes itself what this would make of dicts with keys of text, lists, tuples, texts, numbers, true,
            false and null, and asks it only where there is anything else.
        otherwise: encodes what is nested too deep for that, or says what is wrong with it.
    """

    def encode(o: Any) -> str:
        try:
            return "".join(chunks(o, 0))
        except RecursionError:
            return otherwise(o)

    return encode
