"""An engine that makes the answers for images itself, as on NVIDIA's GPUs. Who asks over HTTP sees
no difference."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.upsample import segment_logits
from service.app import create_app
from service.batcher import Batcher
from service.class_map import ClassMap
from service.engines.engine import Unit, stack
from service.engines.torch_engine import TorchEngine
from tests.service.clients import async_client_for, finished, settings_for
from tests.service.colours import encoded, picture_of, save_colours

TIMEOUT_S = 30
SIZES = [(90, 61), (33, 41), (64, 64), (7, 120)]  # (width, height)
LARGE = 64 * 64  # pixels from which the stand-in leaves an image to others


class Device:
    """Answers for an image of h x w with labels that are the unit's mark, and notes what it was
    asked; its memory holds two units."""

    name = "stand-in"
    precision = "float32"
    device = torch.device("cpu")
    lanes = 1

    def __init__(self) -> None:
        self.passes: list[list[tuple[int, int] | None]] = []

    def warm_up(self, count: int) -> None: ...

    def forget(self, count: int) -> None: ...

    def run(self, pixels: Tensor, *, alone: bool) -> Tensor:
        raise AssertionError("it segments as well")

    def segment(
        self, units: Sequence[Unit], sizes: Sequence[tuple[int, int] | None], *, alone: bool
    ) -> list[ClassMap | Tensor | None]:
        pixels = [unit for unit in units if isinstance(unit, Tensor)]
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.passes.append(list(sizes))
        return [
            unit[:1].float() if size is None else _painted(int(unit[0, 0, 0]), *size)
            for unit, size in zip(pixels, sizes, strict=True)
        ]

    def close(self) -> None: ...


def _painted(mark: int, height: int, width: int) -> ClassMap:
    labels = np.full((height, width), mark, dtype=np.uint8)
    return ClassMap(labels, np.zeros(1, dtype=np.int64), np.zeros(1))


def unit(mark: int) -> Tensor:
    return torch.full((3, 2, 2), mark, dtype=torch.uint8)


def test_each_unit_gets_the_answer_for_its_own_image() -> None:
    device = Device()
    batcher = Batcher(device)
    sizes: list[tuple[int, int] | None] = [(5, 7), None, (1, 1), (9, 2), None]
    with batcher.flow() as flow:
        futures = [flow.submit(unit(mark), size=size) for mark, size in enumerate(sizes)]
        batcher.start(capacity=4)
        answers = [future.result(TIMEOUT_S) for future in futures]
    batcher.close()
    for mark, (size, answer) in enumerate(zip(sizes, answers, strict=True)):
        if size is None:
            assert answer.logits[0, 0, 0] == mark
        else:
            assert isinstance(answer.found, ClassMap)
            assert np.array_equal(answer.found.labels, _painted(mark, *size).labels)
    assert device.passes == [[(5, 7), None], [(1, 1), (9, 2)], [None]], "four did not fit"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """PyTorch's engine segments; the sizes that it did so for."""
    sizes_asked: list[tuple[int, int]] = []

    def segment(
        engine: TorchEngine,
        units: Sequence[Tensor],
        sizes: Sequence[tuple[int, int] | None],
        *,
        alone: bool,
    ) -> list[Any]:
        answers: list[Any] = list(engine.run(stack(units), alone=alone))
        for index, size in enumerate(sizes):
            if size is not None and size[0] * size[1] < LARGE:
                sizes_asked.append(size)
                answers[index] = ClassMap.of(segment_logits(answers[index], *size))
        return answers

    monkeypatch.setattr(TorchEngine, "segment", segment, raising=False)
    return sizes_asked


async def _answers(folder: Path) -> list[dict[str, Any]]:
    settings = settings_for(folder, engine="torch")
    pictures = [encoded(picture_of(*size, seed=seed)) for seed, size in enumerate(SIZES)]
    async with async_client_for(create_app(settings)) as client:
        posts = (client.post("/segment", content=content) for content in pictures)
        return [answer.json() for answer in await asyncio.gather(*posts)]


def test_answers_are_those_of_other_engines(tmp_path: Path, asked: list[tuple[int, int]]) -> None:
    save_colours(tmp_path / "colours.pth")
    found = finished(_answers(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(TorchEngine, "segment")
        expected = finished(_answers(tmp_path))
    small = [(height, width) for width, height in SIZES if height * width < LARGE]
    assert sorted(asked) == sorted(small)
    for size, answer, other in zip(SIZES, found, expected, strict=True):
        assert (answer["width"], answer["height"]) == size
        assert answer["mask"] == other["mask"]
        assert answer["classes"] == other["classes"]
        assert answer["timing_ms"]["device"] > 0
        is_small = size[0] * size[1] < LARGE
        assert (answer["timing_ms"]["upsample"] == 0) == is_small
