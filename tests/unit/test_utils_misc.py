"""The smaller helpers; what kombu 5.7 answers to many calls is in compat/test_recorded.py."""

from __future__ import annotations

import codecs
import io
import logging
import pickle
import sys
import types
from types import SimpleNamespace

import pytest

import kombu
from kombu.utils import amq_manager, debug, div, encoding, limits, scheduling, text
from kombu.utils.collections import EqualityDict, HashedSeq, eqhash
from kombu.utils.imports import symbol_by_name


class TestEqualityDict:
    class Key:
        def __init__(self, name):
            self.name = name

        def __eqhash__(self):
            return hash(self.name)

    def test_keys_are_what_they_say_they_are(self):
        d = EqualityDict()
        d[self.Key("a")] = 1
        assert d[self.Key("a")] == 1
        del d[self.Key("a")]
        assert len(d) == 0

    def test_an_unknown_key_is_a_key_error(self):
        with pytest.raises(KeyError, match="'a'"):
            EqualityDict()["a"]

    def test_a_subclass_may_make_what_is_missing(self):
        class Pools(EqualityDict):
            def __missing__(self, key):
                self[key] = f"made for {key}"
                return self[key]

        pools = Pools()
        assert (pools["a"], len(pools), pools["a"]) == ("made for a", 1, "made for a")

    def test_other_keys_go_by_their_hash(self):
        assert eqhash("a") == hash("a")


def test_a_hashed_list_is_hashed_once():
    seq = HashedSeq(1, "a")
    before = hash(seq)
    seq.append(2)
    assert (hash(seq), seq) == (before, [1, "a", 2])
    assert pickle.loads(pickle.dumps(seq)) == seq


class TestSymbolByName:
    def test_a_value_error_of_the_import_names_the_symbol(self):
        def imp(name, package=None):
            raise ValueError("bad")

        with pytest.raises(ValueError, match="Couldn't import 'a.b': bad"):
            symbol_by_name("a.b", imp=imp)

    def test_keywords_reach_the_importer(self):
        seen = {}

        def imp(name, package=None, **kwargs):
            seen.update(kwargs, name=name, package=package)
            return SimpleNamespace(b=5)

        assert symbol_by_name("a:b", imp=imp, package="p", more=1) == 5
        assert seen == {"name": "a", "package": "p", "more": 1}


class TestEncoding:
    def test_the_default_encoding_is_that_of_the_file_set(self):
        encoding.set_default_encoding_file(SimpleNamespace(encoding="x-mine"))
        try:
            assert encoding.default_encoding() == "x-mine"
            assert encoding.default_encoding(SimpleNamespace(encoding="x-other")) == "x-other"
        finally:
            encoding.set_default_encoding_file(None)
        assert encoding.default_encoding() == sys.getfilesystemencoding()

    def test_nothing_is_too_broken_to_be_shown(self):
        class Broken:
            def __repr__(self):
                raise RuntimeError("no repr")

        assert encoding.safe_repr(Broken()).startswith("<Unrepresentable")
        assert encoding.safe_str(Broken()).startswith("<Unrepresentable")


