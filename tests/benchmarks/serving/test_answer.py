"""Answers are put together from whatever pieces they arrive in."""

import pytest

from benchmarks.serving.answer import AnswerReader

BODY = bytes(range(256)) * 4
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 1024\r\ncontent-type: image/png\r\n\r\n" + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"100\r\n" + BODY[:256] + b"\r\n300\r\n" + BODY[256:] + b"\r\n0\r\n\r\n"
)


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED], ids=["length", "chunks"])
@pytest.mark.parametrize("piece", [1, 7, 100, 5000])
def test_pieces_of_any_size_make_the_same_answer(answer: bytes, piece: int) -> None:
    reader = AnswerReader()
    pieces = [answer[start : start + piece] for start in range(0, len(answer), piece)]
    assert [reader.feed(part) for part in pieces] == [False] * (len(pieces) - 1) + [True]
    assert (reader.status, reader.body, reader.closes) == (200, BODY, False)


def test_a_server_that_closes_is_believed() -> None:
    reader = AnswerReader()
    assert reader.feed(b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert (reader.status, reader.body, reader.closes) == (503, b"", True)


@pytest.mark.parametrize(
    ("head", "message"),
    [(b"SSH-2.0\r\n\r\n", "not an HTTP answer"), (b"HTTP/1.1 200 OK\r\n\r\n", "without a length")],
)
def test_what_has_no_end_is_refused(head: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnswerReader().feed(head)
