"""Turn objects into message bodies and back.

A serializer has a name and a content type; messages carry the latter. What a consumer will decode is limited: by the
content types it accepts, or, where it does not say, to those not disabled. At first all but JSON are disabled, because
a pickle can run any code when it is loaded.
"""

from __future__ import annotations

import codecs
import io
import os
import pickle
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from .exceptions import ContentDisallowed, DecodeError, EncodeError, SerializerNotInstalled
from .utils import json
from .utils.compat import entrypoints
from .utils.encoding import bytes_to_str, str_to_bytes

try:
    import yaml
except ImportError:
    yaml = None  # type: ignore[assignment]
try:
    import msgpack  # type: ignore[import-untyped,unused-ignore]
except (ImportError, ValueError):
    msgpack = None

__all__ = (
    "disable_insecure_serializers",
    "dumps",
    "enable_insecure_serializers",
    "loads",
    "pickle",
    "prepare_accept_content",
    "raw_encode",
    "register",
    "registry",
    "unregister",
)

#: Content encodings of bodies that are not text.
SKIP_DECODE = frozenset(["binary", "ascii-8bit"])
#: Content types that are always accepted, since there is nothing to decode.
TRUSTED_CONTENT = frozenset(["application/data", "application/text"])

NOTSET: Any = object()

#: The pickle protocol written, from the environment variable ``PICKLE_PROTOCOL``.
pickle_protocol = int(os.environ.get("PICKLE_PROTOCOL", 4))
pickle_load = pickle.load


class codec(NamedTuple):
    """What the registry knows of an encoder."""

    content_type: str
    content_encoding: str
    encoder: Callable[[Any], Any]


def parenthesize_alias(first: str | None, second: str) -> str:
    """Return ``first (second)``, or *second* where there is no first."""
    return f"{first} ({second})" if first else second


