"""Read broker URLs and lists of them, and choose the host to try next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import cycle

from ._lazy import TYPE_CHECKING, LazyModule
from .transport import get_transport_cls
from .utils.functional import dictfilter, shufflecycle
from .utils.url import parse_url

if TYPE_CHECKING:
    from typing import Any
    from urllib import parse
else:
    parse = LazyModule("urllib.parse")

__all__ = ("PARAMETERS", "check_url_transport", "failover_strategies", "parameters_of", "roundrobin_failover")

#: What a URL may set of a connection, besides the transport.
PARAMETERS = frozenset(
    {
        "hostname",
        "userid",
        "password",
        "virtual_host",
        "port",
        "insist",
        "ssl",
        "transport",
        "connect_timeout",
        "login_method",
        "heartbeat",
        "credential_provider",
    }
)

roundrobin_failover = cycle

failover_strategies: dict[str, Callable[[Iterable[str]], Iterator[str]]] = {
    "round-robin": roundrobin_failover,
    "shuffle": shufflecycle,
}


def check_url_transport(name: str) -> str:
    """Return the transport *name* that a URL asks for, if it is a plain name.

    A name with ``.`` or ``:`` in it is taken for the path of a class, which is then imported: nobody may choose that by
    a URL alone, which often comes from outside.  (The argument ``transport=`` may be such a path.)

    Raises:
        ValueError: if the name could be an import path.
    """
    if "." in name or ":" in name:
        raise ValueError(f"Invalid transport scheme: {name!r}")
    return name


def split_prefix(hostname: str) -> tuple[str, str] | None:
    """Return the transport and the URL of ``transport+scheme://...``, or None where *hostname* is no such thing."""
    scheme, separator, _ = hostname.partition("://")
    if not separator or "+" not in scheme:
        return None
    transport, _, url = hostname.partition("+")
    return check_url_transport(transport), url


def check_alternate(url: Any) -> None:
    """Raise ValueError where *url* is a URL whose scheme no transport may have."""
    if isinstance(url, str) and "://" in url:
        check_url_transport(parse.urlsplit(url).scheme)


def parameters_of(url: str, transport: Any = None) -> tuple[dict[str, Any], str | None]:
    """Return the connection parameters that *url* sets, and its ``uri_prefix`` if it has one.

    *transport* (a name, path or class) wins over the scheme.  A URL that the transport parses itself becomes the
    ``hostname`` as it is; so does whatever is no URL.  Of any other URL the parts that are missing are not in the
    result, but for ``hostname``, which is None then.

    Raises:
        ValueError: if the scheme is not the plain name of a transport, or the port no number.
        KeyError: if there is no transport of that name.
        TypeError: if the query has a key that is no parameter of a connection.
    """
    prefixed = split_prefix(url)
    if prefixed is not None:
        return {"transport": prefixed[0], "hostname": prefixed[1]}, prefixed[0]
    if "://" not in url:
        return {"hostname": url}, None
    chosen = transport or check_url_transport(parse.urlsplit(url).scheme)
    if get_transport_cls(chosen).can_parse_url:
        return {"transport": chosen, "hostname": url}, None
    parts = parse_url(url)
    unknown = [key for key in parts if key not in PARAMETERS]
    if unknown:
        known = ", ".join(sorted(PARAMETERS))
        raise TypeError(f"unknown parameter {unknown[0]!r} in the query of the broker URL; known are {known}")
    return {**dictfilter(parts), "transport": chosen, "hostname": parts["hostname"]}, None
