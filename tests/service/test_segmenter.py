"""Checkpoints of the input mode `tile`, from an upload to its answer."""

import asyncio
import base64
import gc
import logging
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import pytest
import torch

from models import load_checkpoint, save_checkpoint
from models.grid import Grid
from models.manifest import InputSpec, Manifest
from models.segmentation import segment_image
from service import codec, segmenter, upload
from service.app import create_app
from service.budget import PixelBudget
from service.class_map import ClassMap
from service.engines.torch_engine import TorchEngine
from service.render import indexed_png
from service.statistics import class_statistics
from tests.networks import manifest_for, small_network
from tests.service.clients import (
    assert_problem,
    assert_still_serves,
    async_client_for,
    client_for,
    finished,
    settings_for,
)
from tests.service.colours import (
    colour_manifest,
    decoded,
    encoded,
    expected_answer,
    picture_of,
    plain,
    save_colours,
)

PASS_TILES = 4  # tiles of an image that share a forward pass
SIZES = [(70, 50), (9, 11), (1, 90), (200, 1), (32, 40), (33, 41), (150, 20)]  # (width, height)


def tile_spec(manifest: Manifest, **changes: Any) -> InputSpec:
    return manifest.input.model_copy(update={"mode": "tile", **changes})


@pytest.fixture
def tiled_folder(tmp_path: Path) -> Path:
    """`colours` in tiles of SIDE, and `tiles`, whose answer at a pixel depends on its tile."""
    save_colours(tmp_path / "colours.pth", input=tile_spec(colour_manifest()))
    network = small_network("unet_resnet50")
    manifest = manifest_for(network, "unet_resnet50")
    tiled = manifest.model_copy(update={"input": tile_spec(manifest, height=40, width=32)})
    save_checkpoint(tmp_path / "tiles.pth", network.state_dict(), tiled)
    return tmp_path


def noise(width: int, height: int) -> Any:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask_of(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return decoded(base64.b64decode(response.json()["mask"]["data"]))


async def posted_together(folder: Path, contents: list[bytes], **changes: Any) -> list[Any]:
    async with async_client_for(create_app(settings_for(folder, **changes))) as client:
        posts = (client.post("/segment", content=content) for content in contents)
        return list(await asyncio.gather(*posts))


class TestTiledAnswers:
    def test_uploads_at_once_are_answered_as_in_process(self, tiled_folder: Path) -> None:
        pictures = [noise(width, height) for width, height in SIZES]
        answers = finished(
            posted_together(
                tiled_folder,
                [encoded(picture) for picture in pictures],
                model="tiles",
                batch_pixels=PASS_TILES * 40 * 32,
            )
        )
        checkpoint = load_checkpoint(tiled_folder / "tiles.pth")
        for picture, answer in zip(pictures, answers, strict=True):
            expected = segment_image(
                torch.from_numpy(picture).permute(2, 0, 1),
                checkpoint.manifest.input,
                checkpoint.network,
                device=torch.device("cpu"),
                batch_size=PASS_TILES,
            )
            assert np.array_equal(mask_of(answer), expected.labels.numpy())
            statistics = class_statistics(ClassMap.of(expected), checkpoint.manifest.class_set())
            body = answer.json()
            assert (body["height"], body["width"]) == picture.shape[:2]
            for entry, told in zip(statistics, body["classes"], strict=True):
                assert (told["id"], told["pixels"]) == (entry.id, entry.pixels)
                assert told["mean_confidence"] == pytest.approx(entry.mean_confidence, abs=1e-6)

    def test_no_pixel_is_resized(self, tiled_folder: Path) -> None:
        """Single-pixel noise of pure colours, which any resize would mix."""
        picture = picture_of(90, 70, seed=1)
        picture[::2, ::3] = picture_of(30, 35, seed=2)
        with client_for(create_app(settings_for(tiled_folder))) as client:
            response = client.post("/segment", content=encoded(picture))
        expected = expected_answer(picture, height=70, width=90)
        assert np.array_equal(mask_of(response), expected.labels)
        for entry in response.json()["classes"]:
            assert entry["mean_confidence"] == pytest.approx(
                expected.confidence[entry["id"]], abs=1e-5
            )

    def test_an_image_of_many_passes_is_answered(self, tiled_folder: Path) -> None:
        """Of more than may wait to be read at a time."""
        picture = noise(300, 200)
        settings = settings_for(
            tiled_folder, model="tiles", batch_pixels=40 * 32, request_timeout_s=60
        )
        with client_for(create_app(settings)) as client:
            answer = client.post("/segment", content=encoded(picture))
        assert mask_of(answer).shape == (200, 300)

    def test_refusals_are_those_of_other_checkpoints(self, tiled_folder: Path) -> None:
        settings = settings_for(tiled_folder, max_pixels=5000)
        with client_for(create_app(settings)) as client:
            assert_problem(client.post("/segment", content=b"no image"), 400)
            large = client.post("/segment", content=encoded(plain(1, 100, 51)))
            assert_problem(large, 413, "100x51 = 5100", "5000")
            assert_still_serves(client)

    def test_a_line_of_pixels_is_refused_when_its_tiles_are_too_many(
        self, tiled_folder: Path
    ) -> None:
        """Few pixels, and the device busy for as long as with a large image."""
        settings = settings_for(tiled_folder, max_pixels=5000)
        with client_for(create_app(settings)) as client:
            line = client.post("/segment", content=encoded(plain(1, 5000, 1)))
            assert_problem(line, 413, "5000x1", "tiles", "5000 pixels")
            assert_still_serves(client)

    def test_as_many_tiles_as_cover_a_large_image_are_not_too_many(
        self, tiled_folder: Path
    ) -> None:
        """Of four times its pixels."""
        spec = tile_spec(colour_manifest())
        size = spec.height * spec.width
        lengths = range(spec.width, 50 * spec.width)
        tiles = {length: len(Grid.over(1, length, spec)) for length in lengths}
        longest = max(length for length, count in tiles.items() if count == 40)
        settings = settings_for(tiled_folder, max_pixels=40 * size // 4)
        assert longest < settings.max_pixels
        with client_for(create_app(settings)) as client:
            whole = client.post("/segment", content=encoded(plain(1, longest, 1)))
            assert whole.status_code == 200
            more = client.post("/segment", content=encoded(plain(1, longest + 1, 1)))
            assert_problem(more, 413, f"{longest + 1}x1", "41 tiles")


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
                content = encoded(noise(600, 400))
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