class SerializerRegistry:
    """Know serializers by name and content type, and which content types are disabled."""

    def __init__(self) -> None:
        self._encoders: dict[str, codec] = {}
        self._decoders: dict[str, Callable[[Any], Any]] = {}
        self._default_encode: Callable[[Any], Any] | None = None
        self._default_content_type: str | None = None
        self._default_content_encoding: str | None = None
        self._disabled_content_types: set[str] = set()
        self.type_to_name: dict[str, str] = {}
        self.name_to_type: dict[str, str] = {}

    def register(
        self,
        name: str,
        encoder: Callable[[Any], Any] | None,
        decoder: Callable[[Any], Any] | None,
        content_type: str,
        content_encoding: str = "utf-8",
    ) -> None:
        """Add a serializer.

        *encoder* turns an object into str or bytes, *decoder* a body into an object; either may be None.
        *content_encoding* is what a body is said to be encoded in: a character set, or ``binary``.
        """
        if encoder:
            self._encoders[name] = codec(content_type, content_encoding, encoder)
        if decoder:
            self._decoders[content_type] = decoder
        self.type_to_name[content_type] = name
        self.name_to_type[name] = content_type

    def enable(self, name: str) -> None:
        """Let consumers without an accept list decode *name*, a serializer or content type; KeyError if unknown."""
        self._disabled_content_types.discard(self._content_type(name))

    def disable(self, name: str) -> None:
        """Keep consumers without an accept list from *name*, a serializer or content type; KeyError if unknown."""
        self._disabled_content_types.add(self._content_type(name))

    def _content_type(self, name: str) -> str:
        return name if "/" in name else self.name_to_type[name]

    def unregister(self, name: str) -> None:
        """Remove a serializer; SerializerNotInstalled if there is none of that name."""
        content_type = self.name_to_type.pop(name, None)
        if content_type is None:
            raise SerializerNotInstalled(f"No encoder/decoder installed for {name}")
        self.type_to_name.pop(content_type, None)
        self._decoders.pop(content_type, None)
        self._encoders.pop(name, None)

    def _set_default_serializer(self, name: str) -> None:
        """Make :meth:`dumps` use *name* where it is told none; SerializerNotInstalled if it cannot encode."""
        try:
            default = self._encoders[name]
        except KeyError:
            raise SerializerNotInstalled(f"No encoder installed for {name}") from None
        self._default_content_type = default.content_type
        self._default_content_encoding = default.content_encoding
        self._default_encode = default.encoder

    def dumps(self, data: Any, serializer: str | None = None) -> tuple[str, str, Any]:
        """Encode *data* and return (content type, content encoding, body).

        Without a *serializer* bytes and str are sent as they are (``application/data`` and ``text/plain``), and
        anything else by the default one, JSON. ``raw`` sends *data* as it is, whatever it is.

        Raises SerializerNotInstalled if there is no such serializer, EncodeError for whatever its encoder raises.
        """
        if serializer == "raw":
            return raw_encode(data)
        if not serializer:
            if isinstance(data, bytes):
                return "application/data", "binary", data
            if isinstance(data, str):
                return "text/plain", "utf-8", _encode_text(data)
            content_type, content_encoding = self._default_content_type, self._default_content_encoding
            encode = self._default_encode
        else:
            known = self._encoders.get(serializer)
            if known is None:
                raise SerializerNotInstalled(f"No encoder installed for {serializer}")
            content_type, content_encoding, encode = known
        try:
            return content_type, content_encoding, encode(data)  # type: ignore[return-value,misc]
        except SerializerNotInstalled:
            raise
        except Exception as exc:
            raise EncodeError(exc) from exc

    def loads(
        self,
        data: Any,
        content_type: str | bytes | None,
        content_encoding: str | None,
        accept: Collection[str] | None = None,
        force: bool = False,
        _trusted_content: Collection[str] = TRUSTED_CONTENT,
    ) -> Any:
        """Decode the body *data*, which is str, bytes or another buffer.

        *accept* holds the content types that will do. Without it all that are not disabled do, and with *force* those
        too. A body without a decoder is decoded from *content_encoding* into str, unless that says it is binary, and
        an empty body is returned as it is.

        Raises ContentDisallowed if the content type will not do, DecodeError for whatever decoding raises.
        """
        # Called once for every message.
        if not content_type:
            content_type = "application/data"
        elif type(content_type) is not str:
            content_type = bytes_to_str(content_type)
        if accept is None:
            if content_type in self._disabled_content_types and not force:
                raise self._for_untrusted_content(content_type, "disabled")
        elif content_type not in accept and content_type not in _trusted_content:
            raise self._for_untrusted_content(content_type, "untrusted")
        if not data:
            return data
        decode = self._decoders.get(content_type)  # type: ignore[arg-type]
        try:
            if decode is not None:
                return decode(data)
            encoding = (content_encoding or "utf-8").lower()
            if encoding in SKIP_DECODE or isinstance(data, str):
                return data
            return codecs.decode(data, encoding)
        except SerializerNotInstalled:
            raise
        except Exception as exc:
            raise DecodeError(exc) from exc

    @property
    def tables(self) -> tuple[dict[str, Callable[[Any], Any]], Collection[str], Collection[str]]:
        """The tables that :meth:`loads` goes by, as they change: decoders, disabled and trusted content types."""
        return self._decoders, self._disabled_content_types, TRUSTED_CONTENT

    @property
    def settings(self) -> dict[str, Any]:
        """What :meth:`dumps` goes by, as it changes: ``_encoders`` and ``_default_encode`` with its content type."""
        return self.__dict__

    def _for_untrusted_content(self, ctype: Any, why: str) -> ContentDisallowed:
        name = parenthesize_alias(self.type_to_name.get(ctype, ctype), ctype)
        return ContentDisallowed(f"Refusing to deserialize {why} content of type {name}")


def _encode_text(data: str) -> bytes:
    try:
        return data.encode("utf-8")
    except Exception as exc:
        raise EncodeError(exc) from exc


def raw_encode(data: Any) -> tuple[str, str, Any]:
    """Return (content type, content encoding, body) of *data* sent as it is; str is encoded as UTF-8."""
    if isinstance(data, str):
        return "application/data", "utf-8", _encode_text(data)
    return "application/data", "binary", data


#: The serializers that the whole process uses.
registry = SerializerRegistry()
dumps = registry.dumps
loads = registry.loads
register = registry.register
unregister = registry.unregister


def pickle_dumps(obj: Any, dumper: Callable[..., bytes] = pickle.dumps) -> bytes:
    """Return *obj* as a pickle of protocol :data:`pickle_protocol`."""
    return dumper(obj, protocol=pickle_protocol)


