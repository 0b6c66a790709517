"""A list that can be a key, and a dict whose keys say themselves what they are equal by."""

from __future__ import annotations

from copyreg import __newobj__  # type: ignore[attr-defined]

from .._core import shared
from .._lazy import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

__all__ = ("EqualityDict", "HashedSeq", "eqhash")


class HashedSeq(shared.Hashed):
    """Be a list that is hashed once, when it is made from the items given.

    The hash does not follow later changes of the list.
    """

    __slots__ = ()

    def __init__(self, *seq: Any) -> None:
        super().__init__(seq)
        self.hashvalue = hash(seq)

    def __reduce__(self) -> tuple[Any, ...]:
        # The state as pickle has it of slots, wherever *hashvalue* is kept.
        return __newobj__, (type(self),), (None, {"hashvalue": self.hashvalue}), iter(self)


def eqhash(o: Any) -> Any:
    """Return what *o* is to be equal by: ``o.__eqhash__()`` where it has that method, else ``hash(o)``."""
    try:
        return o.__eqhash__()
    except AttributeError:
        return hash(o)


class EqualityDict(dict["Any", "Any"]):
    """Be a dict that files its values under :func:`eqhash` of their keys.

    Only reading, setting and deleting items translate the key; iteration gives the translated ones.
    A subclass may define ``__missing__``; without it an unknown key is a :exc:`KeyError`.
    """

    def __getitem__(self, key: Any) -> Any:
        filed_under = eqhash(key)
        if filed_under in self:
            return super().__getitem__(filed_under)
        missing = getattr(self, "__missing__", None)
        if missing is None:
            raise KeyError(key)
        return missing(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(eqhash(key), value)

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(eqhash(key))
