"""What exchanges, queues and bindings have in common: attributes from keywords, copies, and a channel.

An entity starts unbound, as a plain description that can be compared, copied and pickled.  Binding makes a copy that
remembers a channel, so one description at module level serves any number of connections.
"""

from __future__ import annotations

from copy import copy
from typing import Any, TypeVar

from .channels import maybe_channel
from .exceptions import NotBoundError
from .utils.functional import ChannelPromise

__all__ = ("Object", "MaybeChannelBound")

_ObjectT = TypeVar("_ObjectT", bound="Object")
_EntityT = TypeVar("_EntityT", bound="MaybeChannelBound")


def unpickle_dict(cls: type[_ObjectT], kwargs: dict[str, Any]) -> _ObjectT:
    """Rebuild an :class:`Object`; pickles refer to this function by name."""
    return cls(**kwargs)


class Object:
    """Turn the keywords named in :attr:`attrs` into attributes.

    Keywords that are not in :attr:`attrs` are ignored, and one that is :const:`None` leaves the default of the class
    in place (:const:`None` where the class has none).
    """

    #: Pairs of attribute name and converter; a converter of :const:`None` keeps the value as it is.
    attrs: tuple[tuple[str, Any], ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for name, convert in self.attrs:
            value = kwargs.get(name)
            if value is not None:
                setattr(self, name, value if convert is None else convert(value))
            elif not hasattr(self, name):
                setattr(self, name, None)

    def as_dict(self, recurse: bool = False) -> dict[str, Any]:
        """Return the attributes named in :attr:`attrs`, those of nested objects too if *recurse*."""
        res: dict[str, Any] = {}
        for name, convert in self.attrs:
            value = getattr(self, name)
            if recurse and isinstance(value, Object):
                value = value.as_dict(recurse=True)
            elif convert is not None and value is not None:
                value = convert(value)
            res[name] = value
        return res

    def __reduce__(self) -> Any:
        return unpickle_dict, (self.__class__, self.as_dict())

    def __copy__(self: _ObjectT) -> _ObjectT:
        return self.__class__(**self.as_dict())


class MaybeChannelBound(Object):
    """An entity that may be bound to a channel.

    Calling an entity with a channel or a connection is short for :meth:`bind`.
    """

    _channel: Any = None
    _is_bound: bool = False

    #: Whether one declaration holds for as long as the connection lives, so that
    #: :func:`kombu.common.maybe_declare` may skip the next.
    can_cache_declaration: Any = False

    def __call__(self: _EntityT, channel: Any) -> _EntityT:
        return self.bind(channel)

    def bind(self: _EntityT, channel: Any) -> _EntityT:
        """Return a copy that is bound to *channel*, which may also be a connection (its default channel)."""
        return copy(self).maybe_bind(channel)

    def maybe_bind(self: _EntityT, channel: Any) -> _EntityT:
        """Bind this very object to *channel* unless it is bound already, and return it."""
        if channel and not self.is_bound:
            self._channel = maybe_channel(channel)
            self.when_bound()
            self._is_bound = True
        return self

    def revive(self, channel: Any) -> None:
        """Move a bound entity to the *channel* of a new connection; an unbound one stays as it is."""
        if self.is_bound:
            self._channel = channel
            self.when_bound()

    def when_bound(self) -> None:
        """Hook for subclasses: the entity has just been given a channel."""

    def __repr__(self) -> str:
        return self._repr_entity(type(self).__name__)

    def _repr_entity(self, item: Any = "") -> str:
        item = item or type(self).__name__
        if not self.is_bound:
            return f"<unbound {item}>"
        return f"<{item} bound to chan:{self.channel.channel_id}>"

    @property
    def is_bound(self) -> bool:
        """Whether the entity has a channel."""
        return self._is_bound and self._channel is not None

    @property
    def channel(self) -> Any:
        """The channel that the entity is bound to.

        A promised channel is made here, on first use.  Raises :exc:`~kombu.exceptions.NotBoundError` if there is none.
        """
        channel = self._channel
        if channel is None:
            raise NotBoundError(f"Can't call method on {type(self).__name__} not bound to a channel")
        if isinstance(channel, ChannelPromise):
            channel = self._channel = channel()
        return channel


