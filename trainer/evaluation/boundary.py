"""Boundary IoU: how well outlines are met, which large areas hide in the plain IoU.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021.
"""

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.evaluation.metrics import mean_of

WIDTH = 0.02  # of the image's diagonal: the paper's choice for photographs of this size

Ids = NDArray[np.uint8]


class BoundaryCounts:
    """int64 (K,) `intersection` and `union` of the boundary bands, summed over a split.

    The band of a class is what lies in it within `band_width` pixels of a pixel that does not;
    what is beyond the image's border does not. Ignored pixels belong to no class: predictions
    there are set to ignore before the bands are computed, so the edge of an ignored region is a
    boundary in labels and prediction alike, and nothing inside it is counted.
    """

    def __init__(self, num_classes: int, *, ignore_index: int) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.intersection = torch.zeros(num_classes, dtype=torch.int64)
        self.union = torch.zeros(num_classes, dtype=torch.int64)

    def update(self, labels: Tensor, predictions: Tensor) -> None:
        """Adds one image; both uint8 (H, W) on the CPU, ids below K or ignored."""
        target: Ids = labels.numpy()
        ignored = target == self.ignore_index
        guess: Ids = np.where(ignored, np.uint8(self.ignore_index), predictions.numpy())
        width = band_width(*target.shape)
        ours, theirs = (
            boundary_band(target, width) & ~ignored,
            boundary_band(guess, width) & ~ignored,
        )
        both = self._count(target[ours & theirs & (target == guess)])
        self.intersection += both
        self.union += self._count(target[ours]) + self._count(guess[theirs]) - both

    def merge(self, other: "BoundaryCounts") -> None:
        """Adds another part of the split; ValueError when its classes are others."""
        if (self.num_classes, self.ignore_index) != (other.num_classes, other.ignore_index):
            raise ValueError(f"boundaries of {self.num_classes} and {other.num_classes} classes")
        self.intersection += other.intersection
        self.union += other.union

    def __add__(self, other: "BoundaryCounts") -> "BoundaryCounts":
        total = BoundaryCounts(self.num_classes, ignore_index=self.ignore_index)
        total.merge(self)
        total.merge(other)
        return total

    def per_class_iou(self) -> Tensor:
        """float64 (K,): NaN for a class neither labelled nor predicted."""
        return self.intersection.double() / self.union  # 0 / 0 is NaN

    def mean_iou(self, classes: list[int] | None = None) -> float:
        """Mean over the classes that are present, or over those of them that are named."""
        return mean_of(self.per_class_iou(), classes)

    def _count(self, ids: Ids) -> Tensor:
        return torch.from_numpy(np.bincount(ids, minlength=self.num_classes))


def band_width(height: int, width: int) -> int:
    """Pixels, at least one."""
    return max(1, round(WIDTH * math.hypot(height, width)))


def boundary_band(ids: Ids, width: int) -> NDArray[np.bool_]:
    """Where the square of `2 * width + 1` pixels around a pixel of (H, W) leaves its class.

    The bands of all classes at once: eroding a class away from its edge keeps the pixels whose
    square is of one value, and those are the pixels where the square's least and greatest value
    agree. With one 0 and the other 255 beyond the image they never agree at its border.
    """
    square = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    least = cv2.erode(ids, square, borderType=cv2.BORDER_CONSTANT, borderValue=(0,))
    greatest = cv2.dilate(ids, square, borderType=cv2.BORDER_CONSTANT, borderValue=(255,))
    band: NDArray[np.bool_] = least != greatest
    return band
