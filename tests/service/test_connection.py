"""Clients that are slow, by nature or on purpose."""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.clients import GOOD
from tests.service.running import HEAD, Running, read_to_end, running
from tests.service.scrape import parsed, value

LARGE = b"GET /docs/static/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def impatient(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """Waits half a second for whatever a client has to do; has room for twelve."""
    monkeypatch.setattr("service.connection.HEAD_S", 0.5)
    monkeypatch.setattr("service.connection.READING_S", 0.5)
    with running(folder, upload_timeout_s=0.5, max_connections=12) as found:
        yield found


def drip(connection: socket.socket, data: bytes) -> bytes:
    """Sends a byte at a time until the server closes, and returns what it said."""
    for byte in data:
        try:
            connection.sendall(bytes([byte]))
        except (BrokenPipeError, ConnectionResetError):
            break
        time.sleep(0.05)
    return read_to_end(connection)


def ask_on(connection: socket.socket) -> None:
    """Again and again, without reading an answer."""
    for _ in range(2000):
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.01)


def asks_unread(server: Running, *, times: int) -> socket.socket:
    """A client with a small buffer that asks for more than a megabyte, so often, and reads
    nothing yet."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    connection.settimeout(30)
    connection.sendall(LARGE * times)
    return connection


def read_whole(connection: socket.socket) -> bytes:
    """One answer's body, not as fast as it could be."""
    with connection.makefile("rb", buffering=0) as stream:
        length = 0
        while (line := stream.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = bytearray()
        while len(body) < length:
            body += stream.read(min(length - len(body), 1 << 16))
            time.sleep(0.05)
        return bytes(body)


def refusals(server: Running, reason: str) -> float:
    return value(parsed(server.get("/metrics").text), "rejections_total", reason=reason) or 0.0


class TestSlowHeads:
    def test_a_connection_without_a_request_is_closed(self, impatient: Running) -> None:
        with impatient.connect() as connection:
            assert read_to_end(connection) == b""

    def test_a_head_that_never_ends_is_given_up(self, impatient: Running) -> None:
        with impatient.connect() as connection:
            assert drip(connection, b"GET /healthz HTTP/1.1\r\n" + b"X-A: b\r\n" * 50) == b""

    @pytest.mark.parametrize("second", [b"G", b"\r\n"])
    def test_so_is_that_of_a_second_request(self, impatient: Running, second: bytes) -> None:
        with impatient.connect(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
            assert b"200 OK" in connection.recv(65536)
            connection.sendall(second)
            assert read_to_end(connection) == b""

    def test_an_endless_head_is_refused_with_its_limit(self, impatient: Running) -> None:
        with impatient.connect(b"GET /healthz HTTP/1.1\r\n") as connection:
            try:
                for number in range(100_000):
                    connection.sendall(b"X-%d: %s\r\n" % (number, b"a" * 1000))
            except (BrokenPipeError, ConnectionResetError):
                pass
            else:
                pytest.fail("a hundred megabytes of headers were read")

    def test_large_heads_in_pieces_are_told_why(self, impatient: Running) -> None:
        with impatient.connect(b"GET /healthz HTTP/1.1\r\n") as connection:
            for _ in range(5):
                connection.sendall(b"X-A: " + b"a" * 20_000 + b"\r\n")
                time.sleep(0.05)
            answer = read_to_end(connection)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"65536 bytes" in answer

    def test_a_large_upload_is_no_large_head(self, impatient: Running) -> None:
        assert impatient.post(GOOD + bytes(1_000_000)).status_code == 200


class TestSlowBodies:
    def test_an_upload_that_stops_is_told_so(self, impatient: Running) -> None:
        with impatient.connect(HEAD + GOOD[:10]) as connection:
            answer = read_to_end(connection)
        assert re.match(rb"HTTP/1\.1 408 .*10 bytes", answer, re.DOTALL)

    def test_one_that_drips_is_told_so(self, impatient: Running) -> None:
        with impatient.connect(HEAD) as connection:
            answer = drip(connection, GOOD)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
        assert impatient.post().status_code == 200

    def test_slow_uploads_take_no_place_from_others(self, folder: Path) -> None:
        with running(folder, max_queue=1) as found:
            slow = [found.connect(HEAD + GOOD[:10]) for _ in range(20)]
            assert found.post().status_code == 200
            for connection in slow:
                connection.sendall(GOOD[10:])
                assert b"200 OK" in connection.recv(65536)
                connection.close()

    def test_a_body_is_not_read_for_ever_after_its_answer(self, impatient: Running) -> None:
        head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        with impatient.connect(head + b"Transfer-Encoding: chunked\r\n\r\n") as connection:
            answer = drip(connection, b"1\r\na\r\n" * 100)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 404")
        series = parsed(impatient.get("/metrics").text)
        assert value(series, "rejections_total", reason="head_too_slow") == 1

    def test_what_is_left_of_a_body_may_come_after_its_answer(self, impatient: Running) -> None:
        head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        with impatient.connect(head + b"Content-Length: 3\r\n\r\n") as connection:
            assert b"404 Not Found" in connection.recv(65536)
            connection.sendall(b"abcGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in connection.recv(65536)

    def test_one_that_was_sent_behind_another_has_its_own_time(self, impatient: Running) -> None:
        body = GOOD + bytes(200_000)
        second = b"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        with impatient.connect(HEAD + GOOD + second) as connection:
            assert b"200 OK" in connection.recv(65536)
            for begin in range(0, len(body), 20_000):
                connection.sendall(body[begin : begin + 20_000])
                time.sleep(0.1)
            assert b"200 OK" in connection.recv(65536)


class TestCrowds:
    def test_who_keeps_us_waiting_longest_makes_room(self, impatient: Running) -> None:
        slow = [impatient.connect(b"POST /segment HTTP/1.1\r\n") for _ in range(12)]
        for _ in range(3):
            assert impatient.post().status_code == 200
        first, last = slow[0], slow[-1]
        assert read_to_end(first) == b""
        last.sendall(b"Host: x\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD)
        assert b"200 OK" in last.recv(65536)
        for connection in slow:
            connection.close()


class TestSlowReaders:
    def test_a_client_that_reads_nothing_is_dropped(self, impatient: Running) -> None:
        """Thousands of answers, asked for at once and never read."""
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", impatient.port))
            connection.settimeout(30)
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                ask_on(connection)
        assert impatient.post().status_code == 200

    def test_so_is_one_that_stops_in_the_middle_of_an_answer(self, impatient: Running) -> None:
        """A file that is written piece by piece never becomes a complete answer."""
        with asks_unread(impatient, times=8):
            for _ in range(100):
                if refusals(impatient, "reader_too_slow"):
                    return
                time.sleep(0.1)
        pytest.fail("who reads nothing was waited for")

    def test_a_crowd_of_them_makes_room(
        self, impatient: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.connection.READING_S", 600)
        crowd = [asks_unread(impatient, times=8) for _ in range(12)]
        time.sleep(0.5)  # until the system's buffers are full
        for _ in range(3):
            assert impatient.post().status_code == 200
        assert refusals(impatient, "too_many_connections") > 0
        for connection in crowd:
            connection.close()

    def test_one_that_reads_on_has_all_the_time_it_needs(self, impatient: Running) -> None:
        """Also where the system would hold megabytes for it, and take nothing for as long."""
        with impatient.connect(LARGE * 4) as connection:
            for _ in range(4):
                assert len(read_whole(connection)) > 1_000_000
        assert refusals(impatient, "reader_too_slow") == 0


def test_what_is_refused_before_it_is_a_request_is_counted(impatient: Running) -> None:
    for sent in (b"CONNECT\r\n\r\n", b"GET /healthz HTTP/1.1\r\n"):
        with impatient.connect(sent) as connection:
            read_to_end(connection)
    series = parsed(impatient.get("/metrics").text)
    assert value(series, "rejections_total", reason="malformed_http") == 1
    assert value(series, "rejections_total", reason="head_too_slow") == 1
