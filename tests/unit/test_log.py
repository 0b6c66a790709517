"""Logging: what is logged, where, and what is made safe before."""

from __future__ import annotations

import io
import logging
from logging.handlers import WatchedFileHandler
from types import SimpleNamespace

import pytest

from kombu import log
from kombu.utils.functional import lazy


@pytest.fixture
def logger():
    made = logging.Logger("test", logging.DEBUG)
    made.stream = io.StringIO()
    handler = logging.StreamHandler(made.stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    made.addHandler(handler)
    return made


@pytest.fixture
def log_(logger):
    return log.Log("name", logger)


def written(log_):
    return log_.logger.stream.getvalue()


@pytest.mark.parametrize("method", ["debug", "info", "warn"])
def test_severities(log_, method):
    getattr(log_, method)("text")
    assert written(log_) == f"{'WARNING' if method == 'warn' else method.upper()} name - text\n"


@pytest.mark.parametrize("method", ["error", "critical"])
def test_errors_come_with_the_exception(log_, method):
    try:
        raise KeyError("what happened")
    except KeyError:
        getattr(log_, method)("text")
        assert "KeyError: 'what happened'" in written(log_)


def test_the_exception_can_be_left_out(log_):
    try:
        raise KeyError("what happened")
    except KeyError:
        log_.error("text", exc_info=False)
    assert written(log_) == "ERROR name - text\n"


def test_tracebacks_can_be_disabled(log_, monkeypatch):
    monkeypatch.setattr(log, "DISABLE_TRACEBACKS", "1")
    try:
        raise KeyError("what happened")
    except KeyError:
        log_.error("text")
    assert written(log_) == "ERROR name - text\n"


def test_arguments_are_formatted(log_):
    log_.info("%s and %r", b"bytes\xff", "text")
    assert written(log_) == "INFO name - bytes\ufffd and 'text'\n"


@pytest.mark.parametrize(
    ("fmt", "args", "text"),
    [
        ("%s %r", ["a", "b"], "a 'b'"),
        ("100%% of %s", ["a"], "100% of a"),
        ("%%r %r%%", ["a"], "%r 'a'%"),
        ("%-5r|%5.1s|", ["a", "bc"], "'a'  |    b|"),
        ("%*d %r", [3, 7, "a"], "  7 'a'"),
        ("%(a)s", [{"a": 1}], "1"),
        ("%d and %x", [5, 255], "5 and ff"),
    ],
)
def test_every_kind_of_format_is_understood(log_, fmt, args, text):
    log_.info(fmt, *args)
    assert written(log_) == f"INFO name - {text}\n"


def test_missing_arguments_are_left_to_the_logger():
    assert list(log.safeify_format("%s %s", [1])) == ["1"]
    assert list(log.safeify_format("none", [b"x"])) == [b"x"]


def test_an_argument_without_a_representation_does_no_harm(log_):
    class Broken:
        def __repr__(self):
            raise RuntimeError("no repr")

    log_.info("%r", Broken())
    assert "<Unrepresentable" in written(log_)


def test_what_is_no_format_is_joined(log_):
    log_.info(b"bytes", 5)
    assert written(log_) == "INFO name - bytes 5\n"


def test_lazy_arguments_are_evaluated_only_if_wanted(log_):
    calls = []
    log_.logger.setLevel(logging.INFO)
    log_.debug("%s", lazy(calls.append, 1))
    assert calls == []
    log_.info("%s", lazy(lambda: "value"))
    assert written(log_) == "INFO name - value\n"


def test_levels_are_known_by_name_and_number(log_):
    log_.logger.setLevel(logging.WARNING)
    assert log_.is_enabled_for("ERROR") and log_.is_enabled_for(logging.WARNING)
    assert not log_.is_enabled_for("INFO")
    assert (log.get_loglevel("FATAL"), log.LOG_LEVELS[10]) == (logging.FATAL, "DEBUG")
    with pytest.raises(KeyError, match="NO-SUCH-LEVEL"):
        log.get_loglevel("NO-SUCH-LEVEL")


def test_a_class_logs_under_its_own_name():
    class Thing(log.LogMixin):
        pass

    assert Thing().logger is logging.getLogger("Thing")
    assert Thing().annotate("text") == "Thing - text"


def test_a_log_without_a_logger_takes_that_of_its_name():
    assert log.Log("tests.log.own").logger is logging.getLogger("tests.log.own")


def test_a_logger_gets_a_handler_that_does_nothing_once():
    logger = log.get_logger("tests.log.fresh")
    assert log.get_logger(logger) is logger
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]


class TestSetupLogging:
    @pytest.fixture
    def root(self, monkeypatch):
        made = logging.Logger("root")
        # Of this module alone: pytest has handlers at the real one.
        monkeypatch.setattr(log, "logging", SimpleNamespace(**{**vars(logging), "getLogger": lambda: made}))
        yield made
        for handler in made.handlers:
            handler.close()

    def test_writes_to_a_stream(self, root):
        stream = io.StringIO()
        assert log.setup_logging("INFO", stream) is root
        root.info("text")
        assert stream.getvalue() == "text\n"

    def test_writes_to_a_file(self, root, tmp_path):
        log.setup_logging(logfile=str(tmp_path / "log"))
        assert [type(handler) for handler in root.handlers] == [WatchedFileHandler]
        assert root.level == logging.ERROR

    def test_leaves_a_logger_with_handlers_alone(self, root):
        handler = logging.NullHandler()
        root.addHandler(handler)
        log.setup_logging("DEBUG")
        assert (root.handlers, root.level) == ([handler], logging.NOTSET)
