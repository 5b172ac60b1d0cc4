"""A listing that takes long holds up nobody who wants something else."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from models import ListedCheckpoint, inspect_checkpoint
from service.app import create_app
from service.catalog import Catalog
from service.errors import OverloadedError
from service.listing import Listing
from tests.service.clients import GOOD, async_client_for, finished, serving, settings_for
from tests.service.colours import save_colours

MANY = 60  # more than the threads that the framework lends


class Reading:
    """Holds everybody who reads a checkpoint, but for those named `free`; counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *free: str) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.names: list[str] = []
        self._free = free
        monkeypatch.setattr("service.catalog.inspect_checkpoint", self._inspect)

    def _inspect(self, path: Path, **options: Any) -> ListedCheckpoint:
        self.names.append(path.stem)
        if path.stem not in self._free:
            self.begun.set()
            assert self.go_on.wait(30)
        return inspect_checkpoint(path, **options)


async def until_set(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 30)


def test_everything_else_answers_meanwhile(
    three_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading(monkeypatch, "third")

    async def ask() -> None:
        async with serving(three_models) as client:
            listings = [asyncio.create_task(client.get("/models")) for _ in range(MANY)]
            await until_set(reading.begun)
            assert (await client.post("/segment", content=GOOD)).status_code == 200
            for path in ("/readyz", "/healthz", "/metrics", "/", "/web/page.js", "/models/third"):
                assert (await client.get(path)).status_code == 200, path
            assert not any(listing.done() for listing in listings)
            reading.go_on.set()
            for listing in await asyncio.gather(*listings):
                assert [entry["status"] for entry in listing.json()["models"]] == [
                    "active",
                    "available",
                    "available",
                ]

    finished(ask())


def test_each_sees_what_lay_there_when_it_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading(monkeypatch)

    async def ask() -> None:
        async with serving(folder) as client:
            early = asyncio.create_task(client.get("/models"))
            await until_set(reading.begun)
            save_colours(folder / "later.pth")
            late = [asyncio.create_task(client.get("/models")) for _ in range(3)]
            await asyncio.sleep(0.1)
            reading.go_on.set()
            assert len((await early).json()["models"]) == 1
            for answer in await asyncio.gather(*late):
                assert [e["name"] for e in answer.json()["models"]] == ["colours", "later"]
        assert reading.names == ["colours", "later"]

    finished(ask())


def test_who_hangs_up_takes_no_listing_from_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading(monkeypatch)
    listing = Listing(Catalog(folder))

    async def ask() -> None:
        first = asyncio.create_task(listing.entries([], {}))
        await until_set(reading.begun)
        second, third = (asyncio.create_task(listing.entries([], {})) for _ in range(2))
        await asyncio.sleep(0)
        second.cancel()
        reading.go_on.set()
        assert [entry.name for entry in await first] == ["colours"]
        assert [entry.name for entry in await third] == ["colours"]

    try:
        finished(ask())
    finally:
        listing.close()


def test_after_stop_no_further_file_is_read(
    three_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process need not hash a folder before it ends."""
    reading = Reading(monkeypatch)
    listing = Listing(Catalog(three_models))

    async def ask() -> None:
        entries = asyncio.create_task(listing.entries([], {}))
        await until_set(reading.begun)
        listing.stop()
        reading.go_on.set()
        with pytest.raises(OverloadedError, match="stopping"):
            await entries

    try:
        finished(ask())
    finally:
        listing.close()
    assert len(reading.names) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_in_place_of_a_manifest_is_waited_for_by_nobody(folder: Path) -> None:
    save_colours(folder / "piped.pth")
    (folder / "piped.json").unlink()
    os.mkfifo(folder / "piped.json")

    async def ask() -> None:
        async with serving(folder) as client:
            entries = {e["name"]: e for e in (await client.get("/models")).json()["models"]}
            assert entries["piped"]["status"] == "invalid"
            assert entries["piped"]["reason"] == "piped.json: is not a regular file"

    finished(ask())


def test_a_scrape_that_hangs_holds_up_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a driver is asked for its memory and does not answer."""
    go_on = threading.Event()

    def hang() -> bytes:
        assert go_on.wait(30)
        return b""

    async def ask() -> None:
        app = create_app(settings_for(folder))
        monkeypatch.setattr(app.state.service.telemetry.metrics, "text", hang)
        async with async_client_for(app) as client:
            scrapes = [asyncio.create_task(client.get("/metrics")) for _ in range(MANY)]
            assert (await client.post("/segment", content=GOOD)).status_code == 200
            assert (await client.get("/")).status_code == 200
            go_on.set()
            assert {scrape.status_code for scrape in await asyncio.gather(*scrapes)} == {200}

    finished(ask())
