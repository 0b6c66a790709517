"""Loggers, levels by name, and a mixin that gives a class its own logger."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

# Here and now: Celery uses the submodule without importing it, as kombu 5.7 does.
from logging.handlers import WatchedFileHandler
from numbers import Integral
from typing import Any

from .utils.encoding import safe_repr, safe_str
from .utils.functional import maybe_evaluate
from .utils.objects import cached_property

__all__ = ("LOG_LEVELS", "Log", "LogMixin", "get_logger", "get_loglevel", "setup_logging")

#: Levels by name and names by level.
LOG_LEVELS: dict[Any, Any] = {
    "FATAL": logging.FATAL,
    **logging._nameToLevel,
    **logging._levelToName,
}

#: Set in the environment, it keeps tracebacks out of everything :class:`LogMixin` logs.
DISABLE_TRACEBACKS = os.environ.get("DISABLE_TRACEBACKS")


def get_logger(logger: str | logging.Logger) -> logging.Logger:
    """Return the logger of that name, or *logger* itself, with at least a handler that does nothing."""
    if isinstance(logger, str):
        logger = logging.getLogger(logger)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger


def get_loglevel(level: str | int) -> int:
    """Return the number of a level given by name (KeyError if there is none such); a number is returned as it is."""
    return LOG_LEVELS[level] if isinstance(level, str) else level


# A conversion as printf has it: width, precision and letter; an escaped percent sign has none of them.
_CONVERSION = re.compile(r"%(?:%|[-#0 +]*(\*|\d*)(?:\.(\*|\d*))?[hlL]?([a-zA-Z]))")


def naive_format_parts(fmt: str) -> Iterator[str | None]:
    """Yield for each argument that *fmt* takes the letter it is converted by, or None for a width or precision."""
    for conversion in _CONVERSION.finditer(fmt):
        width, precision, letter = conversion.groups()
        for stars in (width, precision):
            if stars == "*":
                yield None
        if letter:
            yield letter


def safeify_format(
    fmt: str, args: Iterable[Any], filters: Mapping[str, Callable[[Any], str]] | None = None
) -> Iterator[Any]:
    """Yield *args* made safe to format: what *fmt* writes by ``%s`` or ``%r`` is turned into text here."""
    filters = filters or {"s": safe_str, "r": safe_repr}
    letters = naive_format_parts(fmt)
    for arg in args:
        convert = filters.get(next(letters, None) or "")
        yield arg if convert is None else convert(arg)


def _repr_done(conversion: re.Match[str]) -> str:
    return conversion[0][:-1] + "s" if conversion[3] == "r" else conversion[0]


class LogMixin:
    """Give a class methods named after severities, which log to a logger named after the class.

    The text is preceded by :attr:`logger_name`. Arguments that are :class:`~kombu.utils.functional.lazy` are evaluated
    if the message is wanted at all.
    """

    def debug(self, *args: Any, **kwargs: Any) -> None:
        """Log with severity DEBUG."""
        return self.log(logging.DEBUG, *args, **kwargs)

    def info(self, *args: Any, **kwargs: Any) -> None:
        """Log with severity INFO."""
        return self.log(logging.INFO, *args, **kwargs)

    def warn(self, *args: Any, **kwargs: Any) -> None:
        """Log with severity WARNING."""
        return self.log(logging.WARNING, *args, **kwargs)

    def error(self, *args: Any, **kwargs: Any) -> None:
        """Log with severity ERROR, and the current exception."""
        return self.log(logging.ERROR, *args, **{"exc_info": True, **kwargs})

    def critical(self, *args: Any, **kwargs: Any) -> None:
        """Log with severity CRITICAL, and the current exception."""
        return self.log(logging.CRITICAL, *args, **{"exc_info": True, **kwargs})

    def annotate(self, text: str) -> str:
        """Return *text* as it is to be logged."""
        return f"{self.logger_name} - {text}"

    def log(self, severity: int, *args: Any, **kwargs: Any) -> None:
        """Log a format and its arguments, or all *args* joined by spaces where the first is not a format."""
        if DISABLE_TRACEBACKS:
            kwargs.pop("exc_info", None)
        logger = self.logger
        if not logger.isEnabledFor(severity):
            return None
        if len(args) > 1 and isinstance(args[0], str):
            text, *values = args
            safe = safeify_format(text, [maybe_evaluate(value) for value in values])
            return logger.log(severity, self.annotate(_CONVERSION.sub(_repr_done, text)), *safe, **kwargs)
        return logger.log(severity, self.annotate(_joined(args)), **kwargs)

    def get_logger(self) -> logging.Logger:
        """Return the logger to use; asked once."""
        return get_logger(self.logger_name)

    def is_enabled_for(self, level: str | int) -> bool:
        """Return whether messages of *level* are logged."""
        return self.logger.isEnabledFor(self.get_loglevel(level))

    def get_loglevel(self, level: str | int) -> int:
        """Return the number of a level given by name or number."""
        number: int = level if isinstance(level, Integral) else LOG_LEVELS[level]
        return number

    @cached_property
    def logger(self) -> logging.Logger:
        """The logger in use."""
        return self.get_logger()

    @property
    def logger_name(self) -> str:
        """The name of the class."""
        return type(self).__name__


def _joined(args: Iterable[Any]) -> str:
    return " ".join(map(safe_str, args))


class Log(LogMixin):
    """Log under *name*, to *logger* where one is given."""

    def __init__(self, name: str, logger: logging.Logger | None = None) -> None:
        self._logger_name = name
        self._logger = logger

    def get_logger(self) -> logging.Logger:
        """Return the logger given, or the one called as this object."""
        return self._logger or super().get_logger()

    @property
    def logger_name(self) -> str:
        """The name given."""
        return self._logger_name


def setup_logging(loglevel: str | int | None = None, logfile: Any = None) -> logging.Logger:
    """Let the root logger write to *logfile*, unless it has a handler already, and return it.

    *logfile* is a file object or a path, by default the original ``sys.stderr``; *loglevel* is ERROR by default.
    """
    logger = logging.getLogger()
    level = get_loglevel(loglevel or "ERROR")
    target: Any = logfile or sys.__stderr__
    if not logger.handlers:
        handler = logging.StreamHandler(target) if hasattr(target, "write") else WatchedFileHandler(target)
        logger.addHandler(handler)
        logger.setLevel(level)
    return logger
