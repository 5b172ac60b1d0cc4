"""What an epoch is made of: which images, in which batches, and how each is varied."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from trainer.data.augment import TrainingTransform
from trainer.data.dataset import VocFolder

Sample = tuple[Tensor, Tensor]


class Key(NamedTuple):
    """One sample of a run. `counts` is False for one that only fills a process's share."""

    epoch: int
    image: int
    counts: bool = True


class TrainingSet(Dataset[Sample]):
    """Augmented pairs at the network's training size, asked for by `Key`.

    The random numbers of a sample depend on seed, epoch and image alone: not on the worker that
    makes it nor on what came before, so a resumed run sees what an unbroken one would have.
    """

    def __init__(
        self, folder: VocFolder, ids: list[str], transform: TrainingTransform, *, seed: int
    ) -> None:
        self.folder = folder
        self.ids = ids
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: Key) -> Sample:
        """(image uint8 (3, h, w), labels uint8 (h, w))."""
        with _one_thread(), torch.random.fork_rng(devices=[]):
            image, labels = self.folder.read_pair(self.ids[key.image])
            torch.manual_seed(mixed_seed(self.seed, key.epoch, key.image))
            pixels, mask = self.transform(image, labels)
        if not key.counts:
            mask = torch.full_like(mask, self.folder.class_set.ignore_index)
        return pixels, mask


def mixed_seed(*parts: int) -> int:
    """One seed of several numbers, the same in every version of Python and NumPy; negative ones
    count modulo 2**64."""
    entropy = [part % 2**64 for part in parts]
    mixed: int = np.random.SeedSequence(entropy).generate_state(1, np.uint64).tolist()[0]
    return mixed >> 1  # torch's seeds are signed


@contextmanager
def _one_thread() -> Iterator[None]:
    """Pictures are too small to divide: handing parts to other threads and waiting for them takes
    longer than the work, and on a busy machine many times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class EpochBatches(Sampler[list[Key]]):
    """One process's share of each batch of an epoch, in an order that follows from the seed.

    Batches are those of a single process with the same batch size, divided; a share that would be
    empty, in a last batch of fewer images than processes, is one image without labels, because
    all processes have to take part in a step.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int,
        epoch: int = 1,
        skip: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.epoch = epoch
        self.seed = seed
        self.skip = skip  # batches
        self.rank = rank
        self.world = world

    def begin(self, epoch: int, *, skip: int = 0) -> None:
        """What the next pass is over: an epoch without its first `skip` batches."""
        self.epoch = epoch
        self.skip = skip

    def __len__(self) -> int:
        return -(-self.size // self.batch_size) - self.skip

    def __iter__(self) -> Iterator[list[Key]]:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.epoch))
        order: list[int] = torch.randperm(self.size, generator=generator).tolist()
        for start in range(self.skip * self.batch_size, self.size, self.batch_size):
            batch = order[start : start + self.batch_size]
            share = [Key(self.epoch, index) for index in batch[self.rank :: self.world]]
            yield share or [Key(self.epoch, batch[0], counts=False)]
