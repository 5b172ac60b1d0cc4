"""`python -m service`: reads the settings, loads the checkpoint, serves."""

import logging
import shlex
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType

import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliApp

from service.app import create_app
from service.errors import StartupError
from service.protocol import BoundedProtocol
from service.security.command import run_keys
from service.security.exposure import is_loopback
from service.settings import Settings
from service.telemetry.logs import set_up_logging
from service.telemetry.tracing import find_tracing

logger = logging.getLogger("service")

EXAMPLE = Path(__file__).resolve().parents[1] / "docs" / "cat.jpg"


class Server(uvicorn.Server):
    """Says where it listens and what to try, once it does; gives up loads when it is to stop."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.service.registry.stop()  # type: ignore[union-attr]
        super().handle_exit(sig, frame)

    def __init__(self, config: uvicorn.Config, *, is_guarded: bool) -> None:
        super().__init__(config)
        self._curl = 'curl -H "Authorization: Bearer $KEY"' if is_guarded else "curl"

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


def main() -> int:
    """Exit status: 0 after a clean stop, 2 for settings or a checkpoint that cannot be served."""
    if sys.argv[1:2] == ["keys"]:
        return run_keys(sys.argv[2:])
    try:
        settings = CliApp.run(Settings)
    except ValidationError as error:
        for entry in error.errors(include_url=False):
            option = str(entry["loc"][0]).replace("_", "-") if entry["loc"] else "settings"
            message = f"error: --{option}: {entry['msg']} (got {entry['input']!r})\n"
            sys.stderr.write(message)
        return 2
    set_up_logging(settings.log_level, settings.log_format)
    # what files say would be printed, and each sentence kept, so that it is printed only once
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        app = create_app(settings, spans=find_tracing())
    except StartupError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    is_guarded = app.state.access.guards
    if not is_guarded and not is_loopback(settings.host):
        logger.warning("--insecure: whoever reaches %s may use this service", settings.host)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
    )
    server = Server(config, is_guarded=is_guarded)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # uvicorn raises it once more when it has stopped
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
