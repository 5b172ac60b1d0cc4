"""One line and one count for every answer."""

import json
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request

from service.app import create_app
from service.errors import ServiceError
from service.segmenter import Segmenter
from service.upload import Upload
from tests.service.clients import GOOD, Client, client_for, settings_for
from tests.service.scrape import scraped, value
from tests.service.server import launch


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, Any]]]:
    """The facts of every access line from here on."""
    found: list[dict[str, Any]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.__dict__["fields"])

    logger, handler = logging.getLogger("service.telemetry.access"), Handler()
    logger.addHandler(handler)
    with caplog.at_level(logging.INFO, logger="service"):
        yield found
    logger.removeHandler(handler)


def test_a_line_says_what_was_asked_and_answered(
    client: Client, lines: list[dict[str, Any]]
) -> None:
    response = client.post("/segment", content=GOOD)
    [line] = lines
    assert (line["method"], line["route"], line["status"]) == ("POST", "/segment", 200)
    assert line["bytes"] == len(response.content)
    assert line["duration_ms"] > 0
    assert line["model"] == "colours"
    assert (line["key"], line["reason"], line["trace_id"]) == (None, None, None)


@pytest.mark.parametrize(
    ("method", "path", "content", "route", "status", "reason"),
    [
        ("GET", "/wp-login.php", None, "other", 404, "not_found"),
        ("GET", "/segment", None, "/segment", 405, "method_not_allowed"),
        ("GET", "/models/absent", None, "/models/{name}", 404, "unknown_model"),
        ("POST", "/segment", b"no image", "/segment", 400, "not_an_image"),
        ("POST", "/segment", bytes(200_000), "/segment", 413, "too_large"),
        ("POST", "/segment?output=gif", GOOD, "/segment", 422, "invalid_request"),
    ],
)
def test_a_refusal_has_a_reason(
    client: Client,
    lines: list[dict[str, Any]],
    method: str,
    path: str,
    content: bytes | None,
    route: str,
    status: int,
    reason: str,
) -> None:
    before = value(scraped(client), "rejections_total", reason=reason) or 0
    lines.clear()
    client.request(method, path, content=content)
    [line] = lines
    assert (line["route"], line["status"], line["reason"]) == (route, status, reason)
    assert value(scraped(client), "rejections_total", reason=reason) == before + 1


def test_whatever_paths_are_tried_there_are_no_more_series(client: Client) -> None:
    client.get("/first")
    before = len(scraped(client))
    for number in range(20):
        client.get(f"/{number}")
        client.get(f"/models/{number}")
    after = len(scraped(client))
    assert after - before < 40  # a histogram for the route of /models, the first time


def test_an_image_of_a_batch_is_refused_for_its_own_reason(client: Client) -> None:
    before = value(scraped(client), "rejections_total", reason="not_an_image") or 0
    files = [("file", ("a", GOOD)), ("file", ("b", b"no image"))]
    assert client.post("/segment/batch", files=files).status_code == 200
    assert value(scraped(client), "rejections_total", reason="not_an_image") == before + 1


def test_an_unexpected_error_is_a_500_with_its_id_in_the_log(
    folder: Path,
    lines: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def stumbling(segmenter: Segmenter, upload: Upload, *, image: int) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(Segmenter, "segment", stumbling)
    with client_for(create_app(settings_for(folder))) as client:
        response = client.post("/segment", content=GOOD)
        series = scraped(client)
    assert response.status_code == 500
    assert "secret" not in response.text
    line = next(line for line in lines if line["route"] == "/segment")
    assert (line["status"], line["reason"]) == (500, "internal_error")
    labels = {"route": "/segment", "model": "colours", "status": "500"}
    assert value(series, "requests_total", **labels) == 1
    [error] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert error.exc_info is not None
    assert value(series, "requests_in_flight") == 1  # the scrape itself


def test_the_name_of_the_key_is_told(folder: Path, lines: list[dict[str, Any]]) -> None:
    app = create_app(settings_for(folder))

    @app.get("/keyed")
    async def keyed(request: Request) -> None:
        request.state.key_name = "lab"
        raise ServiceError("refused", reason="a_reason")

    with client_for(app) as client:
        client.get("/keyed")
    [line] = lines
    assert (line["key"], line["reason"]) == ("lab", "a_reason")


def test_a_log_in_json_is_nothing_but_json(served_folder: Path) -> None:
    """The server's own lines too."""
    server = launch(
        *("--checkpoints", served_folder, "--port", "0", "--device", "cpu", "--engine", "torch"),
        *("--precision", "float32", "--batch-pixels", "1024"),
        SERVICE_LOG_FORMAT="json",
    )
    server.wait_until_listening()
    response = httpx.post(
        f"{server.url}/segment?x=1", content=GOOD, headers={"X-Request-ID": "abc"}, timeout=60
    )
    assert response.status_code == 200
    assert server.stop(signal.SIGTERM) == 0
    entries = [json.loads(line) for line in server.log]
    assert {"uvicorn.error", "service"} <= {entry["logger"] for entry in entries}
    [access] = [entry for entry in entries if entry["logger"] == "service.telemetry.access"]
    assert access["request_id"] == "abc"
    assert (access["route"], access["status"], access["level"]) == ("/segment", 200, "info")