class TestEmergencyDump:
    def dump(self, state, tmp_path, monkeypatch, **options):
        monkeypatch.setattr(div.tempfile, "tempdir", str(tmp_path))
        stderr = io.StringIO()
        path = div.emergency_dump_state(state, stderr=stderr, **options)
        assert path in stderr.getvalue()
        return path, stderr.getvalue()

    def test_state_is_pickled(self, tmp_path, monkeypatch):
        path, _ = self.dump({"a": 1}, tmp_path, monkeypatch)
        with open(path, "rb") as file:
            assert pickle.load(file) == {"a": 1}

    def test_what_cannot_be_pickled_is_pretty_printed(self, tmp_path, monkeypatch):
        path, said = self.dump({"f": lambda: 1}, tmp_path, monkeypatch)
        with open(path) as file:
            assert file.read().startswith("{'f': <function")
        assert "Cannot pickle state" in said

    def test_another_dump_gets_a_text_file(self, tmp_path, monkeypatch):
        path, _ = self.dump([1], tmp_path, monkeypatch, dump=lambda state, file, protocol: file.write(f"{state}!"))
        with open(path) as file:
            assert file.read() == "[1]!"

    @pytest.mark.parametrize("opened", [open, lambda path, mode: codecs.open(path, mode, "utf-8")])
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_half_of_a_dump_is_overwritten(self, tmp_path, monkeypatch, opened):
        def dump(state, file, protocol):
            file.write("half")
            raise ValueError("no more")

        path, _ = self.dump(["é"], tmp_path, monkeypatch, dump=dump, open_file=opened)
        with open(path, encoding="utf-8") as file:
            assert file.read() == "['é']"

    def test_a_file_that_cannot_be_positioned_is_written_on(self, tmp_path, monkeypatch):
        written = []

        class Stream:
            def write(self, data):
                written.append(data)

            def seek(self, *args):
                raise OSError("a pipe")

            def flush(self):
                pass

            def close(self):
                written.append("closed")

        self.dump([lambda: 1], tmp_path, monkeypatch, open_file=lambda path, mode: Stream())
        assert written[-1] == "closed"
        assert written[-2].startswith(b"[<function")

    def test_without_stderr_it_is_logged(self, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(div.tempfile, "tempdir", str(tmp_path))
        path = div.emergency_dump_state([lambda: 1])
        assert path in caplog.text
        assert caplog.records[0].emergency_state_file == path
        assert "Cannot pickle state" in caplog.text


class TestDebug:
    def test_calls_are_logged(self, caplog):
        wrapped = debug.Logwrapped([3, 1], logging.getLogger("tests.debug"), "{0!r}.")
        with caplog.at_level(logging.DEBUG, "tests.debug"):
            wrapped.append("50%")
            wrapped.sort(key=str, reverse=True)
        assert caplog.messages == ["[3, 1].append('50%')", "[3, 1, '50%'].sort(key=<class 'str'>, reverse=True)"]

    def test_the_rest_is_that_of_the_instance(self):
        wrapped = debug.Logwrapped(SimpleNamespace(x=1), "tests.debug")
        assert (wrapped.x, repr(wrapped)) == (1, "namespace(x=1)")
        assert "x" in dir(wrapped)
        with pytest.raises(AttributeError):
            _ = wrapped.y

    def test_it_is_a_context_manager_as_the_instance_is(self):
        file = io.StringIO()
        with debug.Logwrapped(file, "tests.debug"):
            assert not file.closed
        assert file.closed

    def test_it_can_be_made_again_from_a_pickle(self):
        assert repr(pickle.loads(pickle.dumps(debug.Logwrapped([1])))) == "[1]"

    def test_setup_gives_loggers_a_handler_and_a_level(self):
        logger = logging.getLogger("tests.debug.setup")
        debug.setup_logging(logging.WARNING, ["tests.debug.setup"])
        assert logger.level == logging.WARNING
        assert logging.StreamHandler in map(type, logger.handlers)


class TestTokenBucket:
    @pytest.fixture
    def clock(self, monkeypatch):
        made = SimpleNamespace(now=100.0)
        monkeypatch.setattr(limits, "monotonic", lambda: made.now)
        return made

    def test_is_full_at_first_and_refilled_with_time(self, clock):
        bucket = limits.TokenBucket(fill_rate=2, capacity=4)
        assert bucket.can_consume(4)
        assert not bucket.can_consume()
        assert bucket.expected_time(3) == 1.5
        clock.now += 1.5
        assert bucket.can_consume(3)
        assert not bucket.can_consume()

    def test_never_holds_more_than_its_capacity(self, clock):
        bucket = limits.TokenBucket(fill_rate=2, capacity=4)
        clock.now += 1000
        assert not bucket.can_consume(5)
        assert bucket.can_consume(4)
        assert not bucket.can_consume()

    def test_keeps_a_queue(self):
        bucket = limits.TokenBucket(1)
        bucket.add("a")
        bucket.add("b")
        assert bucket.pop() == "a"
        bucket.clear_pending()
        with pytest.raises(IndexError):
            bucket.pop()


class Empty(Exception):
    pass


class TestFairCycle:
    def cycle(self, contents):
        def get(resource, callback, **kwargs):
            if not contents[resource]:
                raise Empty(resource)
            return callback(contents[resource].pop(0), **kwargs)

        return scheduling.FairCycle(get, list(contents), Empty)

    def test_each_resource_has_its_turn(self):
        cycle = self.cycle({"a": [1, 2], "b": [3], "c": []})
        assert [cycle.get(lambda x, add: x + add, add=0) for _ in range(3)] == [1, 3, 2]

    def test_each_resource_is_asked_once_before_it_is_empty(self):
        asked = []

        def get(resource, callback):
            asked.append(resource)
            raise Empty

        cycle = scheduling.FairCycle(get, ["a", "b"], Empty)
        for _ in range(2):
            with pytest.raises(Empty):
                cycle.get(None)
        assert asked == ["a", "b", "a", "b"]

    def test_without_resources_it_is_empty(self):
        with pytest.raises(Empty):
            self.cycle({}).get(print)

    def test_resources_may_become_fewer(self):
        cycle = self.cycle({"a": [1, 2, 3], "b": [4]})
        cycle.get(int)
        cycle.get(int)
        del cycle.resources[1]
        assert [cycle.get(int), cycle.get(int)] == [2, 3]

    def test_says_where_it_is(self):
        assert repr(self.cycle({"a": []})) == "<FairCycle: 0/1 ['a']>"


def test_round_robin_moves_the_used_one_to_the_end():
    cycle = scheduling.cycle_by_name("round_robin")(["a", "b", "c"])
    assert (cycle.rotate("a"), cycle.items, cycle.consume(2)) == ("a", ["b", "c", "a"], ["b", "c"])
    assert (cycle.rotate("x"), cycle.items) == ("x", ["b", "c", "a"])
    cycle.update("xy")
    assert cycle.items == ["x", "y"]


def test_priority_keeps_the_order_and_sorted_sorts():
    for name, consumed in (("priority", ["c", "a"]), ("sorted", ["a", "c"])):
        cycle = scheduling.cycle_by_name(name)(["c", "a", "b"])
        cycle.rotate("c")
        assert (cycle.items, cycle.consume(2)) == (["c", "a", "b"], consumed)


class TestVersions:
    @pytest.mark.parametrize(
        ("version", "parts"),
        [
            ("3", (3, 0, 0, "", "")),
            ("3.1.1a1", (3, 1, 1, "a1", "")),
            ("3.1.1a1-40", (3, 1, 1, "a1", "40")),
            ("3.1.1.a1.40", (3, 1, 1, "a1", "40")),
            ("4.1.0-7-gabc", (4, 1, 0, "", "7-gabc")),
            ("5.3.rc1", (5, 3, 0, "rc1", "")),
        ],
    )
    def test_parts(self, version, parts):
        result = text.version_string_as_tuple(version)
        assert (type(result), result) == (kombu.version_info_t, parts)

    @pytest.mark.parametrize("version", ["", "x", "1.x", "1.2.3.4.5.6"])
    def test_no_version(self, version):
        with pytest.raises(ValueError):
            text.version_string_as_tuple(version)


class TestManager:
    @pytest.fixture
    def client(self, monkeypatch):
        module = types.ModuleType("pyrabbit")
        module.Client = lambda *args: args
        monkeypatch.setitem(sys.modules, "pyrabbit", module)
        return SimpleNamespace(transport_options={}, hostname=None, userid="me", password=None)

    def test_what_is_given_wins(self, client):
        client.transport_options = {"manager_hostname": "other", "manager_port": 1}
        assert amq_manager.get_manager(client, "host", 2, "user", "secret") == ("host:2", "user", "secret")

    def test_then_options_then_the_connection_then_defaults(self, client):
        client.transport_options = {"manager_hostname": "other", "manager_port": 1}
        assert amq_manager.get_manager(client) == ("other:1", "me", "guest")
        client.transport_options = {}
        assert amq_manager.get_manager(client) == ("localhost:15672", "me", "guest")
