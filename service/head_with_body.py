"""Where an answer is written: its head waits for the body's first bytes, so that both go in one
system call and one packet, and wake the client once."""

import asyncio

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class HeadWithBody:
    """As much of a transport as a cycle uses. Not for HEAD, whose answers end with the head."""

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        self._transport = transport
        self._cycle = cycle
        self._head: bytes | None = None
        self._is_begun = False
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._cycle.response_started and not self._is_begun:
            self._head, self._is_begun = data, True
        elif self._head is not None:
            head, self._head = self._head, None
            self._transport.writelines((head, data))
        else:  # "100 Continue", or what goes on
            self._transport.write(data)

    def close(self) -> None:
        if self._head is not None:
            self.write(b"")
        self._transport.close()
