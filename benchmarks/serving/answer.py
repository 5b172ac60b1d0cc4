"""One HTTP/1.1 answer, put together from what arrives."""

import re

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)


class AnswerReader:
    """`feed` bytes until it returns True; then `status`, `body` and `closes` are the answer's.

    ValueError for what is not HTTP, and for an answer that gives no length: its end could not be
    told from a broken connection.
    """

    def __init__(self) -> None:
        self.status = 0
        self.closes = False
        self._buffer = bytearray()
        self._body_at = 0  # where the body begins in the buffer; 0 until the head is complete
        self._length: int | None = None  # None: chunked

    @property
    def body(self) -> bytes:
        content = bytes(self._buffer[self._body_at :])
        return content if self._length is not None else _join_chunks(content)

    def feed(self, data: bytes) -> bool:
        self._buffer += data
        if not self._body_at and not self._read_head():
            return False
        if self._length is not None:
            return len(self._buffer) >= self._body_at + self._length
        return self._buffer.endswith(b"0\r\n\r\n")

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[:end])
        status = _STATUS.match(head)
        if status is None:
            raise ValueError(f"not an HTTP answer: {head[:40]!r}")
        length = _LENGTH.search(head)
        if length is None and not _CHUNKED.search(head):
            raise ValueError("an answer without a length")
        self.status = int(status[1])
        self.closes = _CLOSE.search(head) is not None
        self._length = int(length[1]) if length else None
        self._body_at = end + 4
        return True


def _join_chunks(content: bytes) -> bytes:
    parts = []
    place = 0
    while place < len(content):
        end = content.index(b"\r\n", place)
        size = int(content[place:end].partition(b";")[0], 16)
        parts.append(content[end + 2 : end + 2 + size])
        place = end + 4 + size
        if size == 0:
            break
    return b"".join(parts)