def pickle_loads(s: Any, load: Callable[[Any], Any] = pickle_load) -> Any:
    """Return the object pickled in the buffer *s*; *load* reads it from a file object."""
    return load(io.BytesIO(s))


def unpickle(s: Any) -> Any:
    """Return the object pickled in *s*, a buffer or a str that is encoded as UTF-8."""
    return pickle_loads(str_to_bytes(s))


def _yaml_loads(s: Any) -> Any:
    # PyYAML takes what is neither str nor bytes for a file. It finds out the encoding of bytes from their first ones.
    return yaml.safe_load(bytes(s) if isinstance(s, (memoryview, bytearray)) else s)


def _yaml_not_available(*args: Any, **kwargs: Any) -> Any:
    raise SerializerNotInstalled("No decoder installed for YAML. Install the PyYAML library")


def _msgpack_dumps(obj: Any) -> Any:
    return msgpack.packb(obj, use_bin_type=True)


def _msgpack_loads(s: Any) -> Any:
    return msgpack.unpackb(s, raw=False)


def _msgpack_too_old(*args: Any, **kwargs: Any) -> Any:
    raise SerializerNotInstalled("msgpack requires msgpack-python >= 0.4.0")


def _msgpack_not_available(*args: Any, **kwargs: Any) -> Any:
    raise SerializerNotInstalled("No decoder installed for msgpack. Please install the msgpack-python library")


def register_json() -> None:
    """Register the serializer ``json``; see :mod:`kombu.utils.json`."""
    registry.register("json", json.encode_text, json.decode_text, "application/json", "utf-8")


def register_pickle() -> None:
    """Register the serializer ``pickle``: any Python object, for peers that can be trusted."""
    registry.register("pickle", pickle_dumps, unpickle, "application/x-python-serialize", "binary")


def register_yaml() -> None:
    """Register the serializer ``yaml``; without PyYAML one that raises SerializerNotInstalled."""
    if yaml is None:
        registry.register("yaml", None, _yaml_not_available, "application/x-yaml")
    else:
        registry.register("yaml", yaml.safe_dump, _yaml_loads, "application/x-yaml", "utf-8")


def register_msgpack() -> None:
    """Register the serializer ``msgpack``; without the package one that raises SerializerNotInstalled."""
    if msgpack is None:
        encoder = decoder = _msgpack_not_available
    elif msgpack.version < (0, 4):
        encoder = decoder = _msgpack_too_old
    else:
        encoder, decoder = _msgpack_dumps, _msgpack_loads
    registry.register("msgpack", encoder, decoder, "application/x-msgpack", "binary")


def enable_insecure_serializers(choices: Iterable[str] | None = NOTSET) -> None:
    """Let consumers decode *choices*, serializers by name or content type: pickle, yaml and msgpack if not said.

    Names that are not registered are passed over.
    """
    for choice in ("pickle", "yaml", "msgpack") if choices is NOTSET else choices or ():
        if "/" in choice or choice in registry.name_to_type:
            registry.enable(choice)


def disable_insecure_serializers(allowed: Iterable[str] | None = NOTSET) -> None:
    """Let consumers decode only *allowed*, serializers by name or content type: json if not said.

    Producers may go on to encode with all of them. KeyError for a name that is not registered.
    """
    for content_type in list(registry._decoders):
        registry.disable(content_type)
    for name in ("json",) if allowed is NOTSET else allowed or ():
        registry.enable(name)


def prepare_accept_content(
    content_types: Iterable[str] | None, name_to_type: Mapping[str, str] | None = None
) -> set[str] | None:
    """Return the set of content types that names and content types stand for; None stays None.

    Raises SerializerNotInstalled for a name that is not registered.
    """
    if content_types is None:
        return None
    known = name_to_type or registry.name_to_type
    try:
        return {name if "/" in name else known[name] for name in content_types}
    except KeyError as exc:
        raise SerializerNotInstalled(f"No encoder/decoder installed for {exc.args[0]}") from None


register_json()
register_pickle()
register_yaml()
register_msgpack()
registry._set_default_serializer("json")
disable_insecure_serializers()

for _entry_point, _arguments in entrypoints("kombu.serializers"):
    register(_entry_point.name, *_arguments)
