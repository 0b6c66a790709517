"""``python -m kombu check`` finds what is wrong, and says it in one line."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kombu
from interpreter import run_module, start_module
from kombu import Connection
from kombu.check import CheckFailed, Traffic
from kombu.transport import memory
from ports import free_ports


class SpoilingChannel(memory.Channel):
    """Does to the messages put into a queue what ``spoil`` says."""

    spoil = None

    def _put(self, queue, message, **kwargs):
        for spoilt in type(self).spoil(message):
            super()._put(queue, spoilt, **kwargs)


def spoilt_traffic(spoil, count=50, size=32, timeout=30):
    channel = type("Channel", (SpoilingChannel,), {"spoil": staticmethod(spoil), "queues": {}})
    transport = type("Transport", (memory.Transport,), {"Channel": channel})
    connection = Connection(transport=transport)
    connection.connect()
    return Traffic(connection, count, size, timeout)


def tag(message):
    return message["properties"]["delivery_tag"]


class EveryTenth:
    def __init__(self, change):
        self.change = change
        self.seen = 0

    def __call__(self, message):
        self.seen += 1
        return self.change(message) if self.seen == 10 else [message]


def test_in_the_root_of_a_checkout_it_is_the_installed_package_that_runs(tmp_path):
    checkout = tmp_path / "checkout"
    (checkout / "kombu").mkdir(parents=True)
    (checkout / "pyproject.toml").touch()
    # No more of the sources than -m needs: the rest would not be found if they were what runs.
    for name in ("__init__.py", "__main__.py", "_lazy.py"):
        shutil.copy(Path(kombu.__file__).parent / name, checkout / "kombu")
    done = subprocess.run(
        [sys.executable, "-m", "kombu", "check", "--count", "10"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(Path(kombu.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"core: {kombu.__impl__} (" in done.stdout


def test_memory_works_and_says_what_is_live():
    done = run_module("check", "--count", "500", "--size", "100")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"kombu {kombu.__version__}, core: {kombu.__impl__} (")
    assert "memory" in lines[2] and lines[2].startswith("transports: amqp, amqps, librabbitmq, ")
    assert any(line.startswith("published 500 messages of 100 octets") for line in lines)
    assert lines[-1] == "ok"


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4096])
def test_bodies_of_every_size_come_back(size):
    done = run_module("check", "memory://", "--count", "70", "--size", str(size))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nosuch://",), "No such transport: nosuch"),
        (("amqp://localhost:notaport/",), "notaport"),
        (("amqp://127.0.0.1:{port}/", "--timeout", "5"), "refused"),
    ],
)
def test_what_is_wrong_ends_in_one_line_and_an_exit_code(arguments, said):
    (port,) = free_ports(1)
    done = run_module("check", *(argument.format(port=port) for argument in arguments))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("kombu check: FAILED: ")
    assert said in done.stderr
    assert "ok" not in done.stdout.splitlines()


@pytest.mark.parametrize("arguments", [("--count", "0"), ("--size", "-1"), ("--timeout", "0"), ("--count", "many")])
def test_senseless_arguments_are_refused(arguments):
    done = run_module("check", *arguments)
    assert done.returncode == 2
    assert repr(arguments[1]) in done.stderr


def test_an_implementation_that_does_not_exist_is_said_in_one_line():
    done = run_module("check", KOMBU_IMPL="rust")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "KOMBU_IMPL='rust'" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
def test_an_interrupt_ends_it_in_one_line_that_says_how_far_it_was():
    process = start_module("check", "--count", "1000000000")
    try:
        while "of 1,000,000,000" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 128 + signal.SIGINT
    assert re.fullmatch(r"kombu check: interrupted: [\d,]+ of 1,000,000,000 messages had come back\n", errors)


def test_a_lost_message_is_found():
    with pytest.raises(CheckFailed, match=r"message 9 is not the one published: 0x0a where 0x09"):
        spoilt_traffic(EveryTenth(lambda message: [])).run()


def test_the_last_message_lost_is_found():
    with pytest.raises(CheckFailed, match=r"no message arrived for 0.2 s: 10 published, 9 consumed"):
        spoilt_traffic(EveryTenth(lambda message: []), count=10, timeout=0.2).run()


def test_a_doubled_message_is_found():
    with pytest.raises(CheckFailed, match=r"message 10 is not the one published: 0x09 where 0x0a"):
        spoilt_traffic(EveryTenth(lambda message: [message, message])).run()


def test_a_message_too_many_at_the_end_is_found():
    with pytest.raises(CheckFailed, match="1 of 10 messages were not acknowledged"):
        spoilt_traffic(EveryTenth(lambda message: [message, message]), count=10).run()


def test_a_shortened_body_is_found():
    def shorten(message):
        return [{**message, "body": message["body"][:8]}]

    with pytest.raises(CheckFailed, match=r"message 9 is not the one published: 6 octets where 32"):
        spoilt_traffic(EveryTenth(shorten)).run()


@pytest.mark.parametrize("spoil", [lambda message: [message], lambda message: []])
def test_the_queue_is_removed_in_the_end(spoil):
    traffic = spoilt_traffic(spoil, timeout=0.2)
    try:
        traffic.run()
    except CheckFailed:
        pass
    assert traffic.queue not in traffic.connection.default_channel.queues
    traffic.connection.release()


def test_only_a_window_of_messages_is_ever_outside():
    traffic = spoilt_traffic(lambda message: [message], count=20_000, size=16)
    outside = []
    channel_class = traffic.connection.transport.Channel
    put = channel_class._put

    def watch(self, queue, message, **kwargs):
        outside.append(traffic.published - traffic.consumed)
        put(self, queue, message, **kwargs)

    channel_class._put = watch
    traffic.run()
    assert max(outside) <= traffic.window == 1000
    assert traffic.consumed == len(outside) == 20_000
    traffic.connection.release()
