"""Matching by named methods."""

from __future__ import annotations

import textwrap

import pytest

import interpreter
from kombu import matcher


@pytest.fixture
def registry():
    made = matcher.MatcherRegistry()
    made.register("glob", matcher.registry._matchers["glob"])
    made.register("pcre", matcher.registry._matchers["pcre"])
    return made


def test_glob_is_the_default(registry):
    assert registry.match("worker1@host", "worker?@*")
    assert not registry.match("other", b"worker*")


def test_pcre_matches_at_the_beginning(registry):
    assert registry.match("worker1@host", r"worker\d", "pcre")
    assert not registry.match("a worker1", r"worker\d", "pcre")


def test_a_method_of_ones_own_gets_data_pattern_and_keywords(registry):
    registry.register("mine", lambda data, pattern, **kwargs: (data, pattern, kwargs))
    assert registry.match(b"data", "pattern", "mine", {"a": 1}) == ("data", "pattern", {"a": 1})


@pytest.mark.parametrize("call", [("match", "a", "b"), ("unregister",), ("_set_default_matcher",)])
def test_an_unknown_method_is_told(registry, call):
    method, *arguments = call
    with pytest.raises(registry.MatcherNotInstalled, match="^No matcher installed for nope$"):
        getattr(registry, method)(*arguments, "nope")


def test_an_unregistered_method_is_gone(registry):
    registry.unregister("pcre")
    with pytest.raises(matcher.MatcherNotInstalled):
        registry.match("a", "a", "pcre")


def test_installed_packages_add_methods(tmp_path):
    info = tmp_path / "exactly-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: exactly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kombu.matchers]\nexact = exactly:arguments\n")
    (tmp_path / "exactly.py").write_text("arguments = (lambda data, pattern: data == pattern,)\n")
    code = """
        import sys
        sys.path.append(sys.argv[1])
        from kombu.matcher import match
        print(match("a", "a", "exact"), match("a", "*", "exact"))
    """
    done = interpreter.run(textwrap.dedent(code), str(tmp_path))
    assert done.stdout.strip() == "True False", done.stderr
