"""One line and one count for every answer, whoever gave it."""

import logging
import time
from http.client import responses
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ServiceError, reason_of
from service.telemetry.telemetry import Telemetry

logger = logging.getLogger(__name__)

OTHER_ROUTE = "other"  # whatever clients try is one label value


class AccessLog:
    """Stands outside whatever may answer, and inside what gives requests their ids.

    Reads what was noted on the way in `request.state`: `model`, `key_name`, `reason`.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self.app = app
        self.telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, size = 500, 0  # of an error that nobody in here has answered

        async def send_noted(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            size += len(message.get("body", b""))
            await send(message)

        metrics = self.telemetry.metrics
        trace_id = self.telemetry.request_began(scope.get("state", {}).get("request_id"))
        began = time.perf_counter()
        metrics.in_flight += 1
        try:
            await self.app(scope, receive, send_noted)
        finally:
            metrics.in_flight -= 1
            seconds = time.perf_counter() - began
            self._note(scope, status, seconds, bytes=size, trace_id=trace_id)

    def _note(self, scope: Scope, status: int, seconds: float, **fields: Any) -> None:
        state, route = scope.get("state", {}), route_of(scope)
        metrics, model = self.telemetry.metrics, state.get("model")
        metrics.answered(route, model, status, seconds)
        reason = None
        if status >= 400:
            reason = state.get("reason") or _reason(status)
            metrics.rejected(reason)
        if not logger.isEnabledFor(logging.INFO):
            return
        facts = {
            "method": scope["method"],
            "route": route,
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
            **fields,
            "model": model,
            "key": state.get("key_name"),
            "reason": reason,
        }
        logger.info("answered", extra={"fields": facts})


def route_of(scope: Scope) -> str:
    """The template of the route that was taken, as `/models/{name}`."""
    path: str | None = getattr(scope.get("route"), "path", None)
    return path or OTHER_ROUTE


def _reason(status: int) -> str:
    """Where nobody gave one."""
    return reason_of(ServiceError.title if status == 500 else responses.get(status, str(status)))
