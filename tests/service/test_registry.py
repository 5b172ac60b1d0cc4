"""Models that change while others ask: nothing is lost, nothing is mixed up, nothing is kept."""

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.unet import UNet
from service import registry
from service.app import create_app
from service.engines.torch_engine import TorchEngine
from tests.service.answers import classes_of
from tests.service.clients import GOOD, assert_problem, async_client_for, finished, settings_for
from tests.service.colours import save_colours
from tests.service.spy import Spy

SAYS = {"colours": "red", "other": "green", "third": "blue"}  # of an image that is red


@pytest.fixture
def models(folder: Path) -> Path:
    """Three models, told apart by what they say of red."""
    for shift, name in enumerate(SAYS):
        save_colours(folder / f"{name}.pth", shift=shift)
    return folder


@asynccontextmanager
async def serving(folder: Path, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with async_client_for(create_app(settings_for(folder, **changes))) as client:
        yield client


def asked(client: httpx.AsyncClient, **options: Any) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(client.post("/segment", content=GOOD, **options))


def assert_right(response: httpx.Response, *models: str) -> None:
    """Answered by one of `models`, by it alone."""
    name = response.headers["x-model"]
    assert name in models
    assert response.json()["model"] == name
    assert classes_of(response) == [SAYS[name]]


async def until_set(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 30)


async def status_of(client: httpx.AsyncClient, name: str) -> str:
    entries = (await client.get("/models")).json()["models"]
    found: str = next(entry["status"] for entry in entries if entry["name"] == name)
    return found


class Loading:
    """Holds every load at its warm-up; counts those that are under way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.free = threading.Event(), threading.Event()
        self.under_way = self.most = self.count = 0
        monkeypatch.setattr(TorchEngine, "warm_up", self._warm_up)

    def _warm_up(self, count: int) -> None:
        self.under_way += 1
        self.count += 1
        self.most = max(self.most, self.under_way)
        self.begun.set()
        assert self.free.wait(30)
        self.under_way -= 1


class TestRequestsAndChanges:
    @pytest.mark.parametrize("limit", [1, 2])
    def test_what_began_with_the_old_one_is_answered_by_it(
        self, models: Path, spy: Spy, limit: int
    ) -> None:
        async def swap() -> None:
            async with serving(models, max_loaded_models=limit) as client:
                spy.free.clear()
                before = asked(client)
                await until_set(spy.busy)
                swapped = await client.post("/models/other/activate")
                assert swapped.status_code == 200
                after = asked(client)
                await asyncio.sleep(0.1)
                assert not before.done()
                spy.free.set()
                assert_right(await before, "colours")
                assert_right(await after, "other")

        finished(swap())

    def test_a_request_keeps_its_model_while_its_body_arrives(self, models: Path) -> None:
        begun, rest = asyncio.Event(), asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield GOOD[:10]
            begun.set()
            await rest.wait()
            yield GOOD[10:]

        async def swap() -> None:
            async with serving(models, max_loaded_models=1) as client:
                slow = asyncio.create_task(client.post("/segment", content=body()))
                await begun.wait()
                assert (await client.post("/models/other/activate")).status_code == 200
                rest.set()
                assert_right(await slow, "colours")

        finished(swap())

    def test_unloading_waits_for_the_last_answer(
        self, models: Path, spy: Spy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed: list[TorchEngine] = []
        close = TorchEngine.close

        def noted(engine: TorchEngine) -> None:
            closed.append(engine)
            close(engine)

        monkeypatch.setattr(TorchEngine, "close", noted)

        async def unload() -> None:
            async with serving(models) as client:
                await client.post("/models/other/load")
                spy.free.clear()
                last = asked(client, params={"model": "other"})
                await until_set(spy.busy)
                unloading = asyncio.create_task(client.post("/models/other/unload"))
                await asyncio.sleep(0.1)
                late = await client.post("/segment", params={"model": "other"}, content=GOOD)
                assert_problem(late, 404, "'other' is not loaded")
                assert not unloading.done()
                assert not closed
                spy.free.set()
                assert_right(await last, "other")
                assert (await unloading).status_code == 204
                assert len(closed) == 1

        finished(unload())

    def test_a_request_that_fails_gives_its_model_back(self, models: Path) -> None:
        async def fail() -> None:
            async with serving(models) as client:
                await client.post("/models/other/load")
                refused = await client.post("/segment?model=other", content=b"no image")
                assert_problem(refused, 400)
                assert (await client.post("/models/other/unload")).status_code == 204

        finished(fail())

    @pytest.mark.parametrize("limit", [1, 2])
    def test_swaps_under_load_lose_no_request(self, models: Path, limit: int) -> None:
        async def load() -> None:
            async with serving(models, max_loaded_models=limit) as client:
                over = asyncio.Event()
                answers: list[httpx.Response] = []

                async def ask() -> None:
                    while not over.is_set():
                        answers.append(await client.post("/segment", content=GOOD))

                asking = [asyncio.create_task(ask()) for _ in range(4)]
                for turn in range(8):
                    name = ("other", "colours")[turn % 2]
                    swapped = await client.post(f"/models/{name}/activate")
                    assert swapped.status_code == 200
                    assert_right(await client.post("/segment", content=GOOD), name)
                over.set()
                await asyncio.gather(*asking)
                for answer in answers:
                    assert_right(answer, "colours", "other")
                assert {answer.headers["x-model"] for answer in answers} == {"colours", "other"}

        finished(load())

    def test_the_others_answer_while_one_is_loaded(
        self, models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def load() -> None:
            async with serving(models) as client:
                loading = Loading(monkeypatch)
                change = asyncio.create_task(client.post("/models/other/activate"))
                await until_set(loading.begun)
                assert_right(await client.post("/segment", content=GOOD), "colours")
                assert await status_of(client, "other") == "available"
                loading.free.set()
                assert (await change).status_code == 200

        finished(load())


class TestOneAtATime:
    def test_two_who_ask_for_one_model_load_it_once(
        self, models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def load() -> None:
            async with serving(models, max_loaded_models=3) as client:
                loading = Loading(monkeypatch)
                paths = [f"/models/{name}/load" for name in ("other", "third", "other")]
                changes = [asyncio.create_task(client.post(path)) for path in paths]
                await until_set(loading.begun)
                await asyncio.sleep(0.1)
                loading.free.set()
                done = [response.status_code for response in await asyncio.gather(*changes)]
                assert done == [201, 201, 200]
                assert loading.most == 1

        finished(load())

    def test_a_change_goes_on_without_who_asked_for_it(
        self, models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def load() -> None:
            async with serving(models) as client:
                loading = Loading(monkeypatch)
                change = asyncio.create_task(client.post("/models/other/load"))
                await until_set(loading.begun)
                change.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await change
                loading.free.set()
                assert (await client.post("/models/other/load")).status_code == 200

        finished(load())

    def test_too_many_changes_are_refused(
        self, models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "MAX_WAITING", 2)

        async def load() -> None:
            async with serving(models) as client:
                loading = Loading(monkeypatch)
                change = asyncio.create_task(client.post("/models/other/load"))
                await until_set(loading.begun)
                second = asyncio.create_task(client.post("/models/other/load"))
                await asyncio.sleep(0.1)
                assert_problem(await client.post("/models/other/load"), 503, "2 changes")
                loading.free.set()
                done = await asyncio.gather(change, second)
                assert [response.status_code for response in done] == [201, 200]

        finished(load())

    def test_nothing_is_loaded_while_what_was_replaced_still_answers(
        self, models: Path, spy: Spy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else memory would follow the slowest request and not the limit."""
        monkeypatch.setattr(registry, "DRAIN_S", 0.1)

        async def load() -> None:
            async with serving(models, max_loaded_models=1) as client:
                spy.free.clear()
                slow = asked(client)
                await until_set(spy.busy)
                assert (await client.post("/models/other/activate")).status_code == 200
                refused = await client.post("/models/third/activate")
                assert_problem(refused, 503, "still answers")
                spy.free.set()
                assert_right(await slow, "colours")
                assert (await client.post("/models/third/activate")).status_code == 200

        finished(load())

    def test_stopping_gives_up_what_is_being_loaded(
        self, models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def stop() -> None:
            app = create_app(settings_for(models))
            async with async_client_for(app) as client:
                loading = Loading(monkeypatch)
                loads = [
                    asyncio.create_task(client.post(f"/models/{name}/load"))
                    for name in ("other", "third")
                ]
                await until_set(loading.begun)
                app.state.service.registry.stop()
                loading.free.set()
                for load in loads:
                    assert_problem(await load, 503, "stopping")
                assert loading.count == 1
                assert_right(await client.post("/segment", content=GOOD), "colours")

        finished(stop())


class Kept:
    """Which engines and networks are in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: type[Any]) -> None:
        self.engines: list[weakref.ref[Any]] = []
        self.networks: list[weakref.ref[Any]] = []
        for kind, seen in ((engine, self.engines), (UNet, self.networks)):
            monkeypatch.setattr(kind, "__init__", noting(kind, seen))

    def count(self) -> tuple[int, int]:
        gc.collect()
        engines = [seen for seen in self.engines if seen() is not None]
        networks = [seen for seen in self.networks if seen() is not None]
        return len(engines), len(networks)


def noting(kind: type[Any], seen: list[weakref.ref[Any]]) -> Any:
    original = kind.__init__

    def made(self: Any, *arguments: Any, **options: Any) -> None:
        seen.append(weakref.ref(self))
        original(self, *arguments, **options)

    return made


class TestMemory:
    def test_nothing_of_an_unloaded_model_is_kept(
        self, models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = Kept(monkeypatch, TorchEngine)

        async def swap() -> None:
            async with serving(models, max_loaded_models=1) as client:
                assert kept.count() == (1, 1)
                for name in ("other", "third", "other", "colours"):
                    assert (await client.post(f"/models/{name}/activate")).status_code == 200
                    assert_right(await client.post("/segment", content=GOOD), name)
                save_colours(models / "colours.pth", shift=1)
                assert (await client.post("/models/colours/load")).status_code == 201
                # the next change waits for the memory of the last
                assert (await client.post("/models/colours/load")).status_code == 200
                assert kept.count() == (1, 1)

        finished(swap())
        assert kept.count()[1] == 0

    def test_nothing_of_a_failed_load_is_kept(
        self, models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.CRITICAL, "service.loader")  # captured records keep what they log
        kept = Kept(monkeypatch, TorchEngine)

        async def fail() -> None:
            async with serving(models) as client:
                with monkeypatch.context() as patch:
                    patch.setattr(TorchEngine, "warm_up", lambda engine, count: 1 / 0)
                    for _ in range(3):
                        refused = await client.post("/models/other/load")
                        assert_problem(refused, 422)
                assert kept.count() == (1, 1)

        finished(fail())

    @pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
    def test_nothing_of_an_unloaded_openvino_model_is_kept(
        self, models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from service.engines import openvino_engine

        kept = Kept(monkeypatch, openvino_engine.OpenVINOEngine)
        passes: list[weakref.ref[Any]] = []
        requests = openvino_engine._Requests
        monkeypatch.setattr(requests, "__init__", noting(requests, passes))

        async def swap() -> None:
            async with serving(models, engine="openvino") as client:
                assert kept.count() == (1, 0)  # the network lives on in the engine's own form
                before = len(passes)
                assert (await client.post("/models/other/load")).status_code == 201
                assert_right(await client.post("/segment?model=other", content=GOOD), "other")
                assert kept.count() == (2, 0)
                assert (await client.post("/models/other/unload")).status_code == 204
                assert kept.count() == (1, 0)
                assert {seen() for seen in passes[before:]} == {None}

        finished(swap())
