"""URLs; what kombu 5.7 makes of many of them is in compat/test_recorded.py."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu.utils import url

TEXT = st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
HOSTS = st.from_regex(r"[a-z][a-z0-9-]{0,6}(\.[a-z]{2,4})?", fullmatch=True)


@given(user=TEXT, password=TEXT, host=HOSTS, port=st.none() | st.integers(1, 65535), path=TEXT)
def test_what_is_put_together_can_be_taken_apart(user, password, host, port, path):
    path = path and url.safequote(path)
    text = url.as_url("amqp", host, port, user, password, path)
    assert url.url_to_parts(text) == ("amqp", host, port, user, password, path and url.unquote(path), {})


@given(user=TEXT, password=st.text(st.characters(codec="ascii"), min_size=12), host=HOSTS)
def test_a_sanitized_url_has_no_password(user, password, host):
    text = url.as_url("amqp", host, user=user, password=password)
    assert url.safequote(password) not in url.sanitize_url(text)
    assert url.url_to_parts(url.maybe_sanitize_url(text)).password == "**"


def test_ssl_settings_are_gathered_and_converted():
    parsed = url.parse_url(
        "amqps://h?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem&ssl_check_hostname=False&heartbeat=5"
    )
    assert parsed["ssl"] == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_ca_certs": "/ca.pem",
        "ssl_check_hostname": False,
    }
    assert parsed["heartbeat"] == "5"


def test_ssl_is_said_in_one_way_only():
    with pytest.raises(ValueError, match="either ssl=true or ssl_keyfile"):
        url.parse_url("amqps://h?ssl=true&ssl_keyfile=x")


def test_a_part_cannot_be_said_twice():
    with pytest.raises(TypeError, match="hostname"):
        url.parse_url("amqp://h?hostname=other")


def test_without_ssl_verification_is_left_out_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(url, "ssl_available", False)
    assert url.parse_url("amqps://h?ssl_cert_reqs=required")["ssl"] == {"ssl_cert_reqs": None}
    assert "insecure" in caplog.text
