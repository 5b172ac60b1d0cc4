"""ASGI middleware: request ids, headers for browsers, other origins."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence

from fastapi import FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import OverloadedError
from service.problems import service_error, unexpected_error
from service.telemetry import logs

REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")

PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
# Swagger UI starts from a script within its page, and styles itself
DOCS_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
# an answer that a browser was made to show as a page may load and run nothing
ANSWER_POLICY = "default-src 'none'; frame-ancestors 'none'"
ANSWERS = ("application/json", "application/problem+json", "image/png")


class RequestContext:
    """Gives each request its id, echoes it, and adds the headers that every answer carries."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else logs.new_request_id()
        scope.setdefault("state", {})
        scope["state"]["request_id"] = request_id
        scope["state"]["received"] = time.perf_counter()
        logs.request_id.set(request_id)  # kept to the end: errors are logged further out than here

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self.app(scope, receive, send_with_headers)


class _Answer:
    """Sends, and knows whether an answer has begun, after which there can be no other."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        self.has_begun = True
        await self._send(message)


class UnexpectedErrors:
    """Answers what nobody expected from within: outside of all middleware, where the framework
    answers it, it would lack their headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        try:
            await self.app(scope, receive, answer)
        except Exception as error:
            if answer.has_begun or scope["type"] != "http":
                raise
            response = await unexpected_error(Request(scope), error)
            await response(scope, receive, send)


class CutOffs:
    """Tells those whom the server cuts off, because its time to stop is over. Outside of what
    would wait for the rest of their uploads."""

    def __init__(self, app: ASGIApp, is_stopping: Callable[[], bool]) -> None:
        self.app = app
        self.is_stopping = is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        try:
            await self.app(scope, receive, answer)
        except asyncio.CancelledError:
            if answer.has_begun or scope["type"] != "http" or not self.is_stopping():
                raise
            error = OverloadedError("the service is stopping", reason="draining")
            response = await service_error(Request(scope), error)
            await response(scope, receive, send)


class PageHeaders:
    """What a browser may do with an answer: what it may load from, who may frame or embed it.

    Answers, unlike the page's own files, are nothing to be kept by a cache either: it might give
    them to somebody without a key.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                _restrict(MutableHeaders(scope=message), str(scope["path"]))
            await send(message)

        await self.app(scope, receive, send_with_policy)


def _restrict(headers: MutableHeaders, path: str) -> None:
    kind = headers.get("content-type", "").partition(";")[0]
    headers["Referrer-Policy"] = "no-referrer"
    headers["X-Frame-Options"] = "DENY"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    if kind == "text/html":
        headers["Content-Security-Policy"] = (
            DOCS_POLICY if path.startswith("/docs") else PAGE_POLICY
        )
    elif kind in ANSWERS and not path.startswith(("/web/", "/docs/")):
        headers["Content-Security-Policy"] = ANSWER_POLICY
        headers["Cache-Control"] = "no-store"


def add_cors(app: FastAPI, origins: Sequence[str]) -> None:
    """Pages of these origins may call the service; without any, only its own page can."""
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "traceparent",
                "X-API-Key",
                "X-Request-ID",
                "X-Request-Timeout",
            ],
            expose_headers=[
                "Retry-After",
                "Server-Timing",
                "X-Model",
                "X-Model-Digest",
                "X-Request-ID",
            ],
        )
