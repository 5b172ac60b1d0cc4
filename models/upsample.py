"""Class probabilities at a network's resolution to a label for every pixel of the image.

The class of a pixel is chosen among probabilities interpolated to that pixel, never at low
resolution; but interpolation is a weighted mean, so where the same class leads at all four corners
around a pixel it leads at the pixel too. Only the pixels between corners that disagree, a few in a
hundred on photographs, are computed class by class; where they are many, as with a network that
sees little but noise, computing every pixel row by row is the faster way.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.winners import Bins, class_sums, winners

MIXED = 255  # no class has this id
MAX_MIXED = 0.25  # share of places between classes above which every pixel is computed
MAX_ELEMENTS = 1 << 19  # probabilities interpolated at a time
MAX_ROW = 1 << 22  # probabilities of one of the image's rows, where every pixel is computed
MAX_PIXELS = 1 << 22  # labels searched at a time for pixels between classes


@dataclass(frozen=True)
class Segmentation:
    """One image's answer: `labels` uint8 (H, W); `pixels` int64 (K,), how often each class was
    chosen; `confidence` float64 (K,), the sum of its probability over those pixels."""

    labels: Tensor
    pixels: Tensor
    confidence: Tensor


def segment_logits(logits: Tensor, height: int, width: int) -> Segmentation:
    """Logits (K, h, w) -> the answer for an image of height x width, by way of their softmax."""
    return segment_probabilities(logits.float().softmax(0), height, width)


def segment_probabilities(probabilities: Tensor, height: int, width: int) -> Segmentation:
    """Probabilities, float32 (K, h, w), are interpolated to height x width (bilinear, pixel centres
    aligned, as `F.interpolate(align_corners=False)`), then the class is chosen.

    Beside the answer takes memory for a bounded number of pixels: the probabilities of a
    100-megapixel image would be gigabytes.
    """
    num_classes = len(probabilities)
    lines = probabilities.flatten(1)  # (K, h w)
    if lines.stride(1) != 1:
        lines = lines.contiguous()  # one class after the other
    possible = _possible(lines)  # (C,)
    lines, size = _only(possible, lines), probabilities.shape[1:]
    best, leading = (each.view(size) for each in winners(lines, possible))  # (h, w)
    if size == (height, width):
        return Segmentation(leading, *class_sums(leading, best, num_classes))
    rows = _Samples.between(size[0], height, lines.device)
    columns = _Samples.between(size[1], width, lines.device)
    at_corners = _where_corners_agree(leading)  # (h, w)
    contending = _contending(lines, best)
    lines, classes = _only(contending, lines), possible[contending]
    if float((at_corners == MIXED).float().mean()) > MAX_MIXED and len(lines) * width <= MAX_ROW:
        return _every_pixel(lines.view(-1, *size), classes, rows, width, num_classes)
    pixels, confidence = _settled_sums(at_corners, best, rows, columns, num_classes)
    labels = _spread(at_corners, rows, columns)  # (H, W)
    flat = labels.view(-1)  # (H W,)
    for start in range(0, len(flat), MAX_PIXELS):
        mixed = _places(flat[start : start + MAX_PIXELS], MIXED) + start
        for part in torch.split(mixed, max(1, MAX_ELEMENTS // len(lines))):
            part_best, part_labels = winners(_interpolated(lines, part, rows, columns), classes)
            flat[part] = part_labels
            counts, sums = class_sums(part_labels, part_best, num_classes)
            pixels += counts
            confidence += sums
    return Segmentation(labels, pixels, confidence)


def _every_pixel(
    planes: Tensor, classes: Tensor, rows: "_Samples", width: int, num_classes: int
) -> Segmentation:
    """`segment_probabilities` from those (C, h, w) of the classes (C,) that can be chosen, a few
    rows of the image at a time."""
    count, _, source_width = planes.shape
    labels = planes.new_empty((len(rows.low), width), dtype=torch.uint8)  # (H, W)
    pixels = planes.new_zeros(num_classes, dtype=torch.int64)
    confidence = planes.new_zeros(num_classes, dtype=torch.float64)
    step = max(1, MAX_ELEMENTS // (count * max(width, source_width)))
    for begin in range(0, len(labels), step):
        lines = slice(begin, begin + step)
        low, weight = rows.low[lines], rows.weight[lines, None]
        below = planes.index_select(1, (low + 1).clamp(max=rows.source - 1))
        between = planes.index_select(1, low).lerp_(below, weight)  # (C, n, w)
        # in one direction: "bilinear" visits two rows for every pixel, whether or not it has to
        wide = F.interpolate(between, size=width, mode="linear", align_corners=False)
        best, labels[lines] = winners(wide, classes)
        counts, sums = class_sums(labels[lines], best, num_classes)
        pixels += counts
        confidence += sums
    return Segmentation(labels, pixels, confidence)


def _possible(lines: Tensor) -> Tensor:
    """int64 (C,): the classes (K, n) that are chosen anywhere, or can be between pixels. The
    highest of K probabilities is at least 1/K, and most of the classes that are not in the picture
    never come near it."""
    highest = lines.amax(1)
    least = highest.max().clamp(max=0.9 / len(lines))  # rounding is not to rule one out
    return (~(highest < least)).nonzero()[:, 0]  # NaN rules none out


def _contending(lines: Tensor, best: Tensor) -> Tensor:
    """int64 (C,): which of the classes (K, n) can be chosen between pixels, given the highest of
    each.

    A pixel takes at least a quarter of one of its four corners, so what is chosen has at least a
    quarter of the lowest of `best`.
    """
    least = 0.2499 * best.min()
    return (~(lines.amax(1) < least)).nonzero()[:, 0]


def _only(wanted: Tensor, lines: Tensor) -> Tensor:
    """The wanted (C,) of (K, n), in ascending order: (C, n), no copy where they are all."""
    return lines if len(wanted) == len(lines) else lines.index_select(0, wanted)


def _places(values: Tensor, wanted: int) -> Tensor:
    """int64 (n,): where (N,) has the value."""
    if values.device.type == "cpu":  # where NumPy is several times as fast
        return torch.from_numpy(np.flatnonzero(values.numpy() == wanted))
    return (values == wanted).nonzero()[:, 0]


@dataclass(frozen=True)
class _Samples:
    """Where the pixels of one side of the image lie between those of the source: after `low`
    int64 (n,), a share `weight` float32 (n,) of the way to the next."""

    source: int
    low: Tensor
    weight: Tensor

    @classmethod
    def between(cls, source: int, length: int, device: torch.device) -> "_Samples":
        center = torch.arange(length, device=device, dtype=torch.float64) + 0.5
        place = (center * source / length - 0.5).clamp(0, source - 1)
        low = place.long()
        return cls(source, low, (place - low).float())

    def shares(self) -> tuple[Tensor, Tensor]:
        """(source,) each: what the pixels after every source pixel take, summed, of it and of
        the next."""
        count = torch.bincount(self.low, minlength=self.source)
        following = torch.bincount(self.low, self.weight.double(), minlength=self.source)
        return count - following, following


def _next(values: Tensor, axis: int) -> Tensor:
    """Every element's successor along an axis; the last is its own."""
    length = values.shape[axis]
    return torch.cat([values.narrow(axis, 1, length - 1), values.narrow(axis, length - 1, 1)], axis)


