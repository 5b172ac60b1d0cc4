"""Optimizer and learning-rate schedule."""

import math

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from models.network import SegmentationNetwork
from trainer.recipe import Recipe

POLY_POWER = 0.9  # Chen et al., "DeepLab", 2017
MAX_WARMUP = 0.1  # of all steps: a short run is not all warm-up


def build_optimizer(
    network: SegmentationNetwork, recipe: Recipe, *, pretrained: bool = False
) -> Optimizer:
    """One group for the encoder, slower if it is pretrained, one for the rest; each split by
    weight decay: norms and biases are not decayed."""
    encoder, rest = network.parameter_groups()
    encoder_lr = recipe.lr * (recipe.encoder_lr_factor if pretrained else 1)
    groups = []
    for parameters, lr in ((encoder, encoder_lr), (rest, recipe.lr)):
        for decayed in (True, False):
            members = [p for p in parameters if (p.dim() > 1) == decayed]
            if members:
                decay = recipe.weight_decay if decayed else 0.0
                groups.append({"params": members, "lr": lr, "base_lr": lr, "weight_decay": decay})
    kind: type[Optimizer] = Adam if recipe.optimizer == "adam" else AdamW
    return kind(groups, lr=recipe.lr)  # type: ignore[call-arg]


def set_learning_rate(optimizer: Optimizer, recipe: Recipe, *, step: int, total_steps: int) -> None:
    """Sets every group's rate for this step, in place."""
    factor = schedule_factor(recipe, step=step, total_steps=total_steps)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def schedule_factor(recipe: Recipe, *, step: int, total_steps: int) -> float:
    """A function of the step alone, so a resumed run needs no state for it."""
    warmup = min(recipe.warmup_steps, int(total_steps * MAX_WARMUP))
    done = step / total_steps
    rest = {
        "constant": 1.0,
        "poly": (1 - done) ** POLY_POWER,
        "cosine": (1 + math.cos(math.pi * done)) / 2,
    }[recipe.schedule]
    return float(min(1.0, (step + 1) / (warmup + 1)) * rest)


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
