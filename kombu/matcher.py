"""Match names with patterns, by methods that have names of their own.

``glob`` is :func:`fnmatch.fnmatch` and the default, ``pcre`` is :func:`re.match`; installed packages add others by
entry points in the group ``kombu.matchers``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from re import match as rematch
from typing import Any

from .utils.compat import entrypoints
from .utils.encoding import bytes_to_str

__all__ = ("MatcherFunction", "MatcherNotInstalled", "MatcherRegistry", "match", "register", "registry", "unregister")

MatcherFunction = Callable[..., Any]


class MatcherNotInstalled(Exception):
    """Say that there is no matching method of that name."""


class MatcherRegistry:
    """Know matching methods by name."""

    MatcherNotInstalled = MatcherNotInstalled

    #: The methods that take the pattern first.
    matcher_pattern_first = ["pcre"]

    def __init__(self) -> None:
        self._matchers: dict[str, MatcherFunction] = {}
        self._default_matcher: MatcherFunction | None = None

    def register(self, name: str, matcher: MatcherFunction) -> None:
        """Add a method: ``matcher(data, pattern, **kwargs)`` says whether they match."""
        self._matchers[name] = matcher

    def unregister(self, name: str) -> None:
        """Remove a method; MatcherNotInstalled if there is none of that name."""
        if self._matchers.pop(name, None) is None:
            raise self._not_installed(name)

    def _set_default_matcher(self, name: str) -> None:
        """Make *name* the default method; MatcherNotInstalled if there is none of that name."""
        if name not in self._matchers:
            raise self._not_installed(name)
        self._default_matcher = self._matchers[name]

    def match(
        self,
        data: str | bytes,
        pattern: str | bytes,
        matcher: str | None = None,
        matcher_kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what the method *matcher* says of *data* and *pattern*: something true if they match.

        *matcher_kwargs* are further arguments for it. MatcherNotInstalled if there is none of that name.
        """
        if matcher and not self._matchers.get(matcher):
            raise self._not_installed(matcher)
        arguments = [bytes_to_str(data), bytes_to_str(pattern)]
        if matcher in self.matcher_pattern_first:
            arguments.reverse()
        return self._matchers[matcher or "glob"](*arguments, **matcher_kwargs or {})

    def _not_installed(self, name: str) -> Exception:
        return self.MatcherNotInstalled(f"No matcher installed for {name}")


#: The methods that the whole process uses.
registry = MatcherRegistry()
match = registry.match
register = registry.register
unregister = registry.unregister


def register_glob() -> None:
    """Register ``glob``: shell patterns."""
    registry.register("glob", fnmatch)


def register_pcre() -> None:
    """Register ``pcre``: regular expressions, matched at the beginning."""
    registry.register("pcre", rematch)


register_glob()
register_pcre()
registry._set_default_matcher("glob")

for _entry_point, _arguments in entrypoints("kombu.matchers"):
    register(_entry_point.name, *_arguments)
