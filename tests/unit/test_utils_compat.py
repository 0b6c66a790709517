"""Forks, the concurrency library in use, descriptors and context managers."""

from __future__ import annotations

import gc
import os
import socket
import sys
import textwrap
import types
import weakref
from contextlib import contextmanager

import pytest

import interpreter
from kombu.utils import compat


class Thing:
    def reset(self) -> None:
        """Do nothing."""


class TestRegisterAfterFork:
    def test_does_not_keep_the_object_alive(self):
        thing = Thing()
        alive = weakref.ref(thing)
        compat.register_after_fork(thing, print)
        del thing
        gc.collect()
        assert alive() is None

    def test_does_not_keep_it_alive_by_its_own_method_either(self):
        thing = Thing()
        alive = weakref.ref(thing)
        compat.register_after_fork(thing, thing.reset)
        del thing
        gc.collect()
        assert alive() is None

    def test_nothing_stays_registered_for_dead_objects(self):
        before = len(compat._after_fork)
        for _ in range(100):
            compat.register_after_fork(Thing(), print)
        gc.collect()
        assert len(compat._after_fork) == before

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
    @pytest.mark.parametrize("fork", ["os.fork()", "multiprocessing"])
    def test_a_child_calls_all_in_order_and_the_parent_none(self, fork):
        code = """
            import logging, multiprocessing, os, sys
            from kombu.utils.compat import register_after_fork

            logging.basicConfig(stream=sys.stdout, format="%(message)s")
            def say(*words):
                print(*words, flush=True)

            class Thing:
                def __init__(self, name):
                    self.name = name
                def reset(self):
                    say("reset", self.name)
            def broken(thing):
                raise RuntimeError("broken " + thing.name)

            a, b, c = things = [Thing(name) for name in "abc"]
            register_after_fork(b, Thing.reset)
            register_after_fork(c, broken)
            register_after_fork(a, a.reset)
            if sys.argv[1] == "multiprocessing":
                child = multiprocessing.get_context("fork").Process(target=say, args=("child",))
                child.start()
                child.join(30)
            else:
                child = os.fork()
                if child == 0:
                    say("child")
                    os._exit(0)
                os.waitpid(child, 0)
            say("parent")
        """
        done = interpreter.run(textwrap.dedent(code), fork)
        lines = done.stdout.splitlines()
        assert [line for line in lines if line.startswith(("reset", "child", "parent", "RuntimeError"))] == [
            "reset b",
            "RuntimeError: broken c",
            "reset a",
            "child",
            "parent",
        ], done.stderr


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def unknown(self, monkeypatch):
        monkeypatch.setattr(compat, "_environment", None)
        for name in ("eventlet", "gevent"):
            monkeypatch.delitem(sys.modules, name, raising=False)

    def pretend(self, monkeypatch, name, submodule, **attributes):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        module = types.ModuleType(submodule)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, submodule, module)

    def test_default(self):
        assert compat.detect_environment() == "default"

    @pytest.mark.parametrize(("patched", "expected"), [(True, "eventlet"), (False, "default")])
    def test_eventlet(self, monkeypatch, patched, expected):
        self.pretend(monkeypatch, "eventlet", "eventlet.patcher", is_monkey_patched=lambda module: patched)
        assert compat.detect_environment() == expected

    @pytest.mark.parametrize(("found", "expected"), [(socket.socket, "gevent"), (object, "default")])
    def test_gevent(self, monkeypatch, found, expected):
        self.pretend(monkeypatch, "gevent", "gevent.socket", socket=found)
        assert compat.detect_environment() == expected

    def test_a_module_that_only_has_the_name_is_passed_over(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "eventlet", types.ModuleType("eventlet"))
        monkeypatch.setitem(sys.modules, "gevent", types.ModuleType("gevent"))
        assert compat.detect_environment() == "default"

    def test_the_first_answer_is_kept(self, monkeypatch):
        assert compat.detect_environment() == "default"
        self.pretend(monkeypatch, "gevent", "gevent.socket", socket=socket.socket)
        assert compat.detect_environment() == "default"
        assert compat._detect_environment() == "gevent"

    def test_the_error_of_gevent_is_found_once_gevent_is_there(self, monkeypatch):
        assert compat.get_gevent_concurrent_error() is None
        self.pretend(monkeypatch, "gevent", "gevent.exceptions", ConcurrentObjectUseError=KeyError)
        assert compat.get_gevent_concurrent_error() is KeyError

    def test_a_gevent_without_that_error_has_none(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "gevent", types.ModuleType("gevent"))
        assert compat.get_gevent_concurrent_error() is None


def test_coro_runs_to_the_first_yield():
    received = []

    @compat.coro
    def collect():
        """Collect."""
        while True:
            received.append((yield))

    generator = collect()
    generator.send(1)
    generator.send(2)
    generator.close()
    assert (received, collect.__doc__) == ([1, 2], "Collect.")


class TestFileno:
    def test_of_a_socket(self):
        with socket.socket() as sock:
            assert compat.fileno(sock) == compat.maybe_fileno(sock) == sock.fileno()

    def test_of_what_has_none(self):
        with pytest.raises(ValueError, match="None has no file descriptor"):
            compat.fileno(None)
        with pytest.raises(AttributeError):
            compat.fileno(object())
        assert compat.maybe_fileno(None) is None
        assert compat.maybe_fileno(object()) is None


class TestNested:
    @pytest.fixture
    def log(self):
        return []

    @pytest.fixture
    def manager(self, log):
        @contextmanager
        def make(name, suppress=()):
            log.append(f"enter {name}")
            try:
                yield name
            except suppress:
                log.append(f"suppress {name}")
            finally:
                log.append(f"exit {name}")

        return make

    def test_enters_in_order_and_leaves_in_reverse(self, log, manager):
        with compat.nested(manager("a"), manager("b")) as values:
            assert values == ["a", "b"]
        assert log == ["enter a", "enter b", "exit b", "exit a"]

    def test_one_of_them_may_swallow_an_exception(self, log, manager):
        with compat.nested(manager("a", KeyError), manager("b")):
            raise KeyError
        assert log[2:] == ["exit b", "suppress a", "exit a"]

    def test_others_get_out(self, log, manager):
        with pytest.raises(ZeroDivisionError), compat.nested(manager("a", KeyError)):
            raise ZeroDivisionError
        assert log[-1] == "exit a"

    def test_those_entered_are_left_when_the_next_cannot_be_entered(self, log, manager):
        class Broken:
            def __enter__(self):
                raise ZeroDivisionError

            def __exit__(self, *exc_info):
                raise AssertionError("it was never entered")

        with pytest.raises(ZeroDivisionError), compat.nested(manager("a"), Broken()):
            raise AssertionError("not reached")
        assert log == ["enter a", "exit a"]
