"""HTTP itself as a weapon: headers without end, chunks that are mostly around themselves."""

import json
import re
from pathlib import Path

import pytest

from service.protocol import MAX_HEAD_BYTES
from tests.service.clients import GOOD
from tests.service.server import Server

START = b"POST /segment HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"
PIECE = b"x" * 300_000  # more than is ever read at once


def chunk(content: bytes, extension: bytes = b"") -> bytes:
    return b"%x%s\r\n%s\r\n" % (len(content), extension, content)


def answered(server: Server, *parts: bytes) -> tuple[int, bytes]:
    """Status and body; 0 and nothing where the connection was just closed."""
    try:
        head, _, body = server.exchange(*parts).partition(b"\r\n\r\n")
    except ConnectionError:  # it was closed while there was more to send
        return 0, b""
    return (int(head.split()[1]), body) if head else (0, b"")


def peak_memory(server: Server) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([START + b"X: ", *[PIECE] * 3], id="one header"),
        pytest.param([START, *[b"X: y\r\n" * 50_000] * 3], id="many headers"),
        pytest.param([b"GET /", *[PIECE] * 3], id="the address"),
        pytest.param([b"\r\n" * 150_000] * 3, id="blank lines"),
    ],
)
def test_a_head_without_end_is_refused(server: Server, parts: list[bytes]) -> None:
    before = peak_memory(server)
    status, body = answered(server, *parts)
    if status:  # else the client still wrote when it was refused, which loses it the answer
        assert status in (400, 431)
        problem = json.loads(body)
        assert problem["status"] == status
        assert problem["detail"]
        assert problem["request_id"]
    assert peak_memory(server) - before < 16 << 20
    assert answered(server, START + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD)[0] == 200


def test_a_head_just_over_the_bound_gets_an_answer(server: Server) -> None:
    """Sent in pieces, as what arrives at once is looked at only then."""
    with server.connect() as connection:
        connection.sendall(START + b"X: ")
        status = b""
        for _ in range(40):
            connection.sendall(b"x" * (MAX_HEAD_BYTES // 16))
            connection.settimeout(0.05)
            try:
                status = connection.recv(65536)
                break
            except TimeoutError:
                continue
    assert b" 431 Request Header Fields Too Large" in status
    assert b"application/problem+json" in status


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param([b"1;", *[PIECE] * 3], id="extension"),
        pytest.param([chunk(b"x", b";" + bytes(b"e" * 20_000)) * 40] * 2, id="extensions"),
        pytest.param(
            [b"".join(chunk(b"%c" % byte, b";" + b"e" * 200) for byte in GOOD + bytes(1000))],
            id="small extensions",
        ),
        pytest.param([chunk(GOOD) + b"0\r\n", *[b"X: y\r\n" * 50_000] * 3], id="trailers"),
        pytest.param([chunk(GOOD) + b"0\r\nX: ", *[PIECE] * 3], id="one trailer"),
    ],
)
def test_a_body_that_is_mostly_around_itself_is_cut_off(server: Server, rest: list[bytes]) -> None:
    before = peak_memory(server)
    assert answered(server, CHUNKED, *rest)[0] in (0, 400, 431)
    assert peak_memory(server) - before < 16 << 20


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_small_chunks_are_a_body_like_any_other(server: Server, size: int) -> None:
    padded = GOOD + bytes(50_000)
    pieces = b"".join(chunk(padded[at : at + size]) for at in range(0, len(padded), size))
    assert answered(server, CHUNKED, pieces + b"0\r\nX-Trailer: fine\r\n\r\n")[0] == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\xff\xff\r\n\r\n",
        b"BREW /pot HTTP/1.1\r\n\r\n",
        START + b"Content-Length: -5\r\n\r\n",
        START + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\n",
        START + b"Content-Length: 99999999999999999999999\r\n\r\n",
        START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"-5\r\nabc\r\n0\r\n\r\n",
        CHUNKED + chunk(GOOD) + b"five\r\n",
        START + "Content-Length: \N{ARABIC-INDIC DIGIT THREE}\r\n\r\n".encode(),
    ],
)
def test_what_is_no_http_is_refused_with_a_problem(server: Server, raw: bytes) -> None:
    status, body = answered(server, raw)
    assert status == 400
    assert json.loads(body)["title"] == "Bad Request"


def test_a_request_that_is_refused_gets_no_other_answer(server: Server) -> None:
    """Though it could be answered without a look at its body."""
    asked = b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n"
    received = server.exchange(asked)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"200 OK" not in received


@pytest.mark.parametrize(
    ("second", "statuses"),
    [
        pytest.param(b"what is no HTTP\r\n\r\n", [200], id="no HTTP"),
        pytest.param(b"\0\1garbage", [200], id="garbage"),
        pytest.param(CHUNKED + b"-5\r\n", [0, 200], id="a request that is broken itself"),
    ],
)
def test_a_request_that_came_whole_is_answered_whatever_follows(
    server: Server, second: bytes, statuses: list[int]
) -> None:
    first = b"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(GOOD)
    status, body = answered(server, first + GOOD + second)
    assert status in statuses
    assert b"not an HTTP" not in body


def test_several_requests_on_one_connection_are_counted_apart(server: Server) -> None:
    header = b"X: " + b"y" * (MAX_HEAD_BYTES // 2) + b"\r\n"
    asked = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + header
    received = server.exchange(*[asked + b"\r\n"] * 5, asked + b"Connection: close\r\n\r\n")
    assert received.count(b"HTTP/1.1 200 OK") == 6
