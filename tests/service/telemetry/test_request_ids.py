"""Whatever thread writes a line of a request, the line has the request's id."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.engines.torch_engine import TorchEngine
from service.telemetry.logs import JSONFormatter
from tests.service.clients import GOOD, finished, serving
from tests.service.colours import encoded, plain
from tests.service.spy import Spy


@pytest.fixture
def ids() -> Iterator[dict[str, str | None]]:
    """Request ids of the lines from here on, by their messages."""
    found: dict[str, str | None] = {}

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            entry = json.loads(JSONFormatter().format(record))
            found[entry["message"]] = entry.get("request_id")

    handler = Handler()
    logging.getLogger("service").addHandler(handler)
    yield found
    logging.getLogger("service").removeHandler(handler)


def test_a_network_that_fails(folder: Path, spy: Spy, ids: dict[str, str | None]) -> None:
    spy.failing_paint = plain(1, 1, 1)[0, 0].tolist()

    async def fail() -> None:
        async with serving(folder) as client:
            headers = {"X-Request-ID": "FINDME"}
            image = encoded(plain(1, 32, 32))
            assert (await client.post("/segment", content=image, headers=headers)).is_error
            assert (await client.post("/segment", content=encoded(plain(2, 9, 9)))).is_success

    finished(fail())
    assert ids["the network failed on an image"] == "FINDME"


def test_a_load_that_fails(
    three_models: Path, monkeypatch: pytest.MonkeyPatch, ids: dict[str, str | None]
) -> None:
    def fail(engine: TorchEngine, count: int) -> None:
        raise ValueError("no kernel for this")

    async def load() -> None:
        async with serving(three_models) as client:
            monkeypatch.setattr(TorchEngine, "warm_up", fail)
            headers = {"X-Request-ID": "FINDME"}
            assert (await client.post("/models/other/load", headers=headers)).status_code == 422
            monkeypatch.undo()
            assert (await client.post("/segment", content=GOOD)).status_code == 200

    finished(load())
    assert ids["loading other failed"] == "FINDME"
