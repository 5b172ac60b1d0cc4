"""Models that change while others ask: nothing is lost, nothing is mixed up."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import registry
from service.app import create_app
from service.engines.torch_engine import TorchEngine
from tests.service.answers import assert_answered_by
from tests.service.clients import (
    ADMIN_KEYS,
    AS_ADMIN,
    GOOD,
    assert_problem,
    async_client_for,
    finished,
    serving,
    settings_for,
)
from tests.service.scrape import parsed, value
from tests.service.spy import Spy


def asked(client: httpx.AsyncClient, **options: Any) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(client.post("/segment", content=GOOD, **options))


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
        self, three_models: Path, spy: Spy, limit: int
    ) -> None:
        async def swap() -> None:
            async with serving(three_models, max_loaded_models=limit) as client:
                spy.free.clear()
                before = asked(client)
                await until_set(spy.busy)
                swapped = await client.post("/models/other/activate")
                assert swapped.status_code == 200
                after = asked(client)
                await asyncio.sleep(0.1)
                assert not before.done()
                spy.free.set()
                assert_answered_by(await before, "colours")
                assert_answered_by(await after, "other")

        finished(swap())

    def test_an_upload_on_its_way_holds_no_model_back(self, three_models: Path) -> None:
        """However slowly it comes; the model that is active at its end answers it."""
        begun, rest = asyncio.Event(), asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield GOOD[:10]
            begun.set()
            await rest.wait()
            yield GOOD[10:]

        async def swap() -> None:
            async with serving(three_models, max_loaded_models=1) as client:
                slow = asyncio.create_task(client.post("/segment", content=body()))
                await begun.wait()
                for name in ("other", "third", "other"):
                    assert (await client.post(f"/models/{name}/activate")).status_code == 200
                rest.set()
                assert_answered_by(await slow, "other")

        finished(swap())

    def test_unloading_waits_for_the_last_answer(
        self, three_models: Path, spy: Spy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed: list[TorchEngine] = []
        close = TorchEngine.close

        def noted(engine: TorchEngine) -> None:
            closed.append(engine)
            close(engine)

        monkeypatch.setattr(TorchEngine, "close", noted)

        async def unload() -> None:
            async with serving(three_models) as client:
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
                assert_answered_by(await last, "other")
                assert (await unloading).status_code == 204
                assert len(closed) == 1

        finished(unload())

    def test_there_is_an_end_to_waiting_for_the_last_answer(
        self, three_models: Path, spy: Spy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is still in memory is counted, and a second call waits for it as well."""
        monkeypatch.setattr(registry, "DRAIN_S", 0.1)

        async def unload() -> None:
            async with serving(three_models) as client:
                await client.post("/models/other/load")
                spy.free.clear()
                last = asked(client, params={"model": "other"})
                await until_set(spy.busy)
                for _ in range(2):
                    refused = await client.post("/models/other/unload")
                    assert_problem(refused, 503, "'other' is asked nothing more")
                    assert await status_of(client, "other") == "available"
                series = parsed((await client.get("/metrics")).text)
                assert value(series, "draining_models") == 1
                assert value(series, "device_running_passes", model="other") == 1
                spy.free.set()
                assert_answered_by(await last, "other")
                assert (await client.post("/models/other/unload")).status_code == 204
                series = parsed((await client.get("/metrics")).text)
                assert value(series, "draining_models") == 0

        finished(unload())

    def test_a_pass_that_hangs_in_a_model_that_was_replaced_is_told(
        self, three_models: Path, spy: Spy
    ) -> None:
        async def hang() -> None:
            async with serving(three_models, max_loaded_models=1, device_timeout_s=0.2) as client:
                spy.free.clear()
                slow = asked(client)
                await until_set(spy.busy)
                assert (await client.post("/models/other/activate")).status_code == 200
                await asyncio.sleep(0.3)
                assert (await client.get("/healthz")).status_code == 503
                assert value(parsed((await client.get("/metrics")).text), "ready") == 0
                spy.free.set()
                assert_answered_by(await slow, "colours")
                assert (await client.get("/healthz")).status_code == 200

        finished(hang())

    def test_a_request_that_fails_gives_its_model_back(self, three_models: Path) -> None:
        async def fail() -> None:
            async with serving(three_models) as client:
                await client.post("/models/other/load")
                refused = await client.post("/segment?model=other", content=b"no image")
                assert_problem(refused, 400)
                assert (await client.post("/models/other/unload")).status_code == 204

        finished(fail())

    @pytest.mark.parametrize("limit", [1, 2])
    def test_swaps_under_load_lose_no_request(self, three_models: Path, limit: int) -> None:
        async def load() -> None:
            async with serving(three_models, max_loaded_models=limit) as client:
                over = asyncio.Event()
                answers: list[httpx.Response] = []

                async def ask() -> None:
                    while not over.is_set():
                        answers.append(await client.post("/segment", content=GOOD))

                asking = [asyncio.create_task(ask()) for _ in range(4)]
                for turn in range(6):
                    name = ("other", "colours")[turn % 2]
                    swapped = await client.post(f"/models/{name}/activate")
                    assert swapped.status_code == 200
                    assert_answered_by(await client.post("/segment", content=GOOD), name)
                over.set()
                await asyncio.gather(*asking)
                for answer in answers:
                    assert_answered_by(answer, "colours", "other")
                assert {answer.headers["x-model"] for answer in answers} == {"colours", "other"}

        finished(load())

    def test_the_others_answer_while_one_is_loaded(
        self, three_models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def load() -> None:
            async with serving(three_models) as client:
                loading = Loading(monkeypatch)
                change = asyncio.create_task(client.post("/models/other/activate"))
                await until_set(loading.begun)
                assert_answered_by(await client.post("/segment", content=GOOD), "colours")
                assert await status_of(client, "other") == "available"
                loading.free.set()
                assert (await change).status_code == 200

        finished(load())


class TestOneAtATime:
    def test_two_who_ask_for_one_model_load_it_once(
        self, three_models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def load() -> None:
            async with serving(three_models, max_loaded_models=3) as client:
                loading = Loading(monkeypatch)
                paths = [f"/models/{name}/load" for name in ("other", "third", "other")]
                changes = [asyncio.create_task(client.post(path)) for path in paths]
                await until_set(loading.begun)
                await asyncio.sleep(0.1)
                loading.free.set()
                done = [response.status_code for response in await asyncio.gather(*changes)]
                assert sorted(done) == [200, 201, 201]  # whichever of the two came first
                assert loading.most == 1

        finished(load())

    def test_a_change_goes_on_without_who_asked_for_it(
        self, three_models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def load() -> None:
            async with serving(three_models) as client:
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
        self, three_models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "MAX_WAITING", 2)

        async def load() -> None:
            async with serving(three_models) as client:
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
        self, three_models: Path, spy: Spy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else memory would follow the slowest request and not the limit."""
        monkeypatch.setattr(registry, "DRAIN_S", 0.1)

        async def load() -> None:
            async with serving(three_models, max_loaded_models=1) as client:
                spy.free.clear()
                slow = asked(client)
                await until_set(spy.busy)
                assert (await client.post("/models/other/activate")).status_code == 200
                refused = await client.post("/models/third/activate")
                assert_problem(refused, 503, "still answers")
                spy.free.set()
                assert_answered_by(await slow, "colours")
                assert (await client.post("/models/third/activate")).status_code == 200

        finished(load())

    def test_stopping_gives_up_what_is_being_loaded(
        self, three_models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def stop() -> None:
            app = create_app(settings_for(three_models, api_keys=ADMIN_KEYS))
            async with async_client_for(app, headers=AS_ADMIN) as client:
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
                assert_answered_by(await client.post("/segment", content=GOOD), "colours")

        finished(stop())
