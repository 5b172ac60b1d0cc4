"""Which class has the highest probability, and what adds up for each class that has."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TURNS = 4


def winners(probabilities: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(K, ...) -> the largest along K, (...), and its class, uint8 (...), the lowest of equals.
    `classes` int64 (K,), ascending, says which classes these are where they are not all.

    Several times as fast as `max(0)`, which looks for the index element by element; and on the CPU
    NumPy compares two to four times as fast as PyTorch.
    """
    if classes is None:
        classes = torch.arange(len(probabilities), device=probabilities.device)
    rank = (255 - classes).to(torch.uint8).view(-1, *[1] * (probabilities.dim() - 1))
    last = classes[-1].to(torch.uint8)  # nothing equals a NaN: it would be of class 255
    if probabilities.device.type == "cpu" and probabilities.dtype == torch.float32:
        values = probabilities.detach().numpy()
        highest = values.max(0)
        led = (values == highest).view(np.uint8)
        led *= rank.numpy()
        chosen = np.minimum(255 - led.max(0), last.numpy())
        return torch.from_numpy(highest), torch.from_numpy(chosen)
    best = probabilities.amax(0)
    leads = (probabilities == best).view(torch.uint8) * rank
    return best, torch.minimum(255 - leads.amax(0), last)


def class_sums(labels: Tensor, probability: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Chosen classes (...) and their probabilities (...) -> how often each was chosen, int64 (K,),
    and the sum of its probabilities, float64 (K,)."""
    bins = Bins(labels, num_classes)
    return bins.counts(), bins.sums(probability)


class Bins:
    """Adds up for each class what belongs to labels (...).

    On the CPU by NumPy, several times as fast as PyTorch, and with TURNS bins for each class,
    which pixels take in turn: most have their neighbour's class, and a processor adds to a number
    only when it knows what the last addition has made of it.
    """

    def __init__(self, labels: Tensor, num_classes: int) -> None:
        self._num_classes = num_classes
        self._on_cpu = labels.device.type == "cpu"
        if self._on_cpu:
            turns = (np.arange(labels.shape[-1]) % TURNS) * num_classes
            labels = torch.from_numpy(np.add(labels.numpy(), turns, dtype=np.int64))
        self._bins = labels.flatten().long()  # (n,)

    def counts(self) -> Tensor:
        """How many labels each class has, int64 (K,)."""
        if self._on_cpu:
            counts = np.bincount(self._bins.numpy(), minlength=TURNS * self._num_classes)
            return self._together(counts)
        return torch.bincount(self._bins, minlength=self._num_classes)

    def sums(self, values: Tensor) -> Tensor:
        """The sum of the `values` (...) of each class's labels, float64 (K,)."""
        if self._on_cpu:
            bins, weights = self._bins.numpy(), values.numpy().ravel()
            sums = np.bincount(bins, weights, minlength=TURNS * self._num_classes)
            return self._together(sums).double()  # of nothing at all NumPy's are integers
        return torch.bincount(self._bins, values.flatten().double(), minlength=self._num_classes)

    def _together(self, turns: NDArray[Any]) -> Tensor:
        return torch.from_numpy(turns.reshape(TURNS, self._num_classes).sum(0))
