"""Batches for one epoch, prepared beside the network."""

import os

from torch.utils.data import DataLoader

from trainer.config import FitConfig
from trainer.data.augment import training_transform
from trainer.data.dataset import VocFolder
from trainer.data.training_set import EpochBatches, Sample, TrainingSet
from trainer.distributed import Processes


def training_loader(
    config: FitConfig,
    folder: VocFolder,
    ids: list[str],
    *,
    epoch: int,
    skip: int,
    pin_memory: bool,
    processes: Processes,
) -> DataLoader[Sample]:
    """What is left of an epoch after its first `skip` batches: uint8 (n, 3, h, w), (n, h, w)."""
    transform = training_transform(config, ignore_index=folder.class_set.ignore_index)
    return DataLoader(
        TrainingSet(folder, ids, transform, seed=config.seed),
        batch_sampler=EpochBatches(
            len(ids),
            config.batch_size,
            epoch=epoch,
            seed=config.seed,
            skip=skip,
            rank=processes.rank,
            world=processes.world,
        ),
        num_workers=loader_processes(config),
        pin_memory=pin_memory,
    )


def loader_processes(config: FitConfig) -> int:
    """A quarter of the cores by default, at most 8: on a small CPU machine none, because the
    network wants them all."""
    if config.workers is not None:
        return config.workers
    return min(8, (os.cpu_count() or 1) // 4)
