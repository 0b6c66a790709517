"""Units of time."""

from __future__ import annotations

from typing import overload

__all__ = ("maybe_s_to_ms",)


@overload
def maybe_s_to_ms(v: None) -> None: ...
@overload
def maybe_s_to_ms(v: int | float) -> int: ...
def maybe_s_to_ms(v: int | float | None) -> int | None:
    """Return *v* seconds as whole milliseconds, cut towards zero; None stays None."""
    return None if v is None else int(float(v) * 1000.0)
