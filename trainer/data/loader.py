"""Batches of a run, prepared beside the network."""

import signal

import torch
from torch.utils.data import DataLoader

from models.devices import usable_cores
from trainer.config import FitConfig
from trainer.data.augment import training_transform
from trainer.data.dataset import VocFolder
from trainer.data.training_set import EpochBatches, Sample, TrainingSet
from trainer.distributed import Processes


class TrainingLoader:
    """One loader for all epochs, so that its worker processes live as long as the run: starting
    them anew would take longer than a small epoch on a GPU."""

    def __init__(
        self,
        config: FitConfig,
        folder: VocFolder,
        ids: list[str],
        *,
        device: torch.device,
        processes: Processes,
    ) -> None:
        transform = training_transform(config, ignore_index=folder.class_set.ignore_index)
        workers = loader_processes(config, device, processes.world)
        self._batches = EpochBatches(
            len(ids),
            config.batch_size,
            seed=config.seed,
            rank=processes.rank,
            world=processes.world,
        )
        self._loader = DataLoader(
            TrainingSet(folder, ids, transform, seed=config.seed),
            batch_sampler=self._batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            worker_init_fn=leave_signals_to_the_run,
        )

    def epoch(self, number: int, *, skip: int = 0) -> DataLoader[Sample]:
        """What is left of an epoch after `skip` batches: uint8 (n, 3, h, w), uint8 (n, h, w)."""
        self._batches.begin(number, skip=skip)
        return self._loader


def leave_signals_to_the_run(worker: int) -> None:
    """A worker inherits the run's handlers, which only remember a signal: it would have to be
    asked twice to end. Ctrl-C reaches it as well, while the run still wants its last batches."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def loader_processes(config: FitConfig, device: torch.device, world: int = 1) -> int:
    """For a GPU nearly all cores of a process's share, at most 16; on the CPU a quarter, at most 8,
    and none on a small machine, because the network wants them all."""
    if config.workers is not None:
        return config.workers
    cores = usable_cores() // world
    return min(16, max(1, cores - 1)) if device.type == "cuda" else min(8, cores // 4)
