"""Plain JPEGs are left to an engine that decodes; all else is decoded as ever, and so is what it
could not decode."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from PIL import Image
from torch import Tensor

from models.geometry import resize_pixels
from models.pixels import open_image, rgb_pixels
from service import loader, segmenter
from service.app import create_app
from service.class_map import ClassMap
from service.engines.choose import Choice
from service.engines.engine import Jpeg, Unit, stack
from service.engines.torch_engine import TorchEngine
from tests.service.clients import (
    assert_problem,
    async_client_for,
    client_for,
    finished,
    settings_for,
)
from tests.service.colours import colour_manifest, encoded, picture_of, save_colours

TURNED = Image.Exif()
TURNED[0x0112] = 6


class Decoding(TorchEngine):
    """Decodes as the service does, but for what begins like `broken`; notes what was left to it."""

    left: list[Jpeg]
    broken: bytes | None

    def segment(
        self, units: Sequence[Unit], sizes: Sequence[tuple[int, int] | None], *, alone: bool
    ) -> list[ClassMap | Tensor | None]:
        whole, lost = self._loaded(units)
        logits = self.run(whole, alone=alone)
        return [None if at in lost else one for at, one in enumerate(logits)]

    def decoded(self, jpegs: Sequence[Jpeg]) -> tuple[Tensor, set[int]]:
        return self._loaded(jpegs)

    def _loaded(self, units: Sequence[Unit]) -> tuple[Tensor, set[int]]:
        pixels, lost = [], set()
        for at, unit in enumerate(units):
            if isinstance(unit, Tensor):
                pixels.append(unit)
                continue
            self.left.append(unit)
            if self.broken is not None and unit.content.startswith(self.broken):
                lost.add(at)
                pixels.append(self._blank(1)[0])
                continue
            with open_image(unit.content) as image:
                decoded = rgb_pixels(image)
            assert decoded.shape[1:] == (unit.height, unit.width)
            pixels.append(resize_pixels(decoded, self.spec.height, self.spec.width))
        return stack(pixels), lost


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[Decoding]:
    """Every model is run by it."""

    def choose(checkpoint: Any, wishes: Any) -> Choice:
        made = Decoding(checkpoint, device=torch.device("cpu"), precision="float32", compiled=False)
        return Choice(made, "for want of a GPU", None, decodes=True)

    monkeypatch.setattr(loader, "choose_engine", choose)
    monkeypatch.setattr(Decoding, "left", [], raising=False)
    monkeypatch.setattr(Decoding, "broken", None, raising=False)
    return Decoding


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_colours(tmp_path / "colours.pth")
    return tmp_path


def shot(width: int = 90, height: int = 61, *, seed: int = 0, **options: Any) -> bytes:
    return encoded(picture_of(width, height, seed=seed), "JPEG", **{"quality": 95, **options})


def answered(folder: Path, contents: list[bytes], **changes: Any) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        settings = settings_for(folder, **{"engine": "torch", **changes})
        async with async_client_for(create_app(settings)) as client:
            posts = (client.post("/segment", content=content) for content in contents)
            return list(await asyncio.gather(*posts))

    return finished(ask())


def told(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return {key: value for key, value in response.json().items() if key != "timing_ms"}


PLAIN = [shot(), shot(33, 47, seed=1), shot(64, 64, subsampling=0), shot(quality=80)]
OTHERS = [shot(progressive=True), shot(exif=TURNED), encoded(picture_of(50, 40))]


def test_answers_are_the_same(
    folder: Path, engine: type[Decoding], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = answered(folder, [*PLAIN, *OTHERS])
    left = {jpeg.content for jpeg in engine.left}
    monkeypatch.undo()
    expected = answered(folder, [*PLAIN, *OTHERS])
    assert left == set(PLAIN), "and no others"
    assert list(map(told, found)) == list(map(told, expected))
    assert all(each.json()["timing_ms"]["decode"] > 0 for each in found)


def test_what_it_cannot_decode_is_decoded_here(
    folder: Path, engine: type[Decoding], monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = PLAIN[0][:2] + b"\xff\xfe\x00\x05odd" + PLAIN[0][2:]
    monkeypatch.setattr(engine, "broken", odd[:12])
    found = answered(folder, [PLAIN[1], odd, PLAIN[0]])
    assert odd in {jpeg.content for jpeg in engine.left}
    assert told(found[1]) == told(found[2])


def test_what_nobody_can_decode_is_refused_as_ever(
    folder: Path, engine: type[Decoding], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = PLAIN[0].index(b"\xff\xdb")  # without them nobody knows what its numbers mean
    broken = PLAIN[0][:tables] + PLAIN[0][PLAIN[0].index(b"\xff\xc0") :]
    monkeypatch.setattr(engine, "broken", broken[: tables + 2])
    with client_for(create_app(settings_for(folder, engine="torch"))) as client:
        assert_problem(client.post("/segment", content=broken), 400)
        assert [jpeg.content for jpeg in engine.left] == [broken]
        assert_problem(client.post("/segment", content=PLAIN[0][:-40]), 400)
    limited = settings_for(folder, engine="torch", max_pixels=90 * 61)
    with client_for(create_app(limited)) as client:
        assert_problem(client.post("/segment", content=shot(91, 61)), 413, "91x61")
        assert client.post("/segment", content=PLAIN[0]).status_code == 200


def test_one_of_a_batch_that_is_broken_fails_alone(folder: Path, engine: type[Decoding]) -> None:
    files = [("file", (f"{at}.jpg", content)) for at, content in enumerate([*PLAIN, PLAIN[0][:99]])]
    with client_for(create_app(settings_for(folder, engine="torch"))) as client:
        results = client.post("/segment/batch", files=files).json()["results"]
        alone = told(client.post("/segment", content=PLAIN[1]))
    assert [each["status"] for each in results] == [200, 200, 200, 200, 400]
    assert results[1]["result"]["mask"] == alone["mask"]


def test_large_ones_are_decoded_here(
    folder: Path, engine: type[Decoding], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answered(folder, PLAIN)
    engine.left.clear()
    monkeypatch.setattr(segmenter, "MAX_LEFT_PIXELS", 64 * 64)
    found = answered(folder, PLAIN)
    assert list(map(told, found)) == list(map(told, expected))
    assert {(jpeg.width, jpeg.height) for jpeg in engine.left} == {(33, 47), (64, 64)}


def test_tiles_are_cut_from_pixels(tmp_path: Path, engine: type[Decoding]) -> None:
    spec = colour_manifest().input.model_copy(update={"mode": "tile"})
    save_colours(tmp_path / "colours.pth", input=spec)
    found = answered(tmp_path, PLAIN)
    assert [each.status_code for each in found] == [200] * len(PLAIN)
    assert engine.left == []
