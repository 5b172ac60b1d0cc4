"""What is left of a model that was unloaded: nothing."""

import gc
import logging
import weakref
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from models.unet import UNet
from service.engines.torch_engine import TorchEngine
from tests.service.answers import assert_answered_by
from tests.service.clients import GOOD, assert_problem, finished, serving
from tests.service.colours import save_colours


class Kept:
    """Which engines and networks are in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: type[Any]) -> None:
        self.engines: list[weakref.ref[Any]] = []
        self.networks: list[weakref.ref[Any]] = []
        for kind, way, seen in (
            (engine, "__init__", self.engines),
            (UNet, "__init__", self.networks),
            (UNet, "__setstate__", self.networks),  # copies
        ):
            monkeypatch.setattr(kind, way, noting(getattr(kind, way), seen))

    def count(self) -> tuple[int, int]:
        gc.collect()
        engines = [seen for seen in self.engines if seen() is not None]
        networks = [seen for seen in self.networks if seen() is not None]
        return len(engines), len(networks)


def noting(original: Any, seen: list[weakref.ref[Any]]) -> Any:
    def made(self: Any, *arguments: Any, **options: Any) -> None:
        seen.append(weakref.ref(self))
        original(self, *arguments, **options)

    return made


class TestMemory:
    def test_nothing_of_an_unloaded_model_is_kept(
        self, three_models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = Kept(monkeypatch, TorchEngine)

        async def swap() -> None:
            async with serving(three_models, max_loaded_models=1) as client:
                assert kept.count() == (1, 1)
                for name in ("other", "third", "other", "colours"):
                    assert (await client.post(f"/models/{name}/activate")).status_code == 200
                    assert_answered_by(await client.post("/segment", content=GOOD), name)
                save_colours(three_models / "colours.pth", shift=1)
                assert (await client.post("/models/colours/load")).status_code == 201
                # the next change waits for the memory of the last
                assert (await client.post("/models/colours/load")).status_code == 200
                assert kept.count() == (1, 1)

        finished(swap())
        assert kept.count()[1] == 0

    def test_nothing_of_a_failed_load_is_kept(
        self, three_models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.CRITICAL, "service.loader")  # captured records keep what they log
        kept = Kept(monkeypatch, TorchEngine)

        async def fail() -> None:
            async with serving(three_models) as client:
                with monkeypatch.context() as patch:
                    patch.setattr(TorchEngine, "warm_up", lambda engine, count: 1 / 0)
                    for _ in range(3):
                        refused = await client.post("/models/other/load")
                        assert_problem(refused, 422)
                assert kept.count() == (1, 1)

        finished(fail())

    @pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
    def test_nothing_of_an_unloaded_openvino_model_is_kept(
        self, three_models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from service.engines import openvino_engine

        kept = Kept(monkeypatch, openvino_engine.OpenVINOEngine)
        passes: list[weakref.ref[Any]] = []
        requests = openvino_engine._Requests
        monkeypatch.setattr(requests, "__init__", noting(requests.__init__, passes))

        async def swap() -> None:
            async with serving(three_models, engine="openvino") as client:
                assert kept.count() == (1, 0)  # the network lives on in the engine's own form
                before = len(passes)
                assert (await client.post("/models/other/load")).status_code == 201
                assert_answered_by(await client.post("/segment?model=other", content=GOOD), "other")
                assert kept.count() == (2, 0)
                assert (await client.post("/models/other/unload")).status_code == 204
                assert kept.count() == (1, 0)
                assert {seen() for seen in passes[before:]} == {None}

        finished(swap())
