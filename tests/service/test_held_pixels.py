"""Decoded pixels are held no longer than they are needed, whatever becomes of their image."""

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
import torch

from service import codec, segmenter, upload
from service.app import create_app
from service.budget import PixelBudget
from service.engines.torch_engine import TorchEngine
from service.render import indexed_png
from tests.service.clients import (
    assert_problem,
    async_client_for,
    client_for,
    finished,
    settings_for,
)
from tests.service.colours import (
    colour_manifest,
    encoded,
    picture_of,
    plain,
    save_colours,
)


class Device:
    """Holds the engine until it is let go; notes the units that it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.busy, self.free = threading.Event(), threading.Event()
        self.failing = False
        self.units: list[weakref.ref[torch.Tensor]] = []
        original = TorchEngine.run

        def run(engine: TorchEngine, pixels: torch.Tensor, *, alone: bool) -> torch.Tensor:
            if not threading.current_thread().name.startswith("device"):  # a load tries it out
                return original(engine, pixels, alone=alone)
            self.units += [weakref.ref(pixels)] * len(pixels)
            self.busy.set()
            assert self.free.wait(30)
            if self.failing:
                raise RuntimeError("the device stumbled")
            return original(engine, pixels, alone=alone)

        monkeypatch.setattr(TorchEngine, "warm_up", lambda engine, count: None)
        monkeypatch.setattr(TorchEngine, "run", run)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


@pytest.fixture
def decoded_pixels(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pixels each upload decoded so far has."""
    counts: list[int] = []
    decode = upload.decode

    def noting(sent: upload.Upload, header: upload.Header) -> torch.Tensor:
        pixels = decode(sent, header)
        counts.append(pixels.shape[1] * pixels.shape[2])
        return pixels

    monkeypatch.setattr(segmenter, "decode", noting)
    return counts


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other threads
            await asyncio.sleep(0.01)


async def post(client: httpx.AsyncClient, content: bytes) -> httpx.Response:
    return await client.post("/segment", content=content)


