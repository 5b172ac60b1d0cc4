"""Log lines: text for people, one JSON object a line for programs.

Facts beside the message travel as `extra={"fields": {...}}`; both formats show them, and the id of
the request that a line belongs to. Whoever logs through the standard library, uvicorn too, comes
this way.
"""

import json
import logging
import random
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

LogFormat = Literal["text", "json"]

# The request that is being answered; each is a task of its own, which begins without.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

# whose level does not follow the root's: OpenVINO sets that to ERROR while it converts a network,
# and a service goes on answering when it loads another model
OURS = ("models", "service", "uvicorn")

# a line of a client's making must not look like one of ours
ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}


def new_request_id() -> str:
    """32 hexadecimal digits, which nobody has to keep from guessing: the system's own random
    numbers would cost the event loop Python's lock."""
    return f"{random.getrandbits(128):032x}"


def set_up_logging(level: str, log_format: LogFormat, stream: TextIO = sys.stderr) -> None:
    """Everything that is logged, and Python's warnings, goes to the stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if log_format == "text" else JSONFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())
    logging.captureWarnings(True)


class TextFormatter(logging.Formatter):
    """`12:00:00 message key=value`, then the traceback of an error, a little to the right: what an
    error says may have lines of a client's making."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as logging calls it
        facts = [super().formatMessage(record)]
        facts += [f"{key}={value}" for key, value in _facts(record).items() if value is not None]
        return " ".join(facts).translate(ESCAPES)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - as logging calls it
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"  {line.translate(ESCAPES)}" for line in lines)


class JSONFormatter(logging.Formatter):
    """`{"time": RFC 3339 in UTC, "level", "logger", "message", ...}`; absent facts are null."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts: dict[str, Any] = dict(getattr(record, "fields", {}))
    current = request_id.get()
    if current is not None:
        facts["request_id"] = current
    return facts
