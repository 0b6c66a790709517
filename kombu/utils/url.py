"""Take URLs of brokers apart and put them together."""

from __future__ import annotations

from collections import namedtuple
from importlib.util import find_spec

from .._lazy import TYPE_CHECKING, LazyLogger, LazyModule, forwarding

if TYPE_CHECKING:
    import ssl
    from typing import Any, NamedTuple
    from urllib import parse
    from urllib.parse import quote, unquote, urlparse
else:
    parse, ssl = LazyModule("urllib.parse"), LazyModule("ssl")
    __getattr__, __dir__ = forwarding(__name__, dict.fromkeys(("quote", "unquote", "urlparse"), "urllib.parse"))

__all__ = (
    "as_url",
    "maybe_sanitize_url",
    "parse_ssl_cert_reqs",
    "parse_url",
    "quote",
    "safequote",
    "sanitize_url",
    "unquote",
    "url_to_parts",
    "urlparse",
    "urlparts",
)

logger = LazyLogger(__name__)

#: Whether this Python was built with OpenSSL, which is loaded when something of it is needed.
ssl_available = find_spec("_ssl") is not None


def safequote(string: Any, **kwargs: Any) -> str:
    """Percent-encode everything that is special in a URL, the slash included."""
    quoted: str = parse.quote(string, safe="", **kwargs)
    return quoted


if TYPE_CHECKING:

    class urlparts(NamedTuple):
        """Parts of a URL, percent-decoded; what the URL does not have is None, and *query* is a dict."""

        scheme: str
        hostname: str | None
        port: int | None
        username: str | None
        password: str | None
        path: str | None
        query: dict[str, Any]
else:
    urlparts = namedtuple("urlparts", "scheme hostname port username password path query")
    urlparts.__doc__ = "Parts of a URL, percent-decoded; what the URL does not have is None, and *query* is a dict."


def url_to_parts(url: str) -> urlparts:
    """Take *url* apart; ValueError for a port that is not one.

    Whatever the scheme, what follows it is read as in an HTTP URL. *path* comes without its leading slash.
    """
    scheme = parse.urlparse(url).scheme
    rest = parse.urlparse("http://" + url[len(scheme) + len("://") :])
    return urlparts(
        scheme,
        _decoded(rest.hostname),
        rest.port,
        _decoded(rest.username),
        _decoded(rest.password),
        _decoded(rest.path.removeprefix("/")),
        dict(parse.parse_qsl(rest.query)),
    )


# Celery and transports written for kombu 5.7 import it by this name.
_parse_url = url_to_parts


def _decoded(part: str | None) -> str | None:
    return parse.unquote(part) or None if part else None


def parse_url(url: str) -> dict[str, Any]:
    """Return what *url* says as arguments of a connection.

    These are transport, hostname, port, userid, password, virtual_host and whatever its query has. The ``ssl_*``
    settings of the query are gathered in one dict, ``ssl``, converted to what the :mod:`ssl` module takes.
    """
    parts = url_to_parts(url)
    query = {key: value for key, value in parts.query.items() if not key.startswith("ssl_")}
    settings = {key: _ssl_setting(key, value) for key, value in parts.query.items() if key.startswith("ssl_")}
    if settings:
        if "ssl" in query:
            raise ValueError(f"a URL has either ssl={query['ssl']} or {', '.join(settings)} in its query, not both")
        query["ssl"] = settings
    arguments = {
        "transport": parts.scheme,
        "hostname": parts.hostname,
        "port": parts.port,
        "userid": parts.username,
        "password": parts.password,
        "virtual_host": parts.path,
    }
    repeated = arguments.keys() & query.keys()
    if repeated:
        raise TypeError(f"the query of the URL repeats a part of it: {', '.join(sorted(repeated))}")
    return {**arguments, **query}


def _ssl_setting(key: str, value: str) -> Any:
    if key == "ssl_check_hostname":
        return value.lower() != "false"
    if key == "ssl_cert_reqs":
        required = parse_ssl_cert_reqs(value)
        if required is None:
            logger.warning("Defaulting to insecure SSL behaviour.")
        return required
    return value


def as_url(
    scheme: str,
    host: str | None = None,
    port: int | str | None = None,
    user: str | None = None,
    password: str | None = None,
    path: str | None = None,
    query: Any = None,
    sanitize: bool = False,
    mask: str | None = "**",
) -> str:
    """Put a URL together, percent-encoding user, password and host but not the path; *query* is left out.

    With *sanitize* the password is replaced by *mask*, or left out if that is empty.
    """
    login = ""
    if user or password:
        login = safequote(user) if user else ""
        if password:
            login += ":" + ((mask or "") if sanitize else safequote(password))
        login += "@"
    place = (safequote(host) if host else "") + (f":{port}" if port else "")
    return f"{scheme}://{login}{place}/{path or ''}"


def sanitize_url(url: str, mask: str | None = "**") -> str:
    """Return *url* with its password replaced by *mask*, and without its query."""
    return as_url(*url_to_parts(url), sanitize=True, mask=mask)


def maybe_sanitize_url(url: Any, mask: str | None = "**") -> Any:
    """Do as :func:`sanitize_url` to a str with ``://`` in it; return anything else as it is."""
    return sanitize_url(url, mask) if isinstance(url, str) and "://" in url else url


def parse_ssl_cert_reqs(query_value: str) -> Any:
    """Return the constant of the :mod:`ssl` module for ``required``, ``optional`` or ``none``.

    The constants' own names (``CERT_REQUIRED``...) are understood too. KeyError for anything else; None where Python
    was built without :mod:`ssl`.
    """
    if not ssl_available:
        return None
    constants = {
        "required": ssl.CERT_REQUIRED,
        "optional": ssl.CERT_OPTIONAL,
        "none": ssl.CERT_NONE,
    }
    for name in tuple(constants):
        constants["CERT_" + name.upper()] = constants[name]
    return constants[query_value]
