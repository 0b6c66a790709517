"""Requests, responses, and the base of HTTP clients."""

from __future__ import annotations

from collections.abc import Callable, Generator
from http.client import responses
from io import BytesIO
from types import TracebackType
from typing import Any, TypeVar

from vine import Thenable, maybe_promise, promise

from kombu.exceptions import HttpError
from kombu.utils.compat import coro
from kombu.utils.encoding import bytes_to_str
from kombu.utils.functional import maybe_list, memoize

__all__ = ("BaseClient", "Headers", "Request", "Response")

_ClientT = TypeVar("_ClientT", bound="BaseClient")


@memoize(maxsize=1000)
def normalize_header(key: str) -> str:
    """Return the name of a header with each of its words capitalized."""
    return "-".join(map(str.capitalize, key.split("-")))


class Headers(dict[str, Any]):
    """The headers of a request or response; names are looked up as they are written."""

    #: Whether all headers have been read.
    complete = False

    #: Name of the header read last, which a line that begins with a blank continues.
    _prev_key: str | None = None


@Thenable.register
class Request:
    """A request.

    Arguments:
        url: Where to.
        method: ``"GET"``, ``"POST"``...
        on_ready: Called with the :class:`Response`.
        on_timeout: Called if there is none in time.
        on_stream: Called with each piece of the body; the response then has no body.
        on_prepare: Called with what the client makes of the request, before it is sent.
        on_header: Called with the headers so far and each line of them; it has to call the ``on_header`` of the
            client if the response is to have them.
        headers: A dict.
        kwargs: Values for the other attributes.
    """

    __slots__ = (
        "url",
        "method",
        "headers",
        "on_ready",
        "on_header",
        "on_prepare",
        "on_stream",
        "on_timeout",
        "__dict__",
        "__weakref__",
    )

    #: Bytes or text to send.
    body: Any = None

    #: Seconds to connect in.
    connect_timeout = 30.0

    #: Seconds for the whole of it.
    request_timeout = 30.0

    follow_redirects = True
    max_redirects = 6

    #: Whether the response may be compressed.
    use_gzip = True

    user_agent: str | None = None

    #: Name of the interface to send from.
    network_interface: str | None = None

    # Who sends it; the mode is "basic" or "digest".
    auth_username: str | None = None
    auth_password: str | None = None
    auth_mode: str | None = None

    # Through which proxy; a host needs a port.
    proxy_host: str | None = None
    proxy_port: int | None = None
    proxy_username: str | None = None
    proxy_password: str | None = None

    # Whether the certificate of the server is verified, by which authorities, and one of our own, with its key: names
    # of files.
    validate_cert = True
    ca_certs: str | None = None
    client_cert: str | None = None
    client_key: str | None = None

    def __init__(
        self,
        url: str,
        method: str = "GET",
        on_ready: Any = None,
        on_timeout: Any = None,
        on_stream: Any = None,
        on_prepare: Any = None,
        on_header: Any = None,
        headers: Any = None,
        **kwargs: Any,
    ) -> None:
        self.url = url
        self.method = method or "GET"
        self.headers = headers if isinstance(headers, Headers) else Headers(headers or {})
        self.on_header = maybe_promise(on_header)
        self.on_prepare = maybe_promise(on_prepare)
        self.on_stream = maybe_promise(on_stream)
        self.on_timeout = maybe_promise(on_timeout)
        self.on_ready = maybe_promise(on_ready) or promise()
        for name, value in kwargs.items():
            setattr(self, name, value)

    def then(self, callback: Callable[..., Any], errback: Callable[..., Any] | None = None) -> None:
        """Call *callback* with the response when it is there."""
        self.on_ready.then(callback, errback)

    def __repr__(self) -> str:
        return f"<Request: {self.method} {self.url} {self.body}>"


class Response:
    """A response.

    Arguments:
        request: What it is the response to.
        code: Status, such as 200.
        headers: :class:`Headers`.
        buffer: Where the body has been read into.
        effective_url: Where it came from after all redirects; that of the request unless given.
        error: An exception; made from *code* unless given, where that is none of 200 to 299.
        status: Status in words; made from *code* unless given.
    """

    __slots__ = ("request", "code", "status", "headers", "buffer", "error", "effective_url", "_body", "__weakref__")

    def __init__(
        self,
        request: Any,
        code: int,
        headers: Any = None,
        buffer: BytesIO | None = None,
        effective_url: str | None = None,
        error: BaseException | None = None,
        status: str | None = None,
    ) -> None:
        self.request = request
        self.code = code
        self.status = status or responses.get(code, "Unknown")
        self.effective_url = effective_url or request.url
        self.headers = Headers() if headers is None else headers
        self.buffer = buffer
        self._body: bytes | None = None
        if error is None and not 200 <= code <= 299:
            error = HttpError(code, self.status, self)
        self.error = error

    def raise_for_error(self) -> None:
        """Raise :attr:`error`, if there is one."""
        if self.error:
            raise self.error

    @property
    def body(self) -> bytes | None:
        """The body, or None if it went elsewhere."""
        if self._body is None and self.buffer is not None:
            self._body = self.buffer.getvalue()
        return self._body

    # The names that the requests library has for these.

    @property
    def content(self) -> bytes | None:
        """The same as :attr:`body`."""
        return self.body

    @property
    def status_code(self) -> int:
        """The same as :attr:`code`."""
        return self.code


@coro
def header_parser(keyt: Callable[[str], str] = normalize_header) -> Generator[None, tuple[str, Headers], None]:
    """Take (line, headers) by ``send`` and add each line to the headers; an empty line completes them."""
    while True:
        line, headers = yield
        line = line.rstrip("\r\n")
        if not line:
            headers.complete = True
        elif line[0].isspace():
            key = headers._prev_key
            headers[key] = f"{headers.get(key) or ''} {line.lstrip()}"
        elif not line.startswith("HTTP/"):
            name, value = line.split(":", 1)
            key = headers._prev_key = keyt(name)
            headers[key] = value.strip()


class BaseClient:
    """Base of the HTTP clients; the hub closes them when it is closed.

    Without that, a request under way then would go on, and hand a message to a consumer that is gone.
    """

    Headers = Headers
    Request = Request
    Response = Response

    def __init__(self, hub: Any, **kwargs: Any) -> None:
        self.hub = hub
        self._header_parser = header_parser()
        hub.on_close.add(self._on_hub_close)

    def perform(self, request: Any, **kwargs: Any) -> None:
        """Send a request, or each of a list; a URL becomes a :attr:`Request` with *kwargs*."""
        for each in maybe_list(request) or ():
            self.add_request(each if isinstance(each, self.Request) else self.Request(each, **kwargs))

    def add_request(self, request: Any) -> Any:
        """Send a :attr:`Request`."""
        raise NotImplementedError("must implement add_request")

    def on_header(self, headers: Headers, line: str | bytes) -> None:
        """Add a line of a response's head to *headers*."""
        try:
            self._header_parser.send((bytes_to_str(line), headers))
        except StopIteration:
            # An exception thrown into the parser has ended it.
            self._header_parser = header_parser()

    def close(self) -> None:
        """Drop all requests."""

    def _on_hub_close(self, hub: Any) -> None:
        self._detach_from_hub()
        self.close()

    def _detach_from_hub(self) -> None:
        """Let the hub, which may live on, have another client."""
        self.hub.on_close.discard(self._on_hub_close)
        if getattr(self.hub, "_current_http_client", None) is self:
            del self.hub._current_http_client

    def __enter__(self: _ClientT) -> _ClientT:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()
