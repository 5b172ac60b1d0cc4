"""Decoding, the device and encoding work at the same time, for different requests."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service import segmenter
from service.app import create_app
from service.engines.torch_engine import TorchEngine
from tests.service.clients import async_client_for, finished, settings_for
from tests.service.colours import encoded, plain

STAGES = ("encode", "device", "decode")


class Meeting:
    """The first upload is kept in the last stage, the next in the one before, and the third in the
    first, until all three are there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there = {stage: threading.Event() for stage in STAGES}
        self._all = threading.Barrier(len(STAGES))
        self._seen = dict.fromkeys(STAGES, 0)
        run = TorchEngine.run

        def run_kept(engine: TorchEngine, *given: Any, **named: Any) -> Any:
            if not threading.current_thread().name.startswith("device"):  # a load tries it out
                return run(engine, *given, **named)
            return self._kept("device", lambda: run(engine, *given, **named))

        monkeypatch.setattr(TorchEngine, "run", run_kept)
        self._keep(monkeypatch, "decode", "decode")
        self._keep(monkeypatch, "encode", "indexed_png")

    def _keep(self, monkeypatch: pytest.MonkeyPatch, stage: str, name: str) -> None:
        work = getattr(segmenter, name)
        monkeypatch.setattr(segmenter, name, lambda *given: self._kept(stage, lambda: work(*given)))

    def _kept(self, stage: str, work: Callable[[], Any]) -> Any:
        self._seen[stage] += 1
        if self._seen[stage] == STAGES.index(stage) + 1:
            self.there[stage].set()
            self._all.wait(30)
        return work()


def test_every_stage_has_an_image_at_the_same_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = Meeting(monkeypatch)

    async def load() -> list[int]:
        async with async_client_for(create_app(settings_for(folder, threads=1))) as client:
            posts = []
            for stage in STAGES:
                content = encoded(plain(1, 40, 25))
                posts.append(asyncio.create_task(client.post("/segment", content=content)))
                there = meeting.there[stage]
                assert await asyncio.to_thread(there.wait, 30), f"nothing reaches {stage}"
            return [answer.status_code for answer in await asyncio.gather(*posts)]

    assert finished(load()) == [200, 200, 200]
