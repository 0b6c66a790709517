"""HTTP client by libcurl (pycurl)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from io import BytesIO
from time import time
from typing import Any

from kombu.asynchronous.hub import READ, WRITE, Hub, get_event_loop
from kombu.exceptions import HttpError
from kombu.log import get_logger
from kombu.utils.encoding import bytes_to_str

from .base import BaseClient, Request

try:
    import pycurl
except ImportError:
    pycurl = None
    Curl: Any = None
    #: Method -> the option of libcurl that selects it.
    METH_TO_CURL: Any = None
else:
    Curl = pycurl.Curl
    METH_TO_CURL = {"GET": pycurl.HTTPGET, "HEAD": pycurl.NOBODY, "POST": pycurl.POST, "PUT": pycurl.UPLOAD}

__all__ = ("CurlClient",)

logger = get_logger(__name__)

DEFAULT_USER_AGENT = "Mozilla/5.0 (compatible; pycurl)"

#: Status of a response that never came.
FAILED = 599


class CurlClient(BaseClient):
    """HTTP client that performs many requests at once on an event loop.

    Arguments:
        hub: The event loop; the current one unless given.
        max_clients: Most requests under way; further ones wait.

    Raises:
        ImportError: pycurl is not installed.
    """

    Curl = Curl

    def __init__(self, hub: Hub | None = None, max_clients: int = 10) -> None:
        if pycurl is None:
            raise ImportError("The curl client requires the pycurl library.")
        super().__init__(hub or get_event_loop())
        self.max_clients = max_clients
        self._closed = False
        #: Descriptor -> events that libcurl wants to hear of.
        self._fds: dict[int, int] = {}
        self._pending: deque[Any] = deque()
        self._curls = [self.Curl() for _ in range(max_clients)]
        self._free_list = list(self._curls)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timeout)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._handle_socket)
        self._socket_action = self._multi.socket_action
        self._timeout_check_tref = self.hub.call_repeatedly(1.0, self._timeout_check)

    def close(self) -> None:
        """Drop all requests and close the handles of libcurl."""
        if self._closed:
            return
        self._closed = True
        self._detach_from_hub()
        self._timeout_check_tref.cancel()
        for curl in self._curls:
            curl.close()
        self._multi.close()

    def add_request(self, request: Any) -> Any:
        """Send *request*, or have it wait until one of the others is through; a closed client drops it."""
        if self._closed:
            # A closing hub closes its clients first and then calls what was to be called soon, this among it.
            logger.debug("dropping %r: HTTP client is closed", request)
            return request
        self._pending.append(request)
        self._process_queue()
        self._set_timeout(0)
        return request

    # -- What libcurl calls.

    def _handle_socket(self, event: int, fd: int, multi: Any, data: Any, _pycurl: Any = pycurl) -> None:
        """Note what events of *fd* libcurl wants to hear of."""
        if event == _pycurl.POLL_REMOVE:
            self._fds.pop(fd, None)
            return
        wanted = {_pycurl.POLL_IN: READ, _pycurl.POLL_OUT: WRITE, _pycurl.POLL_INOUT: READ | WRITE}
        if event in wanted:
            self._fds[fd] = wanted[event]

    def _set_timeout(self, msecs: int) -> None:
        """Note when libcurl wants to be called; -1 means that it does not."""
        if msecs >= 0:
            self.hub.call_later(msecs / 1000, self._timeout_check)

    # -- What the hub calls.

    def on_readable(self, fd: int, _pycurl: Any = pycurl) -> None:
        """Let libcurl read from *fd*."""
        return self._on_event(fd, _pycurl.CSELECT_IN)

    def on_writable(self, fd: int, _pycurl: Any = pycurl) -> None:
        """Let libcurl write to *fd*."""
        return self._on_event(fd, _pycurl.CSELECT_OUT)

    def _on_event(self, fd: int, event: int) -> None:
        self._perform(partial(self._socket_action, fd, event))

    def _timeout_check(self, _pycurl: Any = pycurl) -> None:
        if not self._closed:
            self._perform(partial(self._socket_action, _pycurl.SOCKET_TIMEOUT, 0))

    def _perform(self, action: Callable[[], tuple[int, int]]) -> None:
        # libcurl may close descriptors meanwhile, and one that is closed inside epoll cannot be taken out of it.
        for fd in tuple(self._fds):
            self.hub.remove(fd)
        try:
            again = True
            while again:
                try:
                    result, _ = action()
                except pycurl.error as exc:
                    result = exc.args[0]
                again = result == pycurl.E_CALL_MULTI_PERFORM
        finally:
            for fd, events in tuple(self._fds.items()):
                if events & READ:
                    self.hub.add_reader(fd, self.on_readable, fd)
                if events & WRITE:
                    self.hub.add_writer(fd, self.on_writable, fd)
        self._process_pending_requests()

    # -- Requests.

    def _process_queue(self) -> None:
        """Send as many of the waiting requests as there are free handles."""
        while self._free_list and self._pending:
            curl, request = self._free_list.pop(), self._pending.popleft()
            headers, buffer = self.Headers(), BytesIO()
            curl.info = {"request": request, "headers": headers, "buffer": buffer, "curl_start_time": time()}
            self._setup_request(curl, request, buffer, headers)
            self._multi.add_handle(curl)

    def _process_pending_requests(self) -> None:
        """Report the requests that are through, and send others in their place."""
        more = True
        while more:
            more, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._process(curl)
            for curl, number, reason in failed:
                self._process(curl, number, reason)
        self._process_queue()

    def _process(self, curl: Any, errno: int | None = None, reason: str | None = None, _pycurl: Any = pycurl) -> None:
        info, curl.info = curl.info, None
        self._multi.remove_handle(curl)
        self._free_list.append(curl)
        request = info["request"]
        if errno:
            error = HttpError(FAILED, reason)
            error.errno = errno
            response = self.Response(request, FAILED, headers=info["headers"], error=error)
        else:
            response = self.Response(
                request,
                curl.getinfo(_pycurl.HTTP_CODE),
                headers=info["headers"],
                buffer=info["buffer"],
                effective_url=curl.getinfo(_pycurl.EFFECTIVE_URL),
            )
        request.on_ready(response)

    def _setup_request(
        self, curl: Any, request: Request, buffer: BytesIO, headers: Any, _pycurl: Any = pycurl
    ) -> None:
        """Set the options of *curl*, which may have performed another request before."""
        setopt = curl.setopt
        setopt(_pycurl.URL, bytes_to_str(request.url))

        # Both are sent by libcurl of its own accord unless they are said to be empty.
        for name in ("Expect", "Pragma"):
            request.headers.setdefault(name, "")
        setopt(_pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in request.headers.items()])

        setopt(_pycurl.HEADERFUNCTION, partial(request.on_header or self.on_header, headers))
        setopt(_pycurl.WRITEFUNCTION, request.on_stream or buffer.write)
        setopt(_pycurl.FOLLOWLOCATION, request.follow_redirects)
        setopt(_pycurl.MAXREDIRS, request.max_redirects)
        # Not request_timeout: it would cut off long polls, which callers let take just as long.
        setopt(_pycurl.ENCODING, "gzip,deflate" if request.use_gzip else "none")
        setopt(_pycurl.USERAGENT, bytes_to_str(request.user_agent or DEFAULT_USER_AGENT))
        setopt(_pycurl.IPRESOLVE, _pycurl.IPRESOLVE_WHATEVER)
        if request.network_interface:
            setopt(_pycurl.INTERFACE, request.network_interface)
        self._setup_proxy(setopt, request, _pycurl)
        self._setup_method(curl, request, _pycurl)
        self._setup_trust(curl, request, _pycurl)
        if request.on_prepare is not None:
            request.on_prepare(curl)

    def _setup_proxy(self, setopt: Callable[..., Any], request: Request, _pycurl: Any) -> None:
        if not request.proxy_host:
            return
        if not request.proxy_port:
            raise ValueError("Request with proxy_host but no proxy_port")
        setopt(_pycurl.PROXY, request.proxy_host)
        setopt(_pycurl.PROXYPORT, request.proxy_port)
        if request.proxy_username:
            setopt(_pycurl.PROXYUSERPWD, f"{request.proxy_username}:{request.proxy_password or ''}")

    def _setup_method(self, curl: Any, request: Request, _pycurl: Any) -> None:
        method = request.method
        for option in METH_TO_CURL.values():
            curl.setopt(option, False)
        if method in METH_TO_CURL:
            curl.unsetopt(_pycurl.CUSTOMREQUEST)
            curl.setopt(METH_TO_CURL[method], True)
        else:
            curl.setopt(_pycurl.CUSTOMREQUEST, method)

        if method in ("POST", "PUT"):
            body = request.body or b""
            body = body.encode() if isinstance(body, str) else body
            source = BytesIO(body)
            curl.setopt(_pycurl.READFUNCTION, source.read)
            # A redirection or a second round of authentication sends it again.
            curl.setopt(_pycurl.SEEKFUNCTION, partial(_seek, source))
            curl.setopt(_pycurl.POSTFIELDSIZE if method == "POST" else _pycurl.INFILESIZE, len(body))
        elif method == "GET" and request.body:
            raise ValueError("Request has a body, which a GET cannot have")

    def _setup_trust(self, curl: Any, request: Request, _pycurl: Any) -> None:
        setopt = curl.setopt
        setopt(_pycurl.SSL_VERIFYPEER, 1 if request.validate_cert else 0)
        setopt(_pycurl.SSL_VERIFYHOST, 2 if request.validate_cert else 0)
        for option, value in (
            (_pycurl.CAINFO, request.ca_certs),
            (_pycurl.SSLCERT, request.client_cert),
            (_pycurl.SSLKEY, request.client_key),
        ):
            if value is not None:
                setopt(option, value)

        if request.auth_username is None:
            curl.unsetopt(_pycurl.USERPWD)
            return
        modes = {"basic": _pycurl.HTTPAUTH_BASIC, "digest": _pycurl.HTTPAUTH_DIGEST}
        setopt(_pycurl.HTTPAUTH, modes[request.auth_mode or "basic"])
        setopt(_pycurl.USERPWD, f"{request.auth_username}:{request.auth_password or ''}")


def _seek(source: BytesIO, offset: int, origin: int) -> int:
    source.seek(offset, origin)
    return 0
