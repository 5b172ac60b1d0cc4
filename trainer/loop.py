"""The training loop, top to bottom."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from models.geometry import network_input
from models.manifest import InputSpec
from trainer.errors import DivergedError


@dataclass
class RunningTotals:
    """Sums over the epoch so far; saved with the state so a resumed epoch reports the whole."""

    loss: float = 0.0
    images: int = 0
    correct: int = 0
    labelled: int = 0

    @property
    def mean_loss(self) -> float:
        return self.loss / self.images if self.images else float("nan")

    @property
    def accuracy(self) -> float:
        return self.correct / self.labelled if self.labelled else float("nan")


@dataclass(frozen=True)
class Precision:
    """How a step computes: the device, and bf16 autocast where the hardware has it."""

    device: torch.device
    bf16: bool = False

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def train_epoch(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: Optimizer,
    spec: InputSpec,
    *,
    ignore_index: int,
    precision: Precision,
    totals: RunningTotals,
    before_step: Callable[[], None],
    after_step: Callable[[RunningTotals], None],
) -> None:
    """One pass over `batches` of (uint8 (N, 3, h, w), uint8 (N, h, w)); sums into `totals`."""
    network.train()
    for pixels, labels in batches:
        before_step()
        images = network_input(pixels, spec, precision.device)  # (N, 3, h, w)
        target = labels.to(precision.device, non_blocking=True).long()  # (N, h, w)
        with precision.autocast():
            logits = network(images)  # (N, K, h, w)
        loss = pixel_loss(logits, target, ignore_index)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergedError(f"the loss became {value}; try a lower --lr")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

        chosen = logits.detach().max(1).indices  # max is much faster than argmax on the CPU
        totals.loss += value * len(pixels)
        totals.images += len(pixels)
        totals.correct += int((chosen == target).sum())
        totals.labelled += int((target != ignore_index).sum())
        after_step(totals)


def pixel_loss(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Mean cross entropy over the labelled pixels; 0 (with a gradient) when there are none."""
    labelled = (target != ignore_index).sum().clamp(min=1)
    total = F.cross_entropy(logits.float(), target, ignore_index=ignore_index, reduction="sum")
    return total / labelled
