"""`segment_probabilities` on the CPU, and `cpu_segment` where that was not compiled: see `corners`.

It takes fewer and shorter steps than PyTorch, and to make or to free one of PyTorch's tensors gives
Python's lock away, for which the threads of a service wait as long as for the work.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from models.corners import Corners
from models.pixelwise import MAX_ROW, every_pixel
from models.winners import Bins, Labels, Numbers, Values, leading

MAX_MIXED = 0.25  # share of places between classes above which every pixel is computed


def segment(values: Values, height: int, width: int) -> tuple[Labels, Numbers, NDArray[np.float64]]:
    """float32 probabilities (K, h, w) -> labels, pixels, confidence: see `Segmentation`."""
    num_classes, *source = values.shape
    lines = np.ascontiguousarray(values.reshape(num_classes, -1))  # one class after the other
    classes = _possible(lines)  # (C,)
    if len(classes) < num_classes:
        lines = lines.take(classes, 0)
    planes = lines.reshape(-1, *source)
    if tuple(source) == (height, width):
        best, labels = leading(planes, classes)
        bins = Bins(labels, num_classes)
        return labels, bins.counts(), bins.sums(best)
    corners = Corners(planes, classes)
    if corners.mixed <= MAX_MIXED or len(corners.classes) * width > MAX_ROW:
        return corners.segment(height, width, num_classes)
    planes, classes = corners.planes, corners.classes
    found = every_pixel(
        torch.from_numpy(planes), torch.from_numpy(classes), height, width, num_classes
    )
    return found[0].numpy(), found[1].numpy(), found[2].numpy()


def _possible(lines: Values) -> Numbers:
    """int64 (C,): the classes (K, n) that are chosen anywhere, or can be between pixels. The
    highest of K probabilities is at least 1/K, and most of the classes that are not in the picture
    never come near it."""
    highest = lines.max(1)
    least = np.minimum(highest.max(), np.float32(0.9 / len(lines)))  # rounding rules none out
    return np.flatnonzero(~(highest < least))  # NaN rules none out
