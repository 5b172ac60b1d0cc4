"""Classes of an image's pixels one by one, on any device that has float64."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.samples import Samples
from models.winners import class_sums, named_winners

MAX_ROW = 1 << 22  # probabilities; longer ones are for ways that need no whole row
MAX_STRIP = 1 << 19  # probabilities of some of the image's rows at a time: they stay in a cache
MAX_DEVICE_STRIP = 1 << 24  # not on the CPU, where each strip is a dozen kernels to launch


def every_pixel(
    planes: Tensor, classes: Tensor, height: int, width: int, num_classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`labels`, `pixels` and `confidence` of a `Segmentation` from the probabilities float32
    (C, h, w) of the classes int64 (C,), ascending, a few rows of the image at a time."""
    count, source_height, source_width = planes.shape
    labels = planes.new_empty((height, width), dtype=torch.uint8)
    pixels = planes.new_zeros(num_classes, dtype=torch.int64)
    confidence = planes.new_zeros(num_classes, dtype=torch.float64)
    rows = Samples.between(source_height, height)
    low, following, weight = (
        torch.from_numpy(each).to(planes.device) for each in (rows.low, rows.next, rows.weight)
    )
    most = MAX_STRIP if planes.device.type == "cpu" else MAX_DEVICE_STRIP
    step = max(1, most // (count * max(width, source_width)))
    for begin in range(0, height, step):
        lines = slice(begin, begin + step)
        between = planes.index_select(1, low[lines])  # (C, n, w)
        between.lerp_(planes.index_select(1, following[lines]), weight[lines, None])
        # in one direction: "bilinear" visits two rows for every pixel, whether or not it has to
        wide = F.interpolate(between, size=width, mode="linear", align_corners=False)
        best, labels[lines] = named_winners(wide, classes)
        counts, sums = class_sums(labels[lines], best, num_classes)
        pixels += counts
        confidence += sums
    return labels, pixels, confidence
