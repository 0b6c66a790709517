"""Record what connections say of themselves: parameters read from arguments and URLs, URIs, copies, pickles.

Run where kombu 5.7.0 is installed, from the root of the project, to make the record anew::

    python tests/compat/record_connection.py

It overwrites ``recorded/connection.json`` beside this file.  ``tests/unit/test_connection_recorded.py`` asks the kombu
under test the same questions.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import pathlib
import pickle
import re
import ssl
from collections.abc import Iterator
from typing import Any

from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES, get_transport_cls, resolve_transport
from kombu.transport.base import Transport

RECORD = pathlib.Path(__file__).parent / "recorded" / "connection.json"


class Plain(Transport):
    """A transport that needs no broker."""

    default_port = 4711

    @property
    def default_connection_params(self) -> dict[str, Any]:
        return {"hostname": "default.host", "port": self.default_port, "userid": "someone", "password": "secret"}


class ReadsUrls(Plain):
    """A transport that wants the URL as it is."""

    can_parse_url = True


class ShowsUrls(ReadsUrls):
    """A transport that has its own way to write a URL."""

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        return f"shown {uri} {include_password} {mask}"


class Third:
    """A failover strategy that always takes the third URL, after one of another kind."""

    def __call__(self, urls: list[str]) -> Iterator[str]:
        return itertools.chain(["skipped"], itertools.repeat(urls[2]))


def spelled_password() -> str:
    return "pa/ss"


#: What the questions may speak of.
NAMES = {
    "Connection": Connection,
    "Plain": Plain,
    "ReadsUrls": ReadsUrls,
    "ShowsUrls": ShowsUrls,
    "Third": Third,
    "spelled_password": spelled_password,
    "ssl": ssl,
}

URLS = [
    "amqp://", "amqp:///", "amqp:////", "amqp://localhost", "amqp://localhost/", "amqp://localhost//", "amqp://:5673",
    "amqp://localhost:5673", "amqp://localhost:5673/vhost", "amqp://localhost//vhost", "amqp://localhost/a/b/c",
    "amqp://guest:guest@localhost:5672//", "amqp://user@localhost", "amqp://user:@localhost",
    "amqp://:pass@localhost", "amqp://@localhost", "amqp://us%40er:pa%2Fss@ho%2Dst/v%2Fh",
    "amqp://us%3Aer:pa%3Ass@host/%2f", "amqp://u:p@host:5672/%2F%2Fx", "amqp://u:p%25@host/%25",
    "amqp://u:p@[::1]:5672/v", "amqp://[fe80::1]/", "amqp://HOST.Example/V", "amqp://host/v?heartbeat=10",
    "amqp://host/v?heartbeat=2.5&login_method=EXTERNAL", "amqp://host/?connect_timeout=3", "amqp://host/?insist=1",
    "amqp://host/?virtual_host=other", "amqp://host?port=7", "amqp://host/?unknown=1",
    "amqp://host/?transport=memory", "amqp://host/?hostname=other", "amqp://host/?ssl=1",
    "amqp://host/?ssl_check_hostname=false&ssl_ca_certs=ca.pem", "amqp://host/?ssl_cert_reqs=none",
    "amqp://host/?ssl_cert_reqs=CERT_REQUIRED", "amqp://host/?ssl_cert_reqs=strange", "amqp://host/?heartbeat=x",
    "amqp://host:port/", "amqp://host:99999/", "amqp://host:-1/", "amqp://host:0/", "amqp://h o s t/",
    "amqp://user name@h", "amqp://ü:ß@höst/vhöst", "amqps://", "amqps://host", "amqps://u:p@host:1/v", "pyamqp://",
    "pyamqp://u:p@host/v", "AMQP://host", "memory://", "memory:///", "memory://host/v", "memory://localhost//",
    "nosuch://host", "amq://host", "kombu.transport.memory://host", "kombu.transport.memory:Transport://host",
    "os.path://x", "://host", "//host", "", "host", "host:5673", "user@host", "host/v", "a;b", "a;b;c", ";", "a;",
    ";a", "amqp://a;amqp://b", "amqp://a;b", "amqp://a:1/v;amqp://b;amqp://c:3/w", "amqp://u:p@a/v;amqp://b/",
    "amqp://a;amqps://b", "amqp://a;memory://", "a;amqp://b:1", "amqp://a;nosuch://b", "amqp://a;os.path://b",
    "amqp://a; amqp://b", "amqp://a;amqp://a", "memory+amqp://u:p@host/v", "memory+strange://u:p@host:1/v",
    "memory+://", "amqp+memory://x", "os.path+amqp://host", "a:b+amqp://host", "x+y+z://host",
    "memory+a://u:p@a;memory+b://b", "amqp://a+b/", "amqp://a/b+c", "a+b",
]  # fmt: skip

#: Argument lists, besides the URLs alone.
ARGUMENTS = [
    "", "None", "()", "[]", "hostname=None", "'localhost'", "'127.0.0.1'", "hostname='h', port=1", "port='5673'",
    "port=0", "userid='u', password='p'", "userid='u'", "password='p'", "virtual_host='v'", "virtual_host='/'",
    "virtual_host=''", "insist=True", "ssl=True", "ssl={'ca_certs': 'ca.pem'}", "transport='memory'",
    "transport='pyamqp'", "transport='amqps'", "transport='kombu.transport.memory:Transport'",
    "transport='kombu.transport.memory.Transport'", "transport='nosuch'", "transport=Plain", "'h', transport=Plain",
    "'h:1', transport=Plain", "None, transport=Plain", "'', transport=Plain", "'x://u:p@h:1/v', transport=Plain",
    "'x://u:p@h:1/v', transport=ReadsUrls", "'x://u:p@h:1/v', transport=ShowsUrls",
    "'p+x://u:p@h:1/v', transport=ReadsUrls", "'x://u:p@h:1/v', transport=ReadsUrls, uri_prefix='q'",
    "'x://u:p@h:1/v', transport=ShowsUrls, uri_prefix='q'", "'x:///', transport=Plain", "'x://', transport=ReadsUrls",
    "'h', transport=Plain, uri_prefix='q'", "'amqp://h', uri_prefix='q'", "'memory+a://h', uri_prefix='q'",
    "connect_timeout=1", "connect_timeout=None", "transport_options={'a': 1}", "transport_options=None",
    "transport_options=[]", "login_method='EXTERNAL'", "heartbeat=None", "heartbeat=0", "heartbeat=10",
    "heartbeat='3'", "heartbeat=2.5", "heartbeat='x'", "failover_strategy=None", "failover_strategy='shuffle'",
    "failover_strategy='strange'", "['amqp://a', 'amqp://b', 'amqp://c'], failover_strategy=Third()",
    "'amqp://a', failover_strategy=Third()", "'amqp://a', alternates=['amqp://b', 'amqp://c']",
    "'amqp://a;amqp://b', alternates=['amqp://c']", "alternates=['a']",
    "['amqp://a', 'amqp://b'], alternates=['amqp://c']", "('amqp://a:1/v', 'amqp://b')", "['a', 'b']", "['a;b', 'c']",
    "'amqp://a', alternates=['os.path://b']", "['os.path://a']", "alternates=[]", "alternates=['nosuch://x']",
    "credential_provider='c'", "unknown='x'", "'amqp://h', userid='u', password='p', virtual_host='v', port=1",
    "'amqp://x:y@h:2/w', userid='u', password='p', virtual_host='v', port=1", "'amqp://h', transport='memory'",
    "'memory://h', transport='amqp'", "'amqp://h', transport=Plain", "'amqp://h', heartbeat=5, login_method='PLAIN'",
    "'amqp://h', connect_timeout=9, ssl=True, insist=True", "'amqp://h?heartbeat=3', heartbeat=5",
    "'amqp://h', password=spelled_password", "'amqp://u@h', password=spelled_password", "password=spelled_password",
    "'amqp://u:p@h', transport_options={'client_properties': {'connection_name': 'n'}}",
    "'h', 'u', 'p', 'v', 1, True, True, 'memory', 3, {'o': 1}, 'EXTERNAL', 'q', 7, 'shuffle', ['h', 'i'], 'c'",
]  # fmt: skip

#: Pairs of connections that share a pool, or do not.
PAIRS = [
    ("'amqp://h'", "'amqp://h'"), ("'amqp://h'", "'amqp://h/'"), ("'amqp://h'", "'amqp://h//'"),
    ("'amqp://h'", "'pyamqp://h'"), ("'amqp://h'", "'amqp://i'"), ("'amqp://h'", "'h'"),
    ("'amqp://h'", "'amqp://h:5672'"), ("'amqp://h'", "'amqp://guest:guest@h'"),
    ("'amqp://h'", "'amqp://h', transport_options={'a': 1}"),
    ("'amqp://h', transport_options={'a': 1}", "'amqp://h', transport_options={'a': 1}"),
    ("'amqp://h'", "'amqp://h', heartbeat=3"), ("'amqp://h'", "'amqp://h', ssl=True"), ("'amqp://h'", "'amqp://h/v'"),
    ("'amqp://h'", "'amqp://h;amqp://i'"), ("'memory://'", "'memory://'"), ("'memory://'", "'memory://x'"),
]  # fmt: skip

TRANSPORTS = [
    "amqp",
    "amqps",
    "pyamqp",
    "memory",
    "kombu.transport.memory:Transport",
    "kombu.transport.memory.Transport",
    "nosuch",
    "memry",
    "no.such.module:Thing",
    "kombu.transport.memory:Thing",
    "kombu.transport",
    None,
]

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
OBJECT = re.compile(r"<(?:\w+\.)*(\w+) object>|<function (\w+)>|<class '(?:\w+\.)*(\w+)'>")


def plain(value: Any) -> Any:
    """Return *value* so that it can be written as JSON, and compared."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if value is None or type(value) in (int, float, bool):
        return value
    text = ADDRESS.sub("", value if type(value) is str else repr(value))
    return OBJECT.sub(lambda found: next(filter(None, found.groups())), text)


