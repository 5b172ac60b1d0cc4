"""Where an answer is written: its head waits for the body's first bytes, so that both go in one
system call and one packet, and wake the client once."""

import asyncio

INTERIM = b"HTTP/1.1 100 "  # asks for the body; the answer is still to come


class HeadWithBody:
    """As much of a transport as uvicorn writes one answer to: the head, then the body in one or
    more pieces, the first of which may be empty. Not for HEAD, whose answers end with the head."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._is_begun = False
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head + data)
        elif self._is_begun or data.startswith(INTERIM):
            self._transport.write(data)
        else:
            self._head, self._is_begun = data, True

    def close(self) -> None:
        if self._head is not None:
            self.write(b"")
        self._transport.close()
