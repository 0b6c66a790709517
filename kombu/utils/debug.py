"""See what a transport is asked to do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial, update_wrapper
from typing import Any

from kombu.log import get_logger

__all__ = ("Logwrapped", "setup_logging")


def setup_logging(loglevel: int | None = logging.DEBUG, loggers: Iterable[str] | None = None) -> None:
    """Write what *loggers* log to standard error, by default those of connections and channels."""
    for name in loggers or ("kombu.connection", "kombu.channel"):
        logger = get_logger(name)
        logger.addHandler(logging.StreamHandler())
        if loglevel is not None:
            logger.setLevel(loglevel)


class Logwrapped:
    """Pass everything on to *instance*, and log each call of its methods with severity DEBUG.

    *ident* is a format for the beginning of the text; its one argument is *instance*.
    """

    def __init__(self, instance: Any, logger: logging.Logger | str | None = None, ident: str | None = None) -> None:
        self.instance = instance
        self.logger = get_logger(__name__ if logger is None else logger)
        self.ident = ident

    def __getattr__(self, key: str) -> Any:
        if key == "instance":
            # Not there yet: the object is just being unpickled or copied.
            raise AttributeError(key)
        attribute = getattr(self.instance, key)
        if not callable(attribute):
            return attribute
        call = partial(self._call, attribute)
        return update_wrapper(call, attribute)

    def _call(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        prefix = self.ident.format(self.instance) if self.ident else ""
        arguments = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
        name = getattr(method, "__name__", repr(method))
        # Given as an argument: the text may have percent signs in it.
        self.logger.debug("%s%s(%s)", prefix, name, ", ".join(arguments))
        return method(*args, **kwargs)

    def __enter__(self) -> Logwrapped:
        self.instance.__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> Any:
        return self.instance.__exit__(*exc_info)

    def __repr__(self) -> str:
        return repr(self.instance)

    def __dir__(self) -> list[str]:
        return dir(self.instance)
