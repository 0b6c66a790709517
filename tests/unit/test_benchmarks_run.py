"""The benchmark suite runs: its streaming peer serves, its clients' results are checked, and what is wrong is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import amqp
import pytest

import kombu

SUITE = Path(__file__).resolve().parents[2] / "benchmarks"

pytestmark = [
    pytest.mark.skipif(not SUITE.is_dir(), reason="the tests stand without the benchmarks here"),
    pytest.mark.skipif(sys.platform != "linux", reason="the streaming peer is for Linux"),
    pytest.mark.skipif(shutil.which(os.environ.get("CC", "cc")) is None, reason="no C compiler"),
    pytest.mark.stress,
]

if SUITE.is_dir():
    sys.path.append(str(SUITE))
    import sides
    import streamer
    from contents import content, fnv

PATIENCE = 300.0


@pytest.fixture(scope="module", autouse=True)
def compiled_here(tmp_path_factory):
    """Compile the peer into a folder of the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streamer, "FOLDER", tmp_path_factory.mktemp("programs"))
        yield streamer.FOLDER


def connected(peer):
    return amqp.Connection(f"127.0.0.1:{peer.port}", connect_timeout=PATIENCE)


def consume(peer, wanted, *, prefetch=0, ack=None):
    """Take *wanted* deliveries and return their bodies."""
    bodies = []
    with connected(peer) as connection:
        channel = connection.channel()
        if prefetch:
            channel.basic_qos(0, prefetch, False)

        def take(message):
            bodies.append(message.body)
            if ack is not None:
                ack(channel, message.delivery_tag)

        channel.basic_consume("bench", callback=take)
        while len(bodies) < wanted:
            connection.drain_events(timeout=PATIENCE)
    return bodies


def test_the_peer_streams_what_it_was_given_with_a_number_in_each():
    made = content("raw", 64)
    with streamer.Streamer(1000, made) as peer:
        bodies = consume(peer, 1000, ack=lambda channel, tag: channel.basic_ack(tag))
        seen = peer.report()
    assert bodies == [made.body_of(number) for number in range(1000)]
    assert (seen["delivered"], seen["acked"], seen["ack_frames"]) == (1000, 1000, 1000)


def test_the_peer_counts_what_a_multiple_ack_settles():
    def every_tenth(channel, tag):
        if tag % 10 == 0:
            channel.basic_ack(tag, multiple=True)

    with streamer.Streamer(100, content("raw", 64)) as peer:
        consume(peer, 100, ack=every_tenth)
        seen = peer.report()
    assert (seen["acked"], seen["ack_frames"]) == (100, 10)


def test_the_peer_sends_no_more_than_the_prefetch_limit_allows():
    with streamer.Streamer(1000, content("raw", 64)) as peer:
        consume(peer, 3, prefetch=3)
        assert peer.report()["delivered"] == 3
        consume(peer, 100, prefetch=3, ack=lambda channel, tag: channel.basic_ack(tag))
        assert 100 <= peer.report()["delivered"] <= 103


@pytest.mark.parametrize("size", [64, 200_000])
def test_the_peer_confirms_and_compares_publishes(size):
    body = b"x" * size
    with streamer.Streamer() as peer:
        connection = amqp.Connection(f"127.0.0.1:{peer.port}", confirm_publish=True)
        with connection:
            channel = connection.channel()
            for _ in range(5):
                channel.basic_publish(amqp.Message(body, content_type="text/x"), routing_key="bench")
            channel.basic_publish(amqp.Message(b"another"), routing_key="bench")
        seen = peer.report()
    assert (seen["publishes"], seen["confirmed"], seen["different"]) == (6, 6, 1)
    assert (seen["first_body"], seen["content_type"]) == (fnv(body), "text/x")


@pytest.mark.parametrize(
    "said",
    ["consumer.c:11:10: fatal error: amqp.h: No such file or directory", "ld: cannot find -lrabbitmq: No such file"],
)
def test_a_missing_library_for_c_is_told_with_what_to_install(monkeypatch, said):
    def compiled(*_):
        raise streamer.CannotCompile(said)

    monkeypatch.setattr(sides, "compiled", compiled)
    with pytest.raises(sides.Unavailable, match="apt-get install librabbitmq-dev"):
        sides.SIDES["librabbitmq"].prepare()


def test_what_the_compiler_says_of_a_program_is_told(monkeypatch, tmp_path):
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer" / "broken.c").write_text("not C")
    monkeypatch.setattr(streamer, "HERE", tmp_path)
    with pytest.raises(streamer.CannotCompile, match="broken.c does not compile"):
        streamer.compiled("broken")


def test_a_missing_compiler_is_told(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(streamer.CannotCompile, match="no C compiler 'no-such-compiler'; set CC"):
        streamer.compiled("consumer")


def run(arguments, folder, tmp_path):
    """Run the suite on the kombu that is tested here and return the process and the results."""
    results = tmp_path / "run.json"
    side = "ours" if kombu.__impl__ == "c" else "pure"
    tree = Path(kombu.__file__).resolve().parents[1]
    # The suite's modules stand beside it; that no other folder of the tree is on the path is seen to by its own place.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, str(SUITE / "run.py"), "--here", "--sides", side, "--rounds", "1", "--json", str(results)]
        + arguments,
        env={**environment, "KOMBU_BENCHMARKS": str(folder), "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done, json.loads(results.read_text()) if results.exists() else None


def test_small_workloads_run_and_are_right(compiled_here, tmp_path):
    names = ["consume-raw", "consume-task", "consume-no-ack", "simple-queue", "publish-json", "confirm", "memory"]
    done, results = run([*names, "--share", "0.005"], compiled_here, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [each["workload"] for each in results["runs"]] == names
    assert results["failures"] == []
    assert all(each["messages"] > 0 and each["seconds"] > 0 for each in results["runs"])


def test_a_client_that_does_not_finish_is_told_and_ends_the_suite_with_a_code(compiled_here, tmp_path):
    done, results = run(["consume-raw", "--patience", "0.01"], compiled_here, tmp_path)
    assert done.returncode == 1
    assert "FAILED: not done after 0 s" in done.stdout
    assert results["runs"] == []