def attempt(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Return what a call gives, or what it raises."""
    try:
        return plain(function(*args, **kwargs))
    except Exception as exc:
        return failure(exc)


def failure(exc: Exception) -> dict[str, str]:
    """Return the class of an exception, and its text unless that is Python's own."""
    shown = {"raises": type(exc).__name__}
    if not isinstance(exc, (TypeError, ImportError, AttributeError, pickle.PicklingError)):
        shown["text"] = plain(str(exc))
    return shown


def describe(expression: str) -> Any:
    """Make a connection and return all that it says of itself."""
    try:
        connection = eval(expression, dict(NAMES))
    except Exception as exc:
        return failure(exc)
    said = {
        "info": attempt(connection.info),
        "uri": attempt(connection.as_uri),
        "uri with password": attempt(connection.as_uri, include_password=True),
        "uri masked": attempt(connection.as_uri, mask="##"),
        "uri without mask": attempt(connection.as_uri, mask=""),
        "repr": attempt(repr, connection),
        "host": attempt(lambda: connection.host),
        "transport": attempt(lambda: type(connection.transport).__name__),
        "attributes": {
            name: plain(getattr(connection, name))
            for name in (
                "hostname",
                "userid",
                "password",
                "virtual_host",
                "port",
                "insist",
                "ssl",
                "connect_timeout",
                "login_method",
                "heartbeat",
                "uri_prefix",
                "alt",
                "transport_options",
            )  # fmt: skip
        },
        "cycles": [attempt(connection.completes_cycle, retries) for retries in range(4)],
        "connected": attempt(lambda: connection.connected),
        "clone": attempt(lambda: connection.clone().info()),
        "clone of clone": attempt(lambda: connection.clone(userid="other").clone().info()),
        "copy": attempt(lambda: copy.copy(connection).info()),
        "reduced": attempt(lambda: connection.__reduce__()[1]),
        "pickled": attempt(lambda: pickle.loads(pickle.dumps(connection)).info()),
    }
    if connection.alt and connection._failover_strategy != "shuffle":
        said["switched"] = [attempt(switched, connection) for _ in range(3)]
    # Copies mostly say what the original does.
    for name in ("clone", "copy", "pickled"):
        if said[name] == said["info"]:
            said[name] = "as info"
    return said


def switched(connection: Any) -> Any:
    connection.maybe_switch_next()
    return [connection.as_uri(include_password=True), connection.transport_cls]


def share_a_pool(one: str, other: str) -> bool:
    first, second = (eval(f"Connection({arguments})", dict(NAMES)).__eqhash__() for arguments in (one, other))
    return hash(first) == hash(second)


def name_of(find: Any, transport: Any) -> Any:
    return find(transport).__name__


def answers() -> dict[str, Any]:
    """Ask everything."""
    # The log says which parameters were left out; what it says is none of the questions.
    logging.disable(logging.CRITICAL)
    try:
        return {
            "urls": {url: describe(f"Connection({url!r})") for url in URLS},
            "arguments": {arguments: describe(f"Connection({arguments})") for arguments in ARGUMENTS},
            "share a pool": {f"{one} {other}": share_a_pool(one, other) for one, other in PAIRS},
            "resolve": {str(name): attempt(name_of, resolve_transport, name) for name in TRANSPORTS},
            "get": {str(name): attempt(name_of, get_transport_cls, name) for name in TRANSPORTS},
            "aliases": {"": sorted(TRANSPORT_ALIASES)},
        }
    finally:
        logging.disable(logging.NOTSET)


def lines(record: dict[str, Any]) -> str:
    """Return *record* as JSON with a line for each answer."""
    sections = []
    for section, content in sorted(record.items()):
        entries = [f"{json.dumps(key)}: {json.dumps(each, sort_keys=True)}" for key, each in content.items()]
        sections.append(f'"{section}": {{\n' + ",\n".join(entries) + "\n}")
    return "{\n" + ",\n".join(sections) + "\n}\n"


if __name__ == "__main__":
    RECORD.write_text(lines(answers()), encoding="ascii")
