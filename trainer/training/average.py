"""A moving average of the weights: what is validated and kept in place of the last step's."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged_copy(network: nn.Module, decay: float) -> AveragedModel:
    """A copy whose `update_parameters(network)` moves it towards the network after each step.

    Batch statistics are averaged as well, so that they belong to the averaged weights.
    """
    return AveragedModel(network, multi_avg_fn=exponential_average(decay), use_buffers=True)


def exponential_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """An update rule whose memory grows with the steps taken, up to `decay`.

    With a fixed decay of 0.999 the first thousand steps would hold on to the random start.
    """

    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            keep = min(decay, (1 + int(count)) / (10 + int(count)))
            torch._foreach_lerp_(averaged, current, 1 - keep)
        else:
            for ours, theirs in zip(averaged, current, strict=True):
                ours.copy_(theirs)  # how many batches the statistics have seen

    return update
