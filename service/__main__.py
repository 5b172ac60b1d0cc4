"""`python -m service`: reads the settings, loads the checkpoint, serves."""

import gc
import logging
import sys
import warnings

from pydantic import ValidationError
from pydantic_settings import CliApp

from models.devices import share_freed_memory
from service.app import create_app
from service.errors import StartupError
from service.security.command import run_keys
from service.security.exposure import is_loopback
from service.server import serve
from service.settings import Settings
from service.telemetry.logs import set_up_logging
from service.telemetry.tracing import find_tracing

logger = logging.getLogger("service")


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
    share_freed_memory()
    # what files say would be printed, and each sentence kept, so that it is printed only once
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        app = create_app(settings, spans=find_tracing())
    except StartupError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if not app.state.access.guards and not is_loopback(settings.host):
        logger.warning("--insecure: whoever reaches %s may use this service", settings.host)
    # what was made so far stays, most of it code. The garbage collector would look through all of
    # it time and again, for a fifth of a second in which nothing else goes on
    gc.collect()
    gc.freeze()
    return 0 if serve(app, settings) else 1


if __name__ == "__main__":
    sys.exit(main())
