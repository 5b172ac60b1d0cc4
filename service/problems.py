"""Every error leaves as `application/problem+json` (RFC 9457), whoever raised it."""

import http
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.errors import ServiceError, reason_of

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


def problem(status: int, title: str, detail: str, **more: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}


def add_problem_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ServiceError, service_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, unexpected_error)


async def service_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    content = problem(error.status, error.title, error.detail)
    headers = {**error.headers, **error.own_headers}
    return _respond(request, content, headers, reason=error.reason)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """Starlette's own: unknown routes, wrong methods, malformed multipart bodies."""
    assert isinstance(error, HTTPException)
    title = http.HTTPStatus(error.status_code).phrase
    detail = str(error.detail)
    if error.status_code == 404 and detail == title:
        detail = f"there is nothing at {request.url.path}; /docs lists what there is"
    if error.status_code == 405 and detail == title:
        detail = f"{request.method} is not possible at {request.url.path}"
    content = problem(error.status_code, title, detail)
    return _respond(request, content, dict(error.headers or {}))


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"field": ".".join(str(part) for part in entry["loc"]), "message": entry["msg"]}
        for entry in error.errors()
    ]
    detail = "; ".join(f"{entry['field']}: {entry['message']}" for entry in errors)
    return _respond(request, problem(422, "Invalid request", detail, errors=errors), {})


async def _gone(request: Request, error: Exception) -> JSONResponse:
    """Nobody reads this answer."""
    return _respond(request, problem(400, "Client disconnected", "the body ended early"), {})


async def unexpected_error(request: Request, error: Exception) -> JSONResponse:
    """The stack trace belongs into the log, never into the answer."""
    logger.error("unexpected error in %s", request.url.path, exc_info=error)
    detail = "the service met an unexpected error; its log has the details"
    return _respond(request, problem(500, "Internal error", detail), {})


def _respond(
    request: Request,
    content: dict[str, Any],
    headers: dict[str, str],
    *,
    reason: str | None = None,
) -> JSONResponse:
    request.state.reason = reason or reason_of(content["title"])  # for the log and the metrics
    content["request_id"] = getattr(request.state, "request_id", None)
    headers = {**headers, "X-Content-Type-Options": "nosniff"}
    if content["request_id"]:
        headers["X-Request-ID"] = content["request_id"]
    return JSONResponse(
        content, status_code=content["status"], headers=headers, media_type=MEDIA_TYPE
    )
