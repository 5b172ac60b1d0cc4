"""Batches for one epoch, prepared beside the network."""

import os

from torch.utils.data import DataLoader

from models.manifest import InputSpec
from trainer.augment import PlainResize, ScaleCropFlip, TrainingTransform
from trainer.config import FitConfig
from trainer.dataset import EpochSampler, Sample, TrainingSet, VocFolder


def training_loader(
    config: FitConfig,
    folder: VocFolder,
    ids: list[str],
    spec: InputSpec,
    *,
    epoch: int,
    skip: int,
    pin_memory: bool,
) -> DataLoader[Sample]:
    """What is left of an epoch after its first `skip` images: uint8 (N, 3, h, w), (N, h, w)."""
    transform: TrainingTransform = PlainResize(spec.height, spec.width)
    if config.recipe.augment:
        ignore = folder.class_set.ignore_index
        transform = ScaleCropFlip(spec.height, spec.width, ignore_index=ignore)
    return DataLoader(
        TrainingSet(folder, ids, transform, seed=config.seed),
        batch_size=config.batch_size,
        sampler=EpochSampler(len(ids), epoch=epoch, seed=config.seed, skip=skip),
        num_workers=loader_processes(config),
        pin_memory=pin_memory,
    )


def loader_processes(config: FitConfig) -> int:
    """A quarter of the cores by default, at most 8: on a small CPU machine none, because the
    network wants them all."""
    if config.workers is not None:
        return config.workers
    return min(8, (os.cpu_count() or 1) // 4)
