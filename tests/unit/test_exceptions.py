"""Exceptions: what they derive from, what they say, and that they survive pickling."""

from __future__ import annotations

import builtins
import pickle
import socket

import amqp.exceptions
import pytest

import interpreter
from kombu import exceptions

DERIVED = {
    "OperationalError": "KombuError",
    "BatchPublishError": "KombuError",
    "SerializationError": "KombuError",
    "EncodeError": "SerializationError",
    "DecodeError": "SerializationError",
    "NotBoundError": "KombuError",
    "MessageStateError": "KombuError",
    "LimitExceeded": "KombuError",
    "ConnectionLimitExceeded": "LimitExceeded",
    "ChannelLimitExceeded": "LimitExceeded",
    "VersionMismatch": "KombuError",
    "SerializerNotInstalled": "KombuError",
    "ContentDisallowed": "SerializerNotInstalled",
    "InconsistencyError": "ConnectionError",
}


@pytest.mark.parametrize("name", DERIVED)
def test_derives_from(name):
    assert getattr(exceptions, name).__bases__ == (getattr(exceptions, DERIVED[name]),)


def test_the_exceptions_of_others_are_theirs():
    assert exceptions.ConnectionError is amqp.exceptions.ConnectionError
    assert exceptions.ChannelError is amqp.exceptions.ChannelError
    assert exceptions.ResourceError is amqp.exceptions.ResourceError
    assert exceptions.TimeoutError is builtins.TimeoutError is socket.timeout


@pytest.mark.parametrize("name", sorted({*DERIVED, "HttpError"} - {"InconsistencyError"}))
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_survives_pickling(name, protocol):
    exc = getattr(exceptions, name)(404, "text")
    again = pickle.loads(pickle.dumps(exc, protocol))
    assert (type(again), again.args, str(again)) == (type(exc), exc.args, str(exc))


def test_an_http_error_knows_code_text_and_response():
    exc = exceptions.HttpError(404, "Not Found", response="response")  # type: ignore[arg-type]
    assert (exc.code, exc.message, exc.response) == (404, "Not Found", "response")
    assert str(exc) == "HTTP 404: Not Found"


def test_reraise_keeps_the_traceback_given():
    try:
        raise KeyError(1)
    except KeyError as exc:
        traceback = exc.__traceback__
    with pytest.raises(ValueError, match="other") as caught:
        exceptions.reraise(ValueError, ValueError("other"), traceback)
    assert traceback in [entry._rawentry for entry in caught.traceback]


def test_reraise_without_a_traceback_begins_anew():
    error = ValueError("x")
    with pytest.raises(ValueError) as caught:
        exceptions.reraise(ValueError, error)
    assert caught.value is error


def test_the_module_needs_hardly_anything_else_of_the_package():
    code = "import kombu.exceptions, sys; print(sorted(name for name in sys.modules if name.startswith('kombu')))"
    assert interpreter.run(code).stdout.strip() == "['kombu', 'kombu._lazy', 'kombu.exceptions']"


OF_AMQP = ("ChannelError", "ConnectionError", "InconsistencyError", "ResourceError")


@pytest.mark.parametrize("name", OF_AMQP)
def test_amqp_is_imported_when_one_of_its_exceptions_is_asked_for(name):
    code = (
        "import sys, kombu.exceptions\n"
        "before = 'amqp' in sys.modules\n"
        f"from kombu.exceptions import {name}\n"
        f"print(before, 'amqp' in sys.modules, {name} is kombu.exceptions.{name}, {name}.__name__)"
    )
    done = interpreter.run(code)
    assert (done.stdout.split(), done.stderr) == (["False", "True", "True", name], "")


def test_what_is_exported_is_listed_and_can_be_had_before_amqp_is_imported():
    code = (
        "import kombu.exceptions as module\n"
        "listed = dir(module)\n"
        "missing = [name for name in module.__all__ if name not in listed]\n"
        "names = {}\n"
        "exec('from kombu.exceptions import *', names)\n"
        "print(missing, [name for name in module.__all__ if names[name] is not getattr(module, name)])"
    )
    assert interpreter.run(code).stdout.strip() == "[] []"


def test_a_name_that_is_not_there_is_an_attribute_error_that_says_so():
    with pytest.raises(AttributeError, match=r"module 'kombu\.exceptions' has no attribute 'NoSuchError'"):
        exceptions.NoSuchError  # noqa: B018


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_an_inconsistency_names_the_public_module_and_is_read_where_amqp_is_not_imported_yet(protocol):
    data = pickle.dumps(exceptions.InconsistencyError("text", (50, 10), "Queue.declare", "405"), protocol)
    assert b"kombu.exceptions" in data
    assert b"_amqp_exceptions" not in data
    code = (
        "import pickle, sys\n"
        f"error = pickle.loads({data!r})\n"
        "from kombu.exceptions import ConnectionError, InconsistencyError\n"
        "print(type(error) is InconsistencyError, isinstance(error, ConnectionError), error.reply_text)"
    )
    done = interpreter.run(code)
    assert (done.stdout.split(), done.stderr) == (["True", "True", "text"], "")
