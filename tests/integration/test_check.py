"""``python -m kombu check`` against a real broker."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from interpreter import run_module
from kombu import Connection
from kombu.check import CheckFailed, Traffic


@pytest.mark.stress
@pytest.mark.parametrize("impl", ["python", pytest.param("c", marks=pytest.mark.c_extensions)])
def test_moves_100_000_messages_and_leaves_no_queue(rabbit, impl):
    done = run_module("check", rabbit.url(), "--count", "100000", KOMBU_IMPL=impl, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    assert f", core: {impl} (KOMBU_IMPL={impl})" in done.stdout
    assert re.search(r"^  RabbitMQ \d+\.\d+\.\d+; frame_max 131072, heartbeat off, channel_max \d+$", done.stdout, re.M)
    assert "guest:guest" not in done.stdout
    assert not [row for row in rabbit.rows("list_queues", "name") if row["name"].startswith("kombu-check-")]


def test_speaks_tls_to_an_authority_it_was_told(rabbit):
    authority = str(rabbit.certificates.authority)
    done = run_module("check", rabbit.tls_url(), "--count", "300", "--cafile", authority)
    assert (done.returncode, done.stderr) == (0, "")


def test_refuses_a_certificate_that_nobody_vouches_for(rabbit):
    done = run_module("check", rabbit.tls_url(), "--count", "300")
    assert done.returncode == 1
    assert "certificate verify failed" in done.stderr


def test_a_wrong_password_is_said_in_one_line(rabbit):
    done = run_module("check", rabbit.url().replace("guest:guest", "guest:wrong"))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "ACCESS_REFUSED" in done.stderr


def test_a_frozen_broker_is_given_up(rabbit):
    rabbit.freeze()
    done = run_module("check", rabbit.url(), "--timeout", "1", timeout=30)
    assert done.returncode == 1
    assert done.stderr.startswith("kombu check: FAILED: ")


def test_a_broker_that_freezes_under_way_is_given_up(rabbit):
    def freeze_once(traffic):
        if not frozen:
            frozen.append(traffic.consumed)
            rabbit.freeze()

    frozen = []
    connection = Connection(rabbit.url(), transport_options={"read_timeout": 1, "write_timeout": 1})
    connection.connect()
    traffic = Traffic(connection, 10_000_000, 256, 1.0, freeze_once)
    with pytest.raises((CheckFailed, OSError)):
        traffic.run()
    assert traffic.consumed >= frozen[0] > 0
    connection.collect()


def test_a_lost_acknowledgement_is_found(rabbit, monkeypatch):
    connection = Connection(rabbit.url())
    connection.connect()
    traffic = Traffic(connection, 20, 16)
    receive = traffic._receive

    def leave_the_fifth(message):
        fifth = traffic.consumed == 4
        receive(SimpleNamespace(payload=message.payload, ack=lambda: None) if fifth else message)

    monkeypatch.setattr(traffic, "_receive", leave_the_fifth)
    with pytest.raises(CheckFailed, match="1 of 20 messages were not acknowledged"):
        traffic.run()
    connection.release()