def _where_corners_agree(labels: Tensor) -> Tensor:
    """uint8 (h, w): the class of a source pixel where its right, lower and lower right neighbour
    are of the same, otherwise MIXED."""
    below = _next(labels, 0)
    agree = (labels == below) & (labels == _next(labels, 1)) & (labels == _next(below, 1))
    return labels.masked_fill(~agree, MIXED)


def _settled_sums(
    at_corners: Tensor, best: Tensor, rows: _Samples, columns: _Samples, count: int
) -> tuple[Tensor, Tensor]:
    """`class_sums` of the image's pixels between corners that agree, without visiting them: how
    many there are, and with which weights they take the corners, is a product of rows and
    columns."""
    above, below = (share[:, None] for share in rows.shares())  # (h, 1)
    left, right = columns.shares()  # (w,)
    vertical = above.float() * best + below.float() * _next(best, 0)  # (h, w)
    probability = left.float() * vertical + right.float() * _next(vertical, 1)
    pixels = (above + below) * (left + right)
    bins = Bins(at_corners.clamp(max=count), count + 1)  # MIXED is the last
    return bins.sums(pixels)[:count].round().long(), bins.sums(probability)[:count]


def _spread(labels: Tensor, rows: _Samples, columns: _Samples) -> Tensor:
    """(h, w) -> (H, W), every pixel what stands at the upper left of its corners."""
    height, width = len(rows.low), len(columns.low)
    if labels.shape[0] * width > height * labels.shape[1]:  # the smaller intermediate
        return labels.index_select(0, rows.low).gather(1, columns.low.expand(height, -1))
    return labels.gather(1, columns.low.expand(labels.shape[0], -1)).index_select(0, rows.low)


def _interpolated(
    probabilities: Tensor, positions: Tensor, rows: _Samples, columns: _Samples
) -> Tensor:
    """(K, h w), at flat positions (n,) of the image -> (K, n)."""
    width = len(columns.low)
    row, column = positions // width, positions % width
    y, x = rows.low[row], columns.low[column]
    above, below = y * columns.source, (y + 1).clamp(max=rows.source - 1) * columns.source
    right = (x + 1).clamp(max=columns.source - 1)
    across, down = columns.weight[column], rows.weight[row]

    def along(line: Tensor) -> Tensor:
        left_value = probabilities.index_select(1, line + x)
        return left_value.lerp_(probabilities.index_select(1, line + right), across)

    return along(above).lerp_(along(below), down)
