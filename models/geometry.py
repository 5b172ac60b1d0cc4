"""Pixels to network input, and logits back to a label for every pixel of the original image.

Training and serving share these functions, so that a network sees in production what it saw in
training, and the trainer's figures hold for the service's masks.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as T

from models.manifest import InputSpec

STRIP_ELEMENTS = 1 << 23  # logits held at full resolution at a time: 32 MiB of float32
PADDING_COLOR = 124  # mid-grey, near the mean of photographs


def resize_pixels(pixels: Tensor, height: int, width: int) -> Tensor:
    """uint8 (3, H, W) -> uint8 (3, height, width), bilinear with antialiasing."""
    if pixels.shape[-2:] == (height, width):
        return pixels
    if pixels.shape[-2] > height and pixels.shape[-1] < width:
        # rows first: widening comes first otherwise, and a column of a million pixels would be
        # held at a million times the width
        pixels = T.resize(pixels, [height, pixels.shape[-1]], antialias=True)
    resized: Tensor = T.resize(pixels, [height, width], antialias=True)
    return resized


def normalise(pixels: Tensor, spec: InputSpec) -> Tensor:
    """uint8 (..., C, H, W) in 0..255 -> float32, (x / 255 - mean) / std per channel."""
    mean = torch.tensor(spec.mean, device=pixels.device).view(-1, 1, 1) * 255
    std = torch.tensor(spec.std, device=pixels.device).view(-1, 1, 1) * 255
    return (pixels.float() - mean) / std


def network_input(pixels: Tensor, spec: InputSpec, device: torch.device) -> Tensor:
    """uint8 (N, C, h, w) anywhere -> normalised float32 on the device, channels last, the layout
    in which convolutions run fastest."""
    images = normalise(pixels.to(device, non_blocking=True), spec)
    return images.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Segmentation:
    """One image's answer: `labels` uint8 (H, W); `pixels` int64 (K,), how often each class was
    chosen; `confidence` float64 (K,), the sum of its softmax probability over those pixels."""

    labels: Tensor
    pixels: Tensor
    confidence: Tensor


def segment_logits(logits: Tensor, height: int, width: int) -> Segmentation:
    """Logits (K, h, w) are resized to the image's size before the class is chosen.

    Works in strips of rows, so memory follows the strip and not the image: K x H x W logits of
    a 100-megapixel image would take gigabytes.
    """
    num_classes, source_height, source_width = logits.shape
    if width > height and num_classes * width > STRIP_ELEMENTS:
        turned = segment_logits(logits.transpose(1, 2), width, height)  # strips of columns
        return Segmentation(turned.labels.T.contiguous(), turned.pixels, turned.confidence)
    logits = logits.float().contiguous()  # (K, h, w), one class after the other
    if width < source_width:  # else a strip of many short rows would first be many long ones
        size = (source_height, width)
        logits = F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
    labels = torch.empty((height, width), dtype=torch.uint8, device=logits.device)
    pixels = torch.zeros(num_classes, dtype=torch.int64, device=logits.device)
    confidence = torch.zeros(num_classes, dtype=torch.float64, device=logits.device)
    rows = max(1, STRIP_ELEMENTS // (num_classes * width))
    for top in range(0, height, rows):
        strip = resize_rows(logits, height, width, top, min(top + rows, height))
        best, index = strip.max(0)  # (rows, W); max is several times faster than argmax here
        probability = torch.exp(best - strip.logsumexp(0))
        labels[top : top + rows] = index
        counts, sums = class_sums(index, probability, num_classes)
        pixels += counts
        confidence += sums
    return Segmentation(labels, pixels, confidence)


def class_sums(index: Tensor, probability: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Chosen classes int64 (...) and their probabilities (...) -> how often each was chosen, int64
    (K,), and the sum of its probabilities, float64 (K,)."""
    flat = index.flatten()
    counts = torch.bincount(flat, minlength=num_classes)
    return counts, torch.bincount(flat, probability.flatten().double(), minlength=num_classes)


def resize_rows(logits: Tensor, height: int, width: int, top: int, bottom: int) -> Tensor:
    """Rows `top` to `bottom` of a bilinear resize (align_corners=False) to (height, width).

    (K, h, w) -> (K, bottom - top, width). Bilinear interpolation is separable: the rows are
    weighted here, the columns by `F.interpolate`, with the result of resizing the whole.
    """
    source_height = logits.shape[-2]
    if source_height != height:
        center = torch.arange(top, bottom, device=logits.device, dtype=torch.float64) + 0.5
        y = (center * source_height / height - 0.5).clamp(0, source_height - 1)
        above = y.long()
        below = (above + 1).clamp(max=source_height - 1)
        weight = (y - above).to(logits.dtype).view(-1, 1)  # (rows, 1)
        strip = torch.lerp(logits[:, above], logits[:, below], weight)  # (K, rows, w)
    else:
        strip = logits[:, top:bottom]
    if strip.shape[-1] == width:
        return strip
    size = (bottom - top, width)
    return F.interpolate(strip[None], size=size, mode="bilinear", align_corners=False)[0]