class TestMemory:
    CONTENT = encoded(plain(1, 40, 25))  # 1000 pixels

    def test_pixels_waiting_for_the_device_are_within_the_budget(
        self, tiled_folder: Path, device: Device, decoded_pixels: list[int]
    ) -> None:
        async def load() -> None:
            settings = settings_for(tiled_folder, max_pixels=2500)
            async with async_client_for(create_app(settings)) as client:
                posts = [asyncio.create_task(post(client, self.CONTENT)) for _ in range(8)]
                await asyncio.to_thread(device.busy.wait, 30)
                await until(lambda: len(decoded_pixels) >= 2)
                await asyncio.sleep(0.3)
                assert sum(decoded_pixels) == 2000  # one with the device, one in the queue
                device.free.set()
                assert [r.status_code for r in await asyncio.gather(*posts)] == [200] * 8

        finished(load())
        assert len(decoded_pixels) == 8

    def test_resized_images_wait_without_their_pixels(
        self, folder: Path, device: Device, decoded_pixels: list[int]
    ) -> None:
        async def load() -> None:
            settings = settings_for(folder, max_pixels=2500)
            async with async_client_for(create_app(settings)) as client:
                posts = [asyncio.create_task(post(client, self.CONTENT)) for _ in range(8)]
                await asyncio.to_thread(device.busy.wait, 30)
                await until(lambda: len(decoded_pixels) == 8)
                device.free.set()
                assert [r.status_code for r in await asyncio.gather(*posts)] == [200] * 8

        finished(load())

    @pytest.mark.parametrize("mode", ["resize", "tile"])
    def test_a_mask_is_encoded_without_the_pixels(
        self, mode: Literal["resize", "tile"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = colour_manifest().input.model_copy(update={"mode": mode})
        save_colours(tmp_path / "colours.pth", input=spec)
        budgets: list[PixelBudget] = []
        held: list[int] = []

        def made(largest: int) -> PixelBudget:
            budgets.append(PixelBudget(largest))
            return budgets[-1]

        def encoding(*arguments: Any) -> bytes:
            held.append(budgets[0].held)
            return indexed_png(*arguments)

        monkeypatch.setattr(codec, "PixelBudget", made)
        monkeypatch.setattr(segmenter, "indexed_png", encoding)
        with client_for(create_app(settings_for(tmp_path))) as client:
            assert client.post("/segment", content=self.CONTENT).status_code == 200
        assert held == [0]

    @pytest.mark.parametrize("max_pixels", [1000, 100_000])
    def test_a_full_queue_refuses_and_then_serves_again(
        self, tiled_folder: Path, device: Device, max_pixels: int
    ) -> None:
        """Whether it is full of images or of pixels."""

        async def load() -> None:
            settings = settings_for(tiled_folder, max_queue=3, max_pixels=max_pixels)
            async with async_client_for(create_app(settings)) as client:
                first = asyncio.create_task(post(client, self.CONTENT))
                await asyncio.to_thread(device.busy.wait, 30)
                posts = [asyncio.create_task(post(client, self.CONTENT)) for _ in range(7)]
                await until(lambda: sum(task.done() for task in posts) == 5)
                refused = [task.result() for task in posts if task.done()]
                for response in refused:
                    assert_problem(response, 503, "3 requests are being answered")
                    assert int(response.headers["retry-after"]) >= 1
                device.free.set()
                answers = [response.status_code for response in await asyncio.gather(*posts)]
                assert sorted(answers) == [200] * 2 + [503] * 5
                assert (await first).status_code == 200
                assert (await post(client, self.CONTENT)).status_code == 200

        finished(load())

    def test_images_that_wait_for_memory_take_no_place_from_small_ones(
        self, tiled_folder: Path, device: Device
    ) -> None:
        async def load() -> None:
            app = create_app(settings_for(tiled_folder, max_queue=2, max_pixels=1000))
            admission = app.state.service.admission
            async with async_client_for(app) as client:
                posts = [asyncio.create_task(post(client, self.CONTENT))]
                await asyncio.to_thread(device.busy.wait, 30)
                for waiting in (1, 2):
                    posts.append(asyncio.create_task(post(client, self.CONTENT)))
                    await until(lambda waiting=waiting: admission.waiting == waiting)  # type: ignore[misc]
                assert_problem(await post(client, self.CONTENT), 503, "2 images are waiting")
                posts.append(asyncio.create_task(post(client, encoded(plain(1, 6, 5)))))
                await until(lambda: admission.inside == 2)
                device.free.set()
                assert [r.status_code for r in await asyncio.gather(*posts)] == [200] * 4
            assert (admission.inside, admission.waiting) == (0, 0)

        finished(load())

    def test_a_few_tiles_of_an_image_are_cut_at_a_time(
        self, tiled_folder: Path, device: Device
    ) -> None:
        """Two passes for every lane, of an image of hundreds."""

        async def load() -> None:
            app = create_app(settings_for(tiled_folder, model="tiles", batch_pixels=1))
            async with async_client_for(app) as client:
                content = encoded(picture_of(600, 400))
                posted = asyncio.create_task(post(client, content))
                await asyncio.to_thread(device.busy.wait, 30)
                batcher = app.state.service.registry.active.batcher
                ahead = 2 * batcher.engine.lanes * batcher.capacity
                await until(lambda: batcher.load().units + batcher.load().passes == ahead)
                await asyncio.sleep(0.1)
                assert batcher.load().units + batcher.load().passes == ahead
                device.free.set()
                assert (await posted).status_code == 200

        finished(load())

    @pytest.mark.parametrize("failing", [False, True])
    def test_pixels_are_freed_once_the_device_is_done(
        self,
        tiled_folder: Path,
        device: Device,
        failing: bool,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """At once, not when the garbage collector comes by: a few large images are too few objects
        for it to come."""
        caplog.set_level(logging.CRITICAL, "service.batcher")  # captured records keep what they log
        device.free.set()
        device.failing = failing

        async def load() -> None:
            async with async_client_for(create_app(settings_for(tiled_folder))) as client:
                response = await post(client, self.CONTENT)
                assert response.status_code == (500 if failing else 200)

        gc.disable()
        try:
            finished(load())
            assert len(device.units) >= 2  # tiles
            assert {unit() for unit in device.units} == {None}
        finally:
            gc.enable()

    def test_what_is_cancelled_gives_its_place_and_pixels_back(
        self, tiled_folder: Path, device: Device, decoded_pixels: list[int]
    ) -> None:
        async def load() -> None:
            settings = settings_for(tiled_folder, max_queue=2, max_pixels=2000)
            async with async_client_for(create_app(settings)) as client:
                first = asyncio.create_task(post(client, self.CONTENT))
                await asyncio.to_thread(device.busy.wait, 30)
                gone = asyncio.create_task(post(client, self.CONTENT))
                await until(lambda: len(decoded_pixels) == 2)
                await asyncio.sleep(0.2)
                gone.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await gone
                stays = asyncio.create_task(post(client, self.CONTENT))
                await until(lambda: len(decoded_pixels) == 3)
                device.free.set()
                answers = await asyncio.gather(first, stays)
                assert [answer.status_code for answer in answers] == [200, 200]

        finished(load())
        assert len(device.units) == 2 * 2  # tiles of each
