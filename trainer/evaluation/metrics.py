"""Segmentation metrics from one confusion matrix summed over a whole split."""

import torch
from torch import Tensor


class ConfusionMatrix:
    """int64 (K, K) counts, rows labelled, columns predicted.

    Summing over the split before dividing is what makes the figures comparable: a mean of
    per-image IoUs is another, larger number.

    A class is present when it was labelled or predicted somewhere; the figures of an absent one
    are NaN. Those of a present one are always numbers: 0 where nothing could have been right.
    """

    def __init__(self, num_classes: int, *, ignore_index: int) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, labels: Tensor, predictions: Tensor) -> None:
        """Adds any number of pixels; both integer tensors of one shape, ids below K or ignored."""
        counted = labels != self.ignore_index
        cell = labels[counted].long() * self.num_classes + predictions[counted].long()
        counts = torch.bincount(cell, minlength=self.num_classes**2)
        self.counts += counts.view(self.num_classes, self.num_classes).cpu()

    def merge(self, other: "ConfusionMatrix") -> None:
        """Adds another part of the split; ValueError when its classes are others."""
        ours, theirs = (
            (self.num_classes, self.ignore_index),
            (other.num_classes, other.ignore_index),
        )
        if ours != theirs:
            raise ValueError(f"matrices of (classes, ignore_index) {ours} and {theirs}")
        self.counts += other.counts

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        total = ConfusionMatrix(self.num_classes, ignore_index=self.ignore_index)
        total.merge(self)
        total.merge(other)
        return total

    @property
    def labelled(self) -> Tensor:
        """int64 (K,): pixels labelled with each class."""
        return self.counts.sum(1)

    @property
    def predicted(self) -> Tensor:
        """int64 (K,): labelled pixels for which each class was predicted."""
        return self.counts.sum(0)

    def pixel_accuracy(self) -> float:
        """Share of labelled pixels predicted right; NaN when no pixel was labelled."""
        total = int(self.counts.sum())
        return int(self.counts.diagonal().sum()) / total if total else float("nan")

    def per_class_iou(self) -> Tensor:
        """float64 (K,): intersection over union."""
        return self._right_over(self.labelled + self.predicted - self.counts.diagonal())

    def per_class_dice(self) -> Tensor:
        """float64 (K,): twice the intersection over the sum of both areas, the F1 of pixels."""
        return 2 * self._right_over(self.labelled + self.predicted)

    def per_class_precision(self) -> Tensor:
        """float64 (K,): share of the pixels predicted as a class that are labelled so."""
        return self._right_over(self.predicted)

    def per_class_recall(self) -> Tensor:
        """float64 (K,): share of the pixels labelled as a class that are predicted so."""
        return self._right_over(self.labelled)

    def mean_iou(self, classes: list[int] | None = None) -> float:
        """Mean over the classes that are present, or over those of them that are named."""
        return mean_of(self.per_class_iou(), classes)

    def mean_dice(self, classes: list[int] | None = None) -> float:
        """As `mean_iou`: the mean of the classes' Dice, not the Dice of all pixels together."""
        return mean_of(self.per_class_dice(), classes)

    def _right_over(self, area: Tensor) -> Tensor:
        """Intersections over int64 (K,) areas as float64; NaN for absent classes."""
        share = self.counts.diagonal().double() / area.clamp(min=1)
        return share.masked_fill(self.labelled + self.predicted == 0, float("nan"))


def mean_of(values: Tensor, classes: list[int] | None = None) -> float:
    """Mean of the numbers among float (K,) values, or among those at `classes`; NaN of none."""
    return float((values if classes is None else values[classes]).nanmean())
