"""Text: escaping, likeness, version numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import takewhile

from kombu import version_info_t

from .._lazy import TYPE_CHECKING, LazyModule

if TYPE_CHECKING:
    import difflib
else:
    difflib = LazyModule("difflib")

__all__ = ("escape_regex", "fmatch_best", "fmatch_iter", "version_info_t", "version_string_as_tuple")


def escape_regex(p: str, white: str = "") -> str:
    """Return *p* with a backslash before all but letters, digits and what is in *white*; NUL becomes ``\\000``."""
    return "".join(_escaped(char, white) for char in p)


def _escaped(char: str, white: str) -> str:
    if char.isalnum() or char in white:
        return char
    return "\\000" if char == "\0" else "\\" + char


def fmatch_iter(needle: str, haystack: Iterable[str], min_ratio: float = 0.6) -> Iterator[tuple[float, str]]:
    """Yield (likeness, word) for the words of *haystack* at least *min_ratio* like *needle*; 1.0 is the same."""
    for word in haystack:
        likeness = difflib.SequenceMatcher(None, needle, word).ratio()
        if likeness >= min_ratio:
            yield likeness, word


def fmatch_best(needle: str, haystack: Iterable[str], min_ratio: float = 0.6) -> str | None:
    """Return the word of *haystack* most like *needle*, or None if none reaches *min_ratio*."""
    best = max(fmatch_iter(needle, haystack, min_ratio), default=None)
    return best[1] if best else None


def version_string_as_tuple(s: str) -> version_info_t:
    """Take a version apart: ``"3.1.4rc2-7"`` is (3, 1, 4, "rc2", "7").

    What is not there is 0 or "". Raises ValueError where the first two parts are no numbers, or with more than five.
    """
    parts = s.split(".")
    if len(parts) > 5:
        raise ValueError(f"a version has five parts at most, not {len(parts)}: {s!r}")
    major, minor, micro, releaselevel, serial = parts + [""] * (5 - len(parts))
    patch = "".join(takewhile(str.isdigit, micro))
    releaselevel = micro[len(patch) :] or releaselevel
    if not serial:
        releaselevel, _, serial = releaselevel.partition("-")
    return version_info_t(int(major), int(minor or 0), int(patch or 0), releaselevel, serial)
