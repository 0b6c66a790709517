"""Helpers; the names here are kept for old code, and live in the modules below."""

from __future__ import annotations

from .collections import EqualityDict
from .compat import fileno, maybe_fileno, nested, register_after_fork
from .div import emergency_dump_state
from .functional import fxrange, fxrangemax, maybe_list, reprcall, reprkwargs, retry_over_time
from .imports import symbol_by_name
from .objects import cached_property
from .uuid import uuid

__all__ = (
    "EqualityDict",
    "cached_property",
    "emergency_dump_state",
    "fileno",
    "fxrange",
    "fxrangemax",
    "maybe_fileno",
    "maybe_list",
    "nested",
    "register_after_fork",
    "reprcall",
    "reprkwargs",
    "retry_over_time",
    "symbol_by_name",
    "uuid",
)
