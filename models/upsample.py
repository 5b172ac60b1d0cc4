"""Class probabilities at a network's resolution to a label for every pixel of the image.

The class of a pixel is chosen among probabilities interpolated to that pixel, never at low
resolution. On the CPU most pixels need not be visited for that: see `corners`; NVIDIA's GPUs have
a kernel of their own: see `cuda_segment`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models import cuda_segment
from models.corners import Corners
from models.devices import exact_device
from models.samples import Samples
from models.winners import class_sums, named_winners

MAX_MIXED = 0.25  # share of places between classes above which every pixel is computed
MAX_STRIP = 1 << 19  # probabilities of some of the image's rows at a time: they stay in a cache
MAX_DEVICE_STRIP = 1 << 24  # not on the CPU, where each strip is a dozen kernels to launch
MAX_ROW = 1 << 22  # probabilities of one row, where every pixel is computed


@dataclass(frozen=True)
class Segmentation:
    """One image's answer: `labels` uint8 (H, W); `pixels` int64 (K,), how often each class was
    chosen; `confidence` float64 (K,), the sum of its probability over those pixels. `whole` is
    what they are parts of, if they are."""

    labels: Tensor
    pixels: Tensor
    confidence: Tensor
    whole: Tensor | None = None

    def cpu(self) -> "Segmentation":
        """A GPU is waited for once where it is one tensor."""
        if self.whole is None:
            return Segmentation(self.labels.cpu(), self.pixels.cpu(), self.confidence.cpu())
        whole = self.whole.cpu()
        return Segmentation(*cuda_segment.parts(whole, len(self.pixels), *self.labels.shape))


def segment_logits(logits: Tensor, height: int, width: int) -> Segmentation:
    """Logits (K, h, w) -> the answer for an image of height x width, by way of their softmax."""
    return segment_probabilities(logits.float().softmax(0), height, width)


def segment_probabilities(probabilities: Tensor, height: int, width: int) -> Segmentation:
    """Probabilities (K, h, w) are interpolated to height x width in float32 (bilinear, pixel
    centres aligned, as `F.interpolate(align_corners=False)`), then the class is chosen.

    Beside the answer takes memory for a bounded number of pixels: the probabilities of a
    100-megapixel image would be gigabytes.
    """
    probabilities = probabilities.to(exact_device(probabilities.device), torch.float32)
    if cuda_segment.can_segment(probabilities.device):
        whole = cuda_segment.segment(probabilities, height, width)
        parts = cuda_segment.parts(whole, len(probabilities), height, width)
        return Segmentation(*parts, whole=whole)
    num_classes, source_height, source_width = probabilities.shape
    lines = probabilities.flatten(1)  # (K, h w)
    if lines.stride(1) != 1:
        lines = lines.contiguous()  # one class after the other
    classes = _possible(lines)  # (C,)
    if len(classes) < num_classes:
        lines = lines.index_select(0, classes)
    planes = lines.view(-1, source_height, source_width)
    if (source_height, source_width) == (height, width):
        best, labels = named_winners(planes, classes)
        return Segmentation(labels, *class_sums(labels, best, num_classes))
    if len(planes) * width > MAX_ROW:  # only the CPU has a way that needs no whole row
        planes, classes = planes.cpu(), classes.cpu()
    if planes.device.type == "cpu":
        corners = Corners(planes.detach().numpy(), classes.numpy())
        planes, classes = torch.from_numpy(corners.planes), torch.from_numpy(corners.classes)
        if corners.mixed <= MAX_MIXED or len(planes) * width > MAX_ROW:
            found = corners.segment(height, width, num_classes)
            return Segmentation(*(torch.from_numpy(each) for each in found))
    return _every_pixel(planes, classes, height, width, num_classes)


def _every_pixel(
    planes: Tensor, classes: Tensor, height: int, width: int, num_classes: int
) -> Segmentation:
    """`segment_probabilities` from those (C, h, w) of the classes (C,) that can be chosen, a few
    rows of the image at a time."""
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
    return Segmentation(labels, pixels, confidence)


def _possible(lines: Tensor) -> Tensor:
    """int64 (C,): the classes (K, n) that are chosen anywhere, or can be between pixels. The
    highest of K probabilities is at least 1/K, and most of the classes that are not in the picture
    never come near it."""
    if lines.device.type == "cpu":
        highest = torch.from_numpy(lines.detach().numpy().max(1))
    else:
        highest = lines.amax(1)
    least = highest.max().clamp(max=0.9 / len(lines))  # rounding is not to rule one out
    return (~(highest < least)).nonzero()[:, 0]  # NaN rules none out
