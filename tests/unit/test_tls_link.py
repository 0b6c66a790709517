"""Errors that OpenSSL notes for a thread, and reports for whatever connection that thread uses next."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import certificates
from kombu.transport.amqp.sockets import TLSLink
from patience import PATIENCE, until


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificates:
    return certificates.make(tmp_path_factory.mktemp("tls"))


class Ends:
    """Both ends of a TLS connection; the client's never blocks."""

    def __init__(self, authority: certificates.Certificates) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            accepted: list[ssl.SSLSocket] = []

            def serve() -> None:
                plain, _ = listener.accept()
                accepted.append(authority.server_context().wrap_socket(plain, server_side=True))

            thread = threading.Thread(target=serve)
            thread.start()
            context = ssl.create_default_context(cafile=str(authority.authority))
            plain = socket.create_connection(listener.getsockname(), PATIENCE)
            self.client = context.wrap_socket(plain, server_hostname=certificates.NAMES[0])
            thread.join()
        [self.server] = accepted
        # What comes right after a handshake is part of it to OpenSSL.
        self.server.send(b"hello")
        assert self.client.recv(5) == b"hello"
        self.client.setblocking(False)
        self.link = TLSLink(self.client)

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def ends(authority: certificates.Certificates) -> Iterator[Ends]:
    made = Ends(authority)
    yield made
    made.close()


def lose(ends: Ends) -> None:
    ends.server.close()

    def fails() -> bool:
        try:
            ends.link.send_some([b"x"])
        except OSError:
            return True
        return False

    until(fails)


def test_a_lost_connection_does_not_pass_for_another_of_the_same_thread(authority, ends):
    other = Ends(authority)
    lose(other)
    with pytest.raises(BlockingIOError, match="no TLS record is complete"):
        ends.link.recv_into(bytearray(10))
    assert ends.link.send_some([b"still here"]) == 10
    assert ends.server.recv(10) == b"still here"
    other.close()


def test_a_lost_connection_leaves_no_error_to_sockets_that_are_not_ours(authority, ends):
    other = Ends(authority)
    lose(other)
    with pytest.raises(ssl.SSLWantReadError):
        ends.client.recv(10)
    other.close()


class Failing:
    """A TLS socket whose methods answer with what *answers* holds, or raise it."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def pending(self) -> int:
        return 0

    def fileno(self) -> int:
        return -1

    def setblocking(self, _flag: bool) -> None:
        pass

    def gettimeout(self) -> float:
        return 0.0

    def recv_into(self, _view: Any) -> int:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    send = recv_into


RESET = ConnectionResetError(104, "of another")


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([RESET, ssl.SSLWantReadError()], BlockingIOError),
        ([RESET, ssl.SSLWantWriteError()], BlockingIOError),
        ([RESET, BrokenPipeError(32, "later")], ConnectionResetError),
        ([RESET, ssl.SSLEOFError()], ConnectionResetError),
        ([RESET, 0], ConnectionResetError),
    ],
)
def test_an_error_counts_where_it_is_there_the_second_time(answers, error):
    for call in (lambda link: link.recv_into(bytearray(1)), lambda link: link.send_some([b"x"])):
        sock = Failing(*answers)
        with pytest.raises(error):
            call(TLSLink(sock))
        assert not sock.answers
        assert call(TLSLink(Failing(RESET, 1))) == 1


def test_what_is_no_error_of_the_system_is_not_asked_for_again():
    assert TLSLink(Failing(ssl.SSLEOFError(), 5)).recv_into(bytearray(9)) == 0
    with pytest.raises(ssl.SSLError, match="bad record"):
        TLSLink(Failing(ssl.SSLError(1, "bad record"), 5)).recv_into(bytearray(9))


def test_who_reads_may_be_interrupted_by_a_handler_that_closes_the_connection(ends):
    # The handler of a signal runs in the middle of whatever its thread does; here, in a read.
    class Interrupted:
        def __getattr__(self, name: str) -> Any:
            return getattr(ends.client, name)

        def recv_into(self, view: Any) -> int:
            assert ends.link.guard.acquire(blocking=False), "the thread would wait for itself"
            ends.client.close()
            ends.link.guard.release()
            return ends.client.recv_into(view)

    ends.link.sock = Interrupted()
    with pytest.raises(OSError):
        ends.link.recv_into(bytearray(10))
