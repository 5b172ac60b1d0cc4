"""The process around the app: it listens, says so, and stops without losing anything."""

import logging
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.connection import Connections
from service.dependencies import State
from service.settings import Settings

logger = logging.getLogger("service")

EXAMPLE = Path(__file__).resolve().parents[1] / "docs" / "cat.jpg"
OTHER_FILES = 128  # libraries, logs, checkpoints: what is open beside connections
CLOSING_SHARE = 0.2  # of the time to stop in, for what comes after the last answer


class Server(uvicorn.Server):
    """Says where it listens and what to try, once it does.

    A signal to stop lets no new work begin, and the port stays open until what was begun is
    answered: `/readyz` says 503 meanwhile, so that traffic goes elsewhere. A second one stops at
    once.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._state: State = app.state.service
        self._settings = settings
        self._stop_by: float | None = None  # of time.monotonic
        is_guarded = app.state.access.guards
        self._curl = 'curl -H "Authorization: Bearer $KEY"' if is_guarded else "curl"
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=Connections(
                    _openable(settings.max_connections),
                    on_refusal=self._state.telemetry.metrics.rejected,
                ),  # type: ignore[arg-type]
                ws="none",
                # whom a proxy speaks for is believed where the proxy is named, and nowhere else:
                # on loopback, which uvicorn would believe, anybody may be
                proxy_headers=bool(os.environ.get("FORWARDED_ALLOW_IPS")),
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._state.stop()
        if self._stop_by is not None:
            self.should_exit = self.force_exit = True
            return
        limit_s = self._settings.drain_timeout_s
        self.should_exit = not self.started  # there is nothing to be answered yet
        self._stop_by = time.monotonic() + (1 - CLOSING_SHARE) * limit_s
        # from a thread of its own: whatever is stuck, the process ends
        timer = threading.Timer(limit_s, _end, args=[limit_s])
        timer.daemon = True
        timer.start()

    async def on_tick(self, counter: int) -> bool:
        if self._stop_by is not None:
            left_s = max(0.0, self._stop_by - time.monotonic())
            if not left_s or not self._state.admission.visitors:
                self.config.timeout_graceful_shutdown = left_s  # type: ignore[assignment]
                self.should_exit = True
        return await super().on_tick(counter)

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.should_exit or not self.servers:
            return
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        photo = EXAMPLE if EXAMPLE.exists() else Path("photo.jpg")
        logger.info("listening on %s (page at %s/, API at %s/docs); try:", url, url, url)
        logger.info("  %s -F %s %s/segment", self._curl, shlex.quote(f"file=@{photo}"), url)
        logger.info(
            "  %s -F %s -H 'Accept: image/png' -o mask.png %s/segment",
            self._curl,
            shlex.quote(f"file=@{photo}"),
            url,
        )


def serve(app: FastAPI, settings: Settings) -> bool:
    """Until a signal; whether it could listen at all."""
    server = Server(app, settings)
    for number in (signal.SIGINT, signal.SIGTERM):
        # before uvicorn does, and for when it has stopped: it raises the signal once more then
        signal.signal(number, server.handle_exit)
    server.run()
    return server.started


def _openable(connections: int) -> int:
    """As many as are wanted, or as the system allows: a process may raise its limit that far."""
    if sys.platform == "win32":
        return connections
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        logger.warning("--max-connections %d: the system allows %d files", connections, allowed)
    return max(1, allowed - OTHER_FILES)


def _end(limit_s: float) -> None:
    """Status 1: something that was accepted was not answered."""
    logger.critical("not stopped within %g s; ending", limit_s)
    logging.shutdown()
    os._exit(1)
