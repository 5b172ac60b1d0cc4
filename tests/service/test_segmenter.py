"""Checkpoints of the input mode `tile`, from an upload to its answer."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from models import load_checkpoint
from models.grid import Grid
from models.segmentation import segment_image
from service.app import create_app
from service.class_map import ClassMap
from service.statistics import class_statistics
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
    tile_spec,
)

PASS_TILES = 4  # tiles of an image that share a forward pass
SIZES = [(70, 50), (9, 11), (1, 90), (200, 1), (32, 40), (33, 41), (150, 20)]  # (width, height)


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
