"""The figures of each epoch for TensorBoard, where that optional package is installed."""

import importlib.util
from dataclasses import asdict
from pathlib import Path

from trainer.errors import ConfigError
from trainer.training.history import EpochRecord


def require_tensorboard() -> None:
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "--tensorboard: the package tensorboard is not installed (pip install '.[tensorboard]')"
        )


def write_scalars(folder: Path, record: EpochRecord) -> None:
    """Adds one epoch; what a run that was stopped had written from this epoch on is hidden."""
    from torch.utils.tensorboard import SummaryWriter  # not everyone has it

    with SummaryWriter(str(folder), purge_step=record.epoch) as writer:
        for name, value in asdict(record).items():
            if value is not None and name != "epoch":
                writer.add_scalar(name, value, record.epoch)
