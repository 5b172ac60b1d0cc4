"""ASGI middleware: request ids, the byte limit on bodies, and headers for browsers.

The limit counts what streams in, because Content-Length can lie and Starlette's form parser
would spool a file of any size to disk before a route sees it.
"""

import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import TooLargeError

MIB = 1024 * 1024
DRAIN_BYTES = 64 * MIB  # read and dropped so that a client still sending can read the answer
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")

PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


class RequestContext:
    """Gives each request its id, echoes it, and adds the headers that every answer carries."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})
        scope["state"]["request_id"] = request_id
        scope["state"]["received"] = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self.app(scope, receive, send_with_headers)


class BodyLimit:
    """Raises TooLargeError inside the route once a body exceeds the limit for its path."""

    def __init__(self, app: ASGIApp, limit_of: Callable[[str], int]) -> None:
        self.app = app
        self.limit_of = limit_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await self.app(scope, _limited(scope, receive, self.limit_of(scope["path"])), send)


def _limited(scope: Scope, receive: Receive, limit: int) -> Receive:
    headers = Headers(scope=scope)
    announced = headers.get("content-length", "")
    length = int(announced) if announced.isdecimal() else 0
    waits = headers.get("expect", "").lower() == "100-continue"
    received = 0

    async def limited() -> Message:
        nonlocal received
        if length > limit and waits:
            raise _too_large(limit)  # the client has sent nothing yet, so it need not
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit or length > limit:
            await _drain(message, receive)
            raise _too_large(limit)
        return message

    return limited


async def _drain(message: Message, receive: Receive) -> None:
    """Reads on, within bounds: a connection closed on a sending client loses the answer."""
    drained = 0
    while message.get("more_body", False) and drained < DRAIN_BYTES:
        message = await receive()
        drained += len(message.get("body", b""))


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the request body is larger than the limit of {limit} bytes")


class PageHeaders:
    """A content security policy on everything a browser renders."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html") and not str(
                    scope.get("path", "")
                ).startswith("/docs"):
                    headers["Content-Security-Policy"] = PAGE_POLICY
                    headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self.app(scope, receive, send_with_policy)
