"""JSON with a few more types.

An object that JSON does not have is written as ``{"__type__": marker, "__value__": value}`` and made again from that.
Built in are datetime, date, time, Decimal, UUID and bytes; :func:`register_type` adds others. An object with a method
``__json__()`` is written as what that returns.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from kombu._core import jsondecoding as _jsondecoding
from kombu._core import jsonencoding as _jsonencoding

textual_types: tuple[type, ...] = ()

try:
    from django.utils.functional import Promise  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    pass
else:
    textual_types = (Promise,)

__all__ = ("DecoderT", "EncodedT", "EncoderT", "JSONEncoder", "dumps", "loads", "object_hook", "register_type")

EncoderT = Callable[[Any], Any]
DecoderT = Callable[[Any], Any]
T = TypeVar("T")
EncodedT = TypeVar("EncodedT")

# type: (its marker, or None for a plain conversion; its encoder), in the order of registration
_encoders: dict[type, tuple[str | None, EncoderT]] = {}
_decoders: dict[str, DecoderT] = {}


class JSONEncoder(json.JSONEncoder):
    """Encode what the standard encoder does, registered types, objects with ``__json__`` and lazy strings."""

    def default(self, o: Any) -> Any:
        """Return what is to be encoded in place of *o*; TypeError where nothing is known of its type."""
        reducer = getattr(o, "__json__", None)
        if reducer is not None:
            return reducer()
        if isinstance(o, textual_types):
            return str(o)
        # A copy, since another thread may register a type meanwhile.
        for t, (marker, encoder) in list(_encoders.items()):
            if isinstance(o, t):
                return encoder(o) if marker is None else _as(marker, encoder(o))
        if isinstance(o, bytes):
            # Not a registered type, because which of two markers it gets depends on the value.
            try:
                return _as("bytes", o.decode())
            except UnicodeDecodeError:
                return _as("base64", base64.b64encode(o).decode())
        return super().default(o)


def _as(marker: str, value: Any) -> dict[str, Any]:
    return {"__type__": marker, "__value__": value}


def object_hook(o: dict[str, Any]) -> Any:
    """Make the object that a decoded JSON object stands for, or return *o* where it stands for itself.

    Raises ValueError for a type that nobody has registered.
    """
    if len(o) != 2 or "__type__" not in o or "__value__" not in o:
        return o
    marker = o["__type__"]
    decode = _decoders.get(marker)
    if decode is None:
        raise ValueError("Unsupported type", marker, o)
    return decode(o["__value__"])


# The parameter of loads() has the same name.
_object_hook = object_hook

_escaped_letter = re.compile(r"\\u00[567]").search

# Made once: json.dumps() and json.loads() make new ones for each call that has an argument of its own.
_encoder = JSONEncoder()


def _make_encode() -> Callable[[Any], str]:
    """Return what ``_encoder.encode`` does, with a C encoder that is kept instead of made for each call."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _encoder.encode
    # Without the note of what it is in the middle of, by which the standard one finds out circular references:
    # threads would share it.  A circle ends in a RecursionError, and then the standard one says what is wrong.
    chunks = make(
        None, _encoder.default, json.encoder.encode_basestring_ascii, None, ": ", ", ", False, False, True
    )
    return _jsonencoding.make_encoder(chunks, _encoder.encode)


#: Does what dumps() does without further arguments; what messages hold is encoded by it.
encode_text = _make_encode()


def _load_otherwise(s: Any) -> Any:
    if type(s) is not str:
        s = _as_text(s, True)
        if type(s) is str:
            return decode_text(s)
    # White space or a byte order mark at the beginning, or no JSON: json.loads() tells them apart.
    return json.loads(s, object_hook=object_hook)


#: Does what loads() does without further arguments; what comes in messages is decoded by it.
decode_text = _jsondecoding.make_decoder(
    json.JSONDecoder().scan_once,
    json.JSONDecoder(object_hook=object_hook).scan_once,
    _escaped_letter,
    json.JSONDecodeError,
    _load_otherwise,
)


def dumps(
    s: Any,
    _dumps: Callable[..., str] = json.dumps,
    cls: type[json.JSONEncoder] | None = JSONEncoder,
    default_kwargs: dict[str, Any] | None = None,
    **kwargs: Any,
) -> str:
    """Return *s* as JSON text.

    *kwargs* are those of :func:`json.dumps`, *default_kwargs* more of them, which *kwargs* override.
    TypeError or ValueError for what cannot be encoded.
    """
    if cls is JSONEncoder and _dumps is json.dumps and not kwargs and not default_kwargs:
        return encode_text(s)
    return _dumps(s, cls=cls, **{**(default_kwargs or {}), **kwargs})


def loads(
    s: Any,
    _loads: Callable[..., Any] = json.loads,
    decode_bytes: bool = True,
    object_hook: Callable[[dict[str, Any]], Any] = object_hook,
) -> Any:
    """Return the object that the JSON text *s* stands for.

    *s* is str or UTF-8 in bytes, a bytearray or a memoryview; with ``decode_bytes=False`` bytes are left to *_loads*,
    which finds out their encoding. *object_hook* is called with every decoded dict and gives what takes its place.
    Raises ValueError, of which json.JSONDecodeError and UnicodeDecodeError are subclasses.
    """
    if type(s) is not str:
        s = _as_text(s, decode_bytes)
    if _loads is json.loads and object_hook is _object_hook and type(s) is str:
        return decode_text(s)
    return _loads(s, object_hook=object_hook)


def _as_text(s: Any, decode_bytes: bool) -> Any:
    if isinstance(s, memoryview):
        return str(s, "utf-8") if s.c_contiguous else s.tobytes().decode()
    if isinstance(s, bytearray) or (decode_bytes and isinstance(s, bytes)):
        return s.decode()
    return s


def register_type(
    t: type[T],
    marker: str | None,
    encoder: Callable[[T], EncodedT],
    decoder: Callable[[EncodedT], T] = lambda d: d,  # type: ignore[assignment,return-value]
) -> None:
    """Encode instances of *t* as what *encoder* returns, marked with *marker*, and decode that with *decoder*.

    Of several registered types that an object is an instance of, the one registered first counts. Without a marker
    nothing tells the decoded value from any other, so *decoder* is not used.
    """
    _encoders[t] = (marker, encoder)
    if marker is not None:
        _decoders[marker] = decoder


def _register_default_types() -> None:
    # A datetime is a date too, so it has to come first.
    register_type(datetime, "datetime", datetime.isoformat, datetime.fromisoformat)
    register_type(date, "date", lambda o: o.isoformat(), lambda text: datetime.fromisoformat(text).date())
    register_type(time, "time", lambda o: o.isoformat(), time.fromisoformat)
    register_type(Decimal, "decimal", str, Decimal)
    register_type(UUID, "uuid", lambda o: {"hex": o.hex}, lambda fields: UUID(**fields))
    _decoders["bytes"] = lambda text: text.encode()
    _decoders["base64"] = lambda text: base64.b64decode(text.encode())


_register_default_types()
