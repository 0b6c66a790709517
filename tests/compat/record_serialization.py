"""Ask kombu 5.7.0 how it serializes, compresses and does its small tasks, and keep the answers.

To be run with a Python that has kombu 5.7.0, PyYAML, msgpack and brotli installed::

    python tests/compat/record_serialization.py

It writes ``recorded/*.json`` beside itself: lists of expressions with what came of them. ``test_recorded.py`` evaluates
the same expressions over the kombu under test. Where an answer is not to be repeated, because needs are different, the
expression does not belong here but into a test that says why.
"""

from __future__ import annotations

import base64
import json
import pickle
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import kombu

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "support"))

from outcomes import NAMES, outcome  # noqa: E402


def questions(name: str) -> list[str]:
    """Return the expressions in ``questions/<name>.txt``, one a line."""
    return (FOLDER / "questions" / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def serialization_cases() -> Iterator[str]:
    for value in questions("values"):
        yield f"json.dumps({value})"
        for name in (None, "json", "yaml", "msgpack", *(() if "OrderedDict" in value else ("raw",))):
            yield f"serialization.dumps({value}, {name!r})"
    for value in questions("values"):
        if not any(part in value for part in ("lambda", "memoryview", "lazy(str)", "Fraction", "Level", "Color")):
            yield f"serialization.dumps({value}, 'pickle')"
    yield "json.dumps({'b': 1, 'a': [1]}, indent=2)"
    yield "json.dumps({'b': 1, 'a': 1}, sort_keys=True)"
    yield "json.dumps({'b': 1, 'a': 1}, default_kwargs={'sort_keys': True, 'indent': 1}, indent=None)"
    yield "json.dumps([1], separators=(',', ':'))"
    yield "json.dumps({1}, cls=None, default=list)"
    yield "json.dumps({1}, default=list)"
    yield "json.dumps('caf\\xe9', ensure_ascii=False)"
    yield "json.dumps(float('nan'), allow_nan=False)"
    yield "json.dumps(5, nonsense=1)"
    yield "json.dumps([1], repr)"
    yield "json.JSONEncoder().default(Unknown)"
    yield "json.object_hook({'__type__': 'decimal', '__value__': '1'})"
    yield "json.object_hook({'a': 1})"
    yield "json.textual_types"
    for name in (None, "json", "raw", "upper", "decode-only", "encode-only", "absent", "broken", "nonsense"):
        for value in ("'text'", "b'data'", "[1]"):
            yield f"registry().dumps({value}, {name!r})"
    yield "registry().unregister('nonsense')"
    yield "registry()._set_default_serializer('decode-only')"
    yield "registry().enable('nonsense')"
    yield "registry().disable('nonsense')"
    for name in ("enable", "disable"):
        yield f"registry().{name}('any/type')"


def loading_cases() -> Iterator[str]:
    for text in questions("json"):
        yield f"json.loads({text})"
        yield f"serialization.loads({text}, 'application/json', 'utf-8')"
        if "ud800" not in text or "\\\\ud800" in text:
            for form in ("{}.encode()", "bytearray({}.encode())", "memoryview({}.encode())"):
                yield f"json.loads({form.format(f'({text})')})"
    yield "json.loads(memoryview(b'[1, 2]xx')[:6])"
    yield "json.loads(memoryview(b'[x1x]x')[::2])"
    yield "json.loads(b'\\xff\\xfe[\\x00]\\x00', decode_bytes=False)"
    yield "json.loads('{\"a\": {}}', object_hook=lambda o: sorted(o))"
    yield "json.loads('{\"a\": {}}', object_hook=None)"
    yield "json.loads('x', lambda s, **kwargs: (s, sorted(kwargs)))"
    for accept in questions("accepts"):
        for content_type in questions("content_types"):
            for body in ("b''", "b'{\"a\": 1}'"):
                yield f"serialization.loads({body}, {content_type}, 'utf-8', accept={accept})"
    for content_type in questions("content_types"):
        for encoding in questions("encodings"):
            for body in questions("bodies"):
                if content_type in ("'application/json'", "'text/plain'", "None") and encoding != "'no-such-code'":
                    yield f"serialization.loads({body}, {content_type}, {encoding})"
    for force in (False, True):
        for content_type in ("text/upper", "application/json", "application/hex", "application/repr"):
            for body in ("b'ABC'", "'[1]'", "b''"):
                yield f"registry().loads({body}, {content_type!r}, None, force={force})"
    for content_type in ("application/absent", "application/broken"):
        yield f"registry().loads(b'x', {content_type!r}, 'binary')"
        yield f"registry().loads(b'', {content_type!r}, 'binary')"
    for content_type in ("application/x-python-serialize", "application/x-yaml", "application/x-msgpack", "text/upper"):
        yield f"serialization.loads(b'x', {content_type!r}, 'binary')"
        yield f"serialization.loads(b'x', {content_type!r}, 'binary', accept={{'application/json'}})"
    for name in ("pickle", "yaml", "msgpack"):
        kind = NAMES["serialization"].registry.name_to_type[name]
        for value in questions("values"):
            written = outcome(f"serialization.dumps({value}, {name!r})[2]")
            if name == "pickle" or "value" not in written or len(written["value"]) > 5000 or "nan" in written["value"]:
                continue
            for form in ("{}", "bytearray(encoding.str_to_bytes({}))", "memoryview(encoding.str_to_bytes({}))"):
                yield f"serialization.loads({form.format(written['value'])}, {kind!r}, 'binary', force=True)"
    yield "serialization.loads(memoryview(pickle.dumps([1])), 'application/x-python-serialize', 'binary', force=True)"
    yield "serialization.loads(bytearray(pickle.dumps([1])), 'application/x-python-serialize', 'binary', force=True)"
    yield "serialization.loads('(lp0\\nI1\\na.', 'application/x-python-serialize', 'binary', force=True)"
    for names in ("None", "[]", "['json']", "['json', 'text/any']", "['pickle', 'nonsense']", "{'yaml', 'msgpack'}"):
        yield f"(lambda c: c and sorted(c))(serialization.prepare_accept_content({names}))"
    yield "serialization.prepare_accept_content(['x'], {'x': 'a/b'})"
    yield "serialization.prepare_accept_content(['json'], {'x': 'a/b'})"
    yield "sorted(serialization.registry.name_to_type.items())"
    yield "sorted(serialization.registry.type_to_name.items())"
    yield "sorted(serialization.registry._disabled_content_types)"
    yield "serialization.registry._default_content_type, serialization.registry._default_content_encoding"
    yield "serialization.SKIP_DECODE == {'binary', 'ascii-8bit'}"
    yield "serialization.pickle_protocol"
    yield "serialization.parenthesize_alias('a', 'b'), serialization.parenthesize_alias('', 'b')"


def failing_cases() -> Iterator[str]:
    for text in questions("bad_json"):
        yield f"json.loads({text})"
        yield f"serialization.loads({text}, 'application/json', 'utf-8')"
    for kind in ("x-python-serialize", "x-yaml", "x-msgpack"):
        for body in (r"b'\xc1'", r"b'\x80'", "b'{'", "b'!!python/object:os.x {}'", "b'\\xff\\xff'"):
            yield f"serialization.loads({body}, 'application/{kind}', 'binary', force=True)"
    for body in questions("bodies"):
        yield f"serialization.loads({body}, 'text/plain', 'no-such-code')"
    for value in ("{'a': {1, 2}}", "Unknown()", "(lambda x: x)", "{'a': [object()]}", "float('nan')"):
        for name in ("json", "pickle", "yaml", "msgpack"):
            yield f"serialization.dumps({value}, {name!r})[1]"
    yield "url.parse_url('amqp://h?hostname=x')"
    yield "url.parse_url('redis+socket:///tmp/redis.sock?virtual_host=1')"
    yield "compat.fileno(None)"
    yield "(lambda a: a.append(a) or serialization.dumps(a, 'json'))([])"


def compression_cases() -> Iterator[str]:
    data = ("b''", "b'x'", "'text \\xe9'", "b'some data ' * 100", "bytes(range(256))")
    for name in ("gzip", "zlib", "bzip2", "bzip", "lzma", "xz", "brotli"):
        content_type = outcome(f"compression.get_encoder({name!r})[1]")
        yield f"compression.get_encoder({name!r})[1]"
        for body in data:
            yield f"compression.decompress(compression.compress({body}, {name!r})[0], {name!r})"
            compressed = outcome(f"compression.compress({body}, {name!r})[0]")["value"]
            yield f"compression.decompress({compressed}, {content_type['value']})"
    for name in ("nonsense", "", None):
        yield f"compression.compress(b'x', {name!r})"
        yield f"compression.decompress(b'x', {name!r})"
        yield f"compression.get_encoder({name!r})"
        yield f"compression.get_decoder({name!r})"
    yield "compression.compress(bytearray(b'x'), 'gzip')[1]"
    yield "compression.decompress(memoryview(compression.compress(b'x', 'gzip')[0]), 'gzip')"
    yield "sorted(set(compression.encoders()) - {'application/zstd'})"
    yield "sorted(item for item in compression._aliases.items() if item[1] != 'application/zstd')"


def url_cases() -> Iterator[str]:
    for text in questions("urls"):
        for function in ("parse_url", "url_to_parts", "sanitize_url", "maybe_sanitize_url"):
            yield f"url.{function}({text})"
    yield "url.sanitize_url('amqp://u:p@h//', mask='')"
    yield "url.sanitize_url('amqp://u:p@h//', mask=None)"
    yield "url.maybe_sanitize_url(None)"
    yield "url.maybe_sanitize_url(['amqp://u:p@h'])"
    yield from questions("as_url")
    for value in ("CERT_REQUIRED", "CERT_OPTIONAL", "CERT_NONE", "required", "optional", "none", "nonsense", ""):
        yield f"url.parse_ssl_cert_reqs({value!r})"
    yield "url.safequote('a/b:c')"
    yield "url.urlparts._fields"
    yield "url._parse_url('amqp://h')"


def pickle_cases() -> Iterator[str]:
    for expression in questions("pickled"):
        for protocol in (2, 4):
            # Equal bytes are loaded by 5.7 as its own are.
            yield f"pickle.dumps({expression}, {protocol})"
        data = base64.b64encode(pickle.dumps(eval(expression, dict(NAMES)), 4)).decode()
        yield f"content(unpickled({data!r}))"


def record(name: str, cases: Iterable[str]) -> None:
    answers = []
    for expression in dict.fromkeys(cases):
        answer = outcome(expression)
        if "because" in answer or not answer.get("raises", "").startswith("kombu."):
            # Its words are those of Python or another package, and theirs to change.
            answer.pop("text", None)
        answers.append({"expression": expression, **answer})
    target = FOLDER / "recorded" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(answer) for answer in answers)
    target.write_text(f"[\n{lines}\n]\n", encoding="ascii")
    print(f"{target.name}: {len(answers)} answers, {target.stat().st_size} bytes")


def main() -> int:
    if kombu.__version__ != "5.7.0":
        print(f"this is kombu {kombu.__version__}, from {kombu.__file__}: the answers wanted are those of 5.7.0")
        return 1
    record("serialize", serialization_cases())
    record("deserialize", loading_cases())
    record("malformed", failing_cases())
    record("compression", compression_cases())
    record("url", url_cases())
    record("retry", questions("retries"))
    record("helpers", [*questions("helpers"), *questions("caches")])
    record("pickles", pickle_cases())
    return 0


if __name__ == "__main__":
    sys.exit(main())
