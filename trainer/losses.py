"""What training minimises: a loss for each pixel, and one for each class's overlap."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.recipe import Recipe

FOCAL_GAMMA = 2.0  # Lin et al., "Focal Loss", 2017


@dataclass(frozen=True, eq=False)
class BatchLoss:
    """One batch, of all processes: `objective` has the gradient, `sums` are for the record: cross
    entropy without weights, images, right pixels, labelled pixels.

    The sums stay on the device until a number is asked for: each transfer makes the host wait.
    """

    objective: Tensor
    sums: Tensor

    @cached_property
    def _numbers(self) -> list[float]:
        numbers: list[float] = self.sums.tolist()
        return numbers

    @property
    def cross_entropy(self) -> float:
        """Mean over the labelled pixels."""
        return self._numbers[0] / max(self._numbers[3], 1)

    @property
    def images(self) -> int:
        return int(self._numbers[1])

    @property
    def correct(self) -> int:
        return int(self._numbers[2])

    @property
    def labelled(self) -> int:
        return int(self._numbers[3])


class SegmentationLoss:
    """Cross entropy or focal loss over the labelled pixels, plus Dice over the classes present.

    Everything is a ratio of sums over the batch, so that `total`, which adds the sums of several
    processes and knows its own gradient, makes their loss that of one process with all images.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        ignore_index: int,
        class_weights: Tensor | None = None,
        total: Callable[[Tensor], Tensor] = lambda sums: sums,
    ) -> None:
        self.recipe = recipe
        self.ignore_index = ignore_index
        self.class_weights = class_weights  # float32 (K,)
        self.total = total

    def __call__(self, logits: Tensor, target: Tensor) -> BatchLoss:
        """Logits (N, K, h, w) of any float type, target int64 (N, h, w)."""
        num_classes = logits.shape[1]
        labelled = target != self.ignore_index  # (N, h, w)
        target = target.where(labelled, 0)
        log_probability = F.log_softmax(logits.float(), 1)  # (N, K, h, w)
        chosen = log_probability.gather(1, target[:, None])[:, 0]  # (N, h, w)
        pixel, weight = self._pixel_sums(chosen, target, labelled)
        sums = torch.stack([pixel, weight])
        if self.recipe.dice_weight:
            sums = torch.cat([sums, *self._class_sums(log_probability, chosen, target, labelled)])
        sums = self.total(sums)  # 2, or 2 + 3 K
        objective = sums[0] / sums[1].clamp(min=1e-6)
        if self.recipe.dice_weight:
            loss = _dice_loss(*sums[2:].view(3, num_classes))
            objective = objective + self.recipe.dice_weight * loss
        return BatchLoss(objective, self.total(self._record(logits, chosen, target, labelled)))

    def _pixel_sums(
        self, chosen: Tensor, target: Tensor, labelled: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The weighted sum of the pixels' losses, and the sum of their weights."""
        loss = -chosen
        if self.recipe.loss == "focal":
            loss = loss * (1 - chosen.exp()) ** FOCAL_GAMMA
        weight = labelled.float()
        if self.class_weights is not None:
            weight = weight * self.class_weights.to(target.device)[target]
        if self.recipe.ohem_fraction < 1:
            weight = weight * hardest(loss.detach(), labelled, self.recipe.ohem_fraction)
        return (loss * weight).sum(), weight.sum()

    def _class_sums(
        self, log_probability: Tensor, chosen: Tensor, target: Tensor, labelled: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(K,) each: probability where it is right, all probability, labelled pixels."""
        num_classes = log_probability.shape[1]
        mask = labelled.float()
        probability = log_probability.exp()
        flat = target.flatten()
        zeros = torch.zeros(num_classes, device=target.device)
        right = zeros.index_add(0, flat, (chosen.exp() * mask).flatten())
        everything = (probability * mask[:, None]).sum((0, 2, 3))
        count = zeros.index_add(0, flat, mask.flatten())
        return right, everything, count

    @torch.no_grad()
    def _record(self, logits: Tensor, chosen: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        """float (4,): cross entropy, images, right pixels, labelled pixels."""
        best = logits.max(1).indices  # max is much faster than argmax on the CPU
        counting = torch.float32 if logits.device.type == "mps" else torch.float64
        return torch.stack(
            [
                -(chosen * labelled).sum(dtype=counting),
                labelled.flatten(1).any(1).sum(dtype=counting),
                ((best == target) & labelled).sum(dtype=counting),
                labelled.sum(dtype=counting),
            ]
        )


def _dice_loss(right: Tensor, everything: Tensor, count: Tensor) -> Tensor:
    """One minus the mean Dice coefficient of the classes that are labelled in the batch.

    Milletari et al., "V-Net", 2016, over the batch as a whole: a class that is a few pixels of
    one image would be noise by itself.
    """
    present = count > 0
    dice = (2 * right + 1) / (everything + count + 1)
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)  # 0 when nothing is labelled


def hardest(loss: Tensor, labelled: Tensor, fraction: float) -> Tensor:
    """float (N, h, w): 1 where a pixel is among the `fraction` of its image's labelled pixels with
    the largest loss (Shrivastava et al., "OHEM", 2016).

    Chosen image by image, so that a batch may be divided; which of two nearly equal pixels is the
    harder one may still be a matter of rounding.
    """
    flat = loss.masked_fill(~labelled, -1.0).flatten(1)  # (N, h * w)
    order = flat.argsort(stable=True, dim=1, descending=True)
    keep = (labelled.flatten(1).sum(1, keepdim=True) * fraction).ceil()
    rank = torch.arange(flat.shape[1], device=loss.device).expand_as(flat)
    return torch.zeros_like(flat).scatter(1, order, (rank < keep).float()).view_as(loss)


def cross_entropy(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Mean cross entropy over the labelled pixels; 0 when there are none."""
    labelled = (target != ignore_index).sum().clamp(min=1)
    total = F.cross_entropy(logits.float(), target, ignore_index=ignore_index, reduction="sum")
    return total / labelled
