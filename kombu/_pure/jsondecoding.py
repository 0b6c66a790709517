"""From JSON text by the standard library's scanner, with the hook for typed objects only where there may be any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ("make_decoder",)


def make_decoder(
    plain: Callable[[str, int], tuple[Any, int]],
    typed: Callable[[str, int], tuple[Any, int]],
    escaped: Callable[[str], Any],
    malformed: type[ValueError],
    otherwise: Callable[[Any], Any],
) -> Callable[[Any], Any]:
    """Return what decodes a JSON text.

    No dict in a text has a key ``__type__`` if the text has none.  Should it be spelled with escapes, at least one of
    its letters ``_ e p t y`` is, by a number from 5f to 79.

    Arguments:
        plain, typed: scan a str from an index on and return the value and the index behind it; without and with the
            hook, which takes longer than all the rest of decoding a small dict.
        escaped: tells by a true value that a text may spell a key with escapes.
        malformed: what these raise, besides StopIteration, for what is no JSON.
        otherwise: decodes what is no str, and what these find malformed: there may be white space before it.
    """

    def decode(s: Any) -> Any:
        if type(s) is not str:
            return otherwise(s)
        # To look for it does not pay where dicts are few for so long a text: a call of the hook takes about as long as
        # to search a hundred characters.
        needs_hook = (
            s.count("{") * 100 < len(s) or '"__type__"' in s or ("\\" in s and escaped(s) is not None)
        )
        try:
            value, end = (typed if needs_hook else plain)(s, 0)
        except (StopIteration, malformed):
            return otherwise(s)
        if end == len(s) or not s[end:].strip(" \t\r\n"):
            return value
        return otherwise(s)

    return decode
