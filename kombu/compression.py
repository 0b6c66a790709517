"""Compress message bodies.

A method has a content type, which goes into the header ``compression``, and aliases::

    application/x-gzip    gzip, zlib (the body is a zlib stream, RFC 1950)
    application/x-bz2     bzip2, bzip
    application/x-lzma    lzma, xz
    application/x-brotli  brotli               needs the package brotli or brotlicffi
    application/zstd      zstd, zstandard      needs Python 3.14 or the package backports.zstd or zstandard
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ._lazy import LazyModule
from .utils.encoding import ensure_bytes

__all__ = ("compress", "decompress", "encoders", "get_decoder", "get_encoder", "register")

Codec = Callable[[bytes], bytes]


def _first_of(*names: str) -> Any:
    """Return the first of these modules that there is, or None."""
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


def _first_installed(*names: str) -> Any:
    """Return the first of these modules that there is, to be imported when it is first used, or None."""
    for name in names:
        if find_spec(name) is not None:
            return LazyModule(name)
    return None


bz2 = _first_of("bz2")
lzma = _first_of("lzma")
# A free-threaded Python turns its GIL on, and warns, when the package is imported.  Who has it need not use it.
brotli = _first_installed("brotli", "brotlicffi")
zstd = _first_of("compression.zstd", "backports.zstd")
zstandard: Any = None if zstd else _first_of("zstandard")

_aliases: dict[str, str] = {}
_encoders: dict[str, Codec] = {}
_decoders: dict[str, Codec] = {}


def register(encoder: Codec, decoder: Codec, content_type: str, aliases: Iterable[str] | None = None) -> None:
    """Add a method: *encoder* and *decoder* turn bytes into bytes; *aliases* are further names of *content_type*."""
    _encoders[content_type] = encoder
    _decoders[content_type] = decoder
    for alias in aliases or ():
        _aliases[alias] = content_type


def encoders() -> list[str]:
    """Return the content types of all methods."""
    return list(_encoders)


def get_encoder(t: str) -> tuple[Codec, str]:
    """Return the encoder and the content type of a method; KeyError where it is not there."""
    content_type = _aliases.get(t, t)
    return _encoders[content_type], content_type


def get_decoder(t: str) -> Codec:
    """Return the decoder of a method; KeyError where it is not there."""
    return _decoders[_aliases.get(t, t)]


def compress(body: Any, content_type: str) -> tuple[bytes, str]:
    """Compress *body* (str is encoded as UTF-8) and return the bytes and the content type of the method."""
    encoder, content_type = get_encoder(content_type)
    return encoder(ensure_bytes(body)), content_type


def decompress(body: Any, content_type: str) -> bytes:
    """Decompress *body*; what it raises for bytes that are not right is up to the method."""
    return get_decoder(content_type)(body)


def _brotli_compress(data: bytes) -> bytes:
    compressed: bytes = brotli.compress(data)
    return compressed


def _brotli_decompress(data: bytes) -> bytes:
    decompressed: bytes = brotli.decompress(data)
    return decompressed


def _zstandard_compress(data: bytes) -> bytes:
    # Neither compressors nor decompressors may be shared by threads.
    compressed: bytes = zstandard.ZstdCompressor().compress(data)
    return compressed


def _zstandard_decompress(data: bytes) -> bytes:
    """Decompress all frames in *data*, whether or not they say how long their content is."""
    parts = []
    while True:
        # Each is for one frame only.
        frame = zstandard.ZstdDecompressor().decompressobj()
        parts.append(frame.decompress(data))
        if not frame.eof:
            raise zstandard.ZstdError("the zstd data ends within a frame")
        data = frame.unused_data
        if not data:
            return b"".join(parts)


def _register_methods() -> None:
    register(zlib.compress, zlib.decompress, "application/x-gzip", ["gzip", "zlib"])
    if bz2 is not None:
        register(bz2.compress, bz2.decompress, "application/x-bz2", ["bzip2", "bzip"])
    if brotli is not None:
        register(_brotli_compress, _brotli_decompress, "application/x-brotli", ["brotli"])
    if lzma is not None:
        register(lzma.compress, lzma.decompress, "application/x-lzma", ["lzma", "xz"])
    if zstd is not None:
        register(zstd.compress, zstd.decompress, "application/zstd", ["zstd", "zstandard"])
    elif zstandard is not None:
        register(_zstandard_compress, _zstandard_decompress, "application/zstd", ["zstd", "zstandard"])


_register_methods()
