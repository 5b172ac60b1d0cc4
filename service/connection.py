"""A client's connection, which must not be held open for nothing.

The HTTP server has no limit for the time of a request's head: who sends one byte of it a minute
would hold a connection for ever; and so would who asks for a mask and never reads it. Where all
connections are taken, the one that has kept us waiting longest makes room, so that a crowd of slow
clients cannot keep others out.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from service.head_with_body import HeadWithBody
from service.protocol import BoundedProtocol

HEAD_S = 10.0  # for the head of a request, from the connection's or the head's first byte
READING_S = 30.0  # without a byte of an answer having been read
UNSENT_BYTES = 128 * 1024  # that the system may hold beside what is on its way
REFUSALS = {400: "malformed_http", 431: "head_too_large"}


@dataclass
class Connections:
    """Those of one server. `waiting` are the connections whose client has the word: a request of
    theirs is incomplete or none has begun; who began to wait first comes first. `on_refusal` is
    told the reason of what is refused before it is a request, and of connections that end."""

    limit: int
    on_refusal: Callable[[str], None] = lambda reason: None
    all: "set[Connection]" = field(default_factory=set)
    waiting: "dict[Connection, None]" = field(default_factory=dict)

    def made(self, connection: "Connection") -> None:
        self.all.add(connection)
        self.waiting[connection] = None
        if len(self.all) > self.limit:
            longest = next(iter(self.waiting))
            self.lost(longest)
            longest.drop("too_many_connections")

    def has_word(self, connection: "Connection") -> None:
        self.waiting.pop(connection, None)
        self.waiting[connection] = None

    def lost(self, connection: "Connection") -> None:
        self.all.discard(connection)
        self.waiting.pop(connection, None)

    def __call__(self, **arguments: Any) -> "Connection":
        """A new connection, as uvicorn asks for one."""
        return Connection(self, **arguments)


class Connection(BoundedProtocol):
    """HTTP/1.1 with limits for slow clients."""

    def __init__(self, connections: Connections, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._all = connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _hold_little(transport.get_extra_info("socket"))
        self._await_head()
        self._all.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_awaiting_head()
        self._stop_awaiting_reader()
        self._all.lost(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._await_head()
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._all.has_word(self)

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        self._stop_awaiting_head()
        super().on_headers_complete()
        if self.cycle is not None and self.scope["method"] != "HEAD":
            transport: Any = HeadWithBody(self.transport)
            self.cycle.transport = transport

    def on_message_complete(self) -> None:
        self._in_head, self._in_body = True, False  # of the next request
        self._stop_awaiting_head()
        self._all.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if not self.pipeline:
            self._all.has_word(self)
        if self._in_body and not self.pipeline:  # of what was answered: as much time as for a head
            self._await_head()
        self._await_reader()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """In the middle of an answer that is larger than what the system holds for a reader."""
        super().pause_writing()
        self._all.has_word(self)
        self._stop_awaiting_reader()  # who has read what there was before
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._in_body and self.cycle is not None and not self.cycle.response_complete:
            self._all.waiting.pop(self, None)
        self._stop_awaiting_reader()
        self._await_reader()

    def drop(self, reason: str) -> None:
        """Without another word; what it asked for is given up."""
        self._all.on_refusal(reason)
        self.transport.abort()

    def _refuse(self, status: int, detail: str) -> None:
        self._all.on_refusal(REFUSALS[status])
        super()._refuse(status, detail)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self.drop, "head_too_slow")

    def _stop_awaiting_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _await_reader(self) -> None:
        """Drops a client that reads nothing of what is written to it for so long."""
        left = self.transport.get_write_buffer_size()
        if left and self._reader_timer is None:
            self._reader_timer = self.loop.call_later(READING_S, self._check_reader, left)

    def _check_reader(self, before: int) -> None:
        self._reader_timer = None
        if self.transport.get_write_buffer_size() >= before:
            self.drop("reader_too_slow")
        else:
            self._await_reader()

    def _stop_awaiting_reader(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None


def _hold_little(connection: socket.socket | None) -> None:
    """The system takes megabytes for a slow reader at once and then nothing for minutes, as if he
    did not read. With less that is not on its way yet, what he reads shows."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # of Linux and macOS
    if connection is not None and option is not None and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)
