"""Batches of one epoch."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from models.manifest import InputSpec
from tests.trainer.datasets import three_class_dataset
from trainer.config import FitConfig
from trainer.dataset import VocFolder
from trainer.loader import loader_processes, training_loader
from trainer.recipe import RECIPES

SPEC = InputSpec(height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3, stride=16)
IDS = ["a", "b", "c", "d", "e"]


@pytest.fixture
def folder(tmp_path: Path) -> VocFolder:
    return VocFolder.open(three_class_dataset(tmp_path / "data", count=6))


def config(folder: VocFolder, *, recipe: str = "report", **options: Any) -> FitConfig:
    return FitConfig(
        data=folder.root,
        arch="unet",
        out=Path("run"),
        recipe=RECIPES[recipe],
        batch_size=2,
        **options,
    )


def batches(folder: VocFolder, made: FitConfig, *, skip: int = 0) -> list[list[torch.Tensor]]:
    return list(training_loader(made, folder, IDS, SPEC, epoch=2, skip=skip, pin_memory=False))


def test_an_epoch_comes_in_batches_with_the_rest_at_the_end(folder: VocFolder) -> None:
    shapes = [
        (tuple(pixels.shape), tuple(labels.shape))
        for pixels, labels in batches(folder, config(folder, workers=0))
    ]
    assert shapes == [((n, 3, 32, 32), (n, 32, 32)) for n in (2, 2, 1)]


@pytest.mark.parametrize("recipe", ["report", "finetune"])
def test_what_is_left_of_an_epoch_are_its_last_batches(recipe: str, folder: VocFolder) -> None:
    made = config(folder, recipe=recipe, workers=0)
    whole, rest = batches(folder, made), batches(folder, made, skip=2)
    assert len(rest) == 2
    for ours, theirs in zip(whole[1:], rest, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


def test_only_a_recipe_that_says_so_augments(folder: VocFolder) -> None:
    plain = batches(folder, config(folder, workers=0))
    varied = batches(folder, config(folder, recipe="finetune", workers=0))
    assert not torch.equal(plain[0][0], varied[0][0])
    assert torch.equal(plain[0][0], batches(folder, config(folder, workers=0))[0][0])


@pytest.mark.parametrize(("cores", "processes"), [(2, 0), (4, 1), (16, 4), (128, 8), (None, 0)])
def test_processes_follow_the_cores(
    cores: int | None, processes: int, folder: VocFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert loader_processes(config(folder)) == processes
    assert loader_processes(config(folder, workers=3)) == 3
    assert loader_processes(config(folder, workers=0)) == 0
