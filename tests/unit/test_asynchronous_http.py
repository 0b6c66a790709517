"""HTTP requests on an event loop."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest
from vine import promise

from kombu.asynchronous import Hub, http, set_event_loop
from kombu.asynchronous.http import base
from kombu.exceptions import HttpError


@pytest.fixture
def hub():
    hub = set_event_loop(Hub())
    yield hub
    hub.close()


class Client(http.BaseClient):
    """A client that keeps its requests."""

    closed = False

    def __init__(self, hub):
        super().__init__(hub)
        self.requests = []

    def add_request(self, request):
        self.requests.append(request)

    def close(self):
        self.closed = True


def test_a_request_has_defaults_and_takes_others():
    request = http.Request("http://x", "POST", headers={"A": "b"}, max_redirects=3, body="text")
    assert (request.url, request.method, request.headers["A"]) == ("http://x", "POST", "b")
    assert (request.max_redirects, request.body) == (3, "text")
    assert request.follow_redirects and request.validate_cert
    assert isinstance(request.headers, http.Headers)
    headers = http.Headers()
    assert http.Request("x", headers=headers).headers is headers
    assert http.Request("x", method=None).method == "GET"
    assert repr(request) == "<Request: POST http://x text>"


def test_who_asked_is_told_when_the_response_is_there():
    seen = []
    request = http.Request("x", on_ready=promise(seen.append))
    request.then(lambda response: seen.append(("then", response)))
    request.on_ready("response")
    assert "response" in seen


def test_a_response_knows_what_it_means():
    request = http.Request("http://x")
    fine = http.Response(request, 200, buffer=BytesIO(b"body"))
    assert (fine.status, fine.status_code, fine.body, fine.content) == ("OK", 200, b"body", b"body")
    assert (fine.effective_url, fine.headers, fine.error) == ("http://x", {}, None)
    fine.raise_for_error()
    missing = http.Response(request, 404)
    assert (missing.status, missing.body) == ("Not Found", None)
    with pytest.raises(HttpError):
        missing.raise_for_error()
    assert http.Response(request, 999).status == "Unknown"
    with pytest.raises(KeyError):
        http.Response(request, 200, error=KeyError()).raise_for_error()


def test_header_lines_become_headers(hub):
    client, headers = Client(hub), http.Headers()
    for line in ("HTTP/1.1 200 OK", b"content-type: text/plain", "x-long: one", " two", "x-colon: a:b"):
        client.on_header(headers, line)
    assert headers == {"Content-Type": "text/plain", "X-Long": "one two", "X-Colon": "a:b"}
    assert not headers.complete
    client.on_header(headers, "")
    assert headers.complete
    with pytest.raises(KeyError):
        client._header_parser.throw(KeyError("broken"))
    client.on_header(headers, "")
    client.on_header(headers, "after: all")
    assert headers["After"] == "all"
    assert base.normalize_header("accept-ENCODING") == "Accept-Encoding"


def test_urls_become_requests(hub):
    client = Client(hub)
    own = http.Request("own")
    client.perform("http://x", method="HEAD")
    client.perform([own, "http://y"])
    client.perform(None)
    assert [request.url for request in client.requests] == ["http://x", "own", "http://y"]
    assert client.requests[0].method == "HEAD"
    with pytest.raises(NotImplementedError):
        http.BaseClient(hub).add_request(own)


def test_a_closing_hub_closes_its_client_and_may_have_another(hub):
    client = hub._current_http_client = Client(hub)
    hub.reset()
    assert client.closed
    assert not hasattr(hub, "_current_http_client")
    assert not hub.on_close


def test_a_client_is_closed_by_with(hub):
    with Client(hub) as client:
        assert not client.closed
    assert client.closed


class Handler(BaseHTTPRequestHandler):
    """Answer with what was asked."""

    def do_GET(self):
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/there")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/absent" else 200)
        self.send_header("X-Path", self.path)
        self.end_headers()
        self.wfile.write(f"{self.command} {self.headers['User-Agent']}".encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body[::-1])

    do_DELETE = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def perform(hub, *requests):
    """Perform requests and return their responses."""
    responses = {}
    for request in requests:
        request.then(lambda response, request=request: responses.setdefault(request, response))
        http.get_client(hub).add_request(request)
    for _ in range(1000):
        if len(responses) == len(requests):
            break
        hub.run_once()
    return [responses[request] for request in requests]


def test_requests_of_every_kind(hub, url):
    pytest.importorskip("pycurl")
    found = perform(
        hub,
        http.Request(f"{url}/a", user_agent="me"),
        http.Request(f"{url}/b", "POST", body="text"),
        http.Request(f"{url}/redirect", user_agent="me"),
        http.Request(f"{url}/absent"),
        http.Request(f"{url}/d", "DELETE", user_agent="me"),
        *(http.Request(f"{url}/{number}") for number in range(20)),
    )
    assert [response.code for response in found] == [200, 200, 200, 404] + [200] * 21
    assert (found[0].body, found[1].body, found[4].body) == (b"GET me", b"txet", b"DELETE me")
    assert found[0].headers["X-Path"] == "/a"
    assert found[2].effective_url == f"{url}/there"
    with pytest.raises(HttpError):
        found[3].raise_for_error()


def test_a_refused_connection_is_an_error_of_the_response(hub):
    pytest.importorskip("pycurl")
    (response,) = perform(hub, http.Request("http://127.0.0.1:1/"))
    assert response.code == 599 and response.body is None
    with pytest.raises(HttpError):
        response.raise_for_error()


def test_impossible_requests_are_refused(hub):
    pytest.importorskip("pycurl")
    client = http.Client(hub)
    with pytest.raises(ValueError, match="proxy_port"):
        client.add_request(http.Request("http://x", proxy_host="proxy"))
    with pytest.raises(ValueError, match="body"):
        client.add_request(http.Request("http://x", body="text"))


def test_a_closed_client_drops_requests(hub):
    pytest.importorskip("pycurl")
    client = http.get_client(hub)
    assert http.get_client() is client
    client.close()
    client.close()
    client.add_request(http.Request("http://x"))
    assert not client._pending
    assert http.get_client(hub) is not client


def test_without_pycurl_there_is_no_client(hub, monkeypatch):
    monkeypatch.setattr("kombu.asynchronous.http.curl.pycurl", None)
    with pytest.raises(ImportError, match="pycurl"):
        http.Client(hub)
    assert not hub.on_close
