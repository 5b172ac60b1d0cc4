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
    probabilities = probabilities.contiguous()  # one class after the other
    best, labels = winners(probabilities)
    if labels.shape == (height, width):
        return Segmentation(labels, *class_sums(labels, best, len(probabilities)))
    rows = _Samples.between(labels.shape[0], height, labels.device)
    columns = _Samples.between(labels.shape[1], width, labels.device)
    at_corners = _where_corners_agree(labels)  # (h, w)
    contenders = _contenders(probabilities, best)  # (C,)
    contending = probabilities.flatten(1).index_select(0, contenders)  # (C, h w)
    mixed_share = float((at_corners == MIXED).float().mean())
    if mixed_share > MAX_MIXED and len(contending) * width <= MAX_ROW:
        contending = contending.view(-1, *labels.shape)
        return _every_pixel(contending, contenders, rows, width, len(probabilities))
    pixels, confidence = _settled_sums(at_corners, best, rows, columns, len(probabilities))
    full = _spread(at_corners, rows, columns)  # (H, W)
    flat = full.view(-1)  # (H W,)
    for begin in range(0, len(flat), MAX_PIXELS):
        mixed = _places(flat[begin : begin + MAX_PIXELS], MIXED) + begin
        for part in torch.split(mixed, max(1, MAX_ELEMENTS // len(contending))):
            between = _interpolated(contending, part, rows, columns)  # (C, n)
            part_best, part_winners = winners(between)
            flat[part] = part_labels = _classes_of(part_winners, contenders)
            counts, sums = class_sums(part_labels, part_best, len(probabilities))
            pixels += counts
            confidence += sums
    return Segmentation(full, pixels, confidence)


def _every_pixel(
    contending: Tensor, contenders: Tensor, rows: "_Samples", width: int, num_classes: int
) -> Segmentation:
    """`segment_probabilities` from those of the classes (C,) that can be chosen, (C, h, w), one
    after the other, a few rows of the image at a time."""
    count, _, source_width = contending.shape
    labels = contending.new_empty((len(rows.low), width), dtype=torch.uint8)  # (H, W)
    pixels = contending.new_zeros(num_classes, dtype=torch.int64)
    confidence = contending.new_zeros(num_classes, dtype=torch.float64)
    step = max(1, MAX_ELEMENTS // (count * max(width, source_width)))
    for begin in range(0, len(labels), step):
        lines = slice(begin, begin + step)
        low, weight = rows.low[lines], rows.weight[lines, None]
        below = contending.index_select(1, (low + 1).clamp(max=rows.source - 1))
        between = contending.index_select(1, low).lerp_(below, weight)  # (C, n, w)
        # in one direction: "bilinear" visits two rows for every pixel, whether or not it has to
        wide = F.interpolate(between, size=width, mode="linear", align_corners=False)
        best, line_winners = winners(wide)
        labels[lines] = _classes_of(line_winners, contenders)
        counts, sums = class_sums(labels[lines], best, num_classes)
        pixels += counts
        confidence += sums
    return Segmentation(labels, pixels, confidence)


def winners(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """(K, ...) -> the largest along K, (...), and its class, uint8 (...), the lowest of equals.

    Several times as fast as `max(0)`, which looks for the index element by element; and on the CPU
    NumPy compares two to four times as fast as PyTorch.
    """
    count = len(probabilities)
    if probabilities.device.type == "cpu" and probabilities.dtype == torch.float32:
        values = probabilities.detach().numpy()
        highest = values.max(0)
        led = (values == highest).view(np.uint8)
        led *= np.arange(count, 0, -1, dtype=np.uint8).reshape(-1, *[1] * highest.ndim)
        classes = np.minimum(count - led.max(0), count - 1)
        return torch.from_numpy(highest), torch.from_numpy(classes)
    best = probabilities.amax(0)
    rank = torch.arange(count, 0, -1, dtype=torch.uint8, device=best.device)
    leads = (probabilities == best).view(torch.uint8) * rank.view(-1, *[1] * best.dim())
    # nothing equals a NaN: without the limit it would be of class K
    return best, (count - leads.amax(0)).clamp(max=count - 1)


def _places(values: Tensor, wanted: int) -> Tensor:
    """int64 (n,): where (N,) has the value."""
    if values.device.type == "cpu":  # where NumPy is several times as fast
        return torch.from_numpy(np.flatnonzero(values.numpy() == wanted))
    return (values == wanted).nonzero()[:, 0]


def _contenders(probabilities: Tensor, best: Tensor) -> Tensor:
    """int64 (C,): the classes (K, h, w) that can be chosen anywhere between pixels, given `best`
    (h, w), the highest of each.

    A pixel takes at least a quarter of one of its four corners, so what is chosen has at least a
    quarter of the lowest of `best`. Most of the classes that are not in the picture never do.
    """
    least = 0.2499 * best.min()  # rounding is not to rule one out
    # NaN rules none out
    return (~(probabilities.flatten(1).amax(1) < least)).nonzero()[:, 0]


def _classes_of(indices: Tensor, contenders: Tensor) -> Tensor:
    """uint8, of any shape: places among the contenders (C,) -> their classes."""
    if indices.device.type == "cpu":  # where NumPy is several times as fast
        return torch.from_numpy(contenders.numpy().astype(np.uint8)[indices.numpy()])
    return contenders[indices.long()].to(torch.uint8)


def class_sums(labels: Tensor, probability: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Chosen classes (...) and their probabilities (...) -> how often each was chosen, int64 (K,),
    and the sum of its probabilities, float64 (K,)."""
    flat = labels.flatten().long()  # converted once for both
    if flat.device.type == "cpu":  # where NumPy takes a fifth of the time
        counts = torch.from_numpy(np.bincount(flat.numpy(), minlength=num_classes))
    else:
        counts = torch.bincount(flat, minlength=num_classes)
    return counts, _sums(flat, probability, num_classes)


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
    return (
        _sums(at_corners, pixels, MIXED + 1)[:count].round().long(),
        _sums(at_corners, probability, MIXED + 1)[:count],
    )


def _sums(labels: Tensor, values: Tensor, count: int) -> Tensor:
    """float64 (count,): the sum of `values` (...) for each of the labels (...)."""
    if values.device.type == "cpu":  # where NumPy takes half the time
        flat = labels.numpy().ravel(), values.numpy().ravel()
        return torch.from_numpy(np.bincount(*flat, minlength=count))
    return torch.bincount(labels.flatten().long(), values.flatten().double(), minlength=count)


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
