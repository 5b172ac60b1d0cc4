"""An answer's head goes with the first of its body."""

import gc
import socket
from pathlib import Path
from typing import Any

import pytest

from service.head_with_body import HeadWithBody
from tests.service.clients import GOOD
from tests.service.running import Running, read_to_end, running

OK = b"HTTP/1.1 200 OK\r\n\r\n"


class Transport:
    """Remembers what was written at a time."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def answer(transport: Any) -> HeadWithBody:
    return HeadWithBody(transport)


def test_the_head_waits_for_the_body(answer: HeadWithBody, transport: Transport) -> None:
    answer.write(OK)
    assert transport.written == []
    for part in (b"one", b"two", b"three"):
        answer.write(part)
    assert transport.written == [OK + b"one", b"two", b"three"]


def test_an_empty_body_is_one_too(answer: HeadWithBody, transport: Transport) -> None:
    answer.write(OK)
    answer.write(b"")
    assert transport.written == [OK]


def test_what_comes_before_the_answer_waits_for_nothing(
    answer: HeadWithBody, transport: Transport
) -> None:
    answer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert transport.written == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    answer.write(OK)
    answer.write(b"body")
    assert transport.written[1:] == [OK + b"body"]


def test_a_head_without_its_body_is_written_before_the_end(
    answer: HeadWithBody, transport: Transport
) -> None:
    answer.write(OK)
    assert not answer.is_closing()
    answer.close()
    assert transport.written == [OK]
    assert answer.is_closing()


@pytest.fixture
def server(folder: Path) -> Any:
    with running(folder) as found:
        yield found


def test_a_request_is_freed_with_its_answer(server: Running) -> None:
    """Whenever the garbage collector comes."""
    kept = [each for each in gc.get_objects() if type(each) is HeadWithBody]
    gc.disable()
    try:
        for _ in range(5):
            assert server.post().status_code == 200
        found = [each for each in gc.get_objects() if type(each) is HeadWithBody]
    finally:
        gc.enable()
    assert len(found) <= len(kept) + 1  # the last of a connection


def received(connection: socket.socket) -> bytes:
    """What has arrived when the first of it has."""
    return connection.recv(1 << 16)


def test_an_answer_arrives_whole(server: Running) -> None:
    with server.connect() as connection:
        for _ in range(50):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            head, _, body = received(connection).partition(b"\r\n\r\n")
            assert b"content-length: %d" % len(body) in head.lower()
            assert body


def test_an_answer_that_is_all_head_arrives(server: Running) -> None:
    with server.connect() as connection:
        for _ in range(2):
            connection.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert received(connection).startswith(b"HTTP/1.1 ")


def test_a_client_that_asks_first_is_told_to_go_on(server: Running) -> None:
    head = b"POST /segment HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n"
    with server.connect(head + b"Content-Length: %d\r\n\r\n" % len(GOOD)) as connection:
        assert received(connection) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(GOOD)
        assert read_to_end(connection).startswith(b"HTTP/1.1 200 OK\r\n")


def test_answers_to_what_was_asked_at_once_come_in_order(server: Running) -> None:
    asked = (b"/healthz", b"/readyz", b"/models")
    request = b"".join(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in asked[:2])
    last = b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % asked[2]
    with server.connect(request + last) as connection:
        answers = read_to_end(connection)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert answers.rindex(b'"models"') > answers.rindex(b"HTTP/1.1 200 OK\r\n")
