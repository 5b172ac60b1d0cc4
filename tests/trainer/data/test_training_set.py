"""Training samples, their order, and each process's share of them."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tests.trainer.datasets import three_class_dataset
from trainer.config import FitConfig
from trainer.data.augment import training_transform
from trainer.data.dataset import VocFolder
from trainer.data.training_set import EpochBatches, Key, TrainingSet
from trainer.recipe import RECIPES

IGNORE = 255


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return three_class_dataset(tmp_path / "data", count=6)


# --- training samples -------------------------------------------------------------------------


def augmented(root: Path, *, seed: int = 7) -> TrainingSet:
    folder = VocFolder.open(root)
    config = FitConfig(
        data=root, arch="unet", out=Path("run"), recipe=RECIPES["standard"], image_size="32x48"
    )
    transform = training_transform(config, ignore_index=IGNORE)
    return TrainingSet(folder, folder.split("train"), transform, seed=seed)


def same(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_a_sample_does_not_depend_on_what_was_drawn_before(root: Path) -> None:
    samples = augmented(root)
    first = samples[Key(3, 1)]
    torch.manual_seed(99)
    torch.rand(17)
    _ = samples[Key(3, 0)], samples[Key(1, 4)]
    assert same(first, samples[Key(3, 1)])
    assert same(first, augmented(root)[Key(3, 1)])


def test_samples_differ_between_epochs_seeds_and_images(root: Path) -> None:
    samples = augmented(root)
    assert not same(samples[Key(1, 1)], samples[Key(2, 1)])
    assert not same(samples[Key(1, 1)], augmented(root, seed=8)[Key(1, 1)])
    assert not same(samples[Key(1, 1)], samples[Key(1, 2)])


def test_a_sample_leaves_the_global_random_states_and_the_threads_alone(root: Path) -> None:
    torch_state, numpy_state, python_state = (
        torch.get_rng_state(),
        np.random.get_state(legacy=False),
        random.getstate(),
    )
    threads = torch.get_num_threads()
    _ = augmented(root)[Key(1, 1)]
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert str(np.random.get_state(legacy=False)) == str(numpy_state)
    assert random.getstate() == python_state
    assert torch.get_num_threads() == threads


def test_a_sample_that_does_not_count_has_no_labels(root: Path) -> None:
    samples = augmented(root)
    pixels, labels = samples[Key(3, 1)]
    same_pixels, nothing = samples[Key(3, 1, counts=False)]
    assert torch.equal(pixels, same_pixels)
    assert (labels != IGNORE).any()
    assert (nothing == IGNORE).all()
    assert (nothing.shape, nothing.dtype) == (labels.shape, labels.dtype)


def test_worker_processes_make_the_same_batches(root: Path) -> None:
    def batches(workers: int) -> list[tuple[Tensor, Tensor]]:
        samples = augmented(root)
        order = EpochBatches(len(samples), 2, epoch=2, seed=7)
        loader = DataLoader(samples, batch_sampler=order, num_workers=workers)
        return [(pixels, labels) for pixels, labels in loader]

    alone, shared = batches(0), batches(2)
    assert len(alone) == len(shared) == 3
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


def test_the_training_set_is_as_long_as_its_ids(root: Path) -> None:
    assert len(augmented(root)) == 5


# --- the order --------------------------------------------------------------------------------


def test_an_epoch_shows_every_image_once_in_batches_with_the_rest_at_the_end() -> None:
    batches = list(EpochBatches(50, 8, epoch=4, seed=0))
    assert [len(batch) for batch in batches] == [8] * 6 + [2]
    keys = [key for batch in batches for key in batch]
    assert {key.epoch for key in keys} == {4}
    assert sorted(key.image for key in keys) == list(range(50))
    assert all(key.counts for key in keys)


def test_the_order_follows_from_epoch_and_seed() -> None:
    def order(epoch: int, seed: int) -> tuple[int, ...]:
        torch.rand(3)  # other random numbers change nothing
        batches = EpochBatches(50, 8, epoch=epoch, seed=seed)
        return tuple(key.image for batch in batches for key in batch)

    assert order(1, 0) == order(1, 0)
    assert len({order(1, 0), order(2, 0), order(1, 1), tuple(range(50))}) == 4


@pytest.mark.parametrize("skip", [0, 1, 3, 7])
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2)])
def test_skipping_goes_on_exactly_where_the_epoch_stopped(rank: int, world: int, skip: int) -> None:
    whole = list(EpochBatches(50, 8, epoch=3, seed=5, rank=rank, world=world))
    rest = EpochBatches(50, 8, epoch=3, seed=5, skip=skip, rank=rank, world=world)
    assert list(rest) == whole[skip:]
    assert len(rest) == 7 - skip


# --- several processes ------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [1, 2, 9])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(
    ("size", "batch_size"),
    [(50, 8), (7, 2), (11, 5), (9, 3), (1, 4), (6, 1)],
)
def test_the_shares_of_all_processes_are_the_batches_of_one(
    size: int, batch_size: int, world: int, epoch: int
) -> None:
    """Uneven shares, and last batches of fewer images than there are processes, among them."""
    whole = list(EpochBatches(size, batch_size, epoch=epoch, seed=3))
    shares = [
        list(EpochBatches(size, batch_size, epoch=epoch, seed=3, rank=rank, world=world))
        for rank in range(world)
    ]
    assert {len(share) for share in shares} == {len(whole)}
    for batch, *parts in zip(whole, *shares, strict=True):
        counted = [key for part in parts for key in part if key.counts]
        assert sorted(counted) == sorted(batch)
        full = [len(part) for part in parts]
        assert max(full) - min(full) <= 1


def test_an_empty_share_is_one_image_without_labels() -> None:
    """All processes have to take part in a step."""
    shares = [list(EpochBatches(7, 3, epoch=1, seed=0, rank=r, world=2)) for r in (0, 1)]
    (first,), (second,) = shares[0][-1], shares[1][-1]
    assert first.counts
    assert second == first._replace(counts=False)
