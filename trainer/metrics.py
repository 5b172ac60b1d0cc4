"""Segmentation metrics from one confusion matrix summed over a whole split."""

import torch
from torch import Tensor


class ConfusionMatrix:
    """int64 (K, K) counts, rows labelled, columns predicted.

    Summing over the split before dividing is what makes the figures comparable: a mean of
    per-image IoUs is another, larger number.
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

    def pixel_accuracy(self) -> float:
        """Share of labelled pixels predicted right; NaN when no pixel was labelled."""
        total = int(self.counts.sum())
        return int(self.counts.diagonal().sum()) / total if total else float("nan")

    def per_class_iou(self) -> Tensor:
        """float64 (K,): intersection over union, NaN for a class neither labelled nor predicted."""
        intersection = self.counts.diagonal().double()
        union = (self.counts.sum(0) + self.counts.sum(1) - self.counts.diagonal()).double()
        return intersection / union  # 0 / 0 is NaN

    def mean_iou(self, classes: list[int] | None = None) -> float:
        """Mean over the classes that are not NaN, or over those of them that are named."""
        iou = self.per_class_iou()
        chosen = iou if classes is None else iou[classes]
        return float(chosen.nanmean())
