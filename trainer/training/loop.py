"""The training loop, top to bottom."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from models.geometry import network_input
from models.manifest import InputSpec
from trainer.errors import DivergedError
from trainer.losses import BatchLoss, SegmentationLoss
from trainer.precision import Precision

NAMES = ("loss", "gradient")  # of what must stay finite, in the order it is computed


@dataclass
class RunningTotals:
    """Sums over the epoch so far; saved with the state so a resumed epoch reports the whole."""

    objective: float = 0.0
    cross_entropy: float = 0.0
    images: int = 0
    correct: int = 0
    labelled: int = 0

    def add(self, batch: BatchLoss) -> None:
        self.objective += float(batch.objective.detach()) * batch.images
        self.cross_entropy += batch.cross_entropy * batch.images
        self.images += batch.images
        self.correct += batch.correct
        self.labelled += batch.labelled

    @property
    def mean_objective(self) -> float:
        return self.objective / self.images if self.images else float("nan")

    @property
    def mean_cross_entropy(self) -> float:
        return self.cross_entropy / self.images if self.images else float("nan")

    @property
    def accuracy(self) -> float:
        return self.correct / self.labelled if self.labelled else float("nan")


@dataclass(frozen=True)
class Learner:
    """What a step works on. `network` is called forward, compiled or distributed or as it is;
    `averaged`, where there is one, follows its weights."""

    network: nn.Module
    optimizer: Optimizer
    loss: SegmentationLoss
    spec: InputSpec
    precision: Precision
    averaged: AveragedModel | None = None
    clip_norm: float = 0.0
    freeze_batch_norm: bool = False


def train_epoch(
    learner: Learner,
    batches: Iterable[tuple[Tensor, Tensor]],
    totals: RunningTotals,
    *,
    before_step: Callable[[], None],
    after_step: Callable[[RunningTotals], None],
) -> None:
    """One pass over `batches` of (uint8 (N, 3, h, w), uint8 (N, h, w)); sums into `totals`."""
    set_training(learner.network, freeze_batch_norm=learner.freeze_batch_norm)
    for pixels, labels in batches:
        before_step()
        totals.add(train_step(learner, pixels, labels))
        after_step(totals)


def train_step(learner: Learner, pixels: Tensor, labels: Tensor) -> BatchLoss:
    """Forward, backward and update; the weights stay as they are if loss or gradient is not
    finite."""
    device = learner.precision.device
    images = network_input(pixels, learner.spec, device)  # (N, 3, h, w)
    target = labels.to(device, non_blocking=True).long()  # (N, h, w)
    with learner.precision.autocast():
        logits = learner.network(images)  # (N, K, h, w)
    batch = learner.loss(logits, target)
    learner.optimizer.zero_grad(set_to_none=True)
    batch.objective.backward()  # type: ignore[no-untyped-call]
    # without a bound the gradient is multiplied by 1, and its norm is still looked at
    bound = learner.clip_norm or math.inf
    norm = nn.utils.clip_grad_norm_(learner.network.parameters(), bound)
    require_finite(batch.objective, norm)
    learner.optimizer.step()
    if learner.averaged is not None:
        learner.averaged.update_parameters(learner.network)
    return batch


def set_training(network: nn.Module, *, freeze_batch_norm: bool) -> None:
    """Training mode; batch norms stay in evaluation mode if they are frozen."""
    network.train()
    if freeze_batch_norm:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def require_finite(objective: Tensor, norm: Tensor) -> None:
    """Both are looked at together, because on a GPU every look waits for the device."""
    for value, what in zip(torch.stack([objective.detach(), norm]).tolist(), NAMES, strict=True):
        if not math.isfinite(value):
            raise DivergedError(
                f"the {what} became {value}; the state saved before is kept: try a lower --lr, or "
                "--precision float32"
            )
