"""ASGI middleware that bounds what request bodies take: bytes, memory and time.

It counts what streams in, because Content-Length can lie and a form is parsed before a route sees
it.
"""

import asyncio
from collections.abc import Callable

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import OverloadedError, TooLargeError, UploadTooSlowError

DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_S = 10.0
LEAST_BYTES_PER_S = 32 * 1024  # beyond the time that every upload is given


class UploadMemory:
    """Bytes of bodies in memory, of all requests together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def take(self, count: int) -> None:
        """OverloadedError, and nothing more held, beyond the limit."""
        if self.held + count > self.limit:
            raise OverloadedError(
                f"uploads hold {self.held} bytes of memory already", reason="upload_memory"
            )
        self.held += count

    def give_back(self, count: int) -> None:
        self.held -= count


class BodyLimit:
    """Raises inside the route once a body exceeds the limit for its path (TooLargeError), comes
    too slowly (UploadTooSlowError) or finds no memory (OverloadedError).

    Whatever an answer leaves unread, too large or refused before it was read, is drained within
    bounds first: closing the connection on a client that still sends would lose it the answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit_of: Callable[[str], int],
        memory: UploadMemory,
        patience_s: float,
    ) -> None:
        self.app = app
        self.limit_of = limit_of
        self.memory = memory
        self.patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.limit_of(scope["path"])
        body = _Body(Headers(scope=scope), receive, limit, self.memory, self.patience_s)

        async def send_after_body(message: Message) -> None:
            if message["type"] == "http.response.start" and body.unread:
                body.give_back()  # an answer that does not need the whole has dropped the rest
                await body.drain()
            await send(message)

        try:
            await self.app(scope, body.receive, send_after_body)
        finally:
            body.give_back()


class _Body:
    """One request's body: counted as it is received."""

    def __init__(
        self,
        headers: Headers,
        receive: Receive,
        limit: int,
        memory: UploadMemory,
        patience_s: float,
    ) -> None:
        announced = headers.get("content-length", "")
        self.length = int(announced) if announced.isdecimal() else 0
        self.limit = limit
        self.received = 0
        self.held = 0
        # a client that waits for "100 Continue" sends nothing unless it is asked to
        self.waits = headers.get("expect", "").lower() == "100-continue"
        self.unread = self.length > 0 or "transfer-encoding" in headers
        self._receive = receive
        self._memory = memory
        self._patience_s = patience_s
        self._stop: float | None = None  # of the loop's time: until when more has to come
        self._is_complete = False

    async def receive(self) -> Message:
        if self.length > self.limit:
            raise self._too_large()
        if self._is_complete:
            return await self._receive()  # that the client hung up
        before = self.received
        message = await self._in_time()
        if self.received > self.limit:
            raise self._too_large()
        self._memory.take(self.received - before)
        self.held += self.received - before
        return message

    def give_back(self) -> None:
        """All that it holds."""
        self._memory.give_back(self.held)
        self.held = 0

    async def drain(self) -> None:
        """Reads on and drops, for so many bytes and seconds and no more."""
        stop = self.received + DRAIN_BYTES
        with anyio.move_on_after(DRAIN_S):
            while self.unread and not self.waits and self.received < stop:
                await self._next()

    async def _in_time(self) -> Message:
        """Every upload may be `patience_s` behind one of the least speed, and no further ahead of
        it: who sent much at once is not free to hold it for long."""
        now = asyncio.get_running_loop().time()
        if self._stop is None:
            self._stop = now + self._patience_s
        before = self.received
        try:
            async with asyncio.timeout_at(self._stop):
                message = await self._next()
        except TimeoutError:
            self.unread = False  # nothing of it is waited for any more
            raise UploadTooSlowError(
                f"after {self.received} bytes the upload has fallen {self._patience_s:g} s behind "
                f"{LEAST_BYTES_PER_S} bytes a second"
            ) from None
        earned_s = (self.received - before) / LEAST_BYTES_PER_S
        latest = asyncio.get_running_loop().time() + self._patience_s
        self._stop = min(self._stop + earned_s, latest)
        return message

    async def _next(self) -> Message:
        message = await self._receive()
        self.waits = False
        self.received += len(message.get("body", b""))
        self.unread = message.get("more_body", False)
        self._is_complete = not self.unread
        return message

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"the request body is larger than the limit of {self.limit} bytes")
