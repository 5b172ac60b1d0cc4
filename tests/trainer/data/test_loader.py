"""Batches of one epoch."""

import signal
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.datasets import three_class_dataset
from trainer.config import FitConfig
from trainer.data import loader
from trainer.data.dataset import VocFolder
from trainer.data.loader import TrainingLoader, leave_signals_to_the_run, loader_processes
from trainer.distributed import Processes
from trainer.recipe import RECIPES

IDS = ["a", "b", "c", "d", "e"]
ALONE = Processes()
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def folder(tmp_path: Path) -> VocFolder:
    return VocFolder.open(three_class_dataset(tmp_path / "data", count=6))


def config(folder: VocFolder, *, recipe: str = "report", **options: Any) -> FitConfig:
    given = {"batch_size": 2, "image_size": "32", **options}
    return FitConfig(
        data=folder.root, arch="unet", out=Path("run"), recipe=RECIPES[recipe], **given
    )


def batches(
    folder: VocFolder, made: FitConfig, *, skip: int = 0, processes: Processes = ALONE
) -> list[list[torch.Tensor]]:
    loader = TrainingLoader(made, folder, IDS, device=CPU, processes=processes)
    return [list(batch) for batch in loader.epoch(2, skip=skip)]


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (32, 32)),
        ({"image_size": "32x48"}, (32, 48)),
        ({"image_size": "48", "crop_size": "40x36"}, (40, 36)),
    ],
    ids=["square", "oblong", "crop"],
)
def test_an_epoch_comes_in_batches_of_the_training_size_with_the_rest_at_the_end(
    options: dict[str, Any], size: tuple[int, int], folder: VocFolder
) -> None:
    shapes = [
        (tuple(pixels.shape), tuple(labels.shape))
        for pixels, labels in batches(folder, config(folder, workers=0, **options))
    ]
    assert shapes == [((n, 3, *size), (n, *size)) for n in (2, 2, 1)]


@pytest.mark.parametrize("recipe", ["report", "standard"])
def test_what_is_left_of_an_epoch_are_its_last_batches(recipe: str, folder: VocFolder) -> None:
    made = config(folder, recipe=recipe, workers=0)
    whole, rest = batches(folder, made), batches(folder, made, skip=2)
    assert len(rest) == 1
    assert torch.equal(whole[2][0], rest[0][0])
    assert torch.equal(whole[2][1], rest[0][1])
    assert batches(folder, made, skip=3) == []


def test_only_a_recipe_that_says_so_augments(folder: VocFolder) -> None:
    plain = batches(folder, config(folder, workers=0))
    varied = batches(folder, config(folder, recipe="standard", workers=0))
    assert not torch.equal(plain[0][0], varied[0][0])
    assert torch.equal(plain[0][0], batches(folder, config(folder, workers=0))[0][0])


def test_two_processes_share_the_samples_of_one(folder: VocFolder) -> None:
    made = config(folder, recipe="standard", workers=0)
    whole = batches(folder, made)
    first, second = (batches(folder, made, processes=Processes(rank, 2)) for rank in (0, 1))
    for batch, ours, theirs in zip(whole[:2], first, second, strict=False):
        assert torch.equal(batch[0], torch.cat([ours[0], theirs[0]]))
        assert torch.equal(batch[1], torch.cat([ours[1], theirs[1]]))
    assert torch.equal(whole[2][1], first[2][1])
    assert (second[2][1] == folder.class_set.ignore_index).all()


@pytest.mark.parametrize(("cores", "processes"), [(2, 0), (4, 1), (16, 4), (128, 8), (1, 0)])
def test_processes_follow_the_cores(
    cores: int, processes: int, folder: VocFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "usable_cores", lambda: cores)
    assert loader_processes(config(folder), CPU) == processes
    assert loader_processes(config(folder, workers=3), CPU) == 3
    assert loader_processes(config(folder, workers=0), GPU) == 0


@pytest.mark.parametrize(("cores", "world", "processes"), [(1, 1, 1), (16, 1, 15), (64, 4, 15)])
def test_a_gpu_is_fed_by_nearly_all_cores_of_its_share(
    cores: int, world: int, processes: int, folder: VocFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "usable_cores", lambda: cores)
    assert loader_processes(config(folder), GPU, world) == processes


def test_the_same_worker_processes_make_every_epoch(folder: VocFolder) -> None:
    loader = TrainingLoader(config(folder, workers=1), folder, IDS, device=CPU, processes=ALONE)
    alone = TrainingLoader(config(folder, workers=0), folder, IDS, device=CPU, processes=ALONE)
    before, seen = set(active_children()), []
    for epoch in (1, 2, 5):
        for ours, theirs in zip(
            loader.epoch(epoch, skip=1), alone.epoch(epoch, skip=1), strict=True
        ):
            assert torch.equal(ours[0], theirs[0])
        seen.append({process.pid for process in set(active_children()) - before})
    assert len(seen[0]) == 1
    assert seen == [seen[0]] * 3


def test_workers_end_at_the_first_request_and_leave_ctrl_c_to_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers: dict[int, object] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    leave_signals_to_the_run(0)
    assert handlers == {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.SIG_IGN}
