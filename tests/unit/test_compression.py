"""Compression: the methods, what they are called, and that bodies come back."""

from __future__ import annotations

import bz2
import lzma
import random
import textwrap
import zlib

import pytest

import interpreter
from kombu import compression
from methods import require_method

CONTENT_TYPES = {
    "gzip": "application/x-gzip",
    "zlib": "application/x-gzip",
    "bzip2": "application/x-bz2",
    "bzip": "application/x-bz2",
    "lzma": "application/x-lzma",
    "xz": "application/x-lzma",
    "brotli": "application/x-brotli",
    "zstd": "application/zstd",
    "zstandard": "application/zstd",
}
BODIES = [b"", b"x", b"body " * 1000, random.Random(0).randbytes(10000)]


@pytest.fixture(params=sorted(CONTENT_TYPES))
def method(request):
    require_method(request.param)
    return request.param


@pytest.fixture
def registered(monkeypatch):
    for name in ("_aliases", "_encoders", "_decoders"):
        monkeypatch.setattr(compression, name, {})


@pytest.mark.parametrize("body", BODIES, ids=len)
def test_a_body_comes_back(method, body):
    compressed, content_type = compression.compress(body, method)
    assert content_type == CONTENT_TYPES[method]
    assert compression.decompress(compressed, method) == body
    assert compression.decompress(compressed, content_type) == body


def test_text_is_compressed_as_utf_8(method):
    assert compression.decompress(compression.compress("é", method)[0], method) == "é".encode()


def test_the_bytes_are_those_of_the_standard_modules():
    body = BODIES[2]
    assert compression.compress(body, "gzip")[0] == zlib.compress(body)
    assert compression.compress(body, "bzip2")[0] == bz2.compress(body)
    assert compression.compress(body, "lzma")[0] == lzma.compress(body)


def test_half_a_body_is_refused(method):
    compressed = compression.compress(BODIES[3], method)[0]
    with pytest.raises(Exception):  # noqa: B017  each library has its own
        compression.decompress(compressed[: len(compressed) // 2], method)


@pytest.mark.parametrize("function", [compression.get_encoder, compression.get_decoder])
def test_an_unknown_method_is_a_key_error(function):
    with pytest.raises(KeyError, match="no-such-method"):
        function("no-such-method")


@pytest.mark.usefixtures("registered")
def test_a_method_can_be_added():
    compression.register(bytes.upper, bytes.lower, "text/upper", aliases=["upper"])
    assert compression.encoders() == ["text/upper"]
    assert compression.compress("shout", "upper") == (b"SHOUT", "text/upper")
    assert compression.decompress(b"SHOUT", "text/upper") == b"shout"


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("absent", ["bz2", "lzma", "brotli", "zstd"])
def test_a_method_whose_package_is_not_installed_is_not_there(monkeypatch, absent):
    monkeypatch.setattr(compression, absent, None)
    monkeypatch.setattr(compression, "zstandard", None)
    compression._register_methods()
    kind = {"bz2": "application/x-bz2", "lzma": "application/x-lzma", "brotli": "application/x-brotli"}
    assert kind.get(absent, "application/zstd") not in compression.encoders()
    assert "application/x-gzip" in compression.encoders()


class TestZstandardPackage:
    """The package that stands in for Python 3.14's module."""

    @pytest.fixture(autouse=True)
    def package(self, monkeypatch):
        monkeypatch.setattr(compression, "zstandard", pytest.importorskip("zstandard"))

    def test_several_frames_are_read(self):
        body = compression._zstandard_compress(b"one, ") + compression._zstandard_compress(b"two")
        assert compression._zstandard_decompress(body) == b"one, two"

    def test_a_frame_that_does_not_say_its_length_is_read(self):
        stream = compression.zstandard.ZstdCompressor(write_content_size=False).compressobj()
        body = stream.compress(BODIES[2]) + stream.flush()
        assert compression._zstandard_decompress(body) == BODIES[2]

    @pytest.mark.parametrize("cut", [0, 1, 5, -1])
    def test_a_frame_that_ends_too_early_is_refused(self, cut):
        body = compression._zstandard_compress(BODIES[3])
        with pytest.raises(compression.zstandard.ZstdError):
            compression._zstandard_decompress(body[:cut])

    def test_memoryviews_are_read(self):
        body = compression._zstandard_compress(b"body")
        assert compression._zstandard_decompress(memoryview(body)) == b"body"


@pytest.mark.skipif(compression.brotli is None, reason="brotli is not installed")
def test_brotli_is_imported_when_it_is_used():
    code = """
        import sys
        from kombu import compression
        print("brotli" in sys.modules, "brotlicffi" in sys.modules)
        for name in "brotli", "brotlicffi":
            sys.modules[name] = sys
        sys.compress = bytes.upper
        print(compression.compress(b"body", "brotli"))
    """
    done = interpreter.run(textwrap.dedent(code))
    assert done.stdout.splitlines() == ["False False", "(b'BODY', 'application/x-brotli')"], done.stderr


def test_it_imports_without_any_package():
    code = """
        import sys
        for name in ("bz2", "lzma", "brotli", "brotlicffi", "backports", "compression", "zstandard"):
            sys.modules[name] = None
        from kombu import compression
        print(compression.encoders())
    """
    done = interpreter.run(textwrap.dedent(code))
    assert done.stdout.strip() == "['application/x-gzip']", done.stderr
