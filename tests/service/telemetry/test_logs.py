"""Log lines, for people and for programs."""

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from service.telemetry.logs import (
    OURS,
    JSONFormatter,
    LogFormat,
    TextFormatter,
    request_id,
    set_up_logging,
)


def record(message: str, *arguments: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("service.app", logging.WARNING, "app.py", 1, message, arguments, None)
    made.__dict__["fields"] = fields
    return made


def failed() -> logging.LogRecord:
    try:
        raise RuntimeError("the device\nstumbled")
    except RuntimeError:
        made = record("a pass failed")
        made.exc_info = sys.exc_info()
        return made


def test_a_line_of_json_has_the_message_and_the_facts() -> None:
    line = JSONFormatter().format(record("%d passes", 3, status=200, model=None))
    entry: dict[str, Any] = json.loads(line)
    assert entry["message"] == "3 passes"
    assert (entry["level"], entry["logger"]) == ("warning", "service.app")
    assert (entry["status"], entry["model"]) == (200, None)
    assert datetime.fromisoformat(entry["time"]).tzinfo is not None
    assert "request_id" not in entry


def test_whatever_is_said_in_a_request_has_its_id() -> None:
    token = request_id.set("abc")
    try:
        assert json.loads(JSONFormatter().format(record("m")))["request_id"] == "abc"
        assert TextFormatter().format(record("m")).endswith(" m request_id=abc")
    finally:
        request_id.reset(token)


@pytest.mark.parametrize("formatter", [JSONFormatter(), TextFormatter()])
def test_a_client_cannot_write_a_line(formatter: logging.Formatter) -> None:
    line = formatter.format(record("%s", "a\n12:00:00 all is well\u2028\x1b[2J", key="k\r\nl"))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line


def test_a_traceback_is_within_the_line_of_json_and_below_the_line_of_text() -> None:
    entry = json.loads(JSONFormatter().format(failed()))
    assert entry["traceback"].startswith("Traceback")
    assert "the device\nstumbled" in entry["traceback"]
    first, *below = TextFormatter().format(failed()).splitlines()
    assert first.endswith("a pass failed")
    assert below[0].startswith("  Traceback")
    assert all(line.startswith("  ") for line in below), "what an error says makes no line of ours"


def test_text_leaves_out_what_is_not_known() -> None:
    line = TextFormatter().format(record("answered", status=200, model=None, key="lab"))
    assert line.partition(" ")[2] == "answered status=200 key=lab"


@pytest.fixture
def levels_kept() -> Iterator[None]:
    loggers = [logging.root, *(logging.getLogger(name) for name in OURS)]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def logged(
    monkeypatch: pytest.MonkeyPatch, log_format: LogFormat, *, level_of_root: int | None = None
) -> str:
    """A line as it is written where nobody else has set up the root logger."""
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging, "captureWarnings", lambda capture: None)
    stream = io.StringIO()
    set_up_logging("info", log_format, stream)
    if level_of_root is not None:
        logging.root.setLevel(level_of_root)
    logging.getLogger("service").info("some words")
    return stream.getvalue()


@pytest.mark.usefixtures("levels_kept")
def test_people_read_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(r"\d\d:\d\d:\d\d some words\n", logged(monkeypatch, "text"))


@pytest.mark.usefixtures("levels_kept")
def test_programs_read_json(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(logged(monkeypatch, "json"))["message"] == "some words"


@pytest.mark.usefixtures("levels_kept")
def test_nothing_is_lost_while_openvino_converts_a_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It sets the root logger's level meanwhile."""
    assert "some words" in logged(monkeypatch, "text", level_of_root=logging.ERROR)
