"""`state.pt`: everything a stopped run needs to go on exactly where it was."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from models.atomic import write_atomically
from trainer.errors import ConfigError
from trainer.training.history import EpochRecord
from trainer.training.loop import RunningTotals

STATE_KEYS = {"network", "averaged", "optimizer", "progress", "config", "random", "fingerprint"}


@dataclass
class Progress:
    """Where a run is. `epoch` is the one being worked on, from 1; `batches` of it are done."""

    epoch: int = 1
    batches: int = 0
    step: int = 0
    totals: RunningTotals = field(default_factory=RunningTotals)
    started: str = ""
    command: str = ""
    resumed_by: str | None = None
    history: list[EpochRecord] = field(default_factory=list)


def save_state(
    path: Path,
    network: nn.Module,
    averaged: AveragedModel | None,
    optimizer: Optimizer,
    progress: Progress,
    config: str,
    fingerprint: str,
) -> None:
    """Atomic: a kill during the save leaves the state saved before."""
    state = {
        "network": network.state_dict(),
        "averaged": None if averaged is None else averaged.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": asdict(progress),
        "config": config,
        "fingerprint": fingerprint,
        "random": torch.get_rng_state(),
    }
    write_atomically(path, lambda stream: torch.save(state, stream))


def load_state(path: Path) -> dict[str, Any]:
    """Reads tensors and plain values only; nothing in the file can run code."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(f"--resume: there is no {path}; start without --resume") from error
    except Exception as error:  # a damaged archive raises anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"--resume: {path} cannot be read ({reason})") from error
    if not isinstance(state, dict) or not state.keys() >= STATE_KEYS:
        raise ConfigError(f"--resume: {path} is not the state of a run")
    return state


def restore(
    state: dict[str, Any],
    network: nn.Module,
    averaged: AveragedModel | None,
    optimizer: Optimizer,
) -> Progress:
    """Puts weights, moments and random state back and returns where the run was."""
    network.load_state_dict(state["network"])
    if averaged is not None:
        averaged.load_state_dict(state["averaged"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    values = dict(state["progress"])
    values["totals"] = RunningTotals(**values["totals"])
    values["history"] = [EpochRecord(**record) for record in values["history"]]
    return Progress(**values)
