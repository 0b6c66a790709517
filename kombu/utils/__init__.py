"""Helpers; the names here are kept for old code, and live in the modules below."""

from __future__ import annotations

from .._lazy import TYPE_CHECKING, forwarding

# At once, because otherwise the module of that name would stand in its place.
from .uuid import uuid

if TYPE_CHECKING:
    from .collections import EqualityDict
    from .compat import fileno, maybe_fileno, nested, register_after_fork
    from .div import emergency_dump_state
    from .functional import fxrange, fxrangemax, maybe_list, reprcall, reprkwargs, retry_over_time
    from .imports import symbol_by_name
    from .objects import cached_property
else:
    __getattr__, __dir__ = forwarding(
        __name__,
        {
            "EqualityDict": "kombu.utils.collections",
            **dict.fromkeys(("fileno", "maybe_fileno", "nested", "register_after_fork"), "kombu.utils.compat"),
            "emergency_dump_state": "kombu.utils.div",
            **dict.fromkeys(
                ("fxrange", "fxrangemax", "maybe_list", "reprcall", "reprkwargs", "retry_over_time"),
                "kombu.utils.functional",
            ),
            "symbol_by_name": "kombu.utils.imports",
            "cached_property": "kombu.utils.objects",
        },
        submodules=("cache", "collections", "compat", "div", "encoding", "functional", "imports", "objects"),
    )

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
